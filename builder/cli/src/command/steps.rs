//! `kiln steps`: what can be selected.

use std::collections::BTreeMap;

use crate::human::format_size;
use clap::Args;
use kiln_cache::{BuildRecord, BuiltStep, StepOutcome};
use kiln_graph::{Build, StageStep};

use super::source::SourceArgs;
use super::{Failed, print, print_json};
use crate::report::seconds;
use kiln::{Assume, Engine, Error, Prepared, prepare};

/// The flags of `kiln steps`.
#[derive(Args, Debug)]
pub(crate) struct StepsArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Only the names that --from and others take, one a line
    #[arg(long, conflicts_with = "json")]
    selectors: bool,
}

/// One step, and how it went in the last build.
#[derive(serde::Serialize)]
struct Row {
    selector: String,
    line: u32,
    text: String,
    last: Option<StepOutcome>,
    milliseconds: Option<u64>,
    bytes: Option<u64>,
    /// The cluster and the worker that ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// Why it ran here, where steps run on a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_here: Option<String>,
    /// How long it waited for a worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_milliseconds: Option<u64>,
}

impl Row {
    /// Where it ran in the last build, in brackets, if that was a question.
    fn placed(&self) -> String {
        match (&self.place, &self.kept_here) {
            (Some(place), _) => format!("  [on {place}]"),
            (None, Some(reason)) => format!("  [on this machine: {reason}]"),
            (None, None) => String::new(),
        }
    }
}

/// Runs `kiln steps`.
pub(crate) fn run(args: &StepsArgs) -> Result<(), Failed> {
    let mut request = args.source.request()?;
    request.assume_images = Assume::All;
    let engine = args.source.open(None, &[])?;
    let prepared = prepare(&engine, &request).map_err(|at| Failed::of(&at.0, &at.1))?;
    if args.selectors {
        print(&selectors(&prepared.compiled.build));
        return Ok(());
    }
    let (subject, _) = args.source.subject();
    let builds = engine.store().builds().all()?;
    let last = builds.into_iter().find(|build| build.subject == subject);
    let rows = rows(&engine, &prepared, last.as_ref())?;
    if args.json {
        print_json(&serde_json::json!(rows));
    } else {
        print(&table(&rows));
    }
    Ok(())
}

/// Stages, and their steps.
fn selectors(build: &Build) -> String {
    let mut text = String::new();
    for stage in &build.stages {
        let steps = stage.steps.iter();
        let steps = steps.map(|step| format!("{}:{}\n", stage.name, step.number));
        text.push_str(&format!("{}\n", stage.name));
        text.extend(steps);
    }
    text
}

fn rows(
    engine: &Engine,
    prepared: &Prepared,
    last: Option<&BuildRecord>,
) -> Result<Vec<Row>, Error> {
    let built: BTreeMap<&str, &BuiltStep> = last
        .iter()
        .flat_map(|build| &build.steps)
        .map(|step| (step.name.as_str(), step))
        .collect();
    let build = &prepared.compiled.build;
    let mut rows = Vec::new();
    for stage in &build.stages {
        for step in &stage.steps {
            let name = build.graph.step(step.step).name.to_string();
            let about = built.get(name.as_str());
            rows.push(Row {
                selector: format!("{}:{}", stage.name, step.number),
                line: step.line,
                text: instruction(prepared, step),
                last: about.map(|step| step.outcome),
                milliseconds: about.map(|step| step.took),
                bytes: about.map_or(Ok(None), |step| size(engine, step))?,
                place: about.and_then(|step| step.place.clone()),
                kept_here: about.and_then(|step| step.kept_here.clone()),
                queued_milliseconds: about.and_then(|step| step.queued),
            });
        }
    }
    Ok(rows)
}

/// The instruction as it stands in the file, its first line. A step that stages share is where the first of
/// them has it, so lines of the main file are the instruction's own; those of included files are the step's.
fn instruction(prepared: &Prepared, step: &StageStep) -> String {
    let texts = &prepared.texts;
    let (text, line) = match step.line {
        0 => match &prepared.compiled.build.graph.step(step.step).location {
            Some(at) => (texts.at(at), at.line),
            None => return String::new(),
        },
        own => (texts.main(), own),
    };
    let number = (line as usize).saturating_sub(1);
    text.lines()
        .nth(number)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn size(engine: &Engine, step: &BuiltStep) -> Result<Option<u64>, Error> {
    let record = match step.key {
        Some(key) => engine.store().records().get(&key)?,
        None => None,
    };
    let Some(record) = record else {
        return Ok(None);
    };
    let mut bytes = 0;
    for id in &record.output {
        if let Some(tree) = engine.store().trees().get(id)? {
            bytes += tree.manifest()?.size();
        }
    }
    Ok(Some(bytes))
}

fn table(rows: &[Row]) -> String {
    let width = rows
        .iter()
        .map(|row| row.selector.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut text = format!(
        "{:<width$}  LINE  LAST BUILD          SIZE  INSTRUCTION\n",
        "STEP"
    );
    for row in rows {
        let last = match (row.last, row.milliseconds) {
            (Some(StepOutcome::Ran), Some(took)) => format!("ran {}", seconds(took)),
            (Some(StepOutcome::Failed), _) => "failed".to_owned(),
            (Some(StepOutcome::Cached), _) => "cached".to_owned(),
            _ => String::new(),
        };
        let size = row.bytes.map(format_size).unwrap_or_default();
        let line = row.line;
        let shown: String = row.text.chars().take(80).collect();
        text += &format!(
            "{:<width$}  {line:>4}  {last:<12}  {size:>10}  {shown}{}\n",
            row.selector,
            row.placed()
        );
    }
    text
}
