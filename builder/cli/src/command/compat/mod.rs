//! What people type who know other builders: their commands and flags.

pub(crate) mod flags;
pub(crate) mod switch;
pub(crate) mod verbs;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use flags::{Answer, FLAGS, Takes};

/// Adds the flags of other builders that are accepted and change nothing to `kiln build`.
pub(crate) fn with_accepted_flags(command: Command) -> Command {
    command.mut_subcommand("build", |build| build.args(accepted()))
}

fn accepted() -> impl Iterator<Item = Arg> {
    let named = FLAGS.iter().flat_map(|flag| {
        let takes = match flag.answer {
            Answer::NoEffect(takes, _) => Some(takes),
            Answer::Says(_) => None,
        };
        let names = flag.names.iter().filter_map(|name| name.strip_prefix("--"));
        names.filter_map(move |name| Some((name, takes?)))
    });
    named.map(|(name, takes)| {
        let arg = Arg::new(name).long(name).hide(true);
        match takes {
            Takes::Optional => arg
                .action(ArgAction::Append)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            Takes::Value => arg.action(ArgAction::Append),
        }
    })
}

/// What is said, with `-D`, of accepted flags that change nothing.
pub(crate) fn notes(build: &clap::ArgMatches) -> Vec<String> {
    let given = |name: &&str| {
        name.strip_prefix("--").is_some_and(|id| {
            build.value_source(id) == Some(clap::parser::ValueSource::CommandLine)
        })
    };
    let unread = FLAGS
        .iter()
        .filter(|flag| matches!(flag.answer, Answer::NoEffect(..)));
    let names = unread.flat_map(|flag| flag.names.iter().copied().filter(given));
    names.filter_map(flags::sentence).collect()
}

/// The answer to a command line that clap refuses, when another tool would take it.
pub(crate) fn answer(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    match error.kind() {
        ErrorKind::UnknownArgument => flags::sentence(typed),
        ErrorKind::InvalidValue | ErrorKind::NoEquals if typed.starts_with("--layers") => {
            Some(LAYERS.to_owned())
        }
        _ => None,
    }
}

/// In buildah `--layers` is a switch for its cache.
pub(crate) const LAYERS: &str = "--layers PLAN says which changes go into which layer (named, per-step, per-stage, squash, flat, auto[:N] or a file); steps are always cached, so buildah's switch isn't needed";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn command() -> Command {
        with_accepted_flags(crate::command::Cli::command())
    }

    /// A command line with a flag, and a value where it may take one.
    fn parse(name: &str, value: Option<&str>) -> Result<clap::ArgMatches, clap::Error> {
        let flag = match value {
            Some(value) if name.starts_with("--") => vec![format!("{name}={value}")],
            Some(value) => vec![name.to_owned(), value.to_owned()],
            None => vec![name.to_owned()],
        };
        let words = ["kiln", "build"].map(str::to_owned).into_iter();
        command().try_get_matches_from(words.chain(flag).chain([".".to_owned()]))
    }

    #[test]
    fn every_flag_of_another_tool_is_accepted_or_answered_by_a_sentence() {
        for flag in FLAGS {
            for name in flag.names {
                match flag.answer {
                    Answer::NoEffect(takes, _) => {
                        let bare = (takes == Takes::Optional).then(|| parse(name, None));
                        assert!(bare.is_none_or(|bare| bare.is_ok()), "{name}");
                        let matches = parse(name, Some("1")).unwrap();
                        let (_, build) = matches.subcommand().unwrap();
                        assert_eq!(notes(build), [flags::sentence(name).unwrap()]);
                    }
                    Answer::Says(text) => {
                        let error = parse(name, None).expect_err(name);
                        let said = answer(&error).unwrap_or_else(|| panic!("{name}: {error}"));
                        assert!(said.contains(text) && said.contains(flag.tool), "{said}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_flag_of_kiln_is_taken_for_another_tools() {
        let command = crate::command::Cli::command();
        let build = command.find_subcommand("build").unwrap();
        for arg in build.get_arguments() {
            let long = arg.get_long().map(|long| format!("--{long}"));
            let short = arg.get_short().map(|short| format!("-{short}"));
            for name in long.into_iter().chain(short) {
                assert!(flags::find(&name).is_none(), "{name} is kiln's own");
            }
        }
    }

    #[test]
    fn layers_without_a_plan_says_what_plans_are() {
        let words = ["kiln", "build", "--layers"];
        let error = command().try_get_matches_from(words).unwrap_err();
        assert_eq!(answer(&error).as_deref(), Some(LAYERS), "{error}");
    }

    #[test]
    fn verbs_lead_to_commands_that_exist() {
        let command = command();
        for verb in verbs::VERBS {
            let verbs::Answer::Is(words) = verb.answer else {
                continue;
            };
            let mut at = &command;
            for word in words.iter().filter(|word| !word.starts_with('-')) {
                at = at
                    .find_subcommand(word)
                    .unwrap_or_else(|| panic!("{:?}: there is no {word}", verb.words));
            }
        }
    }
}
