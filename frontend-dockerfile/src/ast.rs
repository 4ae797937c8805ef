//! The syntax tree of a Dockerfile. Words are as written, variables in them not yet expanded.

use std::sync::Arc;

use kiln_graph::Location;

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The `escape` character: `\` unless the directive says otherwise.
    pub escape: char,
    /// `# key=value` lines before everything else, names in lower case.
    pub directives: Vec<Directive>,
    /// All instructions in order.
    pub instructions: Vec<Instruction>,
    /// The last lines of instructions with a continuation followed by nothing.
    pub empty_continuations: Vec<Location>,
    /// Every comment, also those inside of continued instructions.
    pub comments: Vec<Comment>,
    /// The file as it was read, without a byte order mark.
    pub text: Arc<str>,
}

impl Dockerfile {
    /// The default, as it is written, of an argument that is declared before the first FROM.
    #[must_use]
    pub fn global_arg(&self, name: &str) -> Option<&str> {
        let before = self.instructions.iter();
        let args = before.map_while(|instruction| match &instruction.kind {
            Kind::Arg(args) => Some(args),
            _ => None,
        });
        let named = args.flatten().filter(|(known, _)| known == name);
        named.last()?.1.as_deref()
    }
}

/// A comment line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Its text without `#` and the blanks around it.
    pub text: String,
    /// Its line; the column is that of the `#`.
    pub location: Location,
}

/// A parser directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Its name in lower case.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where.
    pub location: Location,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it says.
    pub kind: Kind,
    /// The keyword as written.
    pub keyword: String,
    /// The whole text, continuations joined, without here-documents.
    pub text: String,
    /// Where.
    pub location: Location,
    /// The comment lines above, without `#`; an empty one parts what is above it.
    pub comments: Vec<String>,
}

impl Instruction {
    /// What the comment above says of `name`: `# NAME what it is`.
    #[must_use]
    pub fn description(&self, name: &str) -> Option<&str> {
        if name.is_empty() {
            return None;
        }
        let mut about = self.comments.iter().filter_map(|comment| {
            let rest = comment.strip_prefix(name)?;
            rest.strip_prefix(' ')
        });
        about.next()
    }
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are those of the Dockerfile reference"
)]
pub enum Kind {
    Add(Copy),
    Arg(Vec<(String, Option<String>)>),
    Cmd(Command),
    Copy(Copy),
    Entrypoint(Command),
    Env(Pairs),
    Expose(Vec<String>),
    From(From),
    Healthcheck(Healthcheck),
    Label(Pairs),
    Maintainer(String),
    Onbuild(String),
    Run(Box<Run>),
    Shell(Vec<String>),
    Stopsignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// `KEY=VALUE …`, or the old `KEY VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Names and values.
    pub pairs: Vec<(String, String)>,
    /// Whether it is the old form.
    pub legacy: bool,
}

/// A command in either form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A text for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// Whether variables in the text are expanded: the delimiter was not quoted.
    pub expand: bool,
    /// Whether leading tabs are dropped: `<<-`.
    pub chomp: bool,
    /// The text as it stands in the file, with its tabs.
    pub content: String,
}

/// `FROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// `--platform`.
    pub platform: Option<String>,
    /// The image or stage.
    pub image: String,
    /// The stage's name as written.
    pub name: Option<String>,
    /// The word between image and name as written.
    pub as_keyword: Option<String>,
}

impl From {
    /// What other instructions call the stage: names are in lower case, however they are written.
    #[must_use]
    pub fn stage_name(&self) -> Option<String> {
        self.name.as_ref().map(|name| name.to_lowercase())
    }
}

/// `COPY` and `ADD`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Copy {
    /// `--from`.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, each.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
    /// Sources without here-documents.
    pub sources: Vec<String>,
    /// Here-documents.
    pub heredocs: Vec<Heredoc>,
    /// Destination.
    pub dest: String,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// `--mount`, each.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Option<String>,
    /// `--security`.
    pub security: Option<String>,
    /// `--device`, each.
    pub devices: Vec<String>,
    /// The command; for a shell command with here-documents the first line.
    pub command: Command,
    /// Here-documents.
    pub heredocs: Vec<Heredoc>,
}

/// `--mount`, with variables not yet expanded.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Mount {
    /// Names as written, and values where they have one.
    pub fields: Vec<(String, Option<String>)>,
}

impl Mount {
    /// The tree that is mounted, where it isn't the context.
    #[must_use]
    pub fn from(&self) -> Option<&str> {
        let fields = self.fields.iter().rev();
        let mut named = fields.filter(|(name, _)| name.eq_ignore_ascii_case("from"));
        named.find_map(|(_, value)| value.as_deref().filter(|value| !value.is_empty()))
    }
}

/// `HEALTHCHECK`; times in nanoseconds, 0 where not given.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "the names are those of the Dockerfile reference"
)]
pub struct Healthcheck {
    /// `None` for `NONE`.
    pub command: Option<Command>,
    pub interval: i64,
    pub timeout: i64,
    pub start_period: i64,
    pub start_interval: i64,
    pub retries: i64,
}
