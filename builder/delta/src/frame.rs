//! zstd frames with an old file as prefix, as `zstd --patch-from` makes them.

use std::io;

use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use crate::format::MAX_WINDOW_LOG;

/// Matches that lie farther apart than this are found by long distance matching only.
const NEAR: usize = 128 << 10;
/// The smallest window that zstd has, as a power of two.
const MIN_WINDOW_LOG: u32 = 10;

/// A frame that gives `new` to whoever has `old`.
pub(crate) fn encode(old: &[u8], new: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut context = CCtx::create();
    let span = old.len() + new.len();
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window_log(span)),
        CParameter::EnableLongDistanceMatching(span > NEAR),
    ] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    context.ref_prefix(old).map_err(failed)?;
    let mut frame = Vec::with_capacity(compress_bound(new.len()));
    context.compress2(&mut frame, new).map_err(failed)?;
    Ok(frame)
}

/// A frame without a prefix.
pub(crate) fn plain_size(new: &[u8], level: i32) -> io::Result<usize> {
    Ok(zstd::bulk::compress(new, level)?.len())
}

/// The window that reaches over both files.
fn window_log(span: usize) -> u32 {
    let bits = usize::BITS - span.leading_zeros();
    bits.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG)
}

fn failed(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}
