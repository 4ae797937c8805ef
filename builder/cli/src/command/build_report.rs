//! What is said of a build: its file, warnings, failure, result, and what it took.

use std::sync::Arc;

use kiln_engine::{ChangedFiles, Engine, EngineError, EventSink};
use kiln_frontend_dockerfile::Diagnostic;

use super::build_args::BuildArgs;
use super::plan::BuildPlan;
use super::stdin::FromStdin;
use super::{Failed, print, result, say, service_command};
use crate::display::{self, Style, annotation};
use crate::report;
use kiln::output::{self, Output};
use kiln::selector;
use kiln::{About, BuildOutcome, Error, Journal, Prepared, Secrets};

/// Tells people, and a collector of traces, what the build did.
pub(super) fn tell(engine: &Engine, args: &BuildArgs, journal: &Journal) -> Result<(), Failed> {
    if !args.quiet && args.progress.is_for_people() {
        say(&report::summary::text(&journal.record()));
    }
    #[cfg(feature = "otlp")]
    if let Some(endpoint) = &args.otlp_endpoint
        && let Err(error) = report::otlp::send(engine.client(), endpoint, &journal.record())
    {
        say(&format!("WARNING: the build's trace was not sent: {error}"));
    }
    if args.explain {
        let record = journal.record();
        let steps = report::explain::explain(engine.store(), &record)?;
        say(&report::explain::text(&record, &steps));
    }
    Ok(())
}

/// What a failed step had changed, for people.
fn changed(changed: &ChangedFiles) -> String {
    let some: Vec<String> = changed.some.iter().map(ToString::to_string).collect();
    match changed.all - some.len() {
        _ if some.is_empty() => String::new(),
        0 => format!("\nIt had changed {}", some.join(", ")),
        more => format!("\nIt had changed {} and {more} more", some.join(", ")),
    }
}

/// Shows the build file's warnings, in the order of the file.
pub(super) fn show_warnings(args: &BuildArgs, warnings: &[Diagnostic]) {
    let mut warnings: Vec<_> = warnings.iter().collect();
    warnings.sort_by_key(|warning| warning.location.line);
    if display::is_for_program() {
        for warning in warnings {
            display::event("warning", &report::warning_fields(warning));
        }
        return;
    }
    if warnings.is_empty() || args.quiet {
        return;
    }
    let plural = if warnings.len() == 1 { "" } else { "s" };
    say(&format!("{} warning{plural} found:", warnings.len()));
    for warning in warnings {
        say(&report::warning(warning));
        args.annotate("warning", warning.location.line, &warning.message);
    }
}

impl BuildArgs {
    /// Remembers the build, in front of the display.
    pub(super) fn journal(
        &self,
        engine: &Engine,
        prepared: &Prepared,
        events: Arc<dyn EventSink>,
    ) -> Journal {
        let (subject, title) = self.source.subject();
        let mut plan = BuildPlan::of(self);
        if self.source.read_from_stdin(prepared) == Some(FromStdin::BuildFile) {
            plan = plan.with_input(prepared.texts.main());
        }
        let about = About {
            subject,
            title,
            plan: serde_json::to_value(plan).unwrap_or_default(),
        };
        Journal::new(engine.store().clone(), events, about)
    }

    /// Says which build file is built, where the user didn't.
    pub(super) fn say_build_file(&self) {
        if self.quiet || !self.progress.is_for_people() {
            return;
        }
        if let Some(text) = self.source.found_file() {
            say(&text);
        }
    }

    /// A failure as it is shown, with what can be done now.
    pub(super) fn failure(
        &self,
        engine: &Engine,
        prepared: &Prepared,
        secrets: Arc<Secrets>,
        error: &Error,
    ) -> Failed {
        let mut failed = Failed::of(error, &prepared.texts);
        if let Some(place) = super::hint::place(error, prepared) {
            let excerpt = report::excerpt(&place, prepared.texts.at(&place));
            failed.text.insert_str(0, &excerpt);
        }
        if let Some(hint) = super::hint::of_build(error, prepared) {
            failed.text.push_str(&format!("\n{hint}"));
        }
        let Error::Engine(EngineError::Step(failure)) = error else {
            return failed;
        };
        let Some(location) = &failure.location else {
            return failed;
        };
        self.annotate(
            "error",
            location.line,
            &format!("{}: {}", failure.name, failure.how),
        );
        if self.debug {
            say(&failed.text);
            let step = selector(&prepared.compiled.build, location);
            match super::shell::open(engine, prepared, secrets, &self.source, Some(&step)) {
                Ok(_) => failed.text = "the build failed".to_owned(),
                Err(shell) => failed.text = shell.text,
            }
            return failed;
        }
        failed.text.push_str(&changed(&failure.changed));
        let own = prepared.compiled.build.exports.iter();
        let own = own.filter(|export| {
            let graph = &prepared.compiled.build.graph;
            graph.step(export.step).location.as_ref() == Some(location)
        });
        let own: Vec<&str> = own.map(|export| export.name.as_str()).collect();
        if self.exports.is_empty() && !own.is_empty() {
            failed.text.push_str(&format!(
                "\nkiln build --export DIR  takes out of it: {}",
                own.join(", ")
            ));
        }
        let step = selector(&prepared.compiled.build, location);
        failed.text.push_str(&self.what_next(prepared, &step));
        failed
    }

    /// The commands that look at a step that failed, and go on from it.
    fn what_next(&self, prepared: &Prepared, step: &str) -> String {
        let from = self.source.read_from_stdin(prepared);
        let mut text = String::new();
        // An archive on standard input isn't kept, nor is a build file with a credential.
        let is_kept = match from {
            None => true,
            Some(FromStdin::BuildFile) => super::plan::is_text(prepared.texts.main()),
            Some(FromStdin::Archive) => false,
        };
        if is_kept {
            text.push_str("\nTo open a shell where it failed:  kiln shell");
        }
        if self.source.bake_target.is_some() {
            // How a bake goes on, it says itself.
            return text;
        }
        let mut words: Vec<String> = std::env::args().skip(1).collect();
        if let (true, Some(image)) = (self.one_of_several, &self.source.target) {
            let end = words.iter().position(|word| word == "--");
            let end = end.unwrap_or(words.len());
            _ = words.splice(end..end, ["--target".to_owned(), image.clone()]);
        }
        let again = super::again::go_on(&words, step);
        let input = match from {
            None => "",
            Some(FromStdin::BuildFile) => " < Dockerfile",
            Some(FromStdin::Archive) => " < CONTEXT.tar",
        };
        text + &format!("\nTo go on from this step:          {again}{input}")
    }

    /// Says something beside a line of the build file, where the CI service can show that.
    fn annotate(&self, kind: &str, line: u32, message: &str) {
        if self.quiet || self.progress.resolve() != Style::Github {
            return;
        }
        let file = self.source.file_path();
        let top = std::env::var_os("GITHUB_WORKSPACE").unwrap_or_default();
        let file = file.strip_prefix(top).unwrap_or(&file).display();
        service_command(&annotation(
            kind,
            &file.to_string(),
            line,
            &kiln_graph::address::redact(message),
        ));
    }

    /// Whether everything that is to be written here can be.
    pub(super) fn check_places(&self, outputs: &[Output]) -> Result<(), Error> {
        output::check(outputs)?;
        for (flag, path) in [
            ("--iidfile", &self.iidfile),
            ("--metadata-file", &self.metadata_file),
        ] {
            if let Some(path) = path {
                output::check_file(flag, path)?;
            }
        }
        Ok(())
    }

    /// Says what the build gave.
    pub(super) fn show(&self, result: &BuildOutcome) {
        match (self.quiet, self.progress.resolve(), result.image_id()) {
            (true, _, id) => print(&id.map_or_else(String::new, |id| format!("{id}\n"))),
            (_, Style::Rawjson, _) => display::event("result", result),
            (_, Style::Quiet, _) => {}
            _ => say(&result::text(result)),
        }
    }
}
