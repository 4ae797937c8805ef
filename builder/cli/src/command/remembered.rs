//! What is remembered of a `kiln build`, for `kiln shell` and `kiln explain --what-if`.
//!
//! Only flags that choose what is built are kept, each by name: a flag that isn't listed here is not
//! kept, so that a new one can't bring a credential into the store. Values that have one are left out.

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, Parser as _};
use kiln_cache::{BuildCommand, BuildFlag};
use kiln_graph::address::{redact, redact_variable};

use super::build::BuildArgs;
use super::{Cli, Command};
use kiln::Error;

/// Flags without credentials.
const PLAIN: &[&str] = &[
    "file",
    "target",
    "platform",
    "no_cache_filter",
    "hosts",
    "ulimits",
    "shm_size",
    "volume_key",
    "locked",
    "no_lock",
    "pull",
    "allow",
    "network",
    "until",
];
/// Flags with addresses.
const ADDRESSES: &[&str] = &["context", "contexts"];
/// Flags with variables: `NAME=VALUE`.
const VARIABLES: &[&str] = &["build_args"];

/// What is remembered of this process's command.
pub(super) fn remember() -> BuildCommand {
    of(std::env::args_os().collect())
}

fn of(words: Vec<std::ffi::OsString>) -> BuildCommand {
    let mut kept = BuildCommand {
        folder: std::env::current_dir().unwrap_or_default(),
        ..BuildCommand::default()
    };
    let cli = Cli::command();
    let Ok(matches) = cli.clone().try_get_matches_from(words) else {
        return kept;
    };
    let Some(("build", matches)) = matches.subcommand() else {
        return kept;
    };
    let build = cli.find_subcommand("build").into_iter();
    for arg in build.flat_map(clap::Command::get_arguments) {
        let id = arg.get_id().as_str();
        let given = || matches.value_source(id) == Some(ValueSource::CommandLine);
        if !is_kept(id) || !given() {
            continue;
        }
        let name = arg.get_long().unwrap_or_default();
        match arg.get_action().takes_values() {
            true => values(&mut kept, id, name, matches),
            false => kept.flags.push(BuildFlag {
                name: name.to_owned(),
                value: None,
            }),
        }
    }
    kept
}

fn is_kept(id: &str) -> bool {
    [PLAIN, ADDRESSES, VARIABLES].concat().contains(&id)
}

fn values(kept: &mut BuildCommand, id: &str, name: &str, matches: &ArgMatches) {
    for value in matches.get_raw(id).into_iter().flatten() {
        let value = value.to_string_lossy();
        let (variable, content) = value.split_once('=').unwrap_or((&value, ""));
        let is_open = match id {
            id if VARIABLES.contains(&id) => redact_variable(variable, content) == content,
            id if ADDRESSES.contains(&id) => redact(&value) == value,
            _ => true,
        };
        if is_open {
            kept.flags.push(BuildFlag {
                name: name.to_owned(),
                value: Some(value.into_owned()),
            });
            continue;
        }
        kept.left_out.push(match (name, id) {
            ("", _) => "the context".to_owned(),
            (name, _) => format!("--{name} {variable}"),
        });
    }
}

/// The flags of a build that is remembered; nothing when they aren't understood any more.
///
/// # Errors
/// When some of them were not kept.
pub(super) fn flags(command: &BuildCommand) -> Result<Option<Box<BuildArgs>>, Error> {
    if !command.left_out.is_empty() {
        return Err(Error::Usage(format!(
            "the last build was given {}, which may hold a credential and is not kept: give the build's flags again",
            command.left_out.join(", ")
        )));
    }
    let word = |flag: &BuildFlag| match (flag.name.as_str(), &flag.value) {
        ("", value) => value.clone().unwrap_or_default(),
        (name, Some(value)) => format!("--{name}={value}"),
        (name, None) => format!("--{name}"),
    };
    let words = ["kiln", "build"].map(str::to_owned).into_iter();
    let (flags, context): (Vec<_>, Vec<_>) =
        command.flags.iter().partition(|flag| !flag.name.is_empty());
    let words = words.chain(flags.into_iter().map(word));
    let words = words
        .chain(["--".to_owned()])
        .chain(context.into_iter().map(word));
    Ok(parsed(words))
}

/// The flags of a build without any.
pub(super) fn no_flags() -> Option<Box<BuildArgs>> {
    parsed(["kiln", "build"].map(str::to_owned).into_iter())
}

fn parsed(words: impl Iterator<Item = String>) -> Option<Box<BuildArgs>> {
    match Cli::try_parse_from(words).ok()?.command {
        Command::Build(build) => Some(build),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(words: &[&str]) -> BuildCommand {
        let words = ["kiln", "build"].iter().chain(words);
        of(words.map(Into::into).collect())
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
            "--pull",
            "--platform",
            "linux/amd64,linux/arm64",
            "--build-context",
            "x=oci-archive:y",
            "--network",
            "none",
            "--no-cache",
            "-t",
            "a:b",
        ];
        let kept = remembered(&words);
        assert_eq!(kept.left_out, [""; 0]);
        let again = flags(&kept).unwrap().unwrap();
        let own = parsed(
            ["kiln", "build"]
                .iter()
                .chain(&words)
                .map(|w| (*w).to_owned()),
        );
        assert_eq!(again.source, own.unwrap().source);
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
            ("cache-trust", "hunter2"),
            ("cache-sign-key", "hunter2"),
            ("otlp-endpoint", "http://u:hunter2@h"),
            ("label", "a=hunter2"),
            ("annotation", "a=hunter2"),
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
            let kept = remembered(&[&word]);
            let text = serde_json::to_string(&kept).unwrap();
            assert!(!text.contains(VALUE), "{word}: {text}");
        }
    }
}
