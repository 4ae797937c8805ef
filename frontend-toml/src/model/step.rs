//! `[steps.NAME]` and `[tests.NAME]`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ParamType, Scalar};
use crate::text::{Name, Placed, Text};

/// Something that is done in a root filesystem: files are copied, then a command is run.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Steps and tests whose keys it has, where it doesn't say otherwise; the last one counts first.
    #[serde(default)]
    pub extends: Vec<Text>,
    /// Whether it is only there to be extended.
    pub template: Option<Placed<bool>>,
    /// What it starts from: a step, a source, an image's name, or `scratch`.
    pub from: Option<Text>,
    /// The platform of the image in `from`: `build` for what the builder runs on, or such as
    /// `linux/arm64`; what is built for unless given.
    pub platform: Option<Text>,
    /// Steps that must be done before.
    #[serde(default)]
    pub needs: Vec<Text>,
    /// Only when this holds: `params.profile == 'debug'`.
    #[serde(rename = "if")]
    pub condition: Option<Text>,
    /// Files to copy first.
    #[serde(default)]
    pub copy: Vec<Copy>,
    /// A command: for the shell, or a program with its arguments.
    pub run: Option<Run>,
    /// A script and its interpreter.
    pub script: Option<Script>,
    /// Variables of the command.
    #[serde(default)]
    pub env: BTreeMap<Name, Text>,
    /// The working directory.
    pub workdir: Option<Text>,
    /// `USER[:GROUP]`.
    pub user: Option<Text>,
    /// `host`, `sandbox` or `none`.
    pub network: Option<NetworkKind>,
    /// Lines of `/etc/hosts`: names and addresses.
    #[serde(default)]
    pub hosts: BTreeMap<Name, Text>,
    /// Resource limits, by name as in `ulimit`.
    #[serde(default)]
    pub limits: BTreeMap<Name, Placed<Limit>>,
    /// The size of `/dev/shm`: `128MB`.
    pub shm_size: Option<Text>,
    /// Directories in memory, for the time of the command.
    #[serde(default)]
    pub tmpfs: Vec<Tmpfs>,
    /// Volumes that outlive the build.
    #[serde(default)]
    pub caches: Vec<Cache>,
    /// Files of other steps and sources, for the time of the command.
    #[serde(default)]
    pub binds: Vec<Bind>,
    /// Secrets, for the time of the command.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// SSH agents, for the time of the command.
    #[serde(default)]
    pub ssh: Vec<Text>,
    /// How often a failing command is tried again.
    #[serde(default)]
    pub retry: u32,
    /// After how long the command is killed: `90s`, `10m`, `1h`.
    pub timeout: Option<Text>,
    /// Which stored result is used: `always` (the default) any, `never` none, or one that isn't
    /// older than a time, such as `7d`.
    pub cache: Option<Text>,
    /// What it asks of a worker, where it runs on a cluster.
    pub remote: Option<Remote>,
    /// Files that `--export` takes out of it, also when it fails.
    #[serde(default)]
    pub exports: Vec<Export>,
    /// What its standard output is, where `{{ steps.NAME.stdout }}` is used; a string unless given.
    pub output: Option<ParamType>,
    /// The step is made once for each combination of these values.
    #[serde(default)]
    pub matrix: BTreeMap<Name, Vec<Placed<Scalar>>>,
}

impl Step {
    /// Whether it is only there to be extended.
    pub(crate) fn is_template(&self) -> bool {
        self.template.as_ref().is_some_and(|placed| placed.value)
    }

    /// Whether it runs something.
    pub(crate) fn has_command(&self) -> bool {
        self.run.is_some() || self.script.is_some()
    }

    /// The keys that it has and that do nothing, because it runs nothing.
    pub(crate) fn keys_without_command(&self) -> impl Iterator<Item = &'static str> {
        let of_command = [
            ("env", !self.env.is_empty()),
            ("user", self.user.is_some()),
            ("network", self.network.is_some()),
            ("caches", !self.caches.is_empty()),
            ("binds", !self.binds.is_empty()),
            ("secrets", !self.secrets.is_empty()),
            ("ssh", !self.ssh.is_empty()),
            ("retry", self.retry > 0),
            ("timeout", self.timeout.is_some()),
            ("hosts", !self.hosts.is_empty()),
            ("limits", !self.limits.is_empty()),
            ("shm_size", self.shm_size.is_some()),
            ("tmpfs", !self.tmpfs.is_empty()),
            ("output", self.output.is_some()),
            ("remote", self.remote.is_some()),
            ("needs", !self.needs.is_empty() && self.copy.is_empty()),
        ];
        let runs = self.has_command();
        let given = of_command
            .into_iter()
            .filter(move |(_, given)| *given && !runs);
        given.map(|(key, _)| key)
    }
}

/// What a step asks of a worker.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Platform properties, as the cluster names them: `pool = "large"`.
    #[serde(default)]
    pub properties: BTreeMap<Name, Text>,
}

/// A command.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, schemars(untagged))]
pub enum Run {
    /// For the shell.
    Shell(Text),
    /// A program and its arguments.
    Words(Vec<Text>),
}

/// A command without its place: serde loses places inside of enums.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string, or a list of strings")]
enum PlainRun {
    Shell(String),
    Words(Vec<String>),
}

impl<'de> Deserialize<'de> for Run {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<PlainRun>::deserialize(deserializer)?;
        let span = spanned.span();
        let text = |value: String| Text {
            value,
            span: span.clone(),
        };
        Ok(match spanned.into_inner() {
            PlainRun::Shell(value) => Self::Shell(text(value)),
            PlainRun::Words(words) => Self::Words(words.into_iter().map(text).collect()),
        })
    }
}

/// A script.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The program that reads it, with its arguments.
    pub interpreter: Vec<Text>,
    /// Its text.
    pub text: Text,
}

/// A resource limit.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, or a string such as \"SOFT:HARD\" or \"unlimited\""
)]
pub enum Limit {
    /// Both the soft and the hard one.
    Number(u64),
    /// `SOFT:HARD`, or `unlimited`.
    Text(String),
}

/// A directory in memory.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Where it is mounted.
    pub target: Text,
    /// How much it may hold: `64MB`.
    pub size: Option<Text>,
}

/// What a command can reach.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// The host's network.
    Host,
    /// A network of its own, from which the host's is reached but not the host itself.
    Sandbox,
    /// Nothing.
    None,
}

/// Files to be copied.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The step or source they come from; without it, `text` is the file's content.
    pub from: Option<Text>,
    /// Paths in it, with `*`, `?` and `[…]`; all of it unless given.
    #[serde(default)]
    pub paths: Vec<Text>,
    /// The content of a file.
    pub text: Option<Text>,
    /// Where to; a directory when it ends with a slash or there are several paths.
    pub to: Text,
    /// `USER[:GROUP]`; root unless given.
    pub owner: Option<Text>,
    /// Permission bits, as `chmod` takes them.
    pub mode: Option<Text>,
    /// Patterns of what is left out.
    #[serde(default)]
    pub exclude: Vec<Text>,
}

/// A volume.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Where it is mounted.
    pub target: Text,
    /// Its name; the target unless given.
    pub id: Option<Text>,
    /// `shared` (the default), `private` or `locked`.
    pub sharing: Option<SharingKind>,
    /// `UID[:GID]` of a new volume's directory; the step's user where that is a number, else root.
    pub owner: Option<Text>,
    /// A file of the context, such as a lock file: each version of it has a volume of its own, which
    /// begins as the newest of the others.
    pub key: Option<Text>,
}

/// How several steps use a volume at once.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharingKind {
    /// All at once.
    Shared,
    /// Each its own.
    Private,
    /// One after the other.
    Locked,
}

/// Files of another step or source, mounted read-only.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The step or source.
    pub from: Text,
    /// The file or directory in it; all of it unless given.
    pub path: Option<Text>,
    /// Where it is mounted.
    pub target: Text,
}

/// Files that can be taken out of a step.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// What the command line calls them.
    pub name: Text,
    /// The file or directory.
    pub path: Text,
}

/// A secret.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The name it is given under, with `--secret`.
    pub id: Text,
    /// The file it appears as; `/run/secrets/ID` unless `env` is given.
    pub target: Option<Text>,
    /// The variable it appears in.
    pub env: Option<Text>,
    /// Whether the step fails without it; it does unless this is false.
    pub required: Option<bool>,
    /// `UID[:GID]` of the file; the step's user where that is a number, else root.
    pub owner: Option<Text>,
}
