//! Layers as blobs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use kiln_graph::Entry;

use super::compress::compress;
use super::encode::Counting;
use super::{Codec, ContentSource, EncodeOptions, Encoded, seekable, write_tar};

/// Writes a layer: entries sorted by path, compressed with `codec`.
///
/// # Errors
/// When a file can't be read or isn't what its entry says, or `out` can't be written.
pub fn encode(
    entries: &[Entry],
    source: &dyn ContentSource,
    codec: Codec,
    out: impl Write + Send,
    options: &EncodeOptions,
) -> io::Result<Encoded> {
    if codec.is_seekable() {
        return seekable::encode(entries, source, codec, out, options);
    }
    let mut blob = Counting::new(out);
    let (diff_id, _) = compress(codec, &mut blob, |stream| {
        let mut plain = Counting::new(stream);
        write_tar(entries, source, &mut plain, options)?;
        Ok(plain.finish().0)
    })?;
    let (blob, size) = blob.finish();
    Ok(Encoded {
        blob,
        size,
        diff_id,
        annotations: BTreeMap::new(),
    })
}
