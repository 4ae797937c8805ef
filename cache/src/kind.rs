//! Kinds of stored things.

/// A kind of stored thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Results of steps and unpacked layers.
    Tree,
    /// Compressed layers, manifests, configurations.
    Blob,
    /// What steps' results were.
    Record,
    /// Small facts.
    Memo,
    /// Cache volumes.
    Volume,
    /// What steps wrote.
    Log,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Tree,
        Self::Blob,
        Self::Record,
        Self::Memo,
        Self::Volume,
        Self::Log,
    ];

    /// Its directory and how deep its things lie in it.
    pub(crate) fn place(self) -> (&'static str, u32) {
        match self {
            Self::Tree => ("trees", 2),
            Self::Blob => ("blobs/sha256", 2),
            Self::Record => ("records", 2),
            Self::Memo => ("memo", 3),
            Self::Volume => ("volumes", 1),
            Self::Log => ("logs", 1),
        }
    }

    /// Its name, for people.
    #[must_use]
    pub fn singular(self) -> &'static str {
        self.plural().trim_end_matches('s')
    }

    /// Its name in the plural, for people.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Tree => "trees",
            Self::Blob => "blobs",
            Self::Record => "records",
            Self::Memo => "memos",
            Self::Volume => "volumes",
            Self::Log => "logs",
        }
    }
}
