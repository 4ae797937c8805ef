//! `kiln history`, `kiln explain` and `kiln logs`: what happened in builds.

use std::path::PathBuf;

use clap::Args;
use kiln_cache::{BuildRecord, StepOutcome, Store};
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Failed, print, print_json, say};
use crate::terminal::shown;
use kiln::Error;

/// The flags of `kiln explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Only steps whose name has this in it
    pub(super) step: Option<String>,
    /// The build, as 'kiln history' names it (default: the last one)
    #[arg(long, value_name = "ID")]
    pub(super) build: Option<String>,
    /// Say what an edit of these files would run, without building
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) what_if: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The flags of `kiln history`.
#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// How many builds are shown
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The flags of `kiln logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Steps whose name has this in it: stage[3], or a part of the instruction
    step: Option<String>,
    /// The build, as 'kiln history' names it (default: the last one)
    #[arg(long, value_name = "ID")]
    build: Option<String>,
}

/// One build, or the last one.
pub(crate) fn find(store: &Store, id: Option<&str>) -> Result<BuildRecord, Error> {
    let found = match id {
        Some(id) => store.builds().get(id)?,
        None => store.builds().all()?.into_iter().next(),
    };
    found.ok_or_else(|| {
        Error::Usage(match id {
            Some(id) => format!("there is no build {id}; 'kiln history' lists them"),
            None => "no build is remembered yet".to_owned(),
        })
    })
}

/// Runs `kiln explain`.
pub(crate) fn explain(args: &ExplainArgs) -> Result<(), Failed> {
    let engine = super::open()?;
    let build = find(engine.store(), args.build.as_deref())?;
    let mut steps = crate::report::explain::explain(engine.store(), &build)?;
    if let Some(wanted) = &args.step {
        steps.retain(|step| step.name.contains(wanted.as_str()));
        if steps.is_empty() {
            return Err(no_such_step(&build, wanted).into());
        }
    }
    if args.json {
        print_json(&serde_json::json!({ "build": build.id, "steps": steps }));
    } else {
        print(&crate::report::explain::text(&build, &steps));
    }
    Ok(())
}

fn no_such_step(build: &BuildRecord, wanted: &str) -> Error {
    Error::Usage(format!(
        "no step of build {} has {wanted:?} in its name; without a step, 'kiln explain' shows all of them",
        build.id
    ))
}

/// Runs `kiln history`.
pub(crate) fn history(args: &HistoryArgs) -> Result<(), Failed> {
    let engine = super::open()?;
    let mut builds = engine.store().builds().all()?;
    let is_empty = builds.is_empty();
    builds.truncate(args.limit);
    if args.json {
        print_json(&serde_json::json!(builds));
        return Ok(());
    }
    if is_empty {
        say("no build is remembered yet");
    }
    let mut text = String::new();
    for build in &builds {
        let (cached, all) = build.cached();
        let outcome = if build.ok { "ok" } else { "failed" };
        text += &format!(
            "{}  {}  {outcome:<6}  {:>8.2} s  {cached}/{all} cached  {}\n",
            build.id,
            when(build.began),
            std::time::Duration::from_millis(build.took).as_secs_f64(),
            build.title
        );
    }
    print(&text);
    Ok(())
}

pub(crate) fn when(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1000).unwrap_or_default();
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&format).ok())
        .unwrap_or_default()
}

/// Writes a log to standard output: as it is into a file, as it may be shown anywhere else.
fn print_log(mut file: std::fs::File) -> std::io::Result<()> {
    use std::io::{BufRead as _, Read as _, Write as _};
    let out = std::io::stdout();
    let about = rustix::fs::fstat(&out)?;
    if rustix::fs::FileType::from_raw_mode(about.st_mode).is_file() {
        return std::io::copy(&mut file, &mut out.lock()).map(drop);
    }
    let mut lines = std::io::BufReader::new(file);
    let mut line = Vec::new();
    while (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        out.lock().write_all(shown(&text).as_bytes())?;
        line.clear();
    }
    Ok(())
}

/// A longer line is printed in parts.
const MAX_LINE: u64 = 64 * 1024;

/// Runs `kiln logs`.
pub(crate) fn logs(args: &LogsArgs) -> Result<(), Failed> {
    let engine = super::open()?;
    let build = find(engine.store(), args.build.as_deref())?;
    let wanted = args.step.as_deref().unwrap_or_default();
    if !build.steps.is_empty() && !build.steps.iter().any(|step| step.name.contains(wanted)) {
        return Err(no_such_step(&build, wanted).into());
    }
    let mut count = 0;
    for (number, step) in build.steps.iter().enumerate() {
        if step.log == 0 || !step.name.contains(wanted) {
            continue;
        }
        count += 1;
        print(&format!(
            "--- {}\n",
            step.name.lines().next().unwrap_or_default()
        ));
        let path = engine.store().builds().step_log(&build.id, number)?;
        let file = std::fs::File::open(&path).map_err(Error::file("read", &path))?;
        _ = print_log(file);
    }
    let ran = |step: &kiln_cache::BuiltStep| step.outcome == StepOutcome::Ran;
    if count == 0 && !wanted.is_empty() && !build.steps.iter().any(ran) {
        return Err(Error::Usage(format!(
            "nothing ran in build {}: every step had its result; give --build ID of an earlier one",
            build.id
        ))
        .into());
    }
    Ok(())
}
