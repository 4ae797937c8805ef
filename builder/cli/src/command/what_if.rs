//! `kiln explain --what-if`: what an edit would run, without building.

use std::path::PathBuf;

use kiln_cache::Store;

use super::build::BuildArgs;
use super::past::ExplainArgs;
use super::plan::BuildPlan;
use super::{Failed, past, print, print_json};
use crate::report::what_if::{WhatIf, edits, text};
use kiln::{Error, prepare};

/// Runs `kiln explain --what-if`.
pub(super) fn run(args: &ExplainArgs) -> Result<(), Failed> {
    let engine = super::open()?;
    let files = absolute(&args.what_if)?;
    let build = asked(engine.store(), args.build.as_deref())?;
    let request = build.source.request()?;
    let prepared = prepare(&engine, &request).map_err(|at| Failed::of(&at.0, &at.1))?;
    let edits = edits(&files, &prepared.directories)?;
    let request = build.engine_request(&prepared)?;
    let forecast = engine.forecast(&request, &edits)?;
    let graph = &request.build.graph;
    let mut steps: Vec<WhatIf> = forecast.iter().map(|one| WhatIf::new(graph, one)).collect();
    if let Some(wanted) = &args.step {
        steps.retain(|step| step.name.contains(wanted.as_str()));
    }
    match args.json {
        true => print_json(&serde_json::json!(steps)),
        false => print(&text(&steps)),
    }
    Ok(())
}

/// The build that is remembered, as it was asked for, but nothing of it forced to run.
fn asked(store: &Store, id: Option<&str>) -> Result<BuildArgs, Failed> {
    let lost = || Error::Usage("how that build was asked for is not known: build again".to_owned());
    let plan = BuildPlan::read(&past::find(store, id)?.plan).ok_or_else(lost)?;
    let directory = &plan.directory;
    std::env::set_current_dir(directory).map_err(|source| Error::File {
        what: format!(
            "cannot go to {}, where that build was run",
            directory.display()
        ),
        source,
    })?;
    Ok(plan.args()?)
}

/// Files by their whole path; they need not be there.
fn absolute(files: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let whole = |file: &PathBuf| {
        let path = std::path::absolute(file).map_err(Error::file("find", file))?;
        Ok(std::fs::canonicalize(&path).unwrap_or(path))
    };
    files.iter().map(whole).collect()
}
