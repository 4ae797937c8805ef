//! Just enough DER (ITU-T X.690) to find the extensions of a certificate, and to leave one out.

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// All its bytes.
    pub(crate) whole: &'a [u8],
}

/// Tags that are looked for (X.690, section 8; `[n]` are those of a context).
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const SEQUENCE: u8 = 0x30;

/// The first element of some bytes, and the bytes behind it.
pub(crate) fn first(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let start = bytes;
    let (&tag, rest) = bytes.split_first()?;
    // Tags of more than one byte are in no certificate.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let whole = &start[..start.len() - rest.len()];
    let element = Element {
        tag,
        content,
        whole,
    };
    Some((element, rest))
}

/// All elements of some bytes; `None` when they aren't elements to their end.
pub(crate) fn all(mut bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (element, rest) = first(bytes)?;
        found.push(element);
        bytes = rest;
    }
    Some(found)
}

/// An element with some content.
pub(crate) fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => bytes.push(length),
        _ => {
            let digits = content.len().to_be_bytes();
            let zeros = digits.iter().take_while(|byte| **byte == 0).count();
            let digits = &digits[zeros..];
            bytes.push(digits.iter().fold(0x80, |length, _| length + 1));
            bytes.extend_from_slice(digits);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

impl<'a> Element<'a> {
    /// The elements in it, when it has a tag.
    pub(crate) fn of(self, tag: u8) -> Option<Vec<Element<'a>>> {
        (self.tag == tag).then(|| all(self.content)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths() {
        let long = [&[0x04, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        let (element, rest) = first(&long).unwrap();
        assert_eq!((element.content.len(), rest.len()), (256, 0));
        for broken in [
            &[][..],
            &[0x04],
            &[0x04, 0x01],
            &[0x04, 0x80, 0x00],
            &[0x04, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x1f, 0x81, 0x01, 0x00],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(first(broken), None, "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read(tag in 0_u8..0x1f, content in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let bytes = encode(tag, &content);
            let (element, rest) = first(&bytes).unwrap();
            prop_assert_eq!((element.tag, element.content, rest.len()), (tag, &content[..], 0));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = all(&bytes);
        }
    }
}
