//! From syntax tree to graph: stages, variables, instructions.

mod args;
mod config;
mod copy;
mod epoch;
mod from;
mod mounts;
mod options;
mod run;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_graph::{
    Build, ContextSource, Graph, ImageRequest, ImageTable, Location, Op, Platform, Reuse, Step,
    StepId, StepName, Target,
};

use crate::ast::{Dockerfile, Instruction, Kind};
use crate::lint::{Checks, Linter};
use crate::{Diagnostic, DockerfileError};
pub use options::{ContextKind, Options};
use stage::StageState;

/// What came of a compilation.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The build.
    Done(Box<Compiled>),
    /// These images must be known first; and where each is asked for.
    Needs(Vec<(ImageRequest, Option<Location>)>),
}

/// A compiled Dockerfile.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph and the images wanted.
    pub build: Build,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// Whether the file wants warnings to fail the build.
    pub warnings_are_errors: bool,
    /// The stages that the targets are made of, by name or number.
    pub used_stages: Vec<String>,
}

/// Compiles a Dockerfile.
///
/// # Errors
/// When the file asks for something that can't be.
pub fn compile(
    file: &Dockerfile,
    options: &Options,
    images: &ImageTable,
) -> Result<Outcome, DockerfileError> {
    compile_file(file, options, images).map_err(|error| error.narrowed(&file.text))
}

fn compile_file(
    file: &Dockerfile,
    options: &Options,
    images: &ImageTable,
) -> Result<Outcome, DockerfileError> {
    let mut compiler = Compiler::new(file, options, images)?;
    crate::lint::check_syntax(file, &mut compiler.lint);
    let target = compiler.target()?;
    let mut targets = Vec::new();
    for platform in &options.platforms {
        match compiler.stage(target, platform) {
            Ok(state) => targets.push(compiler.finish(&state)?),
            Err(Stop::Needs) => {}
            Err(Stop::Error(error)) => return Err(*error),
        }
    }
    if !compiler.needs.is_empty() {
        return Ok(Outcome::Needs(compiler.needs.into_iter().collect()));
    }
    let stages = compiler.stage_list(&options.platforms);
    let mut used_stages: Vec<String> = Vec::new();
    for state in compiler.done.values() {
        if !used_stages.contains(&state.name) {
            used_stages.push(state.name.clone());
        }
    }
    let (warnings, warnings_are_errors) = compiler.lint.finish();
    let build = Build {
        graph: compiler.graph,
        targets,
        stages,
        volume_files: BTreeMap::new(),
        exports: Vec::new(),
    };
    Ok(Outcome::Done(Box::new(Compiled {
        build,
        warnings,
        warnings_are_errors,
        used_stages,
    })))
}

/// Why a stage can't be compiled now.
pub(crate) enum Stop {
    /// An image must be known first; it has been noted.
    Needs,
    Error(Box<DockerfileError>),
}

impl From<DockerfileError> for Stop {
    fn from(error: DockerfileError) -> Self {
        Self::Error(Box::new(error))
    }
}

/// A stage of the file.
pub(crate) struct StageSource<'a> {
    pub(crate) from: &'a crate::ast::From,
    pub(crate) head: &'a Instruction,
    pub(crate) body: &'a [Instruction],
}

pub(crate) struct Compiler<'a> {
    pub(crate) file: &'a Dockerfile,
    pub(crate) file_name: Arc<str>,
    pub(crate) options: &'a Options,
    pub(crate) images: &'a ImageTable,
    pub(crate) stages: Vec<StageSource<'a>>,
    pub(crate) global_args: BTreeMap<String, Option<String>>,
    pub(crate) graph: Graph,
    pub(crate) needs: BTreeMap<ImageRequest, Option<Location>>,
    pub(crate) lint: Linter,
    pub(crate) created: Option<String>,
    /// The place of the instruction that is being compiled.
    pub(crate) at: Option<Location>,
    done: BTreeMap<(usize, Platform), StageState>,
    sources: BTreeMap<String, StepId>,
}

impl<'a> Compiler<'a> {
    fn new(
        file: &'a Dockerfile,
        options: &'a Options,
        images: &'a ImageTable,
    ) -> Result<Self, DockerfileError> {
        let checks = Checks::of(file, options.build_args.get("BUILDKIT_DOCKERFILE_CHECK"));
        let created = epoch::created(options)?;
        let mut compiler = Self {
            file,
            file_name: options.file_name.as_str().into(),
            options,
            images,
            stages: split_stages(file),
            global_args: BTreeMap::new(),
            graph: Graph::new(),
            needs: BTreeMap::new(),
            lint: Linter::new(checks),
            created,
            at: None,
            done: BTreeMap::new(),
            sources: BTreeMap::new(),
        };
        compiler.read_global_args()?;
        Ok(compiler)
    }

    /// The stage wanted: the last one, or the one named.
    fn target(&self) -> Result<usize, DockerfileError> {
        let Some(name) = &self.options.target else {
            return Ok(self.stages.len() - 1);
        };
        self.find_stage(name, self.stages.len()).ok_or_else(|| {
            let names = self
                .stages
                .iter()
                .filter_map(|stage| stage.from.name.as_deref());
            let hint = crate::suggest::did_you_mean(name, names);
            DockerfileError::whole(format!("target stage \"{name}\" could not be found{hint}"))
        })
    }

    /// The last stage before `before` with a name.
    pub(crate) fn find_stage(&self, name: &str, before: usize) -> Option<usize> {
        let is_named = |stage: &StageSource<'_>| {
            stage
                .from
                .name
                .as_ref()
                .is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        self.stages[..before].iter().rposition(is_named)
    }

    /// A stage for one platform, compiled once.
    pub(crate) fn stage(&mut self, index: usize, platform: &Platform) -> Result<StageState, Stop> {
        let key = (index, platform.clone());
        if let Some(state) = self.done.get(&key) {
            return Ok(state.clone());
        }
        let outer = self.at.take();
        let state = self.compile_stage(index, platform)?;
        self.at = outer;
        self.done.insert(key, state.clone());
        Ok(state)
    }

    fn compile_stage(&mut self, index: usize, platform: &Platform) -> Result<StageState, Stop> {
        let mut state = self.from(index, platform)?;
        for trigger in std::mem::take(&mut state.config.config.on_build) {
            let line = self.stages[index].head.location.line;
            let instruction = crate::parse_trigger(&self.file_name, &trigger, line)?;
            self.instruction(&mut state, &instruction)?;
        }
        let body = self.stages[index].body;
        for instruction in body {
            self.instruction(&mut state, instruction)?;
        }
        Ok(state)
    }

    fn instruction(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
    ) -> Result<(), Stop> {
        state.begin(instruction);
        self.at = Some(instruction.location.clone());
        match &instruction.kind {
            Kind::Arg(args) => self.arg(state, instruction, args)?,
            Kind::Run(run) => self.run(state, instruction, run)?,
            Kind::Copy(copy) => self.copy(state, instruction, copy, false)?,
            Kind::Add(copy) => self.copy(state, instruction, copy, true)?,
            Kind::Workdir(path) => self.workdir(state, instruction, path)?,
            _ => self.configure(state, instruction)?,
        }
        Ok(())
    }

    /// Adds a step.
    pub(crate) fn add(
        &mut self,
        op: Op,
        inputs: Vec<StepId>,
        name: StepName,
        location: Option<Location>,
        platform: &Platform,
    ) -> Result<StepId, Stop> {
        let filtered = &self.options.no_cache_filter;
        let is_own = |stage: &String| stage.eq_ignore_ascii_case(&name.stage);
        let reuse = match filtered.iter().any(is_own) {
            true => Reuse::Never,
            false => Reuse::Always,
        };
        let step = Step {
            op,
            name,
            location,
            platform: platform.clone(),
            reuse,
        };
        self.graph.add(step, inputs).map_err(|error| {
            DockerfileError::whole(format!("{error}; this is a bug in kiln")).into()
        })
    }

    /// A source step, made once however often it is used.
    pub(crate) fn source(
        &mut self,
        text: String,
        op: Op,
        platform: &Platform,
    ) -> Result<StepId, Stop> {
        let key = format!("{text} {platform}");
        if let Some(id) = self.sources.get(&key) {
            return Ok(*id);
        }
        let name = StepName {
            stage: String::new(),
            number: 0,
            of: 0,
            text,
        };
        let id = self.add(op, Vec::new(), name, self.at.clone(), platform)?;
        self.sources.insert(key, id);
        Ok(id)
    }

    /// The files of a named folder.
    pub(crate) fn context(&mut self, name: &str) -> Result<StepId, Stop> {
        let ignore = self.options.ignore.get(name).cloned().unwrap_or_default();
        let op = Op::Context(ContextSource {
            name: name.to_owned(),
            ignore,
        });
        // A folder is the same whatever platform the step that uses it runs on.
        self.source(
            format!("context {name}"),
            op,
            &self.options.build_platform.clone(),
        )
    }

    fn finish(&self, state: &StageState) -> Result<Target, DockerfileError> {
        let mut config = state.config.clone();
        config.created.clone_from(&self.created);
        config.config.labels.extend(self.options.labels.clone());
        config.history.clear();
        config.rootfs = kiln_graph::RootFs::default();
        Ok(Target {
            platform: state.platform.clone(),
            root: state.root,
            config,
            history: state.history.clone(),
        })
    }

    fn stage_list(&self, platforms: &[Platform]) -> Vec<kiln_graph::Stage> {
        let stage = |(index, source): (usize, &StageSource<'_>)| {
            let states = platforms
                .iter()
                .filter_map(|platform| self.done.get(&(index, platform.clone())));
            let other = self
                .done
                .iter()
                .filter(|((at, _), _)| *at == index)
                .map(|(_, state)| state);
            let mut steps: Vec<kiln_graph::StageStep> = Vec::new();
            for step in states.chain(other).flat_map(|state| &state.steps) {
                if !steps.contains(step) {
                    steps.push(*step);
                }
            }
            let name = source.from.name.clone();
            kiln_graph::Stage {
                name: name.unwrap_or_else(|| index.to_string()),
                steps,
            }
        };
        self.stages.iter().enumerate().map(stage).collect()
    }
}

fn split_stages(file: &Dockerfile) -> Vec<StageSource<'_>> {
    let starts: Vec<usize> = file
        .instructions
        .iter()
        .enumerate()
        .filter(|(_, instruction)| matches!(instruction.kind, Kind::From(_)))
        .map(|(at, _)| at)
        .collect();
    let ends = starts
        .iter()
        .skip(1)
        .copied()
        .chain([file.instructions.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(start, end)| {
            let head = &file.instructions[*start];
            let Kind::From(from) = &head.kind else {
                return None;
            };
            Some(StageSource {
                from,
                head,
                body: &file.instructions[start + 1..end],
            })
        })
        .collect()
}
