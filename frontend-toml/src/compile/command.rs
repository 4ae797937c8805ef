//! `run` and `script`: commands.

use std::collections::BTreeMap;

use kiln_graph::{Exec, FileAction, Files, ImagePath, Input, Network, Op, Security, StepId};

use super::compiler::Compiler;
use super::step::Work;
use crate::error::Wrong;
use crate::model::{NetworkKind, Run};
use crate::text::{Name, Text};
use crate::time;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a script's text is mounted.
pub(super) const SCRIPT: &str = "/dev/kiln-script";

impl<'a> Compiler<'a> {
    pub(super) fn command(&mut self, work: &mut Work<'a, '_>) -> Result<(), Wrong> {
        let (args, shown, place) = words(work)?;
        let directory = work.directory()?;
        // The base's user and directory, before the working directory is a step of its own.
        let mut others = Vec::new();
        let mounts = self.mounts(work, &directory, &mut others)?;
        let exec = Exec {
            root: Input(0),
            args,
            env: env(work)?,
            proxy: self.proxies(),
            cwd: directory.clone(),
            user: work.user()?,
            mounts,
            network: match work.step.network {
                Some(NetworkKind::None) => Network::None,
                Some(NetworkKind::Host) => Network::Host,
                Some(NetworkKind::Sandbox) => Network::Sandbox,
                None => Network::Default,
            },
            security: Security::Sandbox,
            hostname: None,
            extra_hosts: self.hosts(work)?,
            ulimits: self.limits(work.step)?,
            shm_size: self.shm_size(work)?,
            retries: work.step.retry,
            timeout: work.step.timeout.as_ref().map(time::read).transpose()?,
            accept_status: Vec::new(),
        };
        if let Some(text) = &work.step.workdir {
            self.make_directory(work, &directory, text)?;
        }
        let mut inputs = vec![work.made.step];
        inputs.extend(others);
        inputs.extend(&work.needed);
        self.advance(work, Op::Exec(Box::new(exec)), inputs, &shown, &place)
    }

    /// Whether a step before has made a directory.
    fn is_made(&self, mut step: StepId, directory: &ImagePath) -> bool {
        loop {
            let below = match &self.graph.step(step).op {
                Op::Exec(exec) => Some(exec.root),
                Op::Files(files) => {
                    let is_it = |action: &FileAction| matches!(action, FileAction::Directory { path, .. } if path == directory);
                    if files.actions.iter().any(is_it) {
                        return true;
                    }
                    files.base
                }
                _ => None,
            };
            match below {
                Some(input) => step = self.graph.input(step, input),
                None => return false,
            }
        }
    }

    /// The working directory exists before the command runs.
    pub(super) fn make_directory(
        &mut self,
        work: &mut Work<'a, '_>,
        path: &ImagePath,
        at: &Text,
    ) -> Result<(), Wrong> {
        if self.is_made(work.made.step, path) {
            return Ok(());
        }
        let op = Op::Files(Files {
            base: Some(Input(0)),
            actions: vec![FileAction::Directory {
                path: path.clone(),
                owner: None,
                mode: 0o755,
            }],
        });
        let inputs = vec![work.made.step];
        self.advance(work, op, inputs, &format!("workdir {path}"), at)
    }
}

/// The base image's variables, then the step's.
fn env(work: &Work<'_, '_>) -> Result<Vec<(String, String)>, Wrong> {
    let base = work.made.config.config.env.iter();
    let mut env: Vec<(String, String)> = base
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, value) in in_order(&work.step.env) {
        env.retain(|(known, _)| known != name.as_str());
        env.push((name.to_string(), work.view.fill(value)?));
    }
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".to_owned(), PATH.to_owned()));
    }
    Ok(env)
}

/// Variables in the order in which they are written.
pub(super) fn in_order(env: &BTreeMap<Name, Text>) -> Vec<(&Name, &Text)> {
    let mut pairs: Vec<_> = env.iter().collect();
    pairs.sort_by_key(|(name, _)| name.span().start);
    pairs
}

/// The program with its arguments, a text for people, and the place in the file.
fn words(work: &Work<'_, '_>) -> Result<(Vec<String>, String, Text), Wrong> {
    let step = work.step;
    let own = work.own.span();
    match (&step.run, &step.script) {
        (Some(Run::Shell(text)), None) => {
            let line = work.view.fill(text)?;
            let args = ["/bin/sh", "-c", &line].map(str::to_owned).to_vec();
            Ok((args, line, text.clone()))
        }
        (Some(Run::Words(words)), None) => match words.first() {
            Some(first) => {
                let args = work.view.fill_all(words)?;
                let shown = args.join(" ");
                Ok((args, shown, first.clone()))
            }
            None => Err(Wrong::at(own, "run is an empty list: name a program")),
        },
        (None, Some(script)) if script.interpreter.is_empty() => {
            let message = "the script has no interpreter: name one, such as [\"/bin/sh\", \"-e\"]";
            Err(Wrong::at(&script.text.span, message))
        }
        (None, Some(script)) => {
            let mut args = work.view.fill_all(&script.interpreter)?;
            let shown = format!("script for {}", args.join(" "));
            args.push(SCRIPT.to_owned());
            Ok((args, shown, script.text.clone()))
        }
        _ => {
            let message = format!("the step '{}' has run and script: keep one", work.own);
            Err(Wrong::at(own, message))
        }
    }
}
