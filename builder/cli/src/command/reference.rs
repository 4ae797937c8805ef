//! The whole command-line reference, as the help shows it and as a page of the documentation.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::help::FLAGS;

/// The width of the help in the snapshot, in columns.
const WIDTH: usize = 100;

/// A command and all below it, each with its full name.
fn all(command: &Command, path: &str) -> Vec<(String, Command)> {
    let own = match path {
        "" => command.get_name().to_owned(),
        path => format!("{path} {}", command.get_name()),
    };
    let below = command.get_subcommands();
    let below = below.filter(|sub| sub.get_name() != "help" && !sub.is_hide_set());
    let below: Vec<_> = below.flat_map(|sub| all(sub, &own)).collect();
    std::iter::once((own, command.clone()))
        .chain(below)
        .collect()
}

fn built() -> Command {
    let mut command = super::command().term_width(WIDTH);
    command.build();
    command
}

#[test]
fn help_of_every_command() {
    let mut text = String::new();
    for (name, command) in all(&built(), "") {
        let mut command = command.term_width(WIDTH);
        _ = writeln!(text, "===== {name}\n{}", command.render_help());
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_flag_says_what_it_does() {
    for (name, command) in all(&built(), "") {
        let silent = command.get_arguments();
        let silent = silent.filter(|arg| !arg.is_hide_set() && arg.get_help().is_none());
        let silent: Vec<_> = silent.map(|arg| arg.get_id().to_string()).collect();
        assert_eq!(silent, [""; 0], "{name}");
    }
}

/// `docs/src/commands.md`: all commands with their flags.
fn page() -> String {
    let mut out = "# Commands and flags\n\nMade from the command's own definitions; `kiln COMMAND --help` says the same.\n".to_owned();
    for (name, command) in all(&built(), "") {
        let about = command.get_about().map(ToString::to_string);
        let Some(about) = about.filter(|_| name != "kiln") else {
            continue;
        };
        let level = "#".repeat(name.split(' ').count().min(3));
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        _ = write!(out, "\n{level} {name}\n\n{about}.\n\n    {usage}\n");
        match name.as_str() {
            "kiln build" => grouped(&mut out, &command),
            _ => table(&mut out, "", command.get_arguments()),
        }
    }
    out
}

fn grouped(out: &mut String, build: &Command) {
    table(out, "", build.get_positionals());
    for (heading, ids) in FLAGS {
        let named = |id: &&str| build.get_arguments().find(move |arg| arg.get_id() == *id);
        table(out, heading, ids.iter().filter_map(named));
    }
}

fn table<'a>(out: &mut String, heading: &str, args: impl Iterator<Item = &'a Arg>) {
    let shown = |arg: &&Arg| !arg.is_hide_set() && arg.get_id() != "help";
    let rows: Vec<String> = args.filter(shown).map(row).collect();
    if rows.is_empty() {
        return;
    }
    if !heading.is_empty() {
        _ = write!(out, "\n### {heading}\n");
    }
    _ = write!(
        out,
        "\n| flag | meaning |\n|---|---|\n{}\n",
        rows.join("\n")
    );
}

fn row(arg: &Arg) -> String {
    let takes = arg.get_action().takes_values() || arg.is_positional();
    let values = arg.get_value_names().filter(|_| takes).unwrap_or_default();
    let values = values.join(" ");
    let short = arg.get_short().map(|short| format!("-{short}, "));
    let flag = match arg.get_long() {
        Some(long) => format!("{}--{long} {values}", short.unwrap_or_default()),
        None => values,
    };
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let default = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy());
    let default: Vec<_> = default.collect();
    if takes && !default.is_empty() && !arg.is_hide_default_value_set() {
        _ = write!(help, " (default: {})", default.join(","));
    }
    if let Some(variable) = arg.get_env() {
        _ = write!(help, " (variable: `{}`)", variable.display());
    }
    let cell = |text: &str| text.trim().replace('\n', " ").replace('|', "\\|");
    format!("| `{}` | {} |", cell(&flag), cell(&help))
}

#[test]
fn the_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/commands.md");
    let page = page();
    if std::env::var_os("KILN_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/src/commands.md isn't what the flags say: write it again with KILN_WRITE_DOCS=1 cargo test -p kiln-cli the_page_is_current"
    );
}
