//! What is built, and with what: the flags that all commands about a build file share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use kiln_frontend_dockerfile::{ContextKind, Options};
use kiln_graph::address::redact;
use kiln_graph::{
    BadEntitlement, Build, Entitlement, Entitlements, Platform, ULIMITS, parse_extra_host,
    parse_memory,
};

use kiln::{Assume, ContextFrom, DockerfileRequest, Error, Locking};

/// What is built, and with what.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceArgs {
    /// The build context: a folder, a git repository, a tar archive on a web server, or - for
    /// standard input
    #[arg(default_value = ".", value_name = "CONTEXT")]
    pub(crate) context: String,
    /// The build file, or - for standard input (default: CONTEXT/Dockerfile)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Set a build argument: NAME=VALUE, or NAME to take it from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// A named context: NAME=FOLDER, a git or web address, docker-image://IMAGE,
    /// oci-layout://FOLDER, oci-archive:FILE, docker-archive:FILE or target:STAGE (repeatable)
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    contexts: Vec<String>,
    /// What the image runs on, several separated by commas
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// Set a label (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Run a step, or all of a stage, whatever is stored (repeatable)
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// A line of /etc/hosts for steps; host-gateway is this machine's address (repeatable)
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<String>,
    /// A resource limit for steps: NAME=SOFT[:HARD] (repeatable)
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<String>,
    /// Size of /dev/shm in steps, in bytes or as 128m, 1g
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    shm_size: Option<u64>,
    /// Tie a cache volume to a file of the context: id=NAME,file=PATH; with another content it is
    /// another volume, which begins as the newest of the name (repeatable)
    #[arg(long, value_name = "SPEC")]
    volume_key: Vec<String>,
    /// Fail when something that can change isn't in the lock (kiln lock)
    #[arg(long, conflicts_with = "no_lock")]
    locked: bool,
    /// Don't use the lock
    #[arg(long)]
    no_lock: bool,
    /// Ask registries even for base images that the store has under the name
    #[arg(long)]
    pull: bool,
    /// Allow the build file what it asks for: network.host, security.insecure, or fs.read=DIR for
    /// image archives and git repositories of this machine (repeatable)
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
}

impl SourceArgs {
    /// Whether nothing comes from standard input, which gives its bytes only once.
    pub(crate) fn can_be_read_again(&self) -> bool {
        self.context != "-" && self.file.as_deref() != Some(Path::new("-"))
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

    /// The build file.
    pub(crate) fn file_path(&self) -> PathBuf {
        let context = whole(Path::new(&self.context));
        match &self.file {
            Some(file) => whole(file),
            None if context.join("kiln.toml").is_file() => context.join("kiln.toml"),
            None => context.join("Dockerfile"),
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
        let host = |text: &String| {
            parse_extra_host(text).map_err(|error| Error::Usage(format!("--add-host {error}")))
        };
        options.extra_hosts = self.hosts.iter().map(host).collect::<Result<_, _>>()?;
        options.ulimits = self.limits()?;
        if !self.platform.is_empty() {
            let parse = |text: &String| {
                text.parse::<Platform>()
                    .map_err(|error| Error::Usage(format!("--platform: {error}")))
            };
            options.platforms_are_given = true;
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
            pull: self.pull,
            assume_images: Assume::Nothing,
            allowed,
            secrets: None,
            events: None,
            configure: None,
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
                Entitlement::Read(folder) => Entitlement::Read(real(&folder)?),
                other => other,
            });
        }
        Ok(allowed)
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
        let read = |text: &String| {
            let mut fields = BTreeMap::new();
            for field in text.split(',') {
                fields.extend(field.split_once('='));
            }
            match (fields.remove("id"), fields.remove("file"), fields.len()) {
                (Some(id), Some(file), 0) => Ok((id.to_owned(), file.to_owned())),
                _ => Err(Error::Usage(format!(
                    "--volume-key {text}: write id=NAME,file=PATH"
                ))),
            }
        };
        self.volume_key.iter().map(read).collect()
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

/// A directory's path without links.
fn real(folder: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(folder).map_err(|source| Error::File {
        what: format!("--allow fs.read={}", folder.display()),
        source,
    })
}

fn whole(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn context_kind(
    name: &str,
    source: &str,
    contexts: &mut BTreeMap<String, ContextFrom>,
) -> Result<ContextKind, Error> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        return Ok(ContextKind::Image(image.to_owned()));
    }
    let images = [
        "oci-layout://",
        "oci:",
        "oci-archive:",
        "docker-archive:",
        "docker-daemon:",
    ];
    if images.iter().any(|start| source.starts_with(start)) {
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

pub(crate) fn pairs(
    flag: &str,
    texts: &[String],
    separator: char,
) -> Result<Vec<(String, String)>, Error> {
    let pair = |text: &String| match text.split_once(separator) {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::Usage(format!(
            "{flag} {text}: write NAME{separator}VALUE"
        ))),
    };
    texts.iter().map(pair).collect()
}
