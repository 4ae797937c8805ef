//! `kiln build`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use kiln_engine::{
    Cancel, ChangedFiles, DefaultNetwork, Engine, EngineError, Image, ImageOptions, LayerPlan,
    Request, Solved,
};
use kiln_graph::{Build, Digest, HistoryLine, LayerOrigin};

use super::call::Call;
use super::output::OutputSpec;
use super::source::SourceArgs;
use super::{Failed, print, say};
use crate::journal::Journal;
use crate::progress::{Style, annotation, display};
use crate::select::{select, selector, with_consumers};
use crate::{Config, Configure, Error, Policy, Prepared, Secrets, Texts, prepare, report};

/// The flags of `kiln build`, named as `docker build` names them.
#[derive(Args, Debug, Clone)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Name the image (repeatable)
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<String>,
    /// Where the result goes: type=oci|docker|tar|local|registry,dest=PATH,… (repeatable)
    #[arg(short, long = "output", value_name = "SPEC")]
    outputs: Vec<String>,
    /// Send the image to the registries of its names
    #[arg(long)]
    push: bool,
    /// Load the image into the Docker daemon
    #[arg(long)]
    load: bool,
    /// Run every step, whatever is stored
    #[arg(long)]
    no_cache: bool,
    /// A secret for steps: id=NAME,src=FILE, id=NAME,env=VARIABLE, or src= with exec:COMMAND,
    /// vault:PATH#FIELD, ejson:FILE#KEY or age:FILE (repeatable)
    #[arg(long = "secret", value_name = "SPEC")]
    secrets: Vec<String>,
    /// A path, or pattern of paths, in which a step may leave a secret (repeatable)
    #[arg(long = "allow-secret-in", value_name = "PATH")]
    allow_secrets_in: Vec<String>,
    /// An SSH agent for steps: default, ID=SOCKET or ID=KEYFILE (repeatable)
    #[arg(long, value_name = "SPEC")]
    ssh: Vec<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "BUILDKIT_PROGRESS")]
    progress: Style,
    /// Show only the image's digest
    #[arg(short, long)]
    quiet: bool,
    /// The network of steps: host, none or sandbox
    #[arg(long, default_value = "host")]
    network: String,
    /// Which changes go into which layer: named, per-step, per-stage, squash, flat, auto[:N], or a
    /// file with a plan
    #[arg(long, default_value = "named", value_name = "PLAN")]
    layers: String,
    /// A file with budgets and rules that the image must keep to
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Run every step twice, and name the files that differ
    #[arg(long)]
    verify_reproducible: bool,
    /// Take results from a cache: type=local,src=FOLDER, type=registry,ref=NAME,
    /// type=s3,bucket=NAME,…, s3://BUCKET/PREFIX or type=inline,ref=IMAGE (repeatable)
    #[arg(long, value_name = "SPEC")]
    cache_from: Vec<String>,
    /// Share results: type=local,dest=FOLDER, type=registry,ref=NAME or type=s3,bucket=NAME,… with
    /// mode=min|max and ignore-error=false; or type=inline, in the image itself (repeatable)
    #[arg(long, value_name = "SPEC")]
    cache_to: Vec<String>,
    /// Sign what is shared with the key in this file (64 hexadecimal digits)
    #[arg(long, value_name = "FILE")]
    cache_sign_key: Option<PathBuf>,
    /// Take only results signed by this public key (repeatable)
    #[arg(long, value_name = "KEY")]
    cache_trust: Vec<String>,
    /// With SOURCE_DATE_EPOCH, give no file in new layers a later time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    rewrite_timestamp: bool,
    /// Annotate the image's manifest (repeatable)
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    annotations: Vec<String>,
    /// How many steps run at once
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write the result's digests to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Run this step and all after it again: a stage, STAGE:N, N in the target stage, or @LINE
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// Stop after this step
    #[arg(long, value_name = "STEP")]
    until: Option<String>,
    /// After a failure, run what doesn't depend on it
    #[arg(long)]
    keep_going: bool,
    /// Say why each step ran or didn't
    #[arg(long)]
    explain: bool,
    /// Open a shell where a step failed
    #[arg(long)]
    debug: bool,
    /// Build again whenever the context changes
    #[arg(long)]
    watch: bool,
    /// Send what the build did to a collector of OpenTelemetry traces (OTLP over HTTP, JSON)
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Only check the build file: the same as --call check
    #[arg(long)]
    check: bool,
    /// Ask about the build file instead of building it: check, outline or targets, and
    /// ,format=json
    #[arg(long, value_name = "METHOD")]
    call: Option<String>,
}

/// Runs `kiln build`.
pub(crate) fn run(args: &BuildArgs) -> Result<(), Failed> {
    let (engine, _) = crate::open()?;
    if args.watch {
        return super::watch::run(&engine, args);
    }
    run_once(&engine, args, &cancel_on_signals())
}

/// Builds once; once more when that showed damage in the store, which is removed before.
pub(crate) fn run_once(engine: &Engine, args: &BuildArgs, cancel: &Cancel) -> Result<(), Failed> {
    let damage = Cell::new(false);
    match attempt(engine, args, cancel, &damage) {
        Err(failed) if damage.get() && args.source.can_be_read_again() => {
            let found = engine.store().fsck(true)?.damaged;
            if found.is_empty() {
                return Err(failed);
            }
            say(&failed.text);
            for damage in &found {
                say(&format!(
                    "removed {}: {}",
                    damage.path.display(),
                    damage.reason
                ));
            }
            say("building again what was damaged in the store");
            attempt(engine, args, cancel, &damage)
        }
        done => done,
    }
}

/// `damage` is told whether something in the store may be damaged.
fn attempt(
    engine: &Engine,
    args: &BuildArgs,
    cancel: &Cancel,
    damage: &Cell<bool>,
) -> Result<(), Failed> {
    let mut request = args.source.request()?;
    let outputs = args.outputs()?;
    let secrets = Arc::new(args.secrets()?);
    let mut options = args.image_options()?;
    let targets = super::cache::targets(&args.cache_to, args.cache_sign_key.as_deref())?;
    options.inline.clone_from(&targets.inline);
    let policy = args.policy.as_deref().map(Policy::read).transpose()?;
    let events = display(if args.quiet {
        Style::Quiet
    } else {
        args.progress
    });
    request.events = Some(events.clone());
    let call = args.call()?;
    request.assume_images = call.is_some();
    let configure = args.configurer(engine, &secrets, cancel)?;
    request.configure = Some(configure.clone());
    let prepared = prepare(engine, &request).map_err(|at| {
        damage.set(at.0.may_be_damage());
        failed(&at.0, &at.1)
    })?;
    if let Some(call) = call {
        return super::call::answer(call, &prepared);
    }
    show_warnings(args, &prepared)?;
    let epoch = prepared.options.build_args.get("SOURCE_DATE_EPOCH");
    options.epoch = epoch.and_then(|text| text.parse().ok());
    if !prepared.layers.is_empty() && options.plan == LayerPlan::default() {
        options.plan = LayerPlan::Paths(prepared.layers.clone());
    }
    let (subject, title) = args.source.subject();
    let journal = Arc::new(Journal::new(engine.store().clone(), events, subject, title));
    let mut build = args.engine_request(&prepared)?;
    configure(&mut build)?;
    build.events = journal.clone();
    let again = args.verify_reproducible.then(|| build.clone());
    build.cache_to = super::cache::cache_to(engine, &targets);
    let result = engine
        .solve(build)
        .map_err(Error::from)
        .and_then(|mut solved| {
            if let Some(again) = again {
                super::checks::reproducible(engine, &solved, again)?;
            }
            for policy in policy.iter().chain(&prepared.policy) {
                super::checks::policy(policy, &solved, &options, &*journal)?;
            }
            let images = super::output::write(&solved, &outputs, &args.tags, &options, &*journal)?;
            args.write_ids(&solved, &images)?;
            super::cache::finish(engine, &mut solved, &targets)
        });
    journal.finish(result.as_ref().err().map(ToString::to_string));
    if !args.quiet && args.progress.is_for_people() {
        say(&crate::summary::text(&journal.record()));
    }
    #[cfg(feature = "otlp")]
    if let Some(endpoint) = &args.otlp_endpoint
        && let Err(error) = crate::otlp::send(engine.client(), endpoint, &journal.record())
    {
        say(&format!("WARNING: the build's trace was not sent: {error}"));
    }
    if args.explain {
        let record = journal.record();
        let steps = crate::explain::explain(engine.store(), &record)?;
        say(&crate::explain::text(&record, &steps));
    }
    result.map_err(|error| {
        damage.set(error.may_be_damage());
        args.failure(engine, &prepared, secrets, &error)
    })?;
    if let Some(policy) = Config::load()?.gc.options()? {
        engine.store().prune_by_policy(&policy)?;
    }
    Ok(())
}

/// Makes a step the end of the build.
fn stop_after(build: &mut Build, target: Option<&str>, step: &str) -> Result<(), Error> {
    let last = select(build, target, step)?;
    for (target, root) in build.targets.iter_mut().zip(last.iter().rev().cycle()) {
        target.root = *root;
        let is_last = |line: &HistoryLine| line.layer == LayerOrigin::Step(*root);
        let kept = target.history.iter().position(is_last);
        target.history.truncate(kept.map_or(0, |kept| kept + 1));
    }
    Ok(())
}

fn failed(error: &Error, texts: &Texts) -> Failed {
    Failed {
        text: report::error(error, texts),
        status: error.exit_status(),
    }
}

/// What volumes are tied to: the digests of their files.
fn volume_keys(request: &Request) -> Result<BTreeMap<String, String>, Error> {
    let context = request.contexts.get("context");
    let context = context.map_or_else(|| PathBuf::from("."), Clone::clone);
    let key = |(id, file): (&String, &String)| {
        let bytes = crate::inside::read(&context, Path::new(file));
        let bytes = bytes.map_err(|source| Error::File {
            what: format!("cannot read {file}, which the volume {id} is tied to"),
            source,
        })?;
        Ok((id.clone(), Digest::of(&bytes).short()))
    };
    request.build.volume_files.iter().map(key).collect()
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

/// Shows the build file's warnings, which it may want to be errors.
fn show_warnings(args: &BuildArgs, prepared: &Prepared) -> Result<(), Failed> {
    let warnings = &prepared.compiled.warnings;
    if !warnings.is_empty() && !args.quiet {
        let plural = if warnings.len() == 1 { "" } else { "s" };
        say(&format!("{} warning{plural} found:", warnings.len()));
        for warning in warnings {
            say(&report::warning(warning));
            args.annotate("warning", warning.location.line, &warning.message);
        }
    }
    super::call::refuse_warnings(prepared)
}

impl BuildArgs {
    /// The same build, with nothing run that need not be.
    pub(super) fn unforced(&self) -> Self {
        Self {
            no_cache: false,
            from: None,
            ..self.clone()
        }
    }

    /// What the engine is asked for; secrets, events and the way to stop it are to be added.
    pub(super) fn engine_request(&self, prepared: &Prepared) -> Result<Request, Error> {
        let mut build = Request::new(prepared.compiled.build.clone());
        build.contexts.clone_from(&prepared.folders);
        self.settle(&mut build)?;
        let target = self.source.target.as_deref();
        if let Some(step) = &self.from {
            let steps = select(&build.build, target, step)?;
            build.fresh = with_consumers(&build.build.graph, &steps);
        }
        for step in self.source.fresh_steps(&build.build) {
            build.fresh.extend(select(&build.build, target, step)?);
        }
        if let Some(step) = &self.until {
            stop_after(&mut build.build, target, step)?;
        }
        Ok(build)
    }

    /// What gives every build of this command its settings, secrets and caches.
    fn configurer(
        &self,
        engine: &Engine,
        secrets: &Arc<Secrets>,
        cancel: &Cancel,
    ) -> Result<Arc<Configure>, Error> {
        let (args, secrets, cancel) = (self.clone(), secrets.clone(), cancel.clone());
        let sources = super::cache::sources(engine, &self.cache_from, &self.cache_trust)?;
        Ok(Arc::new(move |build| {
            args.settle(build)?;
            build.secrets = secrets.clone();
            build.cancel = cancel.clone();
            build.cache_from.clone_from(&sources);
            Ok(())
        }))
    }

    /// The settings that don't depend on the build.
    fn settle(&self, build: &mut Request) -> Result<(), Error> {
        build.no_cache = self.no_cache;
        build.keep_going = self.keep_going;
        build.jobs = self.jobs.unwrap_or(build.jobs);
        build.allow_secrets_in.clone_from(&self.allow_secrets_in);
        build.network = match self.network.as_str() {
            "host" | "default" => DefaultNetwork::Host,
            "none" => DefaultNetwork::None,
            "sandbox" => DefaultNetwork::Sandbox,
            other => {
                let text = format!("--network {other}: use host, none or sandbox");
                return Err(Error::Usage(text));
            }
        };
        build.build.volume_files.extend(self.source.volume_files()?);
        build.volume_keys = volume_keys(build)?;
        Ok(())
    }

    /// A failure as it is shown, with what can be done now.
    fn failure(
        &self,
        engine: &Engine,
        prepared: &Prepared,
        secrets: Arc<Secrets>,
        error: &Error,
    ) -> Failed {
        let mut failed = failed(error, &prepared.texts);
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
        failed.text.push_str(&format!(
            "\nkiln shell            opens a shell where it failed\nkiln build --from {}  goes on from this step",
            selector(&prepared.compiled.build, location)
        ));
        failed
    }

    /// Says something beside a line of the build file, where the CI service can show that.
    fn annotate(&self, kind: &str, line: u32, message: &str) {
        if self.quiet || self.progress.resolve() != Style::Github {
            return;
        }
        let file = self.source.file_path();
        let top = std::env::var_os("GITHUB_WORKSPACE").unwrap_or_default();
        let file = file.strip_prefix(top).unwrap_or(&file).display();
        say(&annotation(kind, &file.to_string(), line, message));
    }

    /// What is asked about the build file, if that is all that is wanted.
    fn call(&self) -> Result<Option<Call>, Error> {
        match (&self.call, self.check) {
            (Some(text), _) if text == "build" => Ok(None),
            (Some(text), _) => text.parse().map(Some).map_err(Error::Usage),
            (None, true) => Ok(Some(Call::check())),
            (None, false) => Ok(None),
        }
    }

    fn outputs(&self) -> Result<Vec<OutputSpec>, Error> {
        let mut outputs = Vec::new();
        for text in &self.outputs {
            outputs.push(text.parse().map_err(Error::Usage)?);
        }
        if self.push {
            if self.tags.is_empty() {
                return Err(Error::Usage("--push needs a name: give -t NAME".to_owned()));
            }
            outputs.push(OutputSpec::registry());
        }
        if self.load {
            outputs.push(OutputSpec::daemon());
        }
        Ok(outputs)
    }

    fn secrets(&self) -> Result<Secrets, Error> {
        let mut secrets = Secrets::default();
        for text in &self.secrets {
            secrets.add(text).map_err(Error::Usage)?;
        }
        for text in &self.ssh {
            secrets.add_agent(text).map_err(Error::Usage)?;
        }
        Ok(secrets)
    }

    fn image_options(&self) -> Result<ImageOptions, Error> {
        let plan = super::layers::plan(&self.layers)?;
        Ok(ImageOptions {
            plan,
            keep_late_times: !self.rewrite_timestamp,
            annotations: super::source::pairs("--annotation", &self.annotations, '=')?
                .into_iter()
                .collect(),
            ..ImageOptions::default()
        })
    }

    fn write_ids(&self, solved: &Solved, images: &[Image]) -> Result<(), Error> {
        let Some(first) = images.first() else {
            return Ok(());
        };
        let (top, config) = (solved.top(images)?.0, first.config_descriptor.digest);
        let write = |path: &PathBuf, text: String| {
            std::fs::write(path, text).map_err(|source| Error::File {
                what: format!("cannot write {}", path.display()),
                source,
            })
        };
        if let Some(path) = &self.iidfile {
            write(path, config.to_string())?;
        }
        if let Some(path) = &self.metadata_file {
            let metadata = serde_json::json!({
                "containerimage.config.digest": config.to_string(),
                "containerimage.digest": top.digest.to_string(),
                "containerimage.descriptor": top,
                "image.name": self.tags.join(","),
            });
            write(path, format!("{metadata:#}\n"))?;
        }
        if self.quiet {
            print(&format!("{config}\n"));
        }
        Ok(())
    }
}

/// Ctrl-C and SIGTERM stop the build; a second one ends the program.
pub(crate) fn cancel_on_signals() -> Cancel {
    let cancel = Cancel::new();
    let shared = cancel.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            let mut count = 0;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => count += 1,
                    _ = terminate.recv() => count += 1,
                }
                if count > 1 {
                    std::process::exit(130);
                }
                shared.cancel();
            }
        });
    });
    cancel
}
