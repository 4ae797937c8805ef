//! What a stage uses of what the user can give: arguments, secrets, agents. BuildKit's
//! `dockerfile2llb/outline.go` says what belongs to a stage and what to those it is made of.

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::Location;

/// What one stage uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured {
    /// All arguments that it can see, declared anywhere.
    pub(crate) known: BTreeMap<String, Declared>,
    /// The names of those that it uses.
    pub(crate) used: BTreeSet<String>,
    pub(crate) secrets: BTreeMap<String, Required>,
    pub(crate) ssh: BTreeMap<String, Required>,
    /// Stages that it is made of besides its base.
    pub(crate) sources: BTreeSet<usize>,
    /// The stage that it is built on.
    pub(crate) base: Option<usize>,
}

/// An argument's declaration.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) value: String,
    pub(crate) description: String,
    pub(crate) location: Location,
    /// Arguments that its default speaks of.
    pub(crate) needs: BTreeSet<String>,
}

/// What a secret's or agent's first mount says.
#[derive(Clone, Debug)]
pub(crate) struct Required {
    pub(crate) required: bool,
    pub(crate) location: Location,
}

impl Captured {
    /// The names used, with those that their defaults speak of.
    pub(crate) fn all_used(&self) -> BTreeSet<&str> {
        let mut open: Vec<&str> = self.used.iter().map(String::as_str).collect();
        let mut all = BTreeSet::new();
        while let Some(name) = open.pop() {
            if all.insert(name) {
                let needs = self.known.get(name).into_iter();
                open.extend(needs.flat_map(|known| &known.needs).map(String::as_str));
            }
        }
        all
    }
}
