//! `--export`: files out of steps, also of those that failed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::StepOutcome;
use kiln_engine::{Engine, EventSink, Moment, OutputEntry, Request, Solved, StepRef};
use kiln_graph::{Build, Export, StepId};

use super::{say, signals};
use kiln::Error;
use kiln::output::to_directory;

/// Where exports go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exports(Vec<(Export, PathBuf)>);

impl Exports {
    /// Reads `[NAME=]DIRECTORY`s: a name's files go into its directory, those without one of their own
    /// into the directory without a name, in a directory called as they are.
    pub(crate) fn read(texts: &[String], build: &Build) -> Result<Self, Error> {
        let mut named: BTreeMap<&str, &str> = BTreeMap::new();
        let mut rest = None;
        for text in texts {
            match text.split_once('=') {
                Some((name, directory)) => _ = named.insert(name, directory),
                None => rest = Some(Path::new(text)),
            }
        }
        let mut chosen = Vec::new();
        for export in &build.exports {
            let own = named.get(export.name.as_str()).map(PathBuf::from);
            let directory = own.or_else(|| Some(rest?.join(&export.name)));
            chosen.extend(directory.map(|directory| (export.clone(), directory)));
        }
        let known: Vec<&str> = build.exports.iter().map(|e| e.name.as_str()).collect();
        match named.keys().find(|name| !known.contains(name)) {
            None => Ok(Self(chosen)),
            Some(name) => Err(Error::Usage(unknown(name, &known))),
        }
    }

    /// Writes what a build gave.
    pub(crate) fn write(&self, solved: &Solved, events: &dyn EventSink) -> Result<(), Error> {
        for (export, directory) in &self.0 {
            let files = solved.files_at(export.step, &export.path, events)?;
            put(export, directory, files, events)?;
        }
        Ok(())
    }

    /// Writes what there is after a failure, of the steps that came to their end.
    pub(crate) fn write_failed(
        &self,
        engine: &Engine,
        failed: &Request,
        outcomes: &BTreeMap<StepRef, StepOutcome>,
        events: &dyn EventSink,
    ) -> Result<(), Error> {
        let moment = |step: StepId| match outcomes.get(&step.into())? {
            StepOutcome::Ran | StepOutcome::Cached => Some(Moment::After),
            StepOutcome::Failed => Some(Moment::Failed),
            _ => None,
        };
        let ended = self
            .0
            .iter()
            .filter_map(|(export, directory)| Some((export, directory, moment(export.step)?)));
        let ended: Vec<_> = ended.collect();
        if ended.is_empty() {
            return Ok(());
        }
        let mut request = failed.clone();
        request.events = Arc::new(|_| {});
        request.cache_to.clear();
        let wanted = ended.iter();
        let wanted: Vec<_> = wanted
            .map(|(export, _, moment)| (export.step, *moment, export.path.clone()))
            .collect();
        let found = engine.extract(&request, &wanted)?;
        for ((export, directory, _), files) in ended.into_iter().zip(found) {
            put(export, directory, files, events)?;
        }
        Ok(())
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match known {
        [] => format!("--export {name}: the steps of this build have no exports"),
        known => format!(
            "--export {name}: there is no such export in this build; there are {}",
            known.join(", ")
        ),
    }
}

fn put(
    export: &Export,
    directory: &Path,
    files: Option<Vec<OutputEntry>>,
    events: &dyn EventSink,
) -> Result<(), Error> {
    let Some(files) = files else {
        say(&format!(
            "WARNING: nothing to export as {}: there is no {}",
            export.name, export.path
        ));
        return Ok(());
    };
    let unless_cancelled = |_| match signals::status() {
        None => Ok(()),
        Some(_) => Err(std::io::Error::other("cancelled")),
    };
    to_directory(&files, directory, &unless_cancelled, events)?;
    say(&format!(
        "exported {} to {}",
        export.name,
        directory.display()
    ));
    Ok(())
}
