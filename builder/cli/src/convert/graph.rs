//! The walk along a Dockerfile's graph: what each vertex is called in a kiln.toml.

use std::collections::{BTreeMap, BTreeSet};

use kiln_frontend_dockerfile::ast::{Dockerfile, From, Kind};
use kiln_graph::{
    FileAction, Files, Graph, ImagePath, ImageTable, Input, Op, Platform, Reuse, RunConfig, Step,
    StepId,
};

use super::params::Params;
use super::step::Written;
use super::text::quote;

pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) struct Converter<'a> {
    pub(super) graph: &'a Graph,
    pub(super) file: &'a Dockerfile,
    pub(super) images: &'a ImageTable,
    pub(super) params: &'a Params,
    pub(super) root: StepId,
    /// What vertices are called: steps, sources, images.
    pub(super) names: BTreeMap<StepId, String>,
    /// Commands whose working directory was made by the vertex before.
    pub(super) merged: BTreeSet<StepId>,
    /// `[sources.NAME]`, written.
    pub(super) sources: String,
    pub(super) steps: Vec<Written>,
    needed: Vec<StepId>,
    taken: BTreeSet<String>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        root: StepId,
        file: &'a Dockerfile,
        images: &'a ImageTable,
        params: &'a Params,
    ) -> Self {
        let taken = ["scratch", "context"].map(str::to_owned);
        Self {
            graph,
            file,
            images,
            params,
            root,
            names: BTreeMap::new(),
            merged: BTreeSet::new(),
            sources: String::new(),
            steps: Vec::new(),
            needed: graph.needed_for(&[root]),
            taken: taken.into_iter().collect(),
        }
    }

    pub(super) fn walk(&mut self) {
        for id in self.needed.clone() {
            let graph = self.graph;
            let step = graph.step(id);
            match &step.op {
                Op::Scratch => self.name(id, "scratch".to_owned()),
                Op::Image(image) => {
                    let name = self.image_name(step, &image.name);
                    self.name(id, name);
                }
                Op::Exec(exec) => self.exec(id, exec),
                Op::Files(files) => match files.base {
                    Some(base) if !self.is_merged(id, base) => {
                        if let [
                            FileAction::Directory {
                                path,
                                owner: None,
                                mode: 0o755,
                            },
                        ] = &files.actions[..]
                        {
                            self.directory(id, base, path);
                            continue;
                        }
                        self.files(id, graph.input(id, base), files, id);
                    }
                    _ => {}
                },
                Op::Merge { layers } => self.merge(id, layers),
                Op::Context(_) | Op::Git(_) | Op::Http(_) => self.source(id, &step.op),
            }
        }
    }

    /// WORKDIR.
    fn directory(&mut self, id: StepId, base: Input, path: &ImagePath) {
        let mut step = self.start(id, self.graph.input(id, base));
        step.add("workdir", quote(&path.to_string()));
        self.finish(id, step);
    }

    /// The order of the Dockerfile.
    pub(super) fn sort(&mut self) {
        self.steps.sort_by_key(|step| step.line);
    }

    fn name(&mut self, id: StepId, name: String) {
        self.names.insert(id, name);
    }

    /// `COPY --link`: files that are copied onto others.
    fn merge(&mut self, id: StepId, layers: &[Input]) {
        let graph = self.graph;
        let [base, rest @ ..] = layers else { return };
        let mut root = graph.input(id, *base);
        for layer in rest {
            let own = graph.input(id, *layer);
            if let Op::Files(files) = &graph.step(own).op {
                self.files(id, root, files, own);
                if let Some(step) = self.steps.last_mut().filter(|_| makes_directories(files)) {
                    step.mark("--link: directories on the way that are there stay as they are");
                }
                root = id;
            }
        }
    }

    /// Whether a vertex only makes the working directory of the one command behind it.
    fn is_merged(&mut self, id: StepId, base: Input) -> bool {
        let consumers = self.graph.consumers(id);
        let mut needed = consumers.iter().filter(|each| self.needed.contains(each));
        let (Some(&next), None) = (needed.next(), needed.next()) else {
            return false;
        };
        let (Op::Files(files), Op::Exec(exec)) =
            (&self.graph.step(id).op, &self.graph.step(next).op)
        else {
            return false;
        };
        let [
            FileAction::Directory {
                path,
                owner: None,
                mode: 0o755,
            },
        ] = &files.actions[..]
        else {
            return false;
        };
        if *path != exec.cwd || self.graph.input(next, exec.root) != id {
            return false;
        }
        let root = self.graph.input(id, base);
        let name = self.names.get(&root).cloned().unwrap_or_default();
        self.name(id, name);
        self.merged.insert(next)
    }

    /// A new step on top of another.
    pub(super) fn start(&mut self, id: StepId, root: StepId) -> Written {
        let mut step = Written {
            name: self.free_name(id),
            line: self
                .graph
                .step(id)
                .location
                .as_ref()
                .map_or(0, |at| at.line),
            ..Written::default()
        };
        let from = self.names.get(&root).cloned().unwrap_or_default();
        step.add("from", quote(&from));
        let bottom = self.bottom(root);
        if let Some(platform) = self.platform(bottom)
            && self.names.get(&bottom) == Some(&from)
        {
            step.add("platform", quote(&platform));
        }
        step
    }

    pub(super) fn finish(&mut self, id: StepId, mut step: Written) {
        if self.graph.step(id).reuse == Reuse::Never {
            step.add("cache", quote("never"));
        }
        let remote = self.graph.step(id).remote.iter();
        let remote = remote.map(|(name, value)| format!("{} = {}", quote(name), quote(value)));
        let remote = remote.collect::<Vec<_>>().join(", ");
        if !remote.is_empty() {
            step.add("remote", format!("{{ properties = {{ {remote} }} }}"));
        }
        self.name(id, step.name.clone());
        self.steps.push(step);
    }

    /// What copies and binds call a vertex.
    pub(super) fn reference(&self, id: StepId, step: &mut Written) -> String {
        if let Op::Image(_) = self.graph.step(id).op
            && self.platform(id).is_some()
        {
            step.mark("an image for another platform is copied from by a step of its own");
        }
        self.names.get(&id).cloned().unwrap_or_default()
    }

    /// The vertex at the bottom of a tree: an image, or nothing.
    fn bottom(&self, mut id: StepId) -> StepId {
        loop {
            let below = match &self.graph.step(id).op {
                Op::Exec(exec) => Some(exec.root),
                Op::Files(files) => files.base,
                Op::Merge { layers } => layers.first().copied(),
                _ => None,
            };
            match below {
                Some(input) => id = self.graph.input(id, input),
                None => return id,
            }
        }
    }

    /// The configuration of the image at the bottom, which the language starts from.
    pub(super) fn base_config(&self, id: StepId) -> RunConfig {
        let Op::Image(source) = &self.graph.step(self.bottom(id)).op else {
            return RunConfig::default();
        };
        let mut known = self.images.values();
        let found = known.find(|image| image.source == *source);
        found
            .map(|image| image.config.config.clone())
            .unwrap_or_default()
    }

    fn free_name(&mut self, id: StepId) -> String {
        let stage = &self.graph.step(id).name.stage;
        let base: String = stage
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let base = match base.starts_with(|c: char| c.is_ascii_alphabetic()) {
            true => base,
            false => format!("stage-{base}"),
        };
        let mut number = 1;
        let mut name = format!("{base}-{number}");
        if self.is_last_of_stage(id) {
            name.clone_from(&base);
        }
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{base}-{number}");
        }
        name
    }

    fn is_last_of_stage(&self, id: StepId) -> bool {
        let stage = &self.graph.step(id).name.stage;
        let mut later = self.needed.iter().filter(|other| **other > id);
        !later.any(|other| self.graph.step(*other).name.stage == *stage)
    }

    /// A name for a source or an image of the file.
    pub(super) fn take(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut number = 1;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{base}-{number}");
        }
        name
    }

    /// The FROM that asks for an image.
    fn asked(&self, step: &Step) -> Option<&'a From> {
        let line = step.location.as_ref()?.line;
        let mut all = self.file.instructions.iter();
        all.find_map(|each| match &each.kind {
            Kind::From(from) if each.location.line == line => Some(from),
            _ => None,
        })
    }

    fn image_name(&self, step: &Step, name: &str) -> String {
        let text = self.asked(step).map(|from| from.image.as_str());
        let written = text.and_then(|text| self.params.in_from(text));
        match written {
            Some((named, plain)) if name.contains(&plain) || plain.contains(':') => {
                match named.contains(['/', ':', '.', '@']) {
                    true => named,
                    false => format!("{named}:latest"),
                }
            }
            _ => name.to_owned(),
        }
    }

    /// The platform of an image, where it isn't what is built for.
    fn platform(&self, id: StepId) -> Option<String> {
        let step = self.graph.step(id);
        let written = self.asked(step)?.platform.as_deref()?;
        if written.contains("BUILDPLATFORM") {
            return Some("build".to_owned());
        }
        let is_target = written.contains("TARGETPLATFORM");
        let own: &Platform = &step.platform;
        (!is_target).then(|| own.to_string())
    }
}

/// Whether directories are made for what is copied.
fn makes_directories(files: &Files) -> bool {
    files.actions.iter().any(|action| match action {
        FileAction::Copy(copy) => {
            copy.to_directory && !copy.dest.is_root() || copy.dest.components().count() > 1
        }
        FileAction::Write { dest, .. } => dest.components().count() > 1,
        _ => false,
    })
}
