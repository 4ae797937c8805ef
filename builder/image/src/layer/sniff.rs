//! Tells tar archives from other files.

use std::fs::File;
use std::io::Read as _;

use super::decompressed;

/// Whether a file is a tar archive, compressed or not.
#[must_use]
pub fn is_tar(file: File) -> bool {
    let Ok(mut plain) = decompressed(file) else {
        return false;
    };
    let mut block = [0; 512];
    plain.read_exact(&mut block).is_ok()
        && (&block[257..262] == b"ustar" || has_old_checksum(&block))
}

/// The checksum of headers from before ustar (POSIX.1-1988).
fn has_old_checksum(block: &[u8; 512]) -> bool {
    let text = String::from_utf8_lossy(&block[148..156]);
    let Ok(said) = u32::from_str_radix(text.trim_matches([' ', '\0']), 8) else {
        return false;
    };
    let blank = |at: usize| (148..156).contains(&at);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, b)| if blank(at) { 32 } else { u32::from(*b) })
        .sum();
    sum == said && block[0] != 0
}
