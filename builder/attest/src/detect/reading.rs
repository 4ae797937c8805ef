//! What is read of one file, and what it says.

use std::io::{Read, Seek};

use kiln_graph::ImagePath;
use serde::{Deserialize, Serialize};

use crate::{Distribution, Package};

/// A file that is read from any place.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// What a path says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// These packages are installed.
    Packages(Vec<Package>),
    /// The same as another path.
    Link(ImagePath),
    /// The licence of the Debian package whose copyright file this is.
    Copyright(Option<String>),
    /// Which distribution the image is of.
    Distribution(Distribution),
}

/// More packages than this are in no honest file; the rest isn't listed, which is told.
const MAX_PACKAGES: usize = 200_000;
/// So many of a file's problems are told.
const MAX_PROBLEMS: usize = 20;
/// No name or version is longer, in bytes.
const MAX_NAME: usize = 4096;

/// Packages as they are read of one file, and what is wrong with it. What a file can make of it has bounds.
#[derive(Debug, Default)]
pub(super) struct List {
    packages: Vec<Package>,
    problems: Vec<String>,
    /// How many packages and problems there were beyond that.
    more: (usize, usize),
}

impl List {
    /// Adds a package. One whose name or version isn't plain text is told, and left as it is.
    pub(super) fn push(&mut self, package: Package) {
        let Package { name, version, .. } = &package;
        if name.len() > MAX_NAME || version.len() > MAX_NAME {
            return self.problem("a package's name or version is too long");
        }
        let is_odd = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if name.contains(is_odd) || version.contains(is_odd) {
            let text = format!("the package '{} {}'", plain(name, 60), plain(version, 60));
            self.problem(format!("{text} has characters that no name has"));
        }
        match self.packages.len() < MAX_PACKAGES {
            true => self.packages.push(package),
            false => self.more.0 += 1,
        }
    }

    /// Adds what is wrong.
    pub(super) fn problem(&mut self, reason: impl Into<String>) {
        match self.problems.len() < MAX_PROBLEMS {
            true => self.problems.push(reason.into()),
            false => self.more.1 += 1,
        }
    }

    /// Whether it has no package.
    pub(super) fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }
}

impl Extend<Package> for List {
    fn extend<T: IntoIterator<Item = Package>>(&mut self, packages: T) {
        packages.into_iter().for_each(|package| self.push(package));
    }
}

impl From<List> for Reading {
    fn from(list: List) -> Self {
        let (packages, problems) = list.more;
        let mut told = list.problems;
        if packages > 0 {
            told.push(format!("{packages} more packages in it are not listed"));
        }
        if problems > 0 {
            told.push(format!("{problems} more problems with it"));
        }
        Self {
            claim: Some(Claim::Packages(list.packages)),
            problems: told,
        }
    }
}

/// The beginning of a text, without what would write elsewhere on a terminal.
pub(super) fn plain(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(most).map(plain).collect()
}

/// What a detector makes of one file.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(super) claim: Option<Claim>,
    pub(super) problems: Vec<String>,
}

impl Reading {
    pub(super) fn of(claim: Claim) -> Self {
        Self {
            claim: Some(claim),
            problems: Vec::new(),
        }
    }

    pub(super) fn packages(packages: impl IntoIterator<Item = Package>) -> Self {
        let mut list = List::default();
        list.extend(packages);
        list.into()
    }

    pub(super) fn problem(reason: impl Into<String>) -> Self {
        Self {
            claim: Some(Claim::Packages(Vec::new())),
            problems: vec![reason.into()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ecosystem;

    #[test]
    fn lists_have_bounds() {
        let package = |name: &str| Package::new(Ecosystem::Deb, name, "1");
        let mut list = List::default();
        list.extend((0..MAX_PACKAGES + 5).map(|_| package("a")));
        (0..MAX_PROBLEMS + 7).for_each(|_| list.problem("odd"));
        let reading = Reading::from(list);
        let Some(Claim::Packages(packages)) = reading.claim else {
            panic!()
        };
        assert_eq!(packages.len(), MAX_PACKAGES);
        let told = &reading.problems[MAX_PROBLEMS..];
        assert_eq!(
            told,
            [
                "5 more packages in it are not listed",
                "7 more problems with it"
            ]
        );
    }

    #[test]
    fn odd_names_are_told() {
        let told = |name: &str| {
            let package = Package::new(Ecosystem::Deb, name, "1");
            Reading::packages([package]).problems
        };
        assert!(told("plain-é").is_empty());
        assert_eq!(
            told("\u{1b}[31mx"),
            ["the package '\u{fffd}[31mx 1' has characters that no name has"]
        );
        assert_eq!(told("\u{fffd}").len(), 1);
        assert_eq!(
            told(&"x".repeat(MAX_NAME + 1)),
            ["a package's name or version is too long"]
        );
    }
}
