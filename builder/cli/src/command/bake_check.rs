//! What is wrong with the builds of targets, found before the first one: by the time of a later one,
//! earlier ones may be pushed.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use kiln::{ContextFrom, DockerfileRequest, Error, output};

use super::build_args::BuildArgs;
use super::{Command, Failed, Unusable, cache_spec};

/// Reads the words for a target's build as the build will. What lies below the places `made` is written by
/// targets before it.
pub(super) fn check(name: &str, words: &[String], made: &[PathBuf]) -> Result<(), Failed> {
    let checked = read(words).and_then(|args| match args {
        Some(args) => of_build(&args, made).map_err(Failed::from),
        None => Ok(()),
    });
    checked.map_err(|mut failed| {
        let text = format!("\nERROR: the target {name} can't be built; none was");
        failed.text.push_str(&text);
        failed
    })
}

fn read(words: &[String]) -> Result<Option<Box<BuildArgs>>, Failed> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    match super::parse(words) {
        Ok((cli, _)) => Ok(match cli.command {
            Command::Build(args) => Some(args),
            _ => None,
        }),
        Err(unusable) => Err(Failed {
            text: match unusable {
                Unusable::Answered(text) => format!("ERROR: {text}"),
                Unusable::Clap(error) => error.to_string().trim_end().to_owned(),
            },
            status: 2,
        }),
    }
}

fn of_build(args: &BuildArgs, made: &[PathBuf]) -> Result<(), Error> {
    let (names, outputs) = (args.names()?, args.outputs()?);
    args.check_places(&outputs)?;
    _ = args.image_options()?;
    for (flag, specs) in [
        ("--cache-from", &args.cache_from),
        ("--cache-to", &args.cache_to),
    ] {
        for spec in specs {
            _ = cache_spec::read(flag, spec)?;
        }
    }
    if made.is_empty() {
        _ = args.secrets()?;
    }
    let file = build_file(&args.source.request()?, made)?;
    // A kiln.toml may have names itself.
    let is_toml = file.is_some_and(|file| file.extension().is_some_and(|end| end == "toml"));
    match args.call()? {
        None if !is_toml => output::check_names(&outputs, &names),
        _ => Ok(()),
    }
}

/// The build file, which has to be there; in a context that isn't here yet, nobody knows.
fn build_file(request: &DockerfileRequest, made: &[PathBuf]) -> Result<Option<PathBuf>, Error> {
    let context = match &request.context {
        ContextFrom::Directory(context) if context.is_dir() => context,
        _ => return Ok(request.file.clone()),
    };
    let Some(file) = &request.file else {
        if is_made(context, made) {
            return Ok(None);
        }
        let found = kiln::build_file_in(context);
        let missing = || Error::NoBuildFile {
            context: context.clone(),
        };
        return found.ok_or_else(missing).map(Some);
    };
    let is_lower = file.ends_with("Dockerfile") && file.with_file_name("dockerfile").exists();
    if file != Path::new("-") && !is_lower && !is_made(file, made) {
        _ = std::fs::metadata(file).map_err(Error::file("read", file))?;
    }
    Ok(Some(file.clone()))
}

/// Whether a path may be written by a target before.
fn is_made(path: &Path, made: &[PathBuf]) -> bool {
    let path = place(path);
    path.is_ok_and(|path| made.iter().any(|place| path.starts_with(place)))
}

/// A path from the root on, without `..`, by its words alone: what it leads to may not be there yet.
pub(super) fn place(path: &Path) -> std::io::Result<PathBuf> {
    let mut place = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => _ = place.pop(),
            part => place.push(part),
        }
    }
    Ok(place)
}
