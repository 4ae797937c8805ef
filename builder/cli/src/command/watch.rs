//! `kiln build --watch`: builds again whenever the context changes.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use kiln_engine::{Cancel, Engine};
use notify::{EventKind, RecursiveMode, Watcher as _};

use super::build_args::BuildArgs;
use super::signals::cancel_on_signals;
use super::{Failed, say};
use kiln::{ContextFrom, Error};

/// Changes that come within this time of each other are one.
const QUIET: Duration = Duration::from_millis(100);

/// What builds once.
pub(crate) type Build = fn(&Engine, &BuildArgs, &Cancel) -> Result<(), Failed>;

/// Builds until the user stops it.
pub(crate) fn run(engine: &Engine, args: &BuildArgs, build: Build) -> Result<(), Failed> {
    let ContextFrom::Directory(directory) = ContextFrom::from(args.source.context.as_str()) else {
        return Err(Error::Usage("--watch needs a context that is a directory".to_owned()).into());
    };
    let (send, changes) = channel::<()>();
    let changed = move |event: notify::Result<notify::Event>| {
        let counts = |event: &notify::Event| !matches!(event.kind, EventKind::Access(_));
        if event.as_ref().is_ok_and(counts) {
            _ = send.send(());
        }
    };
    let fail = |error: notify::Error| Error::Usage(format!("cannot watch the context: {error}"));
    // A link may lead to all of the machine's files, and what it leads to is no part of the context.
    let config = notify::Config::default().with_follow_symlinks(false);
    let mut watcher = notify::RecommendedWatcher::new(changed, config).map_err(fail)?;
    watcher
        .watch(&directory, RecursiveMode::Recursive)
        .map_err(fail)?;
    let stop = cancel_on_signals(engine);
    while !stop.is_cancelled() {
        build_until_changed(&|cancel| build(engine, args, cancel), &changes, &stop);
        say(&format!("watching {}", shown(&directory)));
        if !wait_for_change(&changes, &stop) {
            break;
        }
    }
    Ok(())
}

fn shown(directory: &Path) -> String {
    directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned())
        .display()
        .to_string()
}

/// Runs one build, which a change or the user stops; again after a change.
fn build_until_changed(
    build: &(dyn Fn(&Cancel) -> Result<(), Failed> + Sync),
    changes: &Receiver<()>,
    stop: &Cancel,
) {
    loop {
        let cancel = Cancel::new();
        let outdated = std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                if let Err(failed) = build(&cancel) {
                    say(&failed.text);
                }
            });
            let mut outdated = false;
            while !running.is_finished() {
                outdated |= changes.recv_timeout(QUIET).is_ok();
                if outdated || stop.is_cancelled() {
                    cancel.cancel();
                }
            }
            outdated
        });
        if !outdated || stop.is_cancelled() {
            return;
        }
        settle(changes);
    }
}

/// Whether there was a change before the user stopped.
fn wait_for_change(changes: &Receiver<()>, stop: &Cancel) -> bool {
    loop {
        match changes.recv_timeout(QUIET) {
            Ok(()) => {
                settle(changes);
                return true;
            }
            Err(RecvTimeoutError::Timeout) if !stop.is_cancelled() => {}
            Err(_) => return false,
        }
    }
}

fn settle(changes: &Receiver<()>) {
    while changes.recv_timeout(QUIET).is_ok() {}
}
