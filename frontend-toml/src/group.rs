//! `[groups]`: what is built together, and what a file builds when nothing is named.

use std::collections::BTreeSet;

use crate::error::Wrong;
use crate::limits::MAX_GROUP_DEPTH;
use crate::model::BuildFile;
use crate::suggest::did_you_mean;
use crate::text::{Name, Text};

/// The group that is built unless something else is named.
pub(crate) const DEFAULT: &str = "default";

/// What a target stands for: an image or step for itself, a group for what is in it. Without one,
/// the group `default`, else all images.
pub(crate) fn members(file: &BuildFile, target: Option<&str>) -> Result<Vec<String>, Wrong> {
    let name = target.unwrap_or(DEFAULT);
    let mut expansion = Expansion {
        file,
        done: BTreeSet::new(),
        members: Vec::new(),
    };
    match (file.groups.get_key_value(name), target) {
        (Some((group, _)), _) => expansion.add(group.text(), &mut Vec::new())?,
        (None, Some(target)) => expansion.members.push(target.to_owned()),
        (None, None) => {
            let names = file.images.keys();
            expansion.members.extend(names.map(Name::to_string));
        }
    }
    Ok(expansion.members)
}

/// Whether every group can be expanded.
pub(crate) fn check(file: &BuildFile) -> Result<(), Wrong> {
    for (group, listed) in &file.groups {
        if listed.is_empty() {
            let message = format!("the group '{group}' is empty: name what is built");
            return Err(Wrong::at(group.span(), message));
        }
        members(file, Some(group.as_str()))?;
    }
    Ok(())
}

/// The names that a target can have.
pub(crate) fn target_names(file: &BuildFile) -> Vec<&str> {
    let steps = file.steps.keys().chain(file.tests.keys());
    let known = file.images.keys().chain(file.groups.keys()).chain(steps);
    known.map(Name::as_str).collect()
}

/// Why a template is no target.
pub(crate) fn template_message(name: &str) -> String {
    format!("'{name}' is a template, of which nothing is built")
}

struct Expansion<'a> {
    file: &'a BuildFile,
    done: BTreeSet<String>,
    members: Vec<String>,
}

impl Expansion<'_> {
    /// Adds what a name stands for; `way` are the groups that it is in.
    fn add(&mut self, name: &Text, way: &mut Vec<String>) -> Result<(), Wrong> {
        if way.contains(&name.value) {
            let message = format!("the group '{}' is in itself: leave it out", name.value);
            return Err(Wrong::at(&name.span, message));
        }
        if !self.done.insert(name.value.clone()) {
            return Ok(());
        }
        let Some(members) = self.file.groups.get(name.value.as_str()) else {
            self.check_member(name)?;
            self.members.push(name.value.clone());
            return Ok(());
        };
        if way.len() >= MAX_GROUP_DEPTH {
            let message = format!("more than {MAX_GROUP_DEPTH} groups are in each other");
            return Err(Wrong::at(&name.span, message));
        }
        way.push(name.value.clone());
        for member in members {
            self.add(member, way)?;
        }
        way.pop();
        Ok(())
    }

    fn check_member(&self, name: &Text) -> Result<(), Wrong> {
        let base = name.value.split('@').next().unwrap_or_default();
        let known = target_names(self.file);
        if known.contains(&base) {
            return Ok(());
        }
        let what = match self.file.templates.contains_key(base) {
            true => template_message(base),
            false => {
                let hint = did_you_mean(base, known);
                format!("there is no image, step or group '{base}'{hint}")
            }
        };
        Err(Wrong::at(&name.span, what))
    }
}
