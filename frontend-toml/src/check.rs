//! What can be said of a whole file without compiling it: names and matrices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use crate::error::Wrong;
use crate::files::Files;
use crate::limits::{MAX_COMBINATIONS, MAX_STEPS};
use crate::model::{BuildFile, Scalar};
use crate::text::{Name, Placed};

/// Every name is one, and stands for one thing only.
pub(crate) fn names(files: &Files, file: &BuildFile) -> Result<(), Wrong> {
    let mut known: BTreeMap<&Name, &str> = BTreeMap::new();
    let all = file.sources.keys().map(|name| (name, "source"));
    let all = all.chain(file.steps.keys().map(|name| (name, "step")));
    let all = all.chain(file.tests.keys().map(|name| (name, "test")));
    let all = all.chain(file.images.keys().map(|name| (name, "image")));
    let all = all.chain(file.groups.keys().map(|name| (name, "group")));
    for (name, kind) in all {
        check_name(name)?;
        if name.as_str() == "scratch" {
            let message = format!("'scratch' is the empty tree: give the {kind} another name");
            return Err(Wrong::at(name.span(), message));
        }
        if let Some((first, other)) = known.get_key_value(name) {
            let place = files.location(first.span());
            let place = place.map_or_else(String::new, |place| format!(", at {place}"));
            let message = format!(
                "'{name}' is {} {other} already{place}: a name stands for one thing, rename the {kind}",
                if *other == "image" { "an" } else { "a" }
            );
            return Err(Wrong::at(name.span(), message));
        }
        known.insert(name, kind);
    }
    for name in file.params.keys() {
        check_name(name)?;
    }
    let steps = file.steps.values().chain(file.tests.values());
    exports(file)?;
    defaults(file)?;
    let mut count = 0_usize;
    for step in steps {
        count += matrix(&step.matrix)?;
        if count > MAX_STEPS {
            return Err(Wrong::whole(format!(
                "the file has more than {MAX_STEPS} steps, those of matrices counted each"
            )));
        }
        step.env.keys().try_for_each(check_variable)?;
    }
    let images = file.images.values();
    images
        .flat_map(|image| image.env.keys())
        .try_for_each(check_variable)
}

/// What would do nothing in `[defaults]`, and in templates.
fn defaults(file: &BuildFile) -> Result<(), Wrong> {
    let defaults = file.defaults.as_ref();
    let step = defaults.and_then(|defaults| defaults.step.as_deref());
    let image = defaults.and_then(|defaults| defaults.image.as_deref());
    let extends = step.map(|step| &step.extends).into_iter();
    let extends = extends.chain(image.map(|image| &image.extends));
    if let Some(name) = extends.flatten().next() {
        let message =
            "defaults extend nothing: write the keys themselves, or extend it where it is meant";
        return Err(Wrong::at(&name.span, message));
    }
    let template = step.and_then(|step| step.template.as_ref());
    let template = template.or(image.and_then(|image| image.template.as_ref()));
    if let Some(placed) = template {
        let message = "defaults are of all steps or images: write template = true at those that are templates";
        return Err(Wrong::at(&placed.span, message));
    }
    let steps = file.steps.values().chain(file.tests.values());
    let templates = steps.filter(|step| step.is_template()).chain(step);
    if let Some(export) = templates.flat_map(|step| &step.exports).next() {
        let message = format!(
            "the export '{}' would be of no step: exports aren't inherited, write it where the files are made",
            export.name.value
        );
        return Err(Wrong::at(&export.name.span, message));
    }
    Ok(())
}

/// Exports are told apart by their names alone.
fn exports(file: &BuildFile) -> Result<(), Wrong> {
    let mut known = BTreeSet::new();
    let steps = file.steps.values().chain(file.tests.values());
    for export in steps.flat_map(|step| &step.exports) {
        let name = &export.name;
        spelled(&name.value).map_err(|message| Wrong::at(&name.span, message))?;
        if !known.insert(&name.value) {
            let message = format!("there is an export '{}' already: rename this", name.value);
            return Err(Wrong::at(&name.span, message));
        }
    }
    Ok(())
}

/// Names are typed on command lines, as in `--from NAME:2`, and stand in templates.
fn check_name(name: &Name) -> Result<(), Wrong> {
    spelled(name.as_str()).map_err(|message| Wrong::at(name.span(), message))
}

fn spelled(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(fits) {
        return Ok(());
    }
    Err(format!(
        "'{text}' is no name: a letter, then letters, digits, '-' and '_'"
    ))
}

fn check_variable(name: &Name) -> Result<(), Wrong> {
    let text = name.as_str();
    if !text.is_empty() && !text.contains(['=', '\0']) {
        return Ok(());
    }
    let message = format!("'{text}' is no variable's name: it may not be empty or have a '='");
    Err(Wrong::at(name.span(), message))
}

/// Checks a matrix; how many steps it makes.
fn matrix(matrix: &BTreeMap<Name, Vec<Placed<Scalar>>>) -> Result<usize, Wrong> {
    let mut count = 1_usize;
    for (name, values) in matrix {
        check_name(name)?;
        if values.is_empty() {
            let message = format!("the matrix has no values for '{name}': give at least one");
            return Err(Wrong::at(name.span(), message));
        }
        count = count.saturating_mul(values.len());
        if count > MAX_COMBINATIONS {
            let message =
                format!("the matrix makes more than {MAX_COMBINATIONS} steps: take values out");
            return Err(Wrong::at(name.span(), message));
        }
        for (number, value) in values.iter().enumerate() {
            let shown = value.value.to_string();
            if values[..number]
                .iter()
                .any(|other| other.value.to_string() == shown)
            {
                let message = format!("the matrix has '{shown}' twice: remove one");
                return Err(Wrong::at(&value.span, message));
            }
        }
    }
    Ok(count)
}

/// Whether a path stays in the build context: what is built is all that a file can name.
pub(crate) fn is_inside(path: &str) -> bool {
    let parts = Path::new(path).components();
    let mut depth = 0_i32;
    for part in parts {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_context() {
        let inside = [".", "", "a/b", "a/../b", "./a"];
        let outside = ["/a", "..", "a/../..", "../context/a"];
        for path in inside {
            assert!(is_inside(path), "{path}");
        }
        for path in outside {
            assert!(!is_inside(path), "{path}");
        }
    }
}
