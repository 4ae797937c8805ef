//! What an edit of files would run again, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kiln_engine::{Edits, Fate, Forecast};
use kiln_graph::{Graph, ImagePath};
use serde::Serialize;

use crate::report::seconds;
use kiln::Error;

/// What would become of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WhatIf {
    /// Its name.
    pub(crate) name: String,
    /// What would become of it.
    pub(crate) fate: Fate,
    /// How long it took the last time, in milliseconds.
    pub(crate) took: u64,
}

impl WhatIf {
    /// One step's forecast.
    pub(crate) fn new(graph: &Graph, forecast: &Forecast) -> Self {
        Self {
            name: graph.step(forecast.step).name.to_string(),
            fate: forecast.fate,
            took: u64::try_from(forecast.cost.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn runs(&self) -> bool {
        self.fate != Fate::Kept
    }
}

/// Which files of which contexts are meant.
///
/// # Errors
/// When a file is in none of them.
pub(crate) fn edits(
    files: &[PathBuf],
    directories: &BTreeMap<String, PathBuf>,
) -> Result<Edits, Error> {
    let mut edits = Edits::new();
    for file in files {
        let mut met = false;
        for (name, directory) in directories {
            if let Some(path) = inside(file, directory) {
                met = true;
                edits.entry(name.clone()).or_default().insert(path);
            }
        }
        if !met {
            let all: Vec<String> = directories
                .values()
                .map(|f| f.display().to_string())
                .collect();
            return Err(Error::Usage(format!(
                "--what-if {}: it is in none of the build's contexts ({})",
                file.display(),
                all.join(", ")
            )));
        }
    }
    Ok(edits)
}

/// A file's path in a context.
fn inside(file: &Path, directory: &Path) -> Option<ImagePath> {
    use std::os::unix::ffi::OsStrExt as _;
    let directory = std::fs::canonicalize(directory).ok()?;
    let path = file.strip_prefix(&directory).ok()?;
    Some(ImagePath::new(path.as_os_str().as_bytes()))
}

/// The forecast, for people.
pub(crate) fn text(steps: &[WhatIf]) -> String {
    let runs: Vec<&WhatIf> = steps.iter().filter(|step| step.runs()).collect();
    let total: u64 = runs.iter().map(|step| step.took).sum();
    let mut out = format!("{} of {} steps would run", runs.len(), steps.len());
    if total > 0 {
        _ = write!(out, "; they took {} the last time", seconds(total));
    }
    out.push('\n');
    for step in runs {
        let why = match step.fate {
            Fate::Kept => continue,
            Fate::Edited => "it reads what is edited",
            Fate::After => "unless the steps before it give what they gave",
            Fate::Always => "it runs in every build",
            Fate::New => "it has no result yet",
        };
        let name = step.name.lines().next().unwrap_or_default();
        _ = writeln!(out, "{name}\n    {why}");
    }
    out
}
