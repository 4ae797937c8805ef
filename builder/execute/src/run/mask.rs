//! Secrets while a step runs: kept out of what it writes.

use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use kiln_solve::Stream;
use zeroize::Zeroizing;

use crate::EngineError;

/// Values shorter than this turn up by chance: they are neither hidden nor searched for.
pub(crate) const SHORTEST: usize = 6;
/// Longer values are hidden line by line.
const LONGEST: usize = 4096;
const REPLACEMENT: &[u8] = b"***";

/// A secret that a step was given. Its bytes are wiped when it is dropped.
#[derive(Clone)]
pub(crate) struct Hidden {
    pub(crate) id: String,
    value: Zeroizing<Vec<u8>>,
}

impl Hidden {
    pub(crate) fn new(id: &str, value: &[u8]) -> Self {
        Self {
            id: id.to_owned(),
            value: Zeroizing::new(value.to_vec()),
        }
    }

    /// The value without the line's end that files have.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.value.trim_ascii_end()
    }

    pub(crate) fn is_short(&self) -> bool {
        self.bytes().len() < SHORTEST
    }

    /// The value, and of one with several lines each that is long enough to be telling.
    fn needles(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.bytes().split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
        std::iter::once(self.bytes())
            .chain(lines)
            .filter(|needle| (SHORTEST..=LONGEST).contains(&needle.len()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({})", self.id)
    }
}

/// Replaces secrets in two streams, also when they come in pieces.
pub(crate) struct Mask {
    finder: Option<AhoCorasick>,
    needles: Vec<Zeroizing<Vec<u8>>>,
    /// The ends of the streams that may be the start of a secret.
    held: [Vec<u8>; 2],
}

impl Mask {
    /// A mask for some secrets.
    ///
    /// # Errors
    /// When they can't be looked for: then nothing may be shown.
    pub(crate) fn new(secrets: &[Hidden]) -> Result<Self, EngineError> {
        let all = secrets.iter().flat_map(Hidden::needles);
        let needles: Vec<Zeroizing<Vec<u8>>> =
            all.map(|needle| Zeroizing::new(needle.to_vec())).collect();
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(needles.iter().map(|needle| needle.as_slice()));
        let finder = finder.map_err(|error| EngineError::Search {
            place: "the output of a step".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            finder: Some(finder).filter(|_| !needles.is_empty()),
            needles,
            held: Default::default(),
        })
    }

    /// What of a stream may be shown now.
    pub(crate) fn pass(&mut self, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let Some(finder) = &self.finder else {
            return bytes.to_vec();
        };
        let held = &mut self.held[usize::from(stream == Stream::Stderr)];
        held.extend_from_slice(bytes);
        let (mut shown, mut from) = (Vec::with_capacity(held.len()), 0);
        for found in finder.find_iter(held.as_slice()) {
            shown.extend_from_slice(&held[from..found.start()]);
            shown.extend_from_slice(REPLACEMENT);
            from = found.end();
        }
        let rest = held.split_off(from);
        let keep = self.needles.iter().map(|needle| overlap(&rest, needle));
        let keep = rest.len() - keep.max().unwrap_or(0);
        shown.extend_from_slice(&rest[..keep]);
        *held = rest[keep..].to_vec();
        shown
    }

    /// What is left of a stream that has ended.
    pub(crate) fn end(&mut self, stream: Stream) -> Vec<u8> {
        std::mem::take(&mut self.held[usize::from(stream == Stream::Stderr)])
    }
}

/// How many of the last bytes of `text` are the first ones of `needle`, but not all of it.
fn overlap(text: &[u8], needle: &[u8]) -> usize {
    let most = text.len().min(needle.len() - 1);
    (1..=most)
        .rev()
        .find(|&count| text.ends_with(&needle[..count]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(secrets: &[&str], pieces: &[&[u8]]) -> Vec<u8> {
        let secrets: Vec<Hidden> = secrets
            .iter()
            .map(|value| Hidden::new("id", value.as_bytes()))
            .collect();
        let mut mask = Mask::new(&secrets).unwrap();
        let mut shown: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| mask.pass(Stream::Stdout, piece))
            .collect();
        shown.extend(mask.end(Stream::Stdout));
        shown
    }

    #[test]
    fn whole_split_and_multi_line() {
        let key = "-----BEGIN-----\nabcdefgh\n";
        type Case<'a> = (&'a [&'a str], &'a [&'a [u8]], &'a [u8]);
        let cases: [Case<'_>; 5] = [
            (&["hunter2\n"], &[b"a hunter2 b"], b"a *** b"),
            (
                &["hunter2"],
                &[b"a hun", b"ter", b"2hunter"],
                b"a ***hunter",
            ),
            (&["hunter2", "hunter22"], &[b"hunter22"], b"***"),
            (&[key], &[b"x abcdefgh y"], b"x *** y"),
            (&["short"], &[b"short"], b"short"),
        ];
        for (secrets, pieces, want) in cases {
            assert_eq!(masked(secrets, pieces), want);
        }
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(text in "(hunter2|hun|er2|x){0,12}", at in 0usize..80) {
            let at = at.min(text.len());
            let (a, b) = text.as_bytes().split_at(at);
            let whole = masked(&["hunter2"], &[text.as_bytes()]);
            prop_assert_eq!(&masked(&["hunter2"], &[a, b]), &whole);
            prop_assert!(!String::from_utf8_lossy(&whole).contains("hunter2"));
        }
    }
}
