//! The build files that were read, for showing places in them.

use std::collections::BTreeMap;

use kiln_graph::Location;

/// The main file, and those it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    main: String,
    included: BTreeMap<String, String>,
}

impl Texts {
    /// A file that includes no other.
    #[must_use]
    pub fn of(main: impl Into<String>) -> Self {
        Self {
            main: main.into(),
            included: BTreeMap::new(),
        }
    }

    pub(crate) fn include(&mut self, name: &str, text: &str) {
        self.included.insert(name.to_owned(), text.to_owned());
    }

    /// The main file.
    #[must_use]
    pub fn main(&self) -> &str {
        &self.main
    }

    /// The file that a location is in.
    #[must_use]
    pub fn at(&self, location: &Location) -> &str {
        let included = self.included.get(location.file.as_ref());
        included.unwrap_or(&self.main)
    }
}
