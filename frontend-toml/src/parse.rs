//! From text to tables, strictly: unknown keys and wrong types are errors with their place.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use kiln_graph::is_commit;

use crate::check;
use crate::error::{NOWHERE, TomlError, Wrong};
use crate::files::Files;
use crate::group;
use crate::inherit;
use crate::limits::{MAX_FILES, MAX_INCLUDES};
use crate::model::{BuildFile, Include};
use crate::suggest::{did_you_mean, one_of};
use crate::text::{Name, Placed};

/// Gives the text of an included file, or says in words why not.
pub type ReadIncluded<'a> = dyn Fn(&Included<'_>) -> Result<String, String> + 'a;

/// A file to be included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Included<'a> {
    /// A path in the context.
    File(&'a str),
    /// A file of a git repository.
    Git {
        /// The repository's address.
        remote: &'a str,
        /// The commit, in full.
        commit: &'a str,
        /// The file's path in it.
        path: &'a str,
    },
}

impl fmt::Display for Included<'_> {
    /// As messages name the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Git {
                remote,
                commit,
                path,
            } => write!(f, "{remote}#{}:{path}", commit.get(..12).unwrap_or(commit)),
        }
    }
}

/// Reads a file and those it includes. `file` is its name for messages.
///
/// # Errors
/// When a file isn't one, names something twice, or can't be read.
pub fn parse(file: &str, text: &str, read: &ReadIncluded<'_>) -> Result<BuildFile, TomlError> {
    let mut files = Files::default();
    let result = whole(&mut files, file, text, read);
    result
        .map_err(|wrong| files.error(wrong))
        .map(|whole| BuildFile { files, ..whole })
}

fn whole(
    files: &mut Files,
    file: &str,
    text: &str,
    read: &ReadIncluded<'_>,
) -> Result<BuildFile, Wrong> {
    let mut size = text.len();
    check_size(size, &NOWHERE)?;
    let (mut whole, placed) = read_one(files, file, text)?;
    let mut inherits = inherit::is_used(&whole);
    let mut texts = vec![placed];
    for (number, include) in whole.include.clone().into_iter().enumerate() {
        if number >= MAX_INCLUDES {
            let message = format!("more than {MAX_INCLUDES} files are included");
            return Err(Wrong::at(&include.span, message));
        }
        let from = included(&include)?;
        let text = read(&from)
            .map_err(|why| Wrong::at(&include.span, format!("cannot include {from}: {why}")))?;
        size = size.saturating_add(text.len());
        check_size(size, &include.span)?;
        let (other, placed) = read_one(files, &from.to_string(), &text)?;
        inherits |= inherit::is_used(&other);
        texts.push(placed);
        if let Some(nested) = other.include.first() {
            let message = format!("{from} is included itself: include this in {file} instead");
            return Err(Wrong::at(&nested.span, message));
        }
        merge(files, &mut whole, other)?;
    }
    check::names(files, &whole)?;
    if inherits {
        inherit::resolve(&mut whole, &texts)?;
        check::names(files, &whole)?;
    }
    take_templates(&mut whole);
    group::check(&whole)?;
    Ok(whole)
}

/// Templates are known by their names, and are nothing else from here on.
fn take_templates(file: &mut BuildFile) {
    let templates = &mut file.templates;
    for steps in [&mut file.steps, &mut file.tests] {
        steps.retain(|name, step| keep(templates, "step", name, step.is_template()));
    }
    file.images
        .retain(|name, image| keep(templates, "image", name, image.is_template()));
}

fn keep(
    templates: &mut BTreeMap<Name, &'static str>,
    kind: &'static str,
    name: &Name,
    is_template: bool,
) -> bool {
    if is_template {
        templates.insert(name.clone(), kind);
    }
    !is_template
}

fn check_size(size: usize, span: &Range<usize>) -> Result<(), Wrong> {
    let message = "the file and what it includes are larger than";
    match size <= MAX_FILES {
        true => Ok(()),
        false => Err(Wrong::at(span, format!("{message} {MAX_FILES} bytes"))),
    }
}

/// What an entry of `include` names.
fn included(include: &Placed<Include>) -> Result<Included<'_>, Wrong> {
    let git = match &include.value {
        Include::File(path) if check::is_inside(path) => return Ok(Included::File(path)),
        Include::File(path) => {
            let why = "name a file in the build context";
            let message = format!("'{path}' may not be included: {why}");
            return Err(Wrong::at(&include.span, message));
        }
        Include::Git(git) => git,
    };
    let commit = &git.commit.value;
    if !is_commit(commit) {
        let message = format!(
            "'{commit}' is no whole commit: a branch or tag can change, so write its 40 digits"
        );
        return Err(Wrong::at(&git.commit.span, message));
    }
    if !check::is_inside(&git.path.value) {
        let message = format!("'{}' is no path in the repository", git.path.value);
        return Err(Wrong::at(&git.path.span, message));
    }
    Ok(Included::Git {
        remote: &git.git.value,
        commit,
        path: &git.path.value,
    })
}

/// A file's tables, and its text behind line feeds for the files before it.
fn read_one(files: &mut Files, name: &str, text: &str) -> Result<(BuildFile, String), Wrong> {
    let placed = files.add(name, text);
    let parsed: BuildFile = toml::from_str(&placed).map_err(|error| {
        // A key that is missing from the file as a whole is missing from its first line.
        let start = placed.len() - text.trim_start_matches('\u{feff}').len();
        let span = error.span().unwrap_or_default();
        let first = span.start.max(start);
        // A table that lacks a key is shown by its first line.
        let line = placed.get(first..).and_then(|rest| rest.find('\n'));
        let end = line.map_or(span.end, |length| span.end.min(first + length));
        Wrong::at(&(first..end.max(first + 1)), in_words(error.message()))
    })?;
    if parsed.version.value != 1 {
        let message = format!(
            "version {} is not known: this kiln reads version = 1",
            parsed.version.value
        );
        return Err(Wrong::at(&parsed.version.span, message));
    }
    Ok((parsed, placed))
}

/// Adds the tables of an included file.
fn merge(files: &Files, whole: &mut BuildFile, other: BuildFile) -> Result<(), Wrong> {
    macro_rules! take {
        ($($field:ident: $kind:literal),*) => {$(
            for (name, value) in other.$field {
                if let Some((known, _)) = whole.$field.get_key_value(&name) {
                    return Err(twice(files, $kind, &name, known));
                }
                whole.$field.insert(name, value);
            }
        )*};
    }
    take!(params: "parameter", sources: "source", steps: "step", tests: "test", images: "image", groups: "group");
    Ok(())
}

fn twice(files: &Files, kind: &str, name: &Name, known: &Name) -> Wrong {
    let place = files.location(known.span());
    let place = place.map_or_else(String::new, |place| format!(", at {place}"));
    let message = format!("there is a {kind} '{name}' already{place}: rename one of them");
    Wrong::at(name.span(), message)
}

/// What the TOML library says, in the words of this language.
fn in_words(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let name = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let hint = did_you_mean(name, known.iter().copied());
    if message.starts_with("unknown field") {
        return format!(
            "there is no key '{name}' here{hint}; there are {}",
            known.join(", ")
        );
    }
    if message.starts_with("unknown variant") {
        return format!("'{name}' is not known here{hint}: write {}", one_of(&known));
    }
    if message == "duplicate key" {
        return "this key is there already: write it once".to_owned();
    }
    match (message.starts_with("missing field"), name) {
        (true, "version") => {
            "the language's version is missing: begin the file with version = 1".to_owned()
        }
        (true, name) => format!("the key '{name}' is missing here: add {name} = …"),
        _ => plain_types(message),
    }
}

/// The types' names as TOML has them.
fn plain_types(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    let Some(found) = found.strip_prefix("invalid ") else {
        return message.to_owned();
    };
    let found = found.split_once(": ").map_or(found, |(_, found)| found);
    let expected = match expected {
        "u32" => "a whole number, 0 or more",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    format!(
        "expected {expected}, not {}",
        found.replace("sequence", "a list")
    )
}
