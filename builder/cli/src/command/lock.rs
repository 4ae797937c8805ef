//! `kiln lock`: pins what can change.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use kiln_engine::Engine;
use kiln_tree::host;

use super::source::SourceArgs;
use super::{Failed, print, say};
use crate::display::{Style, display};
use kiln::lock::{Lock, Locker, Open, beside, changes};
use kiln::{ContextFrom, DockerfileRequest, Error, Secrets};
use kiln::{Located, Opened, open_build_file};

/// The flags of `kiln lock`.
#[derive(Args, Debug)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Ask again for what is locked, or only for NAME: an image's name, a file's address, a
    /// repository's address with #BRANCH (repeatable)
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    update: Vec<String>,
    /// Change nothing, and fail if something is missing
    #[arg(long)]
    check: bool,
    /// A secret for steps that run while the file is read, as in kiln build (repeatable)
    #[arg(long = "secret", value_name = "SPEC")]
    secrets: Vec<String>,
}

/// Runs `kiln lock`.
pub(crate) fn run(args: &LockArgs) -> Result<(), Failed> {
    let request = request(args)?;
    let engine = args.source.open(None, &[])?;
    let opened = open_build_file(&engine, &request)?;
    let path = beside(&opened.path);
    let before = opened.lock()?;
    let mut kept = before.clone();
    for name in &args.update {
        kept.forget(name).map_err(Error::Usage)?;
    }
    let open = match args.check {
        true => Open::Refuse,
        false => Open::Learn,
    };
    let locker = Locker::new(kept.clone(), open);
    look_at_all(&engine, &opened, request, &locker)?;
    if args.check {
        say(&format!("{} has all that can change", path.display()));
        return Ok(());
    }
    let mut after = locker.into_used();
    after.keep_signatures(&before);
    // What other arguments or platforms ask for stays, until all is asked for again.
    if !args.update.iter().any(String::is_empty) {
        after.add(kept);
    }
    write(&path, &before, &after)?;
    Ok(())
}

fn request(args: &LockArgs) -> Result<DockerfileRequest, Error> {
    let mut request = args.source.request()?;
    if !args.check && !matches!(request.context, ContextFrom::Directory(_)) {
        let text = "the lock is written beside the build file: give a directory of this machine";
        return Err(Error::Usage(text.to_owned()));
    }
    let mut secrets = Secrets::default();
    for text in &args.secrets {
        secrets.add(text)?;
    }
    let secrets = Arc::new(secrets);
    request.events = Some(display(Style::Auto));
    request.secrets = Some(secrets.clone());
    request.configure = Some(Arc::new(move |build| {
        build.secrets = secrets.clone();
        Ok(())
    }));
    Ok(request)
}

/// Compiles all that the file can build, and finds out what is open.
fn look_at_all(
    engine: &Engine,
    opened: &Opened,
    mut request: DockerfileRequest,
    locker: &Locker,
) -> Result<(), Failed> {
    let failed = |at: Located| Failed::of(&at.0, &at.1);
    let targets = match &request.options.target {
        Some(target) => vec![Some(target.clone())],
        None => opened.targets(engine, &request).map_err(failed)?,
    };
    for target in targets {
        request.options.target = target;
        _ = opened.compile(engine, &request, locker).map_err(failed)?;
    }
    Ok(())
}

/// Writes the lock, if it is another one, and says what changed.
fn write(path: &Path, before: &Lock, after: &Lock) -> Result<(), Error> {
    let changes = changes(before, after);
    if changes.is_empty() {
        say(&format!("{} stays as it is", path.display()));
        return Ok(());
    }
    host::replace(path, |file| file.write_all(after.text().as_bytes()))
        .map_err(Error::file("write", path))?;
    for change in &changes {
        print(&format!("{change}\n"));
    }
    Ok(())
}
