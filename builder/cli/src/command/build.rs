//! `kiln build`.

use std::cell::Cell;

use kiln_engine::{Cancel, Engine};

pub(crate) use super::build_args::BuildArgs;
use super::ready::{Plan, Session};
use super::signals::cancel_on_signals;
use super::{Failed, config, say};
use crate::display::{self, Style};

/// Runs `kiln build`.
pub(crate) fn run(args: &BuildArgs) -> Result<(), Failed> {
    if !args.quiet && args.progress.resolve() == Style::Rawjson {
        display::speak_json();
    }
    let isolation = Some(args.isolation()?);
    let engine = args.source.open(isolation, &args.registries()?)?;
    if args.watch {
        return super::watch::run(&engine, args, run_once);
    }
    run_once(&engine, args, &cancel_on_signals(&engine))
}

/// Builds once; once more when that showed damage in the store, which is removed before.
fn run_once(engine: &Engine, args: &BuildArgs, cancel: &Cancel) -> Result<(), Failed> {
    let damage = Cell::new(false);
    match attempt(engine, args, cancel, &damage) {
        Err(failed) if damage.get() && args.source.can_be_read_again() => {
            let found = engine.store().fsck(true)?.damaged;
            if found.is_empty() {
                return Err(failed);
            }
            say(&failed.text);
            for damage in &found {
                say(&format!(
                    "removed {}: {}",
                    damage.path.display(),
                    damage.reason
                ));
            }
            say("building again what was damaged in the store");
            attempt(engine, args, cancel, &damage)
        }
        done => done,
    }
}

/// `damage` is told whether something in the store may be damaged.
fn attempt(
    engine: &Engine,
    args: &BuildArgs,
    cancel: &Cancel,
    damage: &Cell<bool>,
) -> Result<(), Failed> {
    let plan = Plan::read(args)?;
    let session = Session::new(engine, cancel, damage);
    let asked = session.request(args, &plan)?;
    if let Some(call) = args.call()? {
        return super::call::answer(call, engine, asked.request);
    }
    args.say_build_file();
    let opened = session.open(&asked.request)?;
    if !opened.is_toml() {
        plan.check_names()?;
    }
    let wanted = opened.wanted(engine, &asked.request);
    let wanted = wanted.map_err(|at| Failed::of(&at.0, &at.1))?;
    match wanted.len() {
        0 | 1 => {
            let ready = session.compile(args, plan, &opened, asked)?;
            _ = ready.build(&session)?;
        }
        _ => super::several::build(&session, args, &wanted, &opened)?,
    }
    if let Some(policy) = config()?.gc.options()? {
        engine.store().prune_by_policy(&policy)?;
    }
    Ok(())
}
