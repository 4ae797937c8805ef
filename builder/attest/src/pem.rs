//! Keys as text (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::AttestError;

/// The label and the bytes of the first block of a text that isn't about parameters.
pub(crate) fn decode(text: &str) -> Result<(String, Vec<u8>), AttestError> {
    let bad = |reason: &str| AttestError::Key(reason.to_owned());
    let mut rest = text;
    loop {
        let (_, block) = rest
            .split_once("-----BEGIN ")
            .ok_or_else(|| bad("not in PEM format (-----BEGIN …-----)"))?;
        let (label, body) = block
            .split_once("-----")
            .ok_or_else(|| bad("the PEM text is truncated"))?;
        let (body, after) = body
            .split_once("-----END ")
            .ok_or_else(|| bad("the PEM text is truncated"))?;
        if label == "EC PARAMETERS" {
            rest = after;
            continue;
        }
        let digits: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes = STANDARD
            .decode(digits)
            .map_err(|_| bad("the PEM text is damaged"))?;
        return Ok((label.to_owned(), bytes));
    }
}

/// Bytes under a label.
pub(crate) fn encode(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let digits = STANDARD.encode(bytes);
    for line in digits.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The bytes of all blocks of a label.
pub(crate) fn decode_all(text: &str, wanted: &str) -> Result<Vec<Vec<u8>>, AttestError> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("-----BEGIN ") {
        let (label, bytes) = decode(&rest[at..])?;
        if label == wanted {
            all.push(bytes);
        }
        let end = rest[at..]
            .find("-----END ")
            .map_or(rest.len(), |end| at + end + 9);
        rest = &rest[end..];
    }
    Ok(all)
}
