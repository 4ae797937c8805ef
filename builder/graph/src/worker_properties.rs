//! What a step asks of the machine that runs it, where that is a worker of a cluster.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Platform properties by name, as a cluster knows them (`pool=large`). They choose where a step runs,
/// not what it does: no key has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerProperties(BTreeMap<String, String>);

/// A text that is no list of properties.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no property of a worker: write NAME=VALUE")]
pub struct BadWorkerProperty(pub String);

impl WorkerProperties {
    /// No properties.
    #[must_use]
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a property; one of the same name is replaced.
    ///
    /// # Errors
    /// When it has no name, or one with a character that separates it from others.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), BadWorkerProperty> {
        let is_plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if name.is_empty() || name.contains(['=', ',']) || !is_plain(name) || !is_plain(value) {
            return Err(BadWorkerProperty(format!("{name}={value}")));
        }
        _ = self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds all of another list.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// `NAME=VALUE …`, separated by spaces.
impl FromStr for WorkerProperties {
    type Err = BadWorkerProperty;

    fn from_str(text: &str) -> Result<Self, BadWorkerProperty> {
        let mut properties = Self::default();
        for word in text.split_whitespace() {
            let pair = word.split_once('=');
            let (name, value) = pair.ok_or_else(|| BadWorkerProperty(word.to_owned()))?;
            properties.add(name, value)?;
        }
        Ok(properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_pairs() {
        let read = |text: &str| {
            let read = text.parse::<WorkerProperties>()?;
            let pairs = read.iter().map(|(name, value)| format!("{name}={value}"));
            Ok::<_, BadWorkerProperty>(pairs.collect::<Vec<_>>())
        };
        assert_eq!(
            read(" pool=large  ISA=x=y a= "),
            Ok(vec![
                "ISA=x=y".to_owned(),
                "a=".to_owned(),
                "pool=large".to_owned()
            ])
        );
        assert_eq!(read(""), Ok(Vec::new()));
        for wrong in ["pool large", "=large", "a,b=c"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
