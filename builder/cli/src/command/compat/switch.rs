//! Switches with a value, as Go's tools take them: `--push=true`, `--load=false`. A build script writes
//! `--push=$PUSH`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, Command};
use kiln_graph::parse_bool;

/// The same words with the switches of the command that they name as clap takes them: there, or not there.
/// Of a switch that is given several times the last one counts.
///
/// # Errors
/// A value that says neither yes nor no.
pub(crate) fn without_values(
    words: Vec<OsString>,
    command: &Command,
) -> Result<Vec<OsString>, String> {
    let mut at = command;
    let mut path = vec![command];
    let mut all: Vec<OsString> = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            all.push(word);
            all.extend(words);
            break;
        }
        if let Some(next) = subcommand(at, &word) {
            at = next;
            path.push(next);
            all.push(word);
            continue;
        }
        let Some((name, value)) = switch(&path, &word) else {
            all.push(word);
            continue;
        };
        let bare = format!("--{name}");
        all.retain(|earlier| *earlier != *bare);
        match parse_bool(value) {
            Some(true) => all.push(bare.into()),
            Some(false) => {}
            None => {
                return Err(format!(
                    "--{name}={value}: give {bare}, {bare}=true or {bare}=false"
                ));
            }
        }
    }
    Ok(all)
}

fn subcommand<'c>(at: &'c Command, word: &OsStr) -> Option<&'c Command> {
    at.find_subcommand(word.to_str()?)
}

/// The name of the switch that a word sets, and the value that it is given.
fn switch<'w>(path: &[&Command], word: &'w OsStr) -> Option<(&'w str, &'w str)> {
    let (name, value) = word.to_str()?.strip_prefix("--")?.split_once('=')?;
    let is_it = |arg: &&Arg| arg.get_long() == Some(name);
    let mut own = path
        .iter()
        .filter_map(|command| command.get_arguments().find(is_it));
    own.any(|arg| matches!(arg.get_action(), ArgAction::SetTrue))
        .then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn of(line: &str) -> Result<String, String> {
        let command = crate::command::Cli::command();
        let words = line.split(' ').map(OsString::from).collect();
        let words = without_values(words, &command)?;
        let texts = words.iter().map(|word| word.to_string_lossy().into_owned());
        Ok(texts.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn switches_take_yes_and_no() {
        for (typed, meant) in [
            ("build --push=true .", "build --push ."),
            ("build --push=T --load=0 .", "build --push ."),
            ("build --push=false .", "build ."),
            ("build --push --push=false .", "build ."),
            ("build --push=false --push .", "build --push ."),
            (
                "build --pull=false --label=a=true .",
                "build --pull=false --label=a=true .",
            ),
            (
                "build -t --push=true -- --load=true",
                "build -t --push -- --load=true",
            ),
            ("image ls --quiet=true", "image ls --quiet"),
            ("history --push=true", "history --push=true"),
        ] {
            assert_eq!(of(typed).as_deref(), Ok(meant), "{typed}");
        }
    }

    #[test]
    fn other_values_are_refused() {
        for typed in ["build --push= .", "build --no-cache=maybe ."] {
            let said = of(typed).unwrap_err();
            assert!(said.contains("=false"), "{typed}: {said}");
        }
    }
}
