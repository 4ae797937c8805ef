//! `kiln build`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kiln_engine::{Cancel, DefaultNetwork, Image, ImageOptions, LayerPlan, Request, Solved};
use kiln_frontend_dockerfile::{ContextKind, Options};
use kiln_graph::Platform;

use super::call::Call;
use super::output::OutputSpec;
use super::{Failed, print, say};
use crate::progress::{Style, display};
use crate::{ContextFrom, DockerfileRequest, Error, Prepared, Secrets, prepare, report};

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
    /// Which changes go into which layer: per-step, squash or flat
    #[arg(long, default_value = "per-step", value_name = "PLAN")]
    layers: String,
    /// How many steps run at once
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write the result's digests to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Only check the build file: the same as --call check
    #[arg(long)]
    check: bool,
    /// Ask about the build file instead of building it: check, outline or targets, and
    /// ,format=json
    #[arg(long, value_name = "METHOD")]
    call: Option<String>,
}

/// What is built, and with what.
#[derive(Args, Debug, Clone)]
pub(crate) struct SourceArgs {
    /// The build context: a folder, a git repository, a tar archive on a web server, or - for
    /// standard input
    #[arg(default_value = ".", value_name = "CONTEXT")]
    context: String,
    /// The build file, or - for standard input (default: CONTEXT/Dockerfile)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Set a build argument: NAME=VALUE, or NAME to take it from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// A named context: NAME=FOLDER, a git or web address, docker-image://IMAGE, oci-layout://FOLDER
    /// or target:STAGE (repeatable)
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    contexts: Vec<String>,
    /// What the image runs on, several separated by commas
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// Set a label (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Run the steps of a stage whatever is stored (repeatable)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// A line of /etc/hosts for steps (repeatable)
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<String>,
    /// A resource limit for steps: NAME=SOFT[:HARD] (repeatable)
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<String>,
    /// Size of /dev/shm in steps
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<u64>,
    /// Allow steps what they ask for: security.insecure (repeatable)
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
}

impl SourceArgs {
    /// What the frontend and the driver are told.
    pub(crate) fn request(&self) -> Result<DockerfileRequest, Error> {
        let mut options = Options::default();
        options.target.clone_from(&self.target);
        options.no_cache_filter.clone_from(&self.no_cache_filter);
        options.shm_size = self.shm_size;
        options.allow_insecure = self.allow.iter().any(|name| name == "security.insecure");
        for text in &self.build_args {
            match text.split_once('=') {
                Some((name, value)) => {
                    options.build_args.insert(name.to_owned(), value.to_owned());
                }
                None => {
                    if let Ok(value) = std::env::var(text) {
                        options.build_args.insert(text.clone(), value);
                    }
                }
            }
        }
        if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
            options
                .build_args
                .entry("SOURCE_DATE_EPOCH".to_owned())
                .or_insert(epoch);
        }
        options.labels = pairs("--label", &self.labels, '=')?.into_iter().collect();
        options.extra_hosts = pairs("--add-host", &self.hosts, ':')?;
        options.ulimits = self.limits()?;
        if !self.platform.is_empty() {
            let parse = |text: &String| {
                text.parse::<Platform>()
                    .map_err(|error| Error::Usage(format!("--platform: {error}")))
            };
            options.platforms = self.platform.iter().map(parse).collect::<Result<_, _>>()?;
        }
        let mut contexts = BTreeMap::new();
        for (name, source) in pairs("--build-context", &self.contexts, '=')? {
            let kind = context_kind(&name, &source, &mut contexts)?;
            options.contexts.insert(name, kind);
        }
        Ok(DockerfileRequest {
            context: self.context.as_str().into(),
            file: self.file.clone(),
            options,
            contexts,
            assume_images: false,
            events: None,
        })
    }

    fn limits(&self) -> Result<BTreeMap<String, (u64, u64)>, Error> {
        let mut limits = BTreeMap::new();
        for (name, text) in pairs("--ulimit", &self.ulimits, '=')? {
            let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
            let number = |text: &str| match text {
                "-1" | "unlimited" => Ok(u64::MAX),
                text => text.parse().map_err(|_| {
                    Error::Usage(format!("--ulimit {name}={text}: a number is needed"))
                }),
            };
            limits.insert(name.clone(), (number(soft)?, number(hard)?));
        }
        Ok(limits)
    }
}

fn context_kind(
    name: &str,
    source: &str,
    contexts: &mut BTreeMap<String, ContextFrom>,
) -> Result<ContextKind, Error> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        return Ok(ContextKind::Image(image.to_owned()));
    }
    if source.starts_with("oci-layout://") {
        return Ok(ContextKind::Image(source.to_owned()));
    }
    if let Some(stage) = source.strip_prefix("target:") {
        return Ok(ContextKind::Target(stage.to_owned()));
    }
    let from = ContextFrom::from(source);
    if let ContextFrom::Folder(folder) = &from
        && !folder.is_dir()
    {
        return Err(Error::Usage(format!(
            "--build-context {name}={source}: there is no such folder"
        )));
    }
    contexts.insert(name.to_owned(), from);
    Ok(ContextKind::Local)
}

fn pairs(flag: &str, texts: &[String], separator: char) -> Result<Vec<(String, String)>, Error> {
    let pair = |text: &String| match text.split_once(separator) {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::Usage(format!(
            "{flag} {text}: write NAME{separator}VALUE"
        ))),
    };
    texts.iter().map(pair).collect()
}

/// Runs `kiln build`.
pub(crate) fn run(args: &BuildArgs) -> Result<(), Failed> {
    let mut request = args.source.request()?;
    let outputs = args.outputs()?;
    let secrets = args.secrets()?;
    let options = args.image_options(&request)?;
    let network = match args.network.as_str() {
        "host" | "default" => DefaultNetwork::Host,
        "none" => DefaultNetwork::None,
        "sandbox" => DefaultNetwork::Sandbox,
        other => {
            let text = format!("--network {other}: use host, none or sandbox");
            return Err(Error::Usage(text).into());
        }
    };
    let (engine, _) = crate::open()?;
    let events = display(if args.quiet {
        Style::Quiet
    } else {
        args.progress
    });
    request.events = Some(events.clone());
    let call = args.call()?;
    request.assume_images = call.is_some();
    let prepared = prepare(&engine, &request).map_err(|at| failed(&at.0, &at.1))?;
    if let Some(call) = call {
        return super::call::answer(call, &prepared);
    }
    show_warnings(args, &prepared)?;
    let text = prepared.text.clone();
    let mut build = Request::new(prepared.compiled.build.clone());
    build.contexts.clone_from(&prepared.folders);
    build.no_cache = args.no_cache;
    build.jobs = args.jobs.unwrap_or(build.jobs);
    build.network = network;
    build.secrets = Arc::new(secrets);
    build.allow_secrets_in.clone_from(&args.allow_secrets_in);
    build.events = events.clone();
    build.cancel = cancel_on_signals();
    let solved = engine
        .solve(build)
        .map_err(|error| failed(&error.into(), &text))?;
    let images = super::output::write(&solved, &outputs, &args.tags, &options, &*events)
        .map_err(|error| failed(&error, &text))?;
    args.write_ids(&solved, &images)?;
    Ok(())
}

fn failed(error: &Error, text: &str) -> Failed {
    Failed {
        text: report::error(error, text),
        status: error.exit_status(),
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
        }
    }
    super::call::refuse_warnings(prepared)
}

impl BuildArgs {
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

    fn image_options(&self, request: &DockerfileRequest) -> Result<ImageOptions, Error> {
        let plan = match self.layers.as_str() {
            "per-step" => LayerPlan::PerStep,
            "squash" => LayerPlan::Squash,
            "flat" => LayerPlan::Flat,
            other => {
                return Err(Error::Usage(format!(
                    "--layers {other}: use per-step, squash or flat"
                )));
            }
        };
        let epoch = request
            .options
            .build_args
            .get("SOURCE_DATE_EPOCH")
            .and_then(|text| text.parse().ok());
        Ok(ImageOptions {
            plan,
            epoch,
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
fn cancel_on_signals() -> Cancel {
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
