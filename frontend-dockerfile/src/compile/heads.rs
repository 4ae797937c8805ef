//! What stages are built on and made of, before anything in them is compiled.

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::Platform;

use super::outline::{Captured, Declared};
use super::{Compiler, ContextKind};
use crate::ast::{Instruction, Kind};
use crate::error::fault;
use crate::expand::{Expansion, Lexer};
use crate::{DockerfileError, Rule};

/// A FROM with its variables expanded.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// The image or stage.
    pub(crate) image: String,
    /// `--platform`.
    pub(crate) platform: Option<Platform>,
    pub(crate) base: BaseKind,
    /// Arguments that were used.
    pub(crate) used: BTreeSet<String>,
}

/// What a stage is built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BaseKind {
    /// A stage before it.
    Stage(usize),
    /// A named context.
    Context(String, ContextKind),
    /// A named context stands for all of the stage.
    Replaced(String, ContextKind),
    Scratch,
    Image,
}

/// The stages of a file by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeMap<String, Vec<usize>>);

/// What a stage uses of what the user gives, as far as its FROM says. `declared` are the arguments before the
/// first FROM.
pub(super) fn captured(
    heads: &[Head],
    declared: &BTreeMap<String, Declared>,
    index: usize,
) -> Captured {
    let head = &heads[index];
    let mut captured = Captured {
        known: declared.clone(),
        used: head.used.clone(),
        ..Captured::default()
    };
    let mut base = &head.base;
    if let BaseKind::Stage(stage) = base {
        captured.base = Some(*stage);
    }
    while let BaseKind::Stage(stage) = base {
        captured.used.extend(heads[*stage].used.iter().cloned());
        base = &heads[*stage].base;
    }
    captured
}

impl Names {
    pub(crate) fn add(&mut self, name: String, index: usize) {
        self.0.entry(name).or_default().push(index);
    }

    /// The last stage of a name, in whatever case; wherever it stands.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.0.get(&name.to_lowercase())?.last().copied()
    }

    /// The last stage of a name before another one. FROM minds the case.
    fn before(&self, name: &str, index: usize) -> Option<usize> {
        let all = self.0.get(name)?;
        all.iter().rev().find(|found| **found < index).copied()
    }
}

impl Compiler<'_> {
    /// Expands all FROMs.
    pub(crate) fn heads(&mut self) -> Result<Vec<Head>, DockerfileError> {
        (0..self.stages.len())
            .map(|index| self.head(index))
            .collect()
    }

    fn head(&mut self, index: usize) -> Result<Head, DockerfileError> {
        let (from, at) = (self.stages[index].from, self.stages[index].head);
        let image = self.expand_from(at, &from.image)?;
        if image.text.is_empty() {
            let text = format!("base name ({}) should not be blank", from.image);
            return Err(fault(at, &text));
        }
        let mut used = image.set;
        let platform = match &from.platform {
            None => None,
            Some(text) => Some(self.platform(at, text, &mut used)?),
        };
        let image = image.text;
        let base = self.base_kind(index, &image, platform.as_ref().unwrap_or(&self.target));
        Ok(Head {
            image,
            platform,
            base,
            used,
        })
    }

    fn base_kind(&self, index: usize, image: &str, platform: &Platform) -> BaseKind {
        let stage = self.stages[index].from.stage_name();
        let replaced = stage.and_then(|name| self.options.context_for(&name, platform));
        if let Some((name, kind)) = replaced {
            return BaseKind::Replaced(name.to_owned(), kind.clone());
        }
        if let Some(stage) = self.names.before(image, index) {
            return BaseKind::Stage(stage);
        }
        if image == "scratch" {
            return BaseKind::Scratch;
        }
        match self.options.context_for(image, platform) {
            Some((name, kind)) => BaseKind::Context(name.to_owned(), kind.clone()),
            None => BaseKind::Image,
        }
    }

    fn expand_from(&mut self, at: &Instruction, text: &str) -> Result<Expansion, DockerfileError> {
        let lookup = |name: &str| self.globals.get(name);
        let expanded = Lexer::new(self.file.escape).expand(text, &lookup);
        let unset = match &expanded {
            Ok(expanded) => &expanded.unset,
            Err(bad) => &bad.unset,
        };
        for name in unset {
            if !self.globals.declared.contains_key(name) {
                let known = self
                    .globals
                    .values
                    .keys()
                    .chain(self.globals.declared.keys());
                self.lint
                    .undeclared(at.into(), name, known.map(String::as_str));
            }
        }
        expanded.map_err(|bad| fault(at, &bad.message))
    }

    fn platform(
        &mut self,
        at: &Instruction,
        text: &str,
        used: &mut BTreeSet<String>,
    ) -> Result<Platform, DockerfileError> {
        let expanded = self.expand_from(at, text)?;
        self.lint_redundant_platform(at, text, &expanded);
        self.lint_constant_platform(at, &expanded);
        let known = || {
            let names = self.globals.values.keys().map(String::as_str);
            let mut hints = expanded
                .unset
                .iter()
                .map(|name| crate::suggest::did_you_mean(name, names.clone()));
            hints.find(|hint| !hint.is_empty()).unwrap_or_default()
        };
        if expanded.text.is_empty() {
            let text = format!("empty platform value from expression {text}{}", known());
            return Err(fault(at, &text));
        }
        let platform: Platform = expanded.text.parse().map_err(|error| {
            let text = format!("failed to parse platform {text}: {error}{}", known());
            fault(at, &text)
        })?;
        // One word is a system or an architecture, whichever knows it.
        if let (false, Some((part, known))) = (expanded.text.contains('/'), platform.unknown_part())
        {
            let hint = crate::suggest::did_you_mean(part, known);
            let text = format!(
                "failed to parse platform {text}: \"{part}\": unknown operating system or architecture{hint}"
            );
            return Err(fault(at, &text));
        }
        used.extend(expanded.set);
        Ok(platform)
    }

    fn lint_redundant_platform(&mut self, at: &Instruction, text: &str, expanded: &Expansion) {
        const NAME: &str = "TARGETPLATFORM";
        let is_only = expanded.set.len() == 1 && expanded.unset.is_empty();
        if is_only
            && expanded.set.contains(NAME)
            && self.globals.get(NAME).as_deref() == Some(&expanded.text)
        {
            let message = format!(
                "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            );
            self.lint
                .warn(at.into(), Rule::RedundantTargetPlatform, message);
        }
    }

    /// A platform that is in the stage's name is meant to be the same always.
    fn lint_constant_platform(&mut self, at: &Instruction, expanded: &Expansion) {
        let stage = match &at.kind {
            Kind::From(from) => from.stage_name().unwrap_or_default(),
            _ => String::new(),
        };
        if !expanded.set.is_empty() || !expanded.unset.is_empty() {
            return;
        }
        let Ok(platform) = expanded.text.parse::<Platform>() else {
            return;
        };
        if !stage.contains(&platform.os) && !stage.contains(&platform.architecture) {
            let shown = crate::quote::quote(&expanded.text);
            let message = format!("FROM --platform flag should not use constant value {shown}");
            self.lint
                .warn(at.into(), Rule::FromPlatformFlagConstDisallowed, message);
        }
    }

    /// Which stages each stage copies from or mounts. Names of images are checked on the way.
    ///
    /// # Errors
    /// When a name can't be one, or stages need each other.
    pub(crate) fn sources(&self) -> Result<Vec<BTreeSet<usize>>, DockerfileError> {
        let mut all = Vec::new();
        for stage in &self.stages {
            let mut sources = BTreeSet::new();
            for at in stage.body {
                for name in source_names(at) {
                    sources.extend(self.source_stage(at, &name)?);
                }
            }
            all.push(sources);
        }
        self.check_circles(&all)?;
        self.check_names()?;
        Ok(all)
    }

    fn source_stage(
        &self,
        at: &Instruction,
        name: &SourceName<'_>,
    ) -> Result<Option<usize>, DockerfileError> {
        match *name {
            SourceName::Copy(name) => {
                let plain = Lexer::new(self.file.escape).expand(name, &|_| None);
                let plain = plain.map_err(|bad| fault(at, &bad.message))?;
                if plain.text != name {
                    let text = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
                    return Err(fault(at, text));
                }
                match name.parse::<i64>() {
                    Ok(number) => match usize::try_from(number) {
                        Ok(number) if number < self.stages.len() => Ok(Some(number)),
                        _ => Err(fault(at, &format!("invalid stage index {number}"))),
                    },
                    Err(_) => Ok(self.names.find(name)),
                }
            }
            SourceName::Mount(name) => Ok(self.names.find(name)),
        }
    }

    fn check_circles(&self, sources: &[BTreeSet<usize>]) -> Result<(), DockerfileError> {
        let mut done = vec![false; sources.len()];
        for start in 0..sources.len() {
            if let Some(stage) = circle(start, sources, &mut done) {
                let (from, head) = (self.stages[stage].from, self.stages[stage].head);
                let name = from.stage_name();
                let name = name.unwrap_or_else(|| format!("stage-{stage}"));
                let text = format!("circular dependency detected on stage: {name}");
                return Err(fault(head, &text));
            }
        }
        Ok(())
    }

    /// Names of images have the form of one, also in stages that nobody needs.
    fn check_names(&self) -> Result<(), DockerfileError> {
        let check = |at: &Instruction, name: &str| {
            let checked = crate::image_name::check(name);
            checked.map_err(|error| {
                let shown = crate::quote::quote(name);
                fault(at, &format!("failed to parse stage name {shown}: {error}"))
            })
        };
        for (stage, head) in self.stages.iter().zip(&self.heads) {
            if matches!(head.base, BaseKind::Image | BaseKind::Context(..)) {
                check(stage.head, &head.image)?;
            }
            for at in stage.body {
                for name in source_names(at) {
                    let is_stage = self.source_stage(at, &name)?.is_some();
                    let (SourceName::Copy(name) | SourceName::Mount(name)) = name;
                    let is_name = is_stage || name == "scratch";
                    let replaced = self.options.context_for(name, &self.target);
                    if !is_name && replaced.is_none() {
                        check(at, name)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The stages that a stage is made of, itself too, in the order of the file.
    pub(crate) fn reachable(&self, target: usize, sources: &[BTreeSet<usize>]) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        let mut open = vec![target];
        while let Some(stage) = open.pop() {
            if !all.insert(stage) {
                continue;
            }
            if let BaseKind::Replaced(..) = self.heads[stage].base {
                continue;
            }
            if let BaseKind::Stage(base) = self.heads[stage].base {
                open.push(base);
            }
            open.extend(&sources[stage]);
        }
        all
    }
}

/// What an instruction calls the tree that it copies from or mounts.
enum SourceName<'a> {
    Copy(&'a str),
    Mount(&'a str),
}

fn source_names(at: &Instruction) -> Vec<SourceName<'_>> {
    match &at.kind {
        Kind::Copy(copy) => copy
            .from
            .as_deref()
            .map(SourceName::Copy)
            .into_iter()
            .collect(),
        Kind::Run(run) => {
            let froms = run.mounts.iter().filter_map(|mount| mount.from());
            froms.map(SourceName::Mount).collect()
        }
        _ => Vec::new(),
    }
}

/// A stage of a circle that can be come to from `start`, if there is one. Stages that were looked
/// at before are in none.
fn circle(start: usize, sources: &[BTreeSet<usize>], done: &mut [bool]) -> Option<usize> {
    let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut on_path = BTreeSet::new();
    let mut next = Some(start);
    loop {
        if let Some(stage) = next.take() {
            if on_path.contains(&stage) {
                return Some(start);
            }
            if !done[stage] {
                on_path.insert(stage);
                path.push((stage, sources[stage].iter().copied().collect()));
            }
        }
        let (stage, open) = path.last_mut()?;
        match open.pop() {
            Some(source) => next = Some(source),
            None => {
                done[*stage] = true;
                on_path.remove(stage);
                path.pop();
            }
        }
    }
}
