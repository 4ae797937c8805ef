//! Why a step ran: its key's parts beside those of the same step in an earlier build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kiln_cache::{BuildRecord, BuiltStep, Record, StepOutcome, Store, StoreError};
use kiln_graph::{Entry, ImagePath};
use serde::Serialize;
use serde_json::Value;

use crate::report::seconds;

/// How many files are named of each change.
const MAX_FILES: usize = 20;

/// What became of one step, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explained {
    /// Its name.
    pub(crate) name: String,
    /// How it went.
    pub(crate) outcome: StepOutcome,
    /// How long it took, in milliseconds.
    pub(crate) took: u64,
    /// The cluster and the worker that ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
    /// Why it ran, or didn't.
    pub(crate) reasons: Vec<Reason>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Nothing it depends on changed.
    Unchanged,
    /// Steps before it ran, but gave what they had given before.
    Spared,
    /// No earlier build has it.
    New,
    /// It was asked to run, or its result was no longer there.
    Asked,
    /// A part of the instruction changed.
    Instruction {
        /// Which part.
        part: String,
        /// What it was.
        before: String,
        /// What it is.
        after: String,
    },
    /// What it is built on changed.
    Input {
        /// Which input.
        input: String,
        /// The steps before it that ran, and so may have changed it.
        by: Vec<String>,
    },
    /// It failed in the build before, so that there is no result.
    FailedBefore,
    /// Files it copies changed.
    Files {
        /// Each with what changed.
        files: Vec<FileChange>,
        /// How many more there are.
        more: usize,
    },
}

/// A file that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FileChange {
    /// Its path.
    pub(crate) path: String,
    /// `added`, `removed`, `content`, `mode`, `owner`, `type`, `link` or `attributes`.
    pub(crate) what: &'static str,
}

/// Explains a build by the builds of the same file before it.
///
/// # Errors
/// When the store can't be read.
pub(crate) fn explain(store: &Store, build: &BuildRecord) -> Result<Vec<Explained>, StoreError> {
    let earlier: Vec<BuildRecord> = store
        .builds()
        .all()?
        .into_iter()
        .filter(|other| other.subject == build.subject && other.id < build.id)
        .collect();
    let steps = build.steps.iter().filter(|step| step.instruction);
    steps
        .map(|step| {
            Ok(Explained {
                name: step.name.clone(),
                outcome: step.outcome,
                took: step.took,
                place: step.place.clone(),
                reasons: reasons(store, build, step, &earlier)?,
            })
        })
        .collect()
}

fn reasons(
    store: &Store,
    build: &BuildRecord,
    step: &BuiltStep,
    earlier: &[BuildRecord],
) -> Result<Vec<Reason>, StoreError> {
    if step.outcome == StepOutcome::Waiting {
        return Ok(Vec::new());
    }
    if step.outcome == StepOutcome::Cached {
        let before = step
            .inputs
            .iter()
            .filter_map(|input| build.steps.get(*input));
        // A context is read in every build: that alone spares nothing.
        let ran = before
            .filter(|step| step.instruction)
            .any(|step| step.outcome == StepOutcome::Ran);
        return Ok(vec![if ran {
            Reason::Spared
        } else {
            Reason::Unchanged
        }]);
    }
    let same = |other: &&BuiltStep| place(&other.name) == place(&step.name) && other.key.is_some();
    let step_before = earlier
        .iter()
        .find_map(|build| build.steps.iter().find(same));
    let before = match step_before.and_then(|step| step.key) {
        Some(key) => store.records().get(&key)?,
        None => None,
    };
    let now = match step.key {
        Some(key) => store.records().get(&key)?,
        None => None,
    };
    match (before, now) {
        (None, _) if failed_before(step, earlier) => Ok(vec![Reason::FailedBefore]),
        (None, _) => Ok(vec![Reason::New]),
        (Some(before), Some(now)) => compare(store, &before, &now, &ran_before(build, step)),
        (Some(_), None) => Ok(unrecorded(build, step, step_before)),
    }
}

/// Why a step ran that left no result to compare: by its text, and by what it is built on.
fn unrecorded(build: &BuildRecord, step: &BuiltStep, before: Option<&BuiltStep>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(before) = before.filter(|before| before.name != step.name) {
        reasons.push(Reason::Instruction {
            part: "instruction".to_owned(),
            before: instruction(&before.name).to_owned(),
            after: instruction(&step.name).to_owned(),
        });
    }
    let by = ran_before(build, step);
    if !by.is_empty() {
        let input = "input".to_owned();
        reasons.push(Reason::Input { input, by });
    }
    reasons
}

/// Whether the step failed in the build before.
fn failed_before(step: &BuiltStep, earlier: &[BuildRecord]) -> bool {
    let steps = earlier.first().into_iter().flat_map(|build| &build.steps);
    let mut same = steps.filter(|other| place(&other.name) == place(&step.name));
    same.any(|other| other.outcome == StepOutcome::Failed)
}

/// The inputs of a step that ran, by their first lines.
fn ran_before(build: &BuildRecord, step: &BuiltStep) -> Vec<String> {
    let inputs = step
        .inputs
        .iter()
        .filter_map(|input| build.steps.get(*input));
    let ran = inputs.filter(|step| step.outcome == StepOutcome::Ran);
    ran.map(|step| step.name.lines().next().unwrap_or_default().to_owned())
        .collect()
}

/// `stage[3]` of `stage[3] RUN x`: what names a step across edits of its text.
fn place(name: &str) -> &str {
    name.split_once("] ").map_or(name, |(place, _)| place)
}

/// `RUN x` of `stage[3] RUN x`.
fn instruction(name: &str) -> &str {
    name.split_once("] ").map_or(name, |(_, text)| text)
}

fn compare(
    store: &Store,
    before: &Record,
    now: &Record,
    by: &[String],
) -> Result<Vec<Reason>, StoreError> {
    if before.key == now.key {
        return Ok(vec![Reason::Asked]);
    }
    let mut found = Vec::new();
    differences(
        "",
        &before.parts.operation,
        &now.parts.operation,
        &mut found,
    );
    let old: BTreeMap<&str, _> = before
        .parts
        .inputs
        .iter()
        .map(|input| (input.name.as_str(), input.content))
        .collect();
    for input in &now.parts.inputs {
        if old.get(input.name.as_str()) == Some(&input.content) {
            continue;
        }
        if input.name.starts_with("files ") {
            found.push(changed_files(store, before, now)?);
        } else {
            found.push(Reason::Input {
                input: input.name.clone(),
                by: by.to_vec(),
            });
        }
    }
    Ok(found)
}

/// The parts of an operation that differ; positions of inputs are not the author's.
fn differences(path: &str, before: &Value, now: &Value, found: &mut Vec<Reason>) {
    match (before, now) {
        _ if before == now => {}
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let at = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let get = |map: &serde_json::Map<String, Value>| map.get(key).cloned();
                let (old, new) = (get(old).unwrap_or_default(), get(new).unwrap_or_default());
                differences(&at, &old, &new, found);
            }
        }
        (Value::Array(old), Value::Array(new)) if path == "env" => {
            variables(old, new, found);
        }
        _ => found.push(Reason::Instruction {
            part: path.to_owned(),
            before: plain(before),
            after: plain(now),
        }),
    }
}

/// Variables are told by name.
fn variables(old: &[Value], new: &[Value], found: &mut Vec<Reason>) {
    let map = |values: &[Value]| -> BTreeMap<String, String> {
        let pair =
            |value: &Value| Some((value[0].as_str()?.to_owned(), value[1].as_str()?.to_owned()));
        values.iter().filter_map(pair).collect()
    };
    let (old, new) = (map(old), map(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
    {
        let value = |map: &BTreeMap<String, String>| {
            map.get(name)
                .cloned()
                .unwrap_or_else(|| "(not set)".to_owned())
        };
        found.push(Reason::Instruction {
            part: format!("variable {name}"),
            before: value(&old),
            after: value(&new),
        });
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(words) if words.iter().all(Value::is_string) => words
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    }
}

/// Which files of a copy changed, by what the copies gave.
fn changed_files(store: &Store, before: &Record, now: &Record) -> Result<Reason, StoreError> {
    let (old, new) = (entries(store, before)?, entries(store, now)?);
    let paths: BTreeSet<&ImagePath> = old.keys().chain(new.keys()).collect();
    let mut files: Vec<FileChange> = paths
        .into_iter()
        .filter_map(|path| {
            let what = Entry::change(old.get(path), new.get(path))?;
            let path = path.to_string();
            Some(FileChange { path, what })
        })
        .collect();
    let more = files.len().saturating_sub(MAX_FILES);
    files.truncate(MAX_FILES);
    Ok(Reason::Files { files, more })
}

fn entries(store: &Store, record: &Record) -> Result<BTreeMap<ImagePath, Entry>, StoreError> {
    let mut all = BTreeMap::new();
    for id in &record.output {
        if let Some(tree) = store.trees().get(id)? {
            let manifest = tree.manifest()?;
            let own = manifest.entries().iter();
            all.extend(own.map(|entry| (entry.path.clone(), entry.clone())));
        }
    }
    Ok(all)
}

/// What was explained, for people.
#[must_use]
pub(crate) fn text(build: &BuildRecord, steps: &[Explained]) -> String {
    let (cached, all) = build.cached();
    let end = if build.ok { "succeeded" } else { "failed" };
    let mut out = format!(
        "build {} of {} {end} in {}: {cached} of {all} steps had their results\n",
        build.id,
        build.title,
        seconds(build.took)
    );
    for step in steps {
        let name = step.name.lines().next().unwrap_or_default();
        let outcome = match step.outcome {
            StepOutcome::Ran => format!("ran {}", seconds(step.took)),
            StepOutcome::Cached => "cached".to_owned(),
            StepOutcome::Failed => format!("failed after {}", seconds(step.took)),
            StepOutcome::Cancelled => "stopped".to_owned(),
            StepOutcome::Waiting => "not begun".to_owned(),
        };
        let place = step.place.iter().map(|place| format!(" on {place}"));
        _ = writeln!(out, "{name}\n    {outcome}{}", place.collect::<String>());
        for reason in &step.reasons {
            out.push_str(&reason_text(reason));
        }
    }
    out
}

fn reason_text(reason: &Reason) -> String {
    match reason {
        Reason::Unchanged => String::new(),
        Reason::Spared => {
            "    spared: what it depends on ran again, but gave the same\n".to_owned()
        }
        Reason::New => "    no earlier build has this step\n".to_owned(),
        Reason::Asked => {
            "    nothing changed: it was asked to run, or its result was gone\n".to_owned()
        }
        Reason::Instruction {
            part,
            before,
            after,
        } => {
            format!("    {part} changed:\n      - {before}\n      + {after}\n")
        }
        Reason::FailedBefore => "    it failed in the build before\n".to_owned(),
        Reason::Input { input, by } if by.is_empty() => {
            format!("    what it is built on changed: its {input}, for another image or context\n")
        }
        Reason::Input { input, by } => {
            format!(
                "    what it is built on changed: its {input}, by {}\n",
                by.join(", ")
            )
        }
        Reason::Files { files, more } => {
            let line = |file: &FileChange| format!("      {:<10} {}\n", file.what, file.path);
            let mut out = "    files changed:\n".to_owned();
            out.extend(files.iter().map(line));
            if *more > 0 {
                _ = writeln!(out, "      and {more} more");
            }
            out
        }
    }
}
