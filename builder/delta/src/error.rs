//! Why a difference can't be applied or made.

use std::io;

use crate::format::{MAX_ADD, MAX_PATH, MAX_WINDOW_LOG};

/// A difference that can't be applied or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// The magic is another format's.
    #[error("it is not a tar-diff of version 1 or 2")]
    NotDelta,
    /// It ends in the middle of an operation.
    #[error("it is truncated")]
    Truncated,
    /// An operation that the format doesn't have.
    #[error("it has an unknown operation {0}")]
    UnknownOp(u8),
    /// A number of more than 64 bits.
    #[error("a number in it has more than 64 bits")]
    Overflow,
    /// A path that is too long.
    #[error("a path in it is longer than {MAX_PATH} bytes")]
    LongPath,
    /// A path that isn't UTF-8.
    #[error("a path in it is not UTF-8")]
    PathText,
    /// An addition that is too long.
    #[error("it adds more than {MAX_ADD} bytes at once")]
    LongAdd,
    /// A file that is too large to be a prefix.
    #[error("{path} is larger than 2^{MAX_WINDOW_LOG} bytes, so it can't be a prefix")]
    LargePrefix {
        /// The file.
        path: String,
    },
    /// The old image has no such regular file.
    #[error("the old image has no file {path:?}")]
    NoFile {
        /// The path.
        path: String,
    },
    /// Old bytes are asked for before a file is open.
    #[error("it reads from the old image before it opens a file")]
    NothingOpen,
    /// An operation that reaches past the end of an old file.
    #[error("it reads past the end of {path:?}")]
    PastEnd {
        /// The file.
        path: String,
    },
    /// It gives more than the layer may have.
    #[error("it gives more than the {limit} bytes that the layer may have")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// It asks for more than a layer of that size needs.
    #[error("it opens, reads or does more than a layer of that size needs")]
    TooMuchWork,
    /// Something can't be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl DeltaError {
    /// An error of a stream of operations: one that ends too early is truncated.
    pub(crate) fn of_stream(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}
