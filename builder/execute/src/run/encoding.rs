//! How programs may write a secret.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::mask::SHORTEST;

/// How much of each end of a long secret is looked for.
pub(super) const LONG_PIECE: usize = 512;

/// What of a value is looked for: all of it, or the two ends of one so long (a bundle of
/// certificates) that an automaton for all of it would cost more than the search.
pub(super) fn telling(value: &[u8]) -> Vec<&[u8]> {
    match value.len() {
        length if length <= 2 * LONG_PIECE => vec![value],
        length => vec![&value[..LONG_PIECE], &value[length - LONG_PIECE..]],
    }
}

/// The ways a value may be written, each with a name.
pub(super) fn encodings(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![("as it is", value.to_vec())];
    for (name, engine) in [
        ("as base64", STANDARD_NO_PAD),
        ("as base64", URL_SAFE_NO_PAD),
    ] {
        for shift in 0..3 {
            all.push((name, base64_inside(&engine, value, shift)));
        }
    }
    all.push(("as hexadecimal", hex::encode(value).into_bytes()));
    all.push(("as hexadecimal", hex::encode_upper(value).into_bytes()));
    for kept in ["-._~", "-._*"] {
        let text = percent(value, kept);
        all.push(("URL-encoded", text.replace("%20", "+").into_bytes()));
        all.push(("URL-encoded", text.to_lowercase().into_bytes()));
        all.push(("URL-encoded", text.into_bytes()));
    }
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all.dedup_by(|a, b| a.1 == b.1);
    all.retain(|(_, text)| text.len() >= SHORTEST);
    all
}

/// Percent-encoding (RFC 3986; HTML forms keep other signs, and write a blank as `+`).
fn percent(value: &[u8], kept: &str) -> String {
    let mut text = String::new();
    for &byte in value {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || kept.contains(c) => text.push(c),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The characters that a value certainly becomes when it stands `shift` bytes behind a multiple
/// of three: those that no neighbour has a part in.
fn base64_inside(engine: &impl base64::Engine, value: &[u8], shift: usize) -> Vec<u8> {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(value);
    let text = engine.encode(&bytes).into_bytes();
    let first = (shift * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    text.get(first..last).unwrap_or_default().to_vec()
}
