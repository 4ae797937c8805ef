//! What a build was asked for: the flags that choose what is built, read once. It is kept with the
//! build in the store, and `kiln shell` and `kiln explain --what-if` build the same from it.
//!
//! A field stands for one flag, and is named as the flag is. A flag without a field is not kept, so
//! that a new one can't bring a credential into the store; values that may have one are left out,
//! and `left-out` says of which flags. As JSON, version 1; unknown fields are ignored.

use std::path::PathBuf;

use kiln_graph::address::{names_a_credential, redact, redact_variable};
use serde::{Deserialize, Serialize};

use super::build::BuildArgs;
use super::source::{PullArg, SourceArgs};
use kiln::Error;

/// The version of the form that is written.
const VERSION: u32 = 1;

/// What a build was asked for, without credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct BuildPlan {
    version: u32,
    /// The directory that the paths below are relative to.
    pub(crate) directory: PathBuf,
    context: Option<String>,
    file: Option<PathBuf>,
    target: Option<String>,
    build_arg: Vec<String>,
    build_arg_file: Vec<PathBuf>,
    build_context: Vec<String>,
    platform: Vec<String>,
    timestamp: Option<i64>,
    no_cache_filter: Vec<String>,
    add_host: Vec<String>,
    ulimit: Vec<String>,
    shm_size: Option<u64>,
    volume_key: Vec<String>,
    locked: bool,
    no_lock: bool,
    #[serde(default)]
    foreign_contexts: bool,
    pull: PullArg,
    allow: Vec<String>,
    network: Option<String>,
    until: Option<String>,
    /// The target of a bake file that was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    bake_target: Option<String>,
    /// The build file that standard input gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    /// Flags that chose what was built, but whose values may hold a credential.
    left_out: Vec<String>,
}

impl BuildPlan {
    /// The plan of a build that is run in the current directory.
    pub(crate) fn of(args: &BuildArgs) -> Self {
        Self {
            network: args.network.clone(),
            until: args.until.clone(),
            ..Self::of_source(&args.source)
        }
    }

    /// The same, of the flags that all commands have which read a build file.
    pub(crate) fn of_source(source: &SourceArgs) -> Self {
        let mut left_out = Vec::new();
        let mut open = |flag: &str, values: &[String], is_open: fn(&str) -> bool| {
            let (kept, other): (Vec<_>, Vec<_>) =
                values.iter().cloned().partition(|value| is_open(value));
            // Only a flag's value has a name that says nothing.
            let name = |value: &String| match value.split_once('=') {
                Some((name, _)) if flag.starts_with("--") && is_address(name) => {
                    format!("{flag} {name}")
                }
                _ => flag.to_owned(),
            };
            left_out.extend(other.iter().map(name));
            kept
        };
        let context = open(
            "the context",
            std::slice::from_ref(&source.context),
            is_address,
        );
        Self {
            version: VERSION,
            directory: std::env::current_dir().unwrap_or_default(),
            context: context.into_iter().next(),
            file: source.file.clone(),
            target: source.target.clone(),
            build_arg: open("--build-arg", &source.build_args, is_variable),
            build_arg_file: source.build_arg_files.clone(),
            build_context: open("--build-context", &source.contexts, is_address),
            platform: source.platform.clone(),
            timestamp: source.timestamp,
            no_cache_filter: source.no_cache_filter.clone(),
            add_host: source.hosts.clone(),
            ulimit: source.ulimits.clone(),
            shm_size: source.shm_size,
            volume_key: source.volume_key.clone(),
            locked: source.locked,
            no_lock: source.no_lock,
            foreign_contexts: source.foreign_contexts,
            pull: source.pull,
            allow: source.allow.clone(),
            network: None,
            until: None,
            bake_target: source.bake_target.clone(),
            input: None,
            left_out,
        }
    }

    /// The same plan, with the build file that standard input gave.
    pub(crate) fn with_input(mut self, text: &str) -> Self {
        match is_text(text) {
            true => self.input = Some(text.to_owned()),
            false => self
                .left_out
                .push("a build file on standard input".to_owned()),
        }
        self
    }

    /// Reads what is kept with a build; `None` when another version of kiln wrote something else.
    pub(crate) fn read(kept: &serde_json::Value) -> Option<Self> {
        let plan: Self = serde_json::from_value(kept.clone()).ok()?;
        (plan.version == VERSION).then_some(plan)
    }

    /// The flags again.
    ///
    /// # Errors
    /// When some of them were not kept.
    pub(crate) fn args(&self) -> Result<BuildArgs, Error> {
        if !self.left_out.is_empty() {
            return Err(Error::Usage(format!(
                "the last build was given {}, which may hold a credential and is not kept: give the build's flags again",
                self.left_out.join(", ")
            )));
        }
        let mut args = BuildArgs::without_flags()?;
        args.network.clone_from(&self.network);
        args.until.clone_from(&self.until);
        let source = &mut args.source;
        if let Some(context) = &self.context {
            source.context.clone_from(context);
        }
        source.file.clone_from(&self.file);
        source.target.clone_from(&self.target);
        source.build_args.clone_from(&self.build_arg);
        source.build_arg_files.clone_from(&self.build_arg_file);
        source.contexts.clone_from(&self.build_context);
        source.platform.clone_from(&self.platform);
        source.timestamp = self.timestamp;
        source.no_cache_filter.clone_from(&self.no_cache_filter);
        source.hosts.clone_from(&self.add_host);
        source.ulimits.clone_from(&self.ulimit);
        source.shm_size = self.shm_size;
        source.volume_key.clone_from(&self.volume_key);
        source.locked = self.locked;
        source.no_lock = self.no_lock;
        source.foreign_contexts = self.foreign_contexts;
        source.pull = self.pull;
        source.allow.clone_from(&self.allow);
        source.bake_target.clone_from(&self.bake_target);
        source.input.clone_from(&self.input);
        if source.input.is_none() && !source.can_be_read_again() {
            return Err(Error::Usage(
                "the last build read standard input, which is not kept: give the build's files by their names".to_owned(),
            ));
        }
        Ok(args)
    }
}

/// Whether an address, or a name with one, has nothing to hide.
fn is_address(text: &str) -> bool {
    redact(text) == text
}

/// The same of a variable.
fn is_variable(text: &str) -> bool {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    is_address(text) && redact_variable(name, value) == value
}

/// The same of a build file: of its addresses, and of what looks like a variable in it.
pub(super) fn is_text(text: &str) -> bool {
    // What a command or another variable gives, as `$(cat /run/secrets/token)` does, is no credential itself.
    let is_computed = |word: &str| {
        let value = word.split_once('=').map(|(_, value)| value);
        value.is_some_and(|value| value.trim_start_matches('"').starts_with('$'))
    };
    let has_credential = |line: &str| {
        let mut words = line.split_whitespace();
        let is_old_form = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("env"))
            && words
                .next()
                .is_some_and(|name| !name.contains('=') && names_a_credential(name));
        let mut words = line.split_whitespace();
        is_old_form
            || !words.all(|word| is_variable(word) || (is_computed(word) && is_address(word)))
    };
    !text.lines().any(has_credential)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Cli, Command};
    use clap::{CommandFactory as _, Parser as _};

    fn parsed(words: &[&str]) -> BuildArgs {
        let words = ["kiln", "build"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Build(args) => *args,
            _ => panic!("not a build"),
        }
    }

    /// What becomes of a plan on its way through the store.
    fn kept(words: &[&str]) -> BuildPlan {
        let plan = BuildPlan::of(&parsed(words));
        let text = serde_json::to_string(&plan).unwrap();
        let again = BuildPlan::read(&serde_json::from_str(&text).unwrap());
        assert_eq!(again.as_ref(), Some(&plan));
        plan
    }

    #[test]
    fn a_build_can_be_asked_for_again() {
        let words = [
            "dir",
            "--target=a",
            "--build-arg",
            "V=1",
            "--build-arg",
            "NPM_TOKEN",
            "--build-arg-file",
            "args",
            "--pull",
            "--platform",
            "linux/amd64,linux/arm64",
            "--build-context",
            "x=oci-archive:y",
            "--network",
            "none",
            "--no-cache-filter",
            "a,b",
            "--timestamp=7",
            "--until",
            "b",
            "--allow",
            "network.host",
            "--no-cache",
            "-t",
            "a:b",
        ];
        let kept = kept(&words);
        assert_eq!(kept.left_out, [""; 0]);
        let (again, own) = (kept.args().unwrap(), parsed(&words));
        assert_eq!(again.source, own.source);
        assert_eq!((again.network, again.until), (own.network, own.until));
    }

    #[test]
    fn what_standard_input_gave_is_kept_unless_it_may_hold_a_credential() {
        let of = |words: &[&str], text: &str| BuildPlan::of(&parsed(words)).with_input(text);
        let text = "FROM a AS b\nENV A=b\nRUN --mount=type=secret,id=token B=c sh\n";
        for words in [&["-"][..], &["-f", "-", "."]] {
            let again = of(words, text).args().unwrap();
            assert_eq!(again.source.input.as_deref(), Some(text));
            // Nothing is read from the standard input of another command.
            let error = BuildPlan::of(&parsed(words)).args().unwrap_err();
            assert!(error.to_string().contains("standard input"), "{error}");
        }
        for line in [
            "ENV NPM_TOKEN=hunter2",
            "env NPM_TOKEN hunter2",
            "ADD https://u:hunter2@h/a /",
            "RUN HTTP_PROXY=u:hunter2@p:1 sh",
        ] {
            let plan = of(&["-"], &format!("FROM a\n{line}\n"));
            let text = serde_json::to_string(&plan).unwrap();
            assert!(!text.contains("hunter2"), "{text}");
            assert!(plan.args().is_err(), "{line}");
        }
    }

    #[test]
    fn forms_of_other_versions_are_ignored() {
        let read = |text: &str| BuildPlan::read(&serde_json::from_str(text).unwrap());
        assert!(read(r#"{"version":1,"directory":"/","novel":[]}"#).is_some());
        assert_eq!(read(r#"{"version":2,"directory":"/"}"#), None);
        assert_eq!(read(r#"{"folder":"/","flags":[]}"#), None);
        assert_eq!(read("7"), None);
    }

    #[test]
    fn credentials_are_not_kept() {
        const VALUE: &str = "hunter2";
        let long = |name: &str| {
            Cli::command()
                .find_subcommand("build")
                .is_some_and(|build| {
                    build
                        .get_arguments()
                        .any(|arg| arg.get_long() == Some(name))
                })
        };
        let all = [
            ("", "https://u:hunter2@h/a.git"),
            ("", "https://h/a.tar?sig=hunter2"),
            ("", "https://u:hunter2@h/a.tar?sig=x"),
            ("build-context", "https://u:hunter2@h/a.git"),
            ("build-arg", "NPM_TOKEN=hunter2"),
            ("build-arg", "HTTP_PROXY=http://u:hunter2@p"),
            ("build-arg", "https_proxy=u:hunter2@p:1"),
            ("build-arg", "INDEX=https://hunter2@h/simple"),
            ("build-context", "x=https://hunter2@h/a.git"),
            ("secret", "id=a,src=exec:print hunter2"),
            ("secret", "id=a,env=hunter2"),
            ("ssh", "default=hunter2"),
            (
                "cache-to",
                "type=s3,bucket=b,access_key_id=a,secret_access_key=hunter2",
            ),
            (
                "cache-from",
                "type=s3,bucket=b,access_key_id=a,secret_access_key=b,session_token=hunter2",
            ),
            (
                "cache-to",
                "type=reapi,url=grpc://h,header=authorization:hunter2",
            ),
            ("cache-to", "type=gha,token=hunter2,ghtoken=hunter2"),
            ("cache-trust", "hunter2"),
            ("cache-sign-key", "hunter2"),
            ("creds", "user:hunter2"),
            ("creds", "r.example=user:hunter2"),
            ("authfile", "hunter2"),
            ("label", "a=hunter2"),
            ("annotation", "a=hunter2"),
            ("env", "a=hunter2"),
            ("output", "type=oci,dest=hunter2"),
            ("tag", "u:hunter2@h"),
        ];
        for (name, value) in all {
            let word = match name {
                "" => value.to_owned(),
                name => format!("--{name}={value}"),
            };
            assert!(
                name.is_empty() || long(name),
                "--{name} is gone: change this list"
            );
            let text = serde_json::to_string(&kept(&[&word])).unwrap();
            assert!(!text.contains(VALUE), "{word}: {text}");
        }
    }
}
