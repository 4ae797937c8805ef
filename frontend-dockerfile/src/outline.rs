//! What a build takes: its arguments, secrets and agents; and which stages it has.
//! The answers to `--call outline` and `--call targets`, in the shape that BuildKit gives them
//! (its `frontend/subrequests`), so that tools which read its answers read these.

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::Location;
use serde::Serialize;

use crate::ast::{Dockerfile, Instruction, Kind};
use crate::compile::Captured;

/// A place as BuildKit writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
}

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Where it starts.
    pub start: Position,
    /// Where it ends.
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
        let range = |line| Range {
            start: Position { line },
            end: Position { line },
        };
        Self {
            ranges: (at.line..=at.end_line.max(at.line)).map(range).collect(),
        }
    }
}

/// What a build takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The stage that is built.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What its comment says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Build arguments that it uses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
    /// Secrets of its steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Need>,
    /// SSH agents of its steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Need>,
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Which step asks for it first.
    pub location: Place,
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
    /// What it is made from, as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// Its platform as written, where the file demands one.
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
    let name = from.stage_name().unwrap_or_default();
    Some(Target {
        description: at.description(&name).unwrap_or_default().to_owned(),
        name,
        default: false,
        base: from.image.clone(),
        platform: from.platform.clone().unwrap_or_default(),
        location: (&at.location).into(),
    })
}

/// What a stage takes: itself, what it is built on, what it is made of. What is nearer to it hides
/// what is farther.
pub(crate) fn outline(
    name: String,
    description: String,
    target: usize,
    stages: &BTreeMap<usize, &Captured>,
) -> Outline {
    let mut collector = Collector {
        stages,
        seen: BTreeSet::new(),
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
    };
    collector.walk(target);
    let mut args: Vec<Argument> = collector.args.into_values().collect();
    args.sort_by_key(|arg| line(&arg.location));
    let sorted = |needs: BTreeMap<String, Need>| {
        let mut needs: Vec<Need> = needs.into_values().collect();
        needs.sort_by_key(|need| line(&need.location));
        needs
    };
    Outline {
        name,
        description,
        args,
        secrets: sorted(collector.secrets),
        ssh: sorted(collector.ssh),
    }
}

fn line(place: &Place) -> u32 {
    place.ranges.first().map_or(0, |range| range.start.line)
}

struct Collector<'a> {
    stages: &'a BTreeMap<usize, &'a Captured>,
    seen: BTreeSet<usize>,
    args: BTreeMap<String, Argument>,
    secrets: BTreeMap<String, Need>,
    ssh: BTreeMap<String, Need>,
}

impl Collector<'_> {
    fn walk(&mut self, target: usize) {
        let mut open = vec![target];
        while let Some(stage) = open.pop() {
            if !self.seen.insert(stage) {
                continue;
            }
            let Some(captured) = self.stages.get(&stage) else {
                continue;
            };
            self.add(captured);
            open.extend(captured.sources.iter().rev());
            open.extend(captured.base);
        }
    }

    fn add(&mut self, captured: &Captured) {
        for name in captured.all_used() {
            if let Some(known) = captured.known.get(name) {
                self.args
                    .entry(name.to_owned())
                    .or_insert_with(|| Argument {
                        name: name.to_owned(),
                        description: known.description.clone(),
                        value: known.value.clone(),
                        location: (&known.location).into(),
                    });
            }
        }
        let needs = [
            (&captured.secrets, &mut self.secrets),
            (&captured.ssh, &mut self.ssh),
        ];
        for (captured, into) in needs {
            for (name, need) in captured {
                into.entry(name.clone()).or_insert_with(|| Need {
                    name: name.clone(),
                    required: need.required,
                    location: (&need.location).into(),
                });
            }
        }
    }
}
