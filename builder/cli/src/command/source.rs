//! What is built, and with what: the flags that all commands about a build file share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kiln_frontend_dockerfile::Options;
use kiln_graph::address::redact;
use kiln_graph::{
    BadEntitlement, Build, CacheMount, Entitlement, Entitlements, ImagePath, ULIMITS,
    parse_extra_host, parse_memory,
};
use serde::{Deserialize, Serialize};

use kiln::{
    Assume, DockerfileRequest, Engine, Error, Fields, IsolationChoice, Locking, Pull, Reference,
};

use super::access::AccessArgs;
use super::context_flag::context_kind;
use super::pairs::{pairs, read_arguments};
use super::platform_flag::platform;

/// `--pull` in the words of Docker, Buildah and Podman.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PullArg {
    #[value(aliases = ["true", "newer", "ifnewer", "1"])]
    Always,
    #[default]
    #[value(aliases = ["false", "ifmissing", "0"])]
    Missing,
    Never,
}

impl From<PullArg> for Pull {
    fn from(arg: PullArg) -> Self {
        match arg {
            PullArg::Always => Self::Always,
            PullArg::Missing => Self::Missing,
            PullArg::Never => Self::Never,
        }
    }
}

/// What is built, and with what.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// The build context: a directory, a git repository, a tar archive on a web server, or - for
    /// standard input
    #[arg(default_value = ".", value_name = "CONTEXT")]
    pub(crate) context: String,
    /// The build file, or - for standard input (default: CONTEXT/Dockerfile)
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// The stage to build; of a kiln.toml, an image, a step or a group
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Set a build argument: NAME=VALUE, or NAME to take it from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(super) build_args: Vec<String>,
    /// A named context: NAME=DIRECTORY, a git or web address, docker-image://IMAGE,
    /// oci-layout://DIRECTORY, oci-archive:FILE, docker-archive:FILE or target:STAGE (repeatable)
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub(super) contexts: Vec<String>,
    /// Build arguments from a file of NAME=VALUE lines (repeatable)
    #[arg(long = "build-arg-file", value_name = "FILE")]
    pub(super) build_arg_files: Vec<PathBuf>,
    /// Target platforms, comma-separated
    #[arg(
        long,
        value_name = "OS/ARCH",
        value_delimiter = ',',
        env = "DOCKER_DEFAULT_PLATFORM"
    )]
    pub(super) platform: Vec<String>,
    /// Set a variable of the image's environment: NAME=VALUE, or NAME to take it from this one
    /// (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// Remove a variable of the image's environment (repeatable)
    #[arg(long = "unsetenv", value_name = "NAME")]
    pub(super) unset_env: Vec<String>,
    /// The image's creation time, in seconds since 1970 (SOURCE_DATE_EPOCH)
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) timestamp: Option<i64>,
    /// Set a label (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Use no cached result of a step, or of all steps of a stage (repeatable)
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    pub(super) no_cache_filter: Vec<String>,
    /// Add a line to /etc/hosts in steps; host-gateway is this machine's address (repeatable)
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(super) hosts: Vec<String>,
    /// A resource limit for steps: NAME=SOFT[:HARD] (repeatable)
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(super) ulimits: Vec<String>,
    /// Size of /dev/shm in steps, in bytes or as 128m, 1g
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub(super) shm_size: Option<u64>,
    /// Tie a cache volume to a file of the context: id=NAME,file=PATH; with another content it is
    /// another volume, which begins as the newest of the name (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(super) volume_key: Vec<String>,
    /// Fail if an image, branch or file isn't pinned in kiln.lock
    #[arg(long, conflicts_with = "no_lock")]
    pub(super) locked: bool,
    /// Ignore kiln.lock
    #[arg(long)]
    pub(super) no_lock: bool,
    /// When to ask registries for base images: always, missing (if the store doesn't have the
    /// image) or never
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_value = "missing",
        default_missing_value = "always",
        hide_possible_values = true
    )]
    pub(super) pull: PullArg,
    /// Allow the build file what it asks for: network.host, security.insecure, fs.read=DIR for
    /// image archives and git repositories of this machine, fs.write=DIR for its outputs, or cache
    /// for its shared caches (repeatable)
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(super) allow: Vec<String>,
    /// The target of a bake file that this is the build of
    #[arg(long, hide = true, value_name = "NAME")]
    pub(super) bake_target: Option<String>,
    /// What standard input gave to the build that is asked for again: a build file.
    #[arg(skip)]
    pub(super) input: Option<String>,
    /// Somebody else named the contexts: git has none of the user's own configuration and credentials
    #[arg(long, hide = true)]
    pub(super) foreign_contexts: bool,
}

impl SourceArgs {
    /// Opens the user's store, with registries spoken to as the flags say. `named` are images that
    /// other flags name.
    pub(crate) fn open(
        &self,
        isolation: Option<IsolationChoice>,
        named: &[Reference],
    ) -> Result<Engine, Error> {
        super::open_with(isolation, self.access.read(named)?)
    }

    /// The same source, with registries spoken to as another's flags say.
    pub(crate) fn with_access_of(self, other: &Self) -> Self {
        Self {
            access: other.access.clone(),
            ..self
        }
    }

    /// The names of the build arguments that were given as flags.
    pub(crate) fn argument_names(&self) -> Vec<String> {
        let names = self.build_args.iter().map(|text| name_of(text).to_owned());
        names.collect()
    }

    /// What identifies builds of the same file, context and target; and the same for people.
    pub(crate) fn subject(&self) -> (String, String) {
        let (context, file) = (whole(Path::new(&self.context)), self.file_path());
        let target = self.target.as_deref().unwrap_or_default();
        let subject = format!("{}\n{}\n{target}", context.display(), file.display());
        let title = match target {
            "" => file.display().to_string(),
            target => format!("{} ({target})", file.display()),
        };
        (redact(&subject).into_owned(), redact(&title).into_owned())
    }

    /// What is to be said of a build file that was found, not named.
    pub(crate) fn found_file(&self) -> Option<String> {
        let context = Path::new(&self.context);
        if self.file.is_some() || !context.is_dir() {
            return None;
        }
        let found = kiln::build_file_in(context)?;
        let name = found.file_name()?.display();
        let other = ["Dockerfile", "Containerfile"].map(|other| context.join(other));
        let other = other
            .iter()
            .find(|other| **other != found && other.exists());
        Some(match other.filter(|_| found.ends_with("kiln.toml")) {
            Some(other) => format!(
                "building {}; for the {} beside it, give -f {}",
                found.display(),
                other.file_name().unwrap_or_default().display(),
                other.display()
            ),
            None => format!("building {} ({name})", context.display()),
        })
    }

    /// The build file.
    pub(crate) fn file_path(&self) -> PathBuf {
        let context = whole(Path::new(&self.context));
        match (&self.file, self.input_name()) {
            (Some(file), Some(name)) if file == Path::new("-") => name.into(),
            (Some(file), _) => whole(file),
            (None, _) => {
                kiln::build_file_in(&context).unwrap_or_else(|| context.join("Dockerfile"))
            }
        }
    }

    /// What the frontend and the driver are told.
    pub(crate) fn request(&self) -> Result<DockerfileRequest, Error> {
        let mut options = Options::default();
        options.target.clone_from(&self.target);
        options.no_cache_filter.clone_from(&self.no_cache_filter);
        // Zero is the default, as for docker build.
        options.shm_size = self.shm_size.filter(|size| *size > 0);
        let allowed = self.allowed()?;
        options.allow_insecure = allowed.security_insecure;
        options.build_args = self.build_args()?;
        options.labels = pairs("--label", &self.labels, '=')?.into_iter().collect();
        let host = |text: &String| {
            parse_extra_host(text).map_err(|error| Error::Usage(format!("--add-host {error}")))
        };
        options.extra_hosts = self.hosts.iter().map(host).collect::<Result<_, _>>()?;
        options.ulimits = self.limits()?;
        if !self.platform.is_empty() {
            options.platforms_are_given = true;
            let platforms = self.platform.iter().map(|text| platform(text));
            options.platforms = platforms.collect::<Result<_, _>>()?;
        }
        let mut contexts = BTreeMap::new();
        for (name, source) in pairs("--build-context", &self.contexts, '=')? {
            if name == "context" {
                return Err(Error::Usage(format!(
                    "--build-context {name}={source}: no build file can name a context 'context', which is the build's own: choose another name"
                )));
            }
            let kind = context_kind(&name, &source, &mut contexts)?;
            options.contexts.insert(name, kind);
        }
        Ok(DockerfileRequest {
            context_directory: ImagePath::root(),
            context: self.context.as_str().into(),
            file: self.file.clone(),
            text: None,
            input: self.input.clone(),
            input_name: self.input_name(),
            is_foreign: self.foreign_contexts,
            options,
            contexts,
            context_pins: kiln_engine::Pins::default(),
            pull: self.pull.into(),
            assume_images: Assume::Nothing,
            allowed,
            secrets: None,
            events: None,
            configure: None,
            source_rules: std::sync::Arc::default(),
            source_check: None,
            locking: match (self.locked, self.no_lock) {
                (true, _) => Locking::Required,
                (_, true) => Locking::Off,
                _ => Locking::IfThere,
            },
        })
    }

    /// What `--allow` says.
    fn allowed(&self) -> Result<Entitlements, Error> {
        let mut allowed = Entitlements::default();
        for word in self.allow.iter().flat_map(|words| words.split(',')) {
            let read = word.parse().map_err(|error: BadEntitlement| {
                Error::Usage(format!("--allow {word}: {error}"))
            })?;
            allowed.allow(match read {
                Entitlement::Read(directory) => Entitlement::Read(real("fs.read", &directory)?),
                Entitlement::Write(directory) => Entitlement::Write(real("fs.write", &directory)?),
                other => other,
            });
        }
        Ok(allowed)
    }

    /// Build arguments: those of files, then those of flags, which win.
    fn build_args(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut all = BTreeMap::new();
        for path in &self.build_arg_files {
            all.extend(read_arguments(path)?);
        }
        for text in &self.build_args {
            match text.split_once('=') {
                Some((name, value)) => {
                    all.insert(name.to_owned(), value.to_owned());
                }
                None => {
                    if let Ok(value) = std::env::var(text) {
                        all.insert(text.clone(), value);
                    }
                }
            }
        }
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        let epoch = epoch.filter(|epoch| !epoch.is_empty());
        let epoch = self.timestamp.map(|time| time.to_string()).or(epoch);
        if let Some(epoch) = epoch {
            all.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert(epoch);
        }
        Ok(all)
    }

    /// What `--env` and `--unsetenv` change in an image's environment.
    pub(crate) fn set_environment(&self, env: &mut Vec<String>) {
        let gone = self.env.iter().map(|pair| name_of(pair));
        let gone: Vec<&str> = gone
            .chain(self.unset_env.iter().map(String::as_str))
            .collect();
        env.retain(|pair| !gone.contains(&name_of(pair)));
        for pair in &self.env {
            if pair.contains('=') {
                env.push(pair.clone());
            } else if let Ok(value) = std::env::var(pair) {
                env.push(format!("{pair}={value}"));
            }
        }
    }

    /// The selectors of `--no-cache-filter` that name single steps; the frontend sees to stages.
    pub(crate) fn fresh_steps<'a>(&'a self, build: &'a Build) -> impl Iterator<Item = &'a str> {
        let is_stage = |name: &&String| {
            build
                .stages
                .iter()
                .any(|stage| stage.name.eq_ignore_ascii_case(name))
        };
        let steps = self
            .no_cache_filter
            .iter()
            .filter(move |name| !is_stage(name));
        steps.map(String::as_str)
    }

    /// The files that volumes are tied to, by the volumes' names.
    pub(crate) fn volume_files(&self) -> Result<BTreeMap<String, String>, Error> {
        let args = self.build_args()?;
        let namespace = args.get(CacheMount::NAMESPACE);
        let read = |text: &String| {
            let mut fields = Fields::parse(text);
            let (id, file) = (fields.take("id"), fields.take("file"));
            match (id, file, fields.finish(&["id", "file"])) {
                (Some(id), Some(file), Ok(())) => {
                    // Those of kiln.toml are in no namespace.
                    let other = CacheMount::in_namespace(id.clone(), namespace);
                    Ok([(id, file.clone()), (other, file)])
                }
                _ => Err(Error::Usage(format!(
                    "--volume-key {text}: write id=NAME,file=PATH"
                ))),
            }
        };
        let all: Vec<_> = self.volume_key.iter().map(read).collect::<Result<_, _>>()?;
        Ok(all.into_iter().flatten().collect())
    }

    fn limits(&self) -> Result<BTreeMap<String, (u64, u64)>, Error> {
        let mut limits = BTreeMap::new();
        for (name, text) in pairs("--ulimit", &self.ulimits, '=')? {
            if !ULIMITS.contains(&name.as_str()) {
                let known = ULIMITS.join(", ");
                let text = format!("--ulimit {name}: there is no such limit; there are {known}");
                return Err(Error::Usage(text));
            }
            let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
            let number = |text: &str| match text {
                "-1" | "unlimited" => Ok(u64::MAX),
                text => text.parse().map_err(|_| {
                    Error::Usage(format!("--ulimit {name}={text}: a number is needed"))
                }),
            };
            let (soft, hard) = (number(soft)?, number(hard)?);
            if soft > hard {
                let text = format!("--ulimit {name}={text}: the soft limit is above the hard one");
                return Err(Error::Usage(text));
            }
            limits.insert(name.clone(), (soft, hard));
        }
        Ok(limits)
    }
}

/// The name in `NAME[=VALUE]`.
fn name_of(text: &str) -> &str {
    text.split_once('=').map_or(text, |(name, _)| name)
}

/// A directory's path without links.
fn real(what: &str, directory: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(directory).map_err(|source| Error::File {
        what: format!("--allow {what}={}", directory.display()),
        source,
    })
}

fn whole(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
