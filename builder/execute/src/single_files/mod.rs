//! Layers in zstd:chunked whose files are here for the most part: the others are fetched, and the tar
//! is put together. What can't be done so is fetched whole, and a line says why.

mod known;
mod plan;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;

use kiln_graph::ImageLayer;
use kiln_image::layer::{Metadata, SingleFile, SingleFiles, SingleFilesError};
use kiln_image::{Descriptor, ImageError, Manifest, Reference};
use kiln_solve::{Event, EventSink, Meter};
use kiln_tree::{TreePath, host};

use crate::delta::max_tar;
use crate::document::document;
use crate::hashing::Hashing;
use crate::meter::meter;
use crate::snapshotter::Snapshotter;
use crate::{EngineError, parallel};

use known::KnownFiles;

/// Smaller layers are fetched whole, in bytes.
const SMALL: u64 = 256 << 10;

/// Why a layer isn't put together from files.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Fetch(#[from] ImageError),
    #[error(transparent)]
    Read(#[from] SingleFilesError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("they give another tar than its digest says")]
    OtherTar,
}

/// A layer, and the image that it is of.
struct OneLayer<'a> {
    trees: &'a Snapshotter,
    layer: &'a ImageLayer,
    image: &'a Reference,
}

/// Where a layer's files come from.
struct Sources {
    /// The place of each that is here, in the order of the list.
    here: Vec<Option<TreePath>>,
    /// What is fetched.
    parts: Vec<Range<u64>>,
}

impl Snapshotter {
    /// A layer's tar, put together from files that are here and others that are fetched: a file that is the
    /// caller's to remove, and its length.
    pub(crate) fn tar_from_files(
        &self,
        layer: &ImageLayer,
        events: &dyn EventSink,
    ) -> Option<(PathBuf, u64)> {
        let image = self.client.image_with_layer(&layer.blob)?;
        let one = OneLayer {
            trees: self,
            layer,
            image: &image,
        };
        match one.tar(events) {
            Ok(made) => made,
            Err(error) => {
                let short = &layer.blob.hex()[..12];
                let message = format!(
                    "layer {short} of {image} is pulled whole, for its files can't be fetched one by one: {error}"
                );
                events.event(Event::Warning { message });
                None
            }
        }
    }

    /// Whether single files of a layer can be fetched: where its files are here, its blob isn't asked for.
    pub(crate) fn has_single_files(&self, layer: &ImageLayer) -> Result<bool, EngineError> {
        let Some(image) = self.client.image_with_layer(&layer.blob) else {
            return Ok(false);
        };
        let one = OneLayer {
            trees: self,
            layer,
            image: &image,
        };
        Ok(one.metadata()?.is_some())
    }
}

/// Whether layers of an image, whose manifest is here, can be fetched file by file.
pub(crate) fn has_layers_of_files(trees: &Snapshotter, image: &Reference) -> bool {
    let layers = layers(trees, image).unwrap_or_default();
    let has_metadata = |own: &Descriptor| Metadata::of(&own.annotations, own.size).is_some();
    layers.iter().any(has_metadata)
}

/// What an image's manifest says of its layers; nothing when that isn't here.
fn layers(trees: &Snapshotter, image: &Reference) -> Result<Vec<Descriptor>, EngineError> {
    let Some(digest) = &image.digest else {
        return Ok(Vec::new());
    };
    let manifest = document::<Manifest>(&trees.store, digest)?;
    Ok(manifest.map_or_else(Vec::new, |manifest| manifest.layers))
}

impl OneLayer<'_> {
    fn metadata(&self) -> Result<Option<Metadata>, EngineError> {
        if self.layer.size < SMALL {
            return Ok(None);
        }
        let layers = layers(self.trees, self.image)?;
        let mut own = layers.iter().filter(|own| own.digest == self.layer.blob);
        Ok(own.find_map(|own| Metadata::of(&own.annotations, self.layer.size)))
    }

    fn tar(&self, events: &dyn EventSink) -> Result<Option<(PathBuf, u64)>, Unusable> {
        let Some(metadata) = self.metadata()? else {
            return Ok(None);
        };
        let old = self.trees.old_images(self.image)?;
        if old.is_empty() {
            return Ok(None);
        }
        let name = format!("pull files {} {}", self.image, &self.layer.blob.hex()[..12]);
        let meter = meter(&self.trees.store, events, name, None);
        let mut bytes = Vec::new();
        self.fetch(metadata.range(), &mut bytes, &meter)?;
        let files = metadata.read(&bytes)?;
        let known = KnownFiles::of(&old);
        let Some(sources) = sources(&files.files, &known, bytes.len() as u64, self.layer.size)?
        else {
            return Ok(None);
        };
        let mut fetched = Fetched::new(self.trees, sources.parts)?;
        for part in fetched.parts.clone() {
            self.fetch(part, &mut fetched.file, &meter)?;
        }
        Ok(Some(self.put_together(&files, &sources.here, &fetched)?))
    }

    fn fetch(
        &self,
        range: Range<u64>,
        out: &mut dyn Write,
        meter: &Meter<'_>,
    ) -> Result<(), ImageError> {
        let told = Cell::new(0);
        let tell = |done: u64| meter.add(done - told.replace(done));
        let client = &self.trees.client;
        client.blob_range(self.image, &self.layer.blob, range, out, &tell)
    }

    fn put_together(
        &self,
        files: &SingleFiles,
        here: &[Option<TreePath>],
        fetched: &Fetched,
    ) -> Result<(PathBuf, u64), Unusable> {
        let (path, file) = self.trees.store.temp_file().map_err(EngineError::from)?;
        let mut out = Hashing::new(io::BufWriter::with_capacity(1 << 20, file));
        let open = |at: usize| -> io::Result<Box<dyn Read>> {
            match &here[at] {
                Some(place) => Ok(Box::new(place.open_file()?)),
                None => Ok(Box::new(fetched.content(&files.files[at])?)),
            }
        };
        let made = files
            .write_tar(max_tar(self.layer), open, &mut out)
            .map_err(Unusable::from)
            .and_then(|()| match out.finish()? == self.layer.diff_id {
                true => Ok(host::metadata(&path)?.len()),
                false => Err(Unusable::OtherTar),
            });
        match made {
            Ok(size) => Ok((path, size)),
            Err(error) => {
                _ = host::remove_file(&path);
                Err(error)
            }
        }
    }
}

/// Looks which files are here; nothing when the whole layer pays.
fn sources(
    files: &[SingleFile],
    known: &KnownFiles<'_>,
    already: u64,
    size: u64,
) -> Result<Option<Sources>, EngineError> {
    let here = parallel::map(files, |file| Ok::<_, EngineError>(known.find(file)))?;
    let missing = files.iter().zip(&here).filter(|(_, place)| place.is_none());
    let wanted: Vec<Range<u64>> = missing.map(|(file, _)| file.range.clone()).collect();
    let parts = plan::parts(&wanted, already, size);
    Ok(parts.map(|parts| Sources { here, parts }))
}

/// Parts of a blob in a file without a name.
struct Fetched {
    parts: Vec<Range<u64>>,
    file: File,
}

impl Fetched {
    fn new(trees: &Snapshotter, parts: Vec<Range<u64>>) -> Result<Self, Unusable> {
        let (path, file) = trees.store.temp_file().map_err(EngineError::from)?;
        host::remove_file(&path)?;
        Ok(Self { parts, file })
    }

    /// The content of a file whose frames were fetched.
    fn content(&self, file: &SingleFile) -> io::Result<impl Read> {
        let mut at = 0;
        for part in &self.parts {
            if part.start <= file.range.start && file.range.end <= part.end {
                at += file.range.start - part.start;
                let mut own = self.file.try_clone()?;
                own.seek(SeekFrom::Start(at))?;
                let frames = own.take(file.range.end - file.range.start);
                return zstd::stream::read::Decoder::new(frames);
            }
            at += part.end - part.start;
        }
        Err(io::Error::other("a file was not fetched"))
    }
}
