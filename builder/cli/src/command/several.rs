//! `kiln build` of several images of a kiln.toml: one after another, all looked at before the first.

use std::collections::BTreeMap;

use super::build::BuildArgs;
use super::ready::{Plan, Ready, Session};
use super::{Failed, result, say};
use crate::display;
use kiln::output::Output;
use kiln::{Error, Opened};

/// Builds these targets.
pub(super) fn build(
    session: &Session<'_>,
    args: &BuildArgs,
    targets: &[Option<String>],
    opened: &Opened,
) -> Result<(), Failed> {
    let names: Vec<&str> = targets.iter().flatten().map(String::as_str).collect();
    check(args, &names)?;
    let ready = names.iter().map(|name| ready(session, args, name, opened));
    let ready: Vec<Ready> = ready.collect::<Result<_, _>>()?;
    check_tags(&names, &ready)?;
    let mut results = BTreeMap::new();
    for (name, ready) in names.iter().zip(ready) {
        if !args.quiet && args.progress.is_for_people() {
            say(&format!("==> {name}"));
        }
        if display::is_for_program() {
            display::event("image", &serde_json::json!({ "name": name }));
        }
        let outcome = ready.build(session)?;
        results.insert(*name, result::metadata(&outcome));
    }
    if let Some(path) = &args.metadata_file {
        result::write_metadata(path, &results)?;
    }
    Ok(())
}

fn ready(
    session: &Session<'_>,
    args: &BuildArgs,
    name: &str,
    opened: &Opened,
) -> Result<Ready, Failed> {
    let mut own = args.clone();
    own.source.target = Some(name.to_owned());
    own.one_of_several = true;
    let plan = Plan::read(&own)?;
    let asked = session.request(&own, &plan)?;
    session.compile(&own, plan, opened, asked)
}

/// Flags that can only be about one image.
fn check(args: &BuildArgs, names: &[&str]) -> Result<(), Error> {
    let named = |output: &Output| !output.names().is_empty() || output.dest().is_some();
    let flags = [
        ("-t", !args.tags.is_empty()),
        ("-o", args.outputs()?.iter().any(named)),
        ("--iidfile", args.iidfile.is_some()),
        ("--export", !args.exports.is_empty()),
        ("--from", args.from.is_some()),
        ("--until", args.until.is_some()),
    ];
    match flags.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => Err(Error::Usage(format!(
            "{flag} is about one image, and these are {}: choose one with --target",
            names.join(", ")
        ))),
    }
}

/// Two images under one name would leave only the last.
fn check_tags(names: &[&str], ready: &[Ready]) -> Result<(), Error> {
    let mut owners = BTreeMap::new();
    for (name, ready) in names.iter().zip(ready) {
        for tag in &ready.plan.tags {
            if let Some(other) = owners.insert(tag.to_string(), *name) {
                return Err(Error::Usage(format!(
                    "the images {other} and {name} have the same tag, {tag}: give each its own"
                )));
            }
        }
    }
    Ok(())
}
