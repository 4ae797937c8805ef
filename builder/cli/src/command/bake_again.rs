//! The command that goes on after a target was not built.

use std::path::Path;

use kiln_graph::address::redact;

use super::again::{open, quoted};
use super::bake::BakeArgs;

/// A command line for the targets that are left, with the flags that the bake had.
pub(super) fn go_on<'a>(args: &BakeArgs, left: impl Iterator<Item = &'a String>) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut pair = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    for file in &args.files {
        pair("-f", file.display().to_string());
    }
    for set in &args.sets {
        pair("--set", open_set(set));
    }
    for entitlement in &args.allow {
        pair("--allow", entitlement.clone());
    }
    if let Some(file) = &args.metadata_file {
        pair("--metadata-file", file.display().to_string());
    }
    if args.progress != "auto" {
        pair("--progress", args.progress.clone());
    }
    for (flag, value) in [("--provenance", &args.provenance), ("--sbom", &args.sbom)] {
        words.extend(value.iter().map(|value| format!("{flag}={value}")));
    }
    for (flag, given) in [
        ("--push", args.push),
        ("--load", args.load),
        ("--pull", args.pull),
    ] {
        if given {
            words.push(flag.to_owned());
        }
    }
    words.extend(left.cloned());
    let mut line = "kiln bake".to_owned();
    for word in &words {
        line.push(' ');
        line.push_str(&quoted(word));
    }
    if args.files.iter().any(|file| file == Path::new("-")) {
        line.push_str(" < docker-bake.hcl");
    }
    redact(&line).into_owned()
}

/// What `--set` says, without credentials.
fn open_set(set: &str) -> String {
    let Some((key, value)) = set.split_once('=') else {
        return set.to_owned();
    };
    // The name of a build argument, or of an attribute.
    let at = key.rfind('.').map_or(0, |dot| dot + 1);
    let (before, name) = key.split_at(at);
    format!("{before}{}", open(&format!("{name}={value}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn a_bake_goes_on_with_what_is_left() {
        for (given, want) in [
            (&["bake"][..], "kiln bake app"),
            (&["bake", "app", "done", "--no-cache"], "kiln bake app"),
            (
                &["bake", "-f", "a b.hcl", "--push", "--set", "*.args.V=1"],
                "kiln bake -f 'a b.hcl' --set '*.args.V=1' --push app",
            ),
            (
                &["bake", "-f-", "--set=app.args.NPM_TOKEN=hunter2"],
                "kiln bake -f - --set 'app.args.NPM_TOKEN=***' app < docker-bake.hcl",
            ),
        ] {
            let words = ["kiln"].iter().chain(given);
            let Command::Bake(args) = Cli::try_parse_from(words).unwrap().command else {
                panic!("not a bake");
            };
            assert_eq!(go_on(&args, [&"app".to_owned()].into_iter()), want);
        }
    }
}
