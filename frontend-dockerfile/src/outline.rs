//! What a build takes: its arguments, secrets, agents and volumes; and which stages it has.
//! The answers to `--call outline` and `--call targets`, in the shape that BuildKit gives them
//! (its `frontend/subrequests`), so that tools which read its answers read these.

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::{Location, MountKind, Op, StepId};
use serde::Serialize;

use crate::ast::{Dockerfile, Instruction, Kind};
use crate::{Compiled, Options};

/// A place as BuildKit writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The stretches of the file.
    pub ranges: Vec<Range>,
}

/// A stretch of the file, from one line to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first line.
    pub start: Position,
    /// The last line.
    pub end: Position,
}

/// A line, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Its number.
    pub line: u32,
}

impl From<&Location> for Place {
    fn from(at: &Location) -> Self {
        let line = |line| Position { line };
        let range = Range {
            start: line(at.line),
            end: line(at.end_line),
        };
        Self {
            ranges: vec![range],
        }
    }
}

/// What a build takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The stage that is built.
    pub name: String,
    /// What its comment says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Build arguments that it uses.
    pub args: Vec<Argument>,
    /// Secrets of its steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Need>,
    /// SSH agents of its steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Need>,
    /// Cache volumes of its steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<Volume>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What its comment says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its value in this build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Where it is declared.
    pub location: Place,
}

/// A secret or an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Its id.
    pub name: String,
    /// Whether a step fails without it.
    pub required: bool,
    /// Which step asks for it.
    pub location: Option<Place>,
}

/// A cache volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Which step asks for it.
    pub location: Option<Place>,
}

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name; empty when it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether it is built unless another is asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// What its comment says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is made from.
    pub base: String,
    /// Its platform, where the file demands one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Where it begins.
    pub location: Place,
}

/// The stages of a file.
#[must_use]
pub fn targets(file: &Dockerfile) -> Vec<Target> {
    let stages = file.instructions.iter().filter_map(stage);
    let mut targets: Vec<Target> = stages.collect();
    if let Some(last) = targets.last_mut() {
        last.default = true;
    }
    targets
}

fn stage(at: &Instruction) -> Option<Target> {
    let Kind::From(from) = &at.kind else {
        return None;
    };
    let name = from.name.clone().unwrap_or_default();
    Some(Target {
        description: at.description(&name).unwrap_or_default().to_owned(),
        name,
        default: false,
        base: from.image.clone(),
        platform: from.platform.clone().unwrap_or_default(),
        location: (&at.location).into(),
    })
}

/// What a compiled file takes, for the target it was compiled for.
#[must_use]
pub fn outline(file: &Dockerfile, options: &Options, compiled: &Compiled) -> Outline {
    let wanted = options.target.as_deref();
    let stages = targets(file);
    let target = stages.iter().rev().find(|stage| match wanted {
        Some(name) => stage.name.eq_ignore_ascii_case(name),
        None => stage.default,
    });
    let (name, description) = target
        .map(|target| (target.name.clone(), target.description.clone()))
        .unwrap_or_default();
    let mut outline = Outline {
        name,
        description,
        args: arguments(file, options, compiled),
        ..Outline::default()
    };
    let graph = &compiled.build.graph;
    let roots: Vec<StepId> = compiled
        .build
        .targets
        .iter()
        .map(|target| target.root)
        .collect();
    let mut seen = BTreeSet::new();
    for id in graph.needed_for(&roots) {
        let step = graph.step(id);
        let Op::Exec(exec) = &step.op else { continue };
        for mount in &exec.mounts {
            needs(&mount.kind, step.location.as_ref(), &mut seen, &mut outline);
        }
    }
    outline
}

fn needs(
    mount: &MountKind,
    at: Option<&Location>,
    seen: &mut BTreeSet<(u8, String)>,
    outline: &mut Outline,
) {
    let location = at.map(Place::from);
    let need = |name: &String, required| Need {
        name: name.clone(),
        required,
        location: location.clone(),
    };
    match mount {
        MountKind::Secret(secret) if seen.insert((0, secret.id.clone())) => {
            outline.secrets.push(need(&secret.id, secret.required));
        }
        MountKind::Ssh(ssh) if seen.insert((1, ssh.id.clone())) => {
            outline.ssh.push(need(&ssh.id, ssh.required));
        }
        MountKind::Cache(cache) if seen.insert((2, cache.id.clone())) => {
            let id = cache.id.clone();
            outline.cache.push(Volume { id, location });
        }
        _ => {}
    }
}

/// The arguments declared where the target can see them: before the first FROM, and in stages
/// that it is made of.
fn arguments(file: &Dockerfile, options: &Options, compiled: &Compiled) -> Vec<Argument> {
    let used: BTreeSet<&str> = compiled.used_stages.iter().map(String::as_str).collect();
    let mut stage = None;
    let mut count = 0;
    let mut found: BTreeMap<&str, Argument> = BTreeMap::new();
    for at in &file.instructions {
        match &at.kind {
            Kind::From(from) => {
                let number = count.to_string();
                count += 1;
                stage = Some(
                    from.name
                        .as_ref()
                        .map_or(number, |name| name.to_lowercase()),
                );
            }
            Kind::Arg(args) if stage.as_deref().is_none_or(|stage| used.contains(stage)) => {
                for (name, default) in args {
                    let argument = argument(at, name, default.as_deref(), options);
                    match found.get_mut(name.as_str()) {
                        Some(known) if !known.value.is_empty() => {}
                        _ => _ = found.insert(name, argument),
                    }
                }
            }
            _ => {}
        }
    }
    let mut args: Vec<Argument> = found.into_values().collect();
    args.sort_by_key(|arg| arg.location.ranges[0].start.line);
    args
}

fn argument(at: &Instruction, name: &str, default: Option<&str>, options: &Options) -> Argument {
    let given = options.build_args.get(name).map(String::as_str);
    Argument {
        name: name.to_owned(),
        description: at.description(name).unwrap_or_default().to_owned(),
        value: given
            .or(default)
            .unwrap_or_default()
            .trim_matches('"')
            .to_owned(),
        location: (&at.location).into(),
    }
}
