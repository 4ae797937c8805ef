//! From syntax tree to graph: stages, variables, instructions.

mod args;
mod budget;
mod compiled;
mod config;
mod copy;
mod epoch;
mod expose;
mod from;
mod heads;
mod mount_fields;
mod mounts;
mod options;
mod outline;
mod run;
mod stage;
mod stage_source;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use kiln_graph::{
    Build, ContextSource, Graph, ImageRequest, ImageTable, LayerOrigin, Location, Op, Platform,
    Reuse, Step, StepId, StepName, Target, WorkerProperties,
};

use crate::ast::{Dockerfile, Instruction, Kind};
use crate::lint::{Checks, Linter, check_parsed, check_stages};
use crate::{Diagnostic, DockerfileError, Outline};
use args::Globals;
use budget::Budget;
use compiled::violations;
pub use compiled::{Checked, Compiled, Outcome};
pub use epoch::epoch_source;
use heads::{BaseKind, Head, Names};
pub use options::{ContextKind, Options};
pub(crate) use outline::Captured;
use stage::StageState;
pub(crate) use stage_source::unnamed_stage;
use stage_source::{StageSource, UNNAMED, split_stages, stage_list};
pub(crate) use worker::DIRECTIVE as WORKER_DIRECTIVE;

/// Compiles a Dockerfile.
///
/// # Errors
/// When the file asks for something that can't be.
pub fn compile(
    file: &Dockerfile,
    options: &Options,
    images: &ImageTable,
) -> Result<Outcome, DockerfileError> {
    let narrowed = |error: DockerfileError| error.narrowed(&file.text);
    let mut compiler = Compiler::new(file, options, images).map_err(narrowed)?;
    let done = compiler.compile_all(false);
    let done = done.map_err(|error| narrowed(error).after(compiler.lint.found()))?;
    Ok(match done {
        Some((targets, reachable)) => Outcome::Done(Box::new(compiler.done(targets, &reachable))),
        None => Outcome::Needs(compiler.needs.into_iter().collect()),
    })
}

/// Looks for what is wrong with a Dockerfile: in all of its stages, unless the options name one.
/// `unread` is why the file could be parsed no further.
#[must_use]
pub fn check(
    file: &Dockerfile,
    unread: Option<&DockerfileError>,
    options: &Options,
    images: &ImageTable,
) -> Outcome<Checked> {
    let done = |warnings: &[Diagnostic], error: Option<DockerfileError>| {
        Outcome::Done(Box::new(Checked {
            warnings: warnings.to_vec(),
            error: error.map(|error| error.narrowed(&file.text)),
        }))
    };
    let mut compiler = match Compiler::new(file, options, images) {
        Ok(compiler) => compiler,
        Err(error) => return done(&[], Some(error)),
    };
    if let Some(error) = unread {
        check_parsed(file, &mut compiler.lint);
        return done(compiler.lint.found(), Some(error.clone()));
    }
    match compiler.compile_all(options.target.is_none()) {
        Ok(None) => Outcome::Needs(compiler.needs.into_iter().collect()),
        Ok(Some(_)) => {
            let text = violations(compiler.lint.is_strict(), compiler.lint.found());
            done(compiler.lint.found(), text.map(DockerfileError::whole))
        }
        Err(error) => done(compiler.lint.found(), Some(error)),
    }
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

pub(crate) struct Compiler<'a> {
    pub(crate) file: &'a Dockerfile,
    pub(crate) file_name: Arc<str>,
    pub(crate) options: &'a Options,
    pub(crate) images: &'a ImageTable,
    pub(crate) stages: Vec<StageSource<'a>>,
    pub(crate) names: Names,
    /// The platform that is compiled for.
    pub(crate) target: Platform,
    /// The arguments of FROM, for that platform.
    pub(crate) globals: Globals,
    /// The FROMs, for that platform.
    pub(crate) heads: Vec<Head>,
    pub(crate) graph: Graph,
    pub(crate) needs: BTreeMap<ImageRequest, Option<Location>>,
    pub(crate) lint: Linter,
    pub(crate) created: Option<String>,
    /// The place of the instruction that is being compiled.
    pub(crate) at: Option<Location>,
    /// What it asks of a worker.
    remote: WorkerProperties,
    pub(crate) budget: Budget,
    done: BTreeMap<(usize, Platform), Rc<StageState>>,
    sources: BTreeMap<String, StepId>,
}

/// The images wanted, and the stages that they are made of.
type Finished = (Vec<Target>, BTreeSet<usize>);

impl<'a> Compiler<'a> {
    fn new(
        file: &'a Dockerfile,
        options: &'a Options,
        images: &'a ImageTable,
    ) -> Result<Self, DockerfileError> {
        let argument = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
        let checks = Checks::of(file, argument).map_err(DockerfileError::whole)?;
        let created = epoch::created(options)?;
        let stages = split_stages(file);
        let mut names = Names::default();
        for (index, stage) in stages.iter().enumerate() {
            if let Some(name) = stage.from.stage_name() {
                names.add(name, index);
            }
        }
        Ok(Self {
            file,
            file_name: options.file_name.as_str().into(),
            options,
            images,
            stages,
            names,
            target: options.platforms[0].clone(),
            globals: Globals::default(),
            heads: Vec::new(),
            graph: Graph::new(),
            needs: BTreeMap::new(),
            lint: Linter::new(checks),
            created,
            at: None,
            remote: WorkerProperties::none(),
            budget: Budget::default(),
            done: BTreeMap::new(),
            sources: BTreeMap::new(),
        })
    }

    /// Compiles what is wanted for each platform, or all stages; `None`: images must be known first.
    fn compile_all(&mut self, all_stages: bool) -> Result<Option<Finished>, DockerfileError> {
        check_parsed(self.file, &mut self.lint);
        check_stages(self.file, &mut self.lint);
        let mut targets = Vec::new();
        let mut reachable = BTreeSet::new();
        for platform in &self.options.platforms {
            self.target = platform.clone();
            let (target, needed) = self.begin()?;
            let stages = match all_stages {
                true => (0..self.stages.len()).collect(),
                false => needed.clone(),
            };
            for stage in stages {
                match self.stage(stage) {
                    Ok(state) if stage == target => targets.push(self.finished(&state)),
                    Ok(_) | Err(Stop::Needs) => {}
                    Err(Stop::Error(error)) => return Err(*error),
                }
            }
            reachable.extend(needed);
            self.lint.silence();
        }
        Ok(self.needs.is_empty().then_some((targets, reachable)))
    }

    /// Reads what holds for a whole file and one platform: arguments, FROMs, which stages are
    /// needed for the target.
    fn begin(&mut self) -> Result<(usize, BTreeSet<usize>), DockerfileError> {
        let predefined = self.predefined(&self.target);
        self.lint_default_args(&predefined);
        self.globals = self.declare_globals(predefined, &self.options.build_args)?;
        self.heads = self.heads()?;
        let target = self.target_stage()?;
        let sources = self.sources()?;
        Ok((target, self.reachable(target, &sources)))
    }

    fn done(self, targets: Vec<Target>, reachable: &BTreeSet<usize>) -> Compiled {
        let stages = stage_list(&self.stages, &self.done, &self.options.platforms);
        let names = reachable.iter().map(|stage| self.stage_name(*stage));
        let used_stages = names.collect();
        let outline = self.outline(&self.options.platforms[0]);
        Compiled {
            build: Build {
                graph: self.graph,
                targets,
                stages,
                volume_files: BTreeMap::new(),
                exports: Vec::new(),
            },
            warnings: self.lint.found().to_vec(),
            warnings_are_errors: self.lint.is_strict(),
            used_stages,
            outline,
        }
    }

    fn finished(&self, state: &StageState) -> Target {
        state.target(self.options, &self.target, self.created.as_ref())
    }

    fn stage_name(&self, index: usize) -> String {
        let name = self.stages[index].from.stage_name();
        name.unwrap_or_else(|| index.to_string())
    }

    /// The stage wanted: the last one, or the one named.
    fn target_stage(&self) -> Result<usize, DockerfileError> {
        let Some(name) = self.options.target.as_ref().filter(|name| !name.is_empty()) else {
            return Ok(self.stages.len() - 1);
        };
        self.names.find(name).ok_or_else(|| {
            let names: Vec<String> = (0..self.stages.len())
                .map(|index| self.stage_name(index))
                .collect();
            let hint = crate::suggest::did_you_mean(name, names.iter().map(String::as_str));
            let name = crate::quote::quote(name);
            DockerfileError::whole(format!("target stage {name} could not be found{hint}"))
        })
    }

    /// A stage for the platform that is compiled for, compiled once.
    pub(crate) fn stage(&mut self, index: usize) -> Result<Rc<StageState>, Stop> {
        let key = (index, self.target.clone());
        if let Some(state) = self.done.get(&key) {
            return Ok(state.clone());
        }
        let outer = self.at.take();
        let state = Rc::new(self.compile_stage(index)?);
        self.at = outer;
        self.done.insert(key, state.clone());
        Ok(state)
    }

    fn compile_stage(&mut self, index: usize) -> Result<StageState, Stop> {
        let (mut state, triggers) = self.from(index)?;
        let (head, body) = (self.stages[index].head, self.stages[index].body);
        let lines = (head.location.line, head.location.end_line);
        if let BaseKind::Replaced(..) = self.heads[index].base {
            return Ok(state);
        }
        for trigger in triggers {
            let instruction = crate::parse_trigger(&self.file_name, &trigger, lines)?;
            self.instruction(&mut state, &instruction)?;
        }
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
        self.remote = worker::properties_of(instruction)?;
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

    /// Adds a line of history for the current instruction.
    pub(crate) fn record(
        &mut self,
        state: &mut StageState,
        text: String,
        layer: LayerOrigin,
    ) -> Result<(), Stop> {
        self.budget.add(text.len())?;
        state.record(text, layer, self.created.as_ref());
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
        let number = name.stage.strip_prefix(UNNAMED);
        let is_own = |stage: &String| {
            stage.eq_ignore_ascii_case(&name.stage) || Some(stage.as_str()) == number
        };
        let reuse = match filtered.iter().any(is_own) {
            true => Reuse::Never,
            false => Reuse::Always,
        };
        let remote = match op {
            Op::Exec(_) | Op::Files(_) => self.remote.clone(),
            _ => WorkerProperties::none(),
        };
        let step = Step {
            op,
            name,
            location,
            platform: platform.clone(),
            reuse,
            remote,
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
        let name = StepName::plain(text);
        let id = self.add(op, Vec::new(), name, self.at.clone(), platform)?;
        self.sources.insert(key, id);
        Ok(id)
    }

    /// The files of a named directory.
    pub(crate) fn context(&mut self, name: &str) -> Result<StepId, Stop> {
        let ignore = self.options.ignore.get(name).cloned().unwrap_or_default();
        let op = Op::Context(ContextSource {
            name: name.to_owned(),
            ignore,
        });
        // A directory is the same whatever platform the step that uses it runs on.
        self.source(
            match name {
                "context" => "load build context".to_owned(),
                name => format!("load build context {name}"),
            },
            op,
            &self.options.build_platform.clone(),
        )
    }

    /// What the target takes, as compiled for one platform.
    fn outline(&self, platform: &Platform) -> Outline {
        let Ok(target) = self.target_stage() else {
            return Outline::default();
        };
        let stage = &self.stages[target];
        let name = stage.from.stage_name().unwrap_or_default();
        let description = stage.head.description(&name).unwrap_or_default().to_owned();
        let captured: BTreeMap<usize, &Captured> = self
            .done
            .iter()
            .filter(|((_, own), _)| own == platform)
            .map(|((index, _), state)| (*index, &state.captured))
            .collect();
        crate::outline::outline(name, description, target, &captured)
    }
}
