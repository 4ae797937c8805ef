//! A file as it is written: the tables and their keys. Unknown keys are errors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::files::Files;
use crate::text::{Name, Placed, Text};

/// A whole file.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildFile {
    /// The language's version: 1.
    pub version: Placed<u32>,
    /// Other files whose tables are added to this one's.
    #[serde(default)]
    pub include: Vec<Placed<Include>>,
    /// What the file can be told with `--build-arg`.
    #[serde(default)]
    pub params: BTreeMap<Name, Param>,
    /// Where files come from.
    #[serde(default)]
    pub sources: BTreeMap<Name, Source>,
    /// What is done.
    #[serde(default)]
    pub steps: BTreeMap<Name, Step>,
    /// Steps that must pass before an image is made, and leave nothing in it.
    #[serde(default)]
    pub tests: BTreeMap<Name, Step>,
    /// The images.
    #[serde(default)]
    pub images: BTreeMap<Name, Image>,
    /// What was read: the spans above are places in it.
    #[serde(skip)]
    pub(crate) files: Files,
}

/// Another file.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum Include {
    /// A path in the context.
    File(String),
    /// A file of a git repository.
    Git(GitInclude),
}

/// A file of a git repository, at a commit.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitInclude {
    /// The repository's address.
    pub git: Text,
    /// The commit, in full.
    pub commit: Text,
    /// The file's path in the repository.
    pub path: Text,
}

impl<'de> Deserialize<'de> for Include {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IncludeVisitor)
    }
}

/// An untagged enum would lose places, and say nothing of unknown keys.
struct IncludeVisitor;

impl<'de> serde::de::Visitor<'de> for IncludeVisitor {
    type Value = Include;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a path, or a table with git, commit and path")
    }

    fn visit_str<E>(self, text: &str) -> Result<Include, E> {
        Ok(Include::File(text.to_owned()))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Include, A::Error> {
        let deserializer = serde::de::value::MapAccessDeserializer::new(map);
        GitInclude::deserialize(deserializer).map(Include::Git)
    }
}

impl BuildFile {
    /// The names of its images.
    pub fn image_names(&self) -> impl Iterator<Item = &str> {
        self.images.keys().map(Name::as_str)
    }
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// What its values are; as the default, or the first choice, unless given; else a string.
    #[serde(rename = "type")]
    pub kind: Option<ParamType>,
    /// Its value unless another is given; without one, it must be given.
    pub default: Option<Placed<Scalar>>,
    /// The values that it may have.
    #[serde(default)]
    pub choices: Vec<Placed<Scalar>>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// What a parameter's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// A value of a parameter.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a string, an integer, or true or false"
)]
pub enum Scalar {
    /// `true` or `false`.
    Truth(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truth(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// Where files come from: exactly one of `context`, `image`, `git` and `http`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A folder, from the build context on.
    pub context: Option<Text>,
    /// Patterns of what alone is taken.
    #[serde(default)]
    pub include: Vec<Text>,
    /// Patterns of what is left out, as in `.dockerignore`.
    #[serde(default)]
    pub exclude: Vec<Text>,
    /// An image's name.
    pub image: Option<Text>,
    /// A git repository's address.
    pub git: Option<Text>,
    /// Branch, tag or commit.
    #[serde(rename = "ref")]
    pub reference: Option<Text>,
    /// A folder of the repository.
    pub subdir: Option<Text>,
    /// A file's address.
    pub http: Option<Text>,
    /// What the file is called; as the address says unless given.
    pub file: Option<Text>,
    /// The file's digest, or the start of the commit's.
    pub checksum: Option<Text>,
}

/// Something that is done in a root filesystem: files are copied, then a command is run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
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
    /// The working folder.
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
    /// Folders in memory, for the time of the command.
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
    /// Files that `--export` takes out of it, also when it fails.
    #[serde(default)]
    pub exports: Vec<Export>,
    /// What its standard output is, where `{{ steps.NAME.stdout }}` is used; a string unless given.
    pub output: Option<ParamType>,
    /// The step is made once for each combination of these values.
    #[serde(default)]
    pub matrix: BTreeMap<Name, Vec<Placed<Scalar>>>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
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
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The program that reads it, with its arguments.
    pub interpreter: Vec<Text>,
    /// Its text.
    pub text: Text,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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

/// A folder in memory.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Where it is mounted.
    pub target: Text,
    /// How much it may hold: `64MB`.
    pub size: Option<Text>,
}

/// What a command can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The step or source they come from; without it, `text` is the file's content.
    pub from: Option<Text>,
    /// Paths in it, with `*`, `?` and `[…]`; all of it unless given.
    #[serde(default)]
    pub paths: Vec<Text>,
    /// The content of a file.
    pub text: Option<Text>,
    /// Where to; a folder when it ends with a slash or there are several paths.
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
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Where it is mounted.
    pub target: Text,
    /// Its name; the target unless given.
    pub id: Option<Text>,
    /// `shared` (the default), `private` or `locked`.
    pub sharing: Option<SharingKind>,
    /// `UID[:GID]` of a new volume's folder; the step's user where that is a number, else root.
    pub owner: Option<Text>,
    /// A file of the context, such as a lock file: each version of it has a volume of its own, which
    /// begins as the newest of the others.
    pub key: Option<Text>,
}

/// How several steps use a volume at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The step or source.
    pub from: Text,
    /// The file or folder in it; all of it unless given.
    pub path: Option<Text>,
    /// Where it is mounted.
    pub target: Text,
}

/// Files that can be taken out of a step.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// What the command line calls them.
    pub name: Text,
    /// The file or folder.
    pub path: Text,
}

/// A secret.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The step whose files it has.
    pub from: Option<Text>,
    /// Tests that must pass; all unless given.
    pub tests: Option<Vec<Text>>,
    /// The program that a container runs.
    pub entrypoint: Option<Vec<Text>>,
    /// Its arguments.
    pub cmd: Option<Vec<Text>>,
    /// Variables of a container.
    #[serde(default)]
    pub env: BTreeMap<Name, Text>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<Name, Text>,
    /// `USER[:GROUP]`.
    pub user: Option<Text>,
    /// The working folder.
    pub workdir: Option<Text>,
    /// Ports: `8080`, `53/udp`.
    #[serde(default)]
    pub expose: Vec<Text>,
    /// Volumes of a container.
    #[serde(default)]
    pub volumes: Vec<Text>,
    /// The signal that stops a container.
    pub stop_signal: Option<Text>,
    /// How it is found out whether a container is well.
    pub healthcheck: Option<Healthcheck>,
    /// Layers by step or by path, lowest first.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// What it must keep to.
    pub policy: Option<Policy>,
}

/// What an image must keep to, or no image is made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whether it only warns.
    #[serde(default)]
    pub warn: bool,
    /// The most that all its layers may have, compressed: `300MB`.
    pub max_size: Option<Text>,
    /// The most that a layer may have, compressed.
    pub max_layer_size: Option<Text>,
    /// The most that files may have which are there more than once.
    pub max_duplicates: Option<Text>,
    /// Patterns of paths that must not be there.
    #[serde(default)]
    pub forbid: Vec<Text>,
}

/// How it is found out whether a container is well.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    /// The command.
    pub run: Run,
    /// The time between two checks.
    pub interval: Option<Text>,
    /// After how long a check has failed.
    pub timeout: Option<Text>,
    /// How long a container may take to start.
    pub start_period: Option<Text>,
    /// The time between two checks while it starts.
    pub start_interval: Option<Text>,
    /// After how many failures in a row a container isn't well.
    pub retries: Option<u32>,
}

/// A layer of an image: exactly one of `steps` and `paths`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Its name.
    pub name: Text,
    /// The steps whose changes are in it.
    #[serde(default)]
    pub steps: Vec<Text>,
    /// Patterns of the paths in it.
    #[serde(default)]
    pub paths: Vec<Text>,
}
