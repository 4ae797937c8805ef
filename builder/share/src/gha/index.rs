//! The document with all entries of a scope: `{"version": 1, "entries": {NAME: {"text": TEXT, "blobs": [DIGEST…],
//! "used": SECONDS}}}`. What no build has used for a while is left out when it is written, as the service drops the blobs.

use std::collections::BTreeMap;

use kiln_graph::BlobDigest;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
/// What wasn't used for so long is dropped, in seconds.
const MAX_AGE: u64 = 30 * 24 * 60 * 60;
/// That an entry was used is noted so often, in seconds.
const STALE: u64 = 24 * 60 * 60;
/// No document that is written is larger, in bytes.
const MAX_WRITTEN: usize = 32 << 20;
/// No document is larger that is read, in bytes.
pub(super) const MAX_READ: u64 = 64 << 20;

/// An entry, and what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Indexed {
    /// The entry itself.
    pub(super) text: String,
    /// The blobs that it names.
    pub(super) blobs: Vec<BlobDigest>,
    /// When a build last used it, in seconds since 1970.
    pub(super) used: u64,
}

/// All entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(pub(super) BTreeMap<String, Indexed>);

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    entries: BTreeMap<String, Indexed>,
}

impl Index {
    /// Reads a document; `None` when it is none, or of another version.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(bytes).ok()?;
        (document.version == VERSION).then_some(Self(document.entries))
    }

    /// The document, without what is too old, or too much.
    pub(super) fn document(&self, now: u64) -> Vec<u8> {
        let mut newest: Vec<(&String, &Indexed)> = self.0.iter().collect();
        newest.sort_by_key(|(_, indexed)| std::cmp::Reverse(indexed.used));
        let mut left = MAX_WRITTEN;
        let is_kept = |(name, indexed): &(&String, &Indexed)| {
            // Entries are JSON themselves: their quotes are escaped.
            let size = 2 * (indexed.text.len() + name.len()) + 100 * (indexed.blobs.len() + 1);
            let fits = size <= left;
            left -= if fits { size } else { 0 };
            fits && now.saturating_sub(indexed.used) <= MAX_AGE
        };
        let kept = newest.into_iter().filter(is_kept);
        let entries = kept.map(|(name, indexed)| (name.clone(), indexed.clone()));
        let document = Document {
            version: VERSION,
            entries: entries.collect(),
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// Adds those of another: of two with one name the one that was used later counts.
    pub(super) fn add(&mut self, other: &Self) {
        for (name, indexed) in &other.0 {
            match self.0.get(name) {
                Some(own) if own.used >= indexed.used => {}
                _ => _ = self.0.insert(name.clone(), indexed.clone()),
            }
        }
    }

    /// These with what a build wrote and when it used others; nothing when that tells nothing new.
    pub(super) fn with(&self, written: &Self, used: &BTreeMap<String, u64>) -> Option<Self> {
        let is_new = |(name, new): (&String, &Indexed)| {
            let old = self.0.get(name);
            old.is_none_or(|old| {
                (&old.text, &old.blobs) != (&new.text, &new.blobs)
                    || old.used.saturating_add(STALE) < new.used
            })
        };
        let mut is_worth_it = written.0.iter().any(is_new);
        let mut all = written.clone();
        all.add(self);
        for (name, time) in used {
            if let Some(indexed) = all.0.get_mut(name) {
                is_worth_it |= indexed.used.saturating_add(STALE) < *time;
                indexed.used = indexed.used.max(*time);
            }
        }
        is_worth_it.then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(text: &str, used: u64) -> Indexed {
        Indexed {
            text: text.to_owned(),
            blobs: vec![BlobDigest::of(text.as_bytes())],
            used,
        }
    }

    fn index(entries: &[(&str, &str, u64)]) -> Index {
        let entries = entries.iter();
        Index(
            entries
                .map(|(name, text, used)| ((*name).to_owned(), entry(text, *used)))
                .collect(),
        )
    }

    #[test]
    fn writers_add_to_each_other() {
        let mut all = index(&[("a", "old", 1), ("b", "new", 9)]);
        all.add(&index(&[
            ("a", "new", 2),
            ("b", "old", 1),
            ("c", "only", 1),
        ]));
        assert_eq!(
            all,
            index(&[("a", "new", 2), ("b", "new", 9), ("c", "only", 1)])
        );
    }

    #[test]
    fn what_is_old_or_too_much_is_left_out() {
        let all = index(&[("old", "1", 0), ("new", "2", MAX_AGE)]);
        let kept = Index::read(&all.document(MAX_AGE + 1)).unwrap();
        assert_eq!(kept, index(&[("new", "2", MAX_AGE)]));
        let large = "x".repeat(MAX_WRITTEN / 3);
        let all = index(&[("a", &large, 1), ("b", &large, 3), ("c", "small", 2)]);
        let kept = Index::read(&all.document(5)).unwrap();
        assert_eq!(
            kept.0.keys().collect::<Vec<_>>(),
            ["b", "c"],
            "the last used"
        );
    }

    #[test]
    fn a_document_is_written_when_it_says_something_new() {
        let there = index(&[("a", "1", 100)]);
        let with = |written: &[(&str, &str, u64)], used: &[(&str, u64)]| {
            let used = used.iter().map(|(name, time)| ((*name).to_owned(), *time));
            there.with(&index(written), &used.collect())
        };
        assert_eq!(with(&[], &[]), None);
        assert_eq!(with(&[("a", "1", 200)], &[]), None);
        assert_eq!(with(&[], &[("a", 200), ("elsewhere", 200 + STALE)]), None);
        let later = 101 + STALE;
        assert_eq!(
            with(&[("a", "1", later)], &[]),
            Some(index(&[("a", "1", later)]))
        );
        assert_eq!(
            with(&[], &[("a", later)]),
            Some(index(&[("a", "1", later)]))
        );
        assert_eq!(
            with(&[("a", "2", 100)], &[]),
            Some(index(&[("a", "2", 100)]))
        );
        let both = index(&[("a", "1", 100), ("b", "1", 100)]);
        assert_eq!(with(&[("b", "1", 100)], &[]), Some(both));
    }

    #[test]
    fn other_documents_are_none() {
        for text in [
            "",
            "[]",
            "{}",
            "{\"version\":2,\"entries\":{}}",
            "{\"version\":1}",
        ] {
            assert_eq!(Index::read(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(
            entries in prop::collection::btree_map("\\PC{0,5}", ("\\PC{0,40}", 0u64..9), 0..6),
        ) {
            let entries = entries.into_iter().map(|(name, (text, used))| (name, entry(&text, used)));
            let all = Index(entries.collect());
            prop_assert_eq!(Index::read(&all.document(0)), Some(all));
        }

        #[test]
        fn no_document_panics(text in "\\PC{0,60}") {
            _ = Index::read(text.as_bytes());
        }
    }
}
