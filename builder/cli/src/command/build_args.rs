//! The flags of `kiln build`, and what they say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, FromArgMatches as _};
use kiln_engine::{Annotations, Cancel, DefaultNetwork, Engine, ImageOptions, LayerPlan, Request};
use kiln_graph::{Build, Digest, HistoryLine, LayerOrigin};
use kiln_image::Reference;

use super::cache::{self, Specs};
use super::call::Call;
use super::resource::ResourceArgs;
use super::source::SourceArgs;
use crate::display::Style;
use kiln::output::{Form, Output};
use kiln::{Configure, Error, Fields, IsolationChoice, Policy, Prepared, Secrets};
use kiln::{select, with_consumers};

/// The flags of `kiln build`, named as `docker build` names them.
#[derive(Args, Debug, Clone)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(super) attest: super::attest_args::AttestArgs,
    #[command(flatten)]
    pub(super) deltas: super::delta::PushDeltaArgs,
    /// Name the image (repeatable)
    #[arg(short, long = "tag", alias = "manifest", value_name = "NAME")]
    pub(super) tags: Vec<String>,
    /// Output: type=oci|docker|tar|local|erofs|squashfs|ext4|cpio|registry,dest=PATH,… (repeatable)
    #[arg(short, long = "output", value_name = "SPEC")]
    pub(super) outputs: Vec<String>,
    /// Push the image to the registries of its names
    #[arg(long)]
    pub(super) push: bool,
    /// Load the image into the Docker daemon
    #[arg(long)]
    pub(super) load: bool,
    /// Run every step: use no cached results
    #[arg(long)]
    pub(super) no_cache: bool,
    /// A secret for steps: id=NAME,src=FILE, id=NAME,env=VARIABLE, or src= with exec:COMMAND,
    /// vault:PATH#FIELD, ejson:FILE#KEY or age:FILE; with sensitive=false for public bytes, which are
    /// neither masked nor searched for (repeatable)
    #[arg(long = "secret", value_name = "SPEC")]
    pub(super) secrets: Vec<String>,
    /// A path, or pattern of paths, in which a step may leave a secret (repeatable)
    #[arg(long = "allow-secret-in", value_name = "PATH")]
    pub(super) allow_secrets_in: Vec<String>,
    /// An SSH agent for steps: default, ID=SOCKET or ID=KEYFILE (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(super) ssh: Vec<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "BUILDKIT_PROGRESS")]
    pub(super) progress: Style,
    /// Print only the image ID
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// The network of steps that don't say which: host (the default), none or sandbox; host also
    /// allows steps to say RUN --network=host
    #[arg(long)]
    pub(super) network: Option<String>,
    /// How steps are kept apart from the machine: auto, namespaces or chroot
    #[arg(long, value_name = "HOW", env = "KILN_ISOLATION")]
    pub(super) isolation: Option<IsolationChoice>,
    /// The layer plan: named, per-step, per-stage, squash, flat, auto[:N], or a
    /// file with a plan
    #[arg(long, default_value = "named", value_name = "PLAN")]
    pub(super) layers: String,
    /// A file with limits and rules that the image must meet
    #[arg(long, value_name = "FILE", value_parser = policy_file)]
    pub(super) policy: Option<PathBuf>,
    /// Run every step twice, and list the files that differ
    #[arg(long)]
    pub(super) verify_reproducible: bool,
    /// Import cached results: type=local,src=DIRECTORY, type=registry,ref=NAME,
    /// type=s3,bucket=NAME,…, s3://BUCKET/PREFIX, type=gha[,scope=NAME], type=reapi,url=grpcs://HOST:PORT,… or
    /// type=inline,ref=IMAGE (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(super) cache_from: Vec<String>,
    /// Export cached results: type=local,dest=DIRECTORY, type=registry,ref=NAME, type=s3,bucket=NAME,…, type=gha or
    /// type=reapi,url=grpcs://HOST:PORT,… with mode=min|max and ignore-error=false; or type=inline, in the image itself (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(super) cache_to: Vec<String>,
    /// Sign exported results with the key in this file (64 hexadecimal digits)
    #[arg(long, value_name = "FILE")]
    pub(super) cache_sign_key: Option<PathBuf>,
    /// Import only results signed with this public key (repeatable)
    #[arg(long, value_name = "KEY")]
    pub(super) cache_trust: Vec<String>,
    /// With SOURCE_DATE_EPOCH, limit the times of files in new layers to it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub(super) rewrite_timestamp: bool,
    /// Annotate the image's manifest or, with a kind before the name, what the kinds say: manifest,
    /// manifest-descriptor, index or index-descriptor; [PLATFORM] behind a kind chooses (repeatable)
    #[arg(long = "annotation", value_name = "[KIND:]NAME=VALUE")]
    pub(super) annotations: Vec<String>,
    #[command(flatten)]
    pub(super) resources: ResourceArgs,
    #[command(flatten)]
    pub(super) executor: super::executor::ExecutorArgs,
    /// The number of steps that run in parallel
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<usize>,
    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,
    /// Write the result's digests to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) metadata_file: Option<PathBuf>,
    /// Run this step and all after it again: a stage, STAGE:N, N in the target stage, or @LINE
    #[arg(long, value_name = "STEP")]
    pub(super) from: Option<String>,
    /// Stop after this step
    #[arg(long, value_name = "STEP")]
    pub(super) until: Option<String>,
    /// After a failure, keep running steps that don't depend on it
    #[arg(long)]
    pub(super) keep_going: bool,
    /// Explain why each step ran or was cached
    #[arg(long)]
    pub(super) explain: bool,
    /// Open a shell where a step failed
    #[arg(long)]
    pub(super) debug: bool,
    /// Also report flags of other builders that have no effect
    #[arg(short = 'D', long)]
    pub(super) verbose: bool,
    /// Put all changes into one layer over the base: --layers squash
    #[arg(long, hide = true, conflicts_with_all = ["layers", "squash_all"])]
    pub(super) squash: bool,
    /// Put everything into one layer: --layers flat
    #[arg(long, hide = true, conflicts_with = "layers")]
    pub(super) squash_all: bool,
    /// The builder: kiln or default
    #[arg(long, hide = true, value_name = "NAME")]
    pub(super) builder: Option<String>,
    /// Media types of the image's manifest: oci or docker
    #[arg(long, value_name = "oci|docker")]
    pub(super) format: Option<String>,
    /// Take the files that steps export out of them, also when they fail: all into directories in
    /// DIRECTORY, or those of one name into its own (repeatable)
    #[arg(long = "export", value_name = "[NAME=]DIRECTORY")]
    pub(super) exports: Vec<String>,
    /// Build again whenever the context changes
    #[arg(long)]
    pub(super) watch: bool,
    /// Send a trace of the build to an OpenTelemetry collector (OTLP over HTTP, JSON)
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub(super) otlp_endpoint: Option<String>,
    /// Only check the build file: the same as --call check
    #[arg(long)]
    pub(super) check: bool,
    /// Whether it is one of several images, which one command line builds.
    #[arg(skip)]
    pub(super) one_of_several: bool,
    /// Ask about the build file instead of building it: check, outline or targets, and
    /// ,format=json
    #[arg(long, value_name = "METHOD")]
    pub(super) call: Option<String>,
}

impl BuildArgs {
    /// The flags of a build that was given none.
    pub(super) fn without_flags() -> Result<Self, Error> {
        let command = Self::augment_args(clap::Command::new("build"));
        let matches = command.try_get_matches_from(["build"]);
        let args = matches.and_then(|matches| Self::from_arg_matches(&matches));
        // A variable of the environment may be wrong.
        args.map_err(|error| Error::Usage(error.to_string()))
    }

    /// What the engine is asked for; secrets, events and the way to stop it are to be added.
    pub(super) fn engine_request(&self, prepared: &Prepared) -> Result<Request, Error> {
        let mut build = prepared.request();
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
    pub(super) fn configurer(
        &self,
        engine: &Engine,
        secrets: &Arc<Secrets>,
        cancel: &Cancel,
    ) -> Result<Arc<Configure>, Error> {
        let (args, secrets, cancel) = (self.clone(), secrets.clone(), cancel.clone());
        let cgroups = self.resources.cgroups()?.map(Arc::new);
        let specs = Specs::of_flag("--cache-from", &self.cache_from);
        let sources = cache::sources(engine, &specs, &self.cache_trust)?;
        let elsewhere = self.executor.open()?;
        Ok(Arc::new(move |build| {
            args.settle(build)?;
            build.elsewhere.clone_from(&elsewhere);
            build.secrets = secrets.clone();
            build.cancel = cancel.clone();
            build.cgroups.clone_from(&cgroups);
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
        build.network = match self.network.as_deref() {
            None | Some("default") => DefaultNetwork::Host,
            Some("host") => {
                build.allowed.network_host = true;
                DefaultNetwork::Host
            }
            Some("none") => DefaultNetwork::None,
            Some("sandbox") => DefaultNetwork::Sandbox,
            Some(other) => {
                let text = format!("--network {other}: use host, none or sandbox");
                return Err(Error::Usage(text));
            }
        };
        build.build.volume_files.extend(self.source.volume_files()?);
        build.volume_keys = volume_keys(build)?;
        Ok(())
    }

    /// What is asked about the build file, if that is all that is wanted.
    pub(super) fn call(&self) -> Result<Option<Call>, Error> {
        match (&self.call, self.check) {
            (Some(text), _) if text == "build" => Ok(None),
            (Some(text), _) => text.parse().map(Some).map_err(Error::Usage),
            (None, true) => Ok(Some(Call::check())),
            (None, false) => Ok(None),
        }
    }

    /// The isolation that steps are to have: the user's choice, not below what a policy demands.
    pub(super) fn isolation(&self) -> Result<IsolationChoice, Error> {
        let choice = self.isolation.unwrap_or_default();
        let policy = self.policy.as_deref().map(Policy::read).transpose()?;
        match policy {
            Some(policy) => policy.isolation(choice),
            None => Ok(choice),
        }
    }

    /// The names that the image is to have.
    pub(super) fn names(&self) -> Result<Vec<Reference>, Error> {
        self.tags
            .iter()
            .map(|text| image_name("-t", text))
            .collect()
    }

    /// The images in registries that the flags name.
    pub(super) fn registries(&self) -> Result<Vec<Reference>, Error> {
        let mut all = self.names()?;
        for output in self.outputs()? {
            all.extend_from_slice(output.names());
        }
        for text in self.cache_from.iter().chain(&self.cache_to) {
            all.extend(super::cache_spec::registry(text));
        }
        Ok(all)
    }

    pub(super) fn outputs(&self) -> Result<Vec<Output>, Error> {
        let mut outputs: Vec<Output> = Vec::new();
        for text in &self.outputs {
            outputs.push(text.parse().map_err(Error::Usage)?);
        }
        let pushed = |outputs: &mut Vec<Output>| {
            let images = outputs.iter_mut().map(Output::push_image);
            images.filter(|is_pushed| *is_pushed).count() > 0
        };
        if self.push && !pushed(&mut outputs) {
            outputs.push(Output::of(Form::Registry));
        }
        if self.load && !outputs.iter().any(Output::loads) {
            outputs.push(Output::of(Form::Daemon));
        }
        Ok(outputs)
    }

    pub(super) fn secrets(&self) -> Result<Secrets, Error> {
        let mut secrets = Secrets::default();
        for text in &self.secrets {
            secrets.add(text)?;
        }
        for text in &self.ssh {
            secrets.add_agent(text)?;
        }
        Ok(secrets)
    }

    pub(super) fn image_options(&self) -> Result<ImageOptions, Error> {
        self.check_compatible()?;
        let plan = match (self.squash, self.squash_all) {
            (true, _) => LayerPlan::Squash,
            (_, true) => LayerPlan::Flat,
            _ => super::layers::plan(&self.layers)?,
        };
        let mut annotations = Annotations::default();
        for text in &self.annotations {
            let added = annotations.add(text);
            added.map_err(|error| Error::Usage(format!("--annotation {error}")))?;
        }
        Ok(ImageOptions {
            plan,
            docker_types: self.format.as_deref() == Some("docker"),
            keep_late_times: !self.rewrite_timestamp,
            annotations,
            ..ImageOptions::default()
        })
    }
}

impl BuildArgs {
    /// Values of other builders' flags that mean something kiln doesn't do.
    fn check_compatible(&self) -> Result<(), Error> {
        if let Some(name) = &self.builder
            && !["default", "kiln"].contains(&name.as_str())
        {
            return Err(Error::Usage(format!(
                "--builder {name}: kiln is the builder, and knows no others"
            )));
        }
        match self.format.as_deref() {
            None | Some("oci" | "docker") => Ok(()),
            Some(other) => Err(Error::Usage(format!("--format {other}: use oci or docker"))),
        }
    }
}

/// A name for an image that is built; `what` gives it.
pub(super) fn image_name(what: &str, text: &str) -> Result<Reference, Error> {
    let name = text.parse::<Reference>();
    let name = name.map_err(|error| Error::Usage(format!("{what} '{text}': {error}")))?;
    match name.digest {
        None => Ok(name),
        Some(_) => Err(Error::Usage(format!(
            "{what} {text}: an image has its digest by itself: give a name and a tag"
        ))),
    }
}

/// The file of `--policy FILE`, or of buildx's `--policy filename=FILE,…`.
fn policy_file(text: &str) -> Result<PathBuf, String> {
    let named = Fields::parse(text).take("filename");
    let file = PathBuf::from(named.unwrap_or_else(|| text.to_owned()));
    match file.extension() {
        Some(end) if end == "rego" => Err(
            "kiln's policies are TOML files with budgets and rules; Rego is not read".to_owned(),
        ),
        _ => Ok(file),
    }
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

/// What volumes are tied to: the digests of their files.
fn volume_keys(request: &Request) -> Result<BTreeMap<String, String>, Error> {
    let context = request.contexts.get("context");
    let context = context.map_or_else(|| PathBuf::from("."), Clone::clone);
    let key = |(id, file): (&String, &String)| {
        let bytes = kiln::read_inside(&context, Path::new(file));
        let bytes = bytes.map_err(|source| Error::File {
            what: format!("cannot read {file}, which the volume {id} is tied to"),
            source,
        })?;
        Ok((id.clone(), Digest::of(&bytes).short()))
    };
    request.build.volume_files.iter().map(key).collect()
}
