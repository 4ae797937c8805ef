//! Numbers of protobuf's JSON.

use serde::Deserialize;

/// A number, which protobuf's JSON writes as a text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    Text(String),
    Plain(u64),
}

impl Number {
    /// The number; `None` when the text is none.
    pub(crate) fn get(&self) -> Option<u64> {
        match self {
            Self::Plain(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl Default for Number {
    fn default() -> Self {
        Self::Plain(0)
    }
}
