//! From tables to a graph: one image of the file, and what it needs.

mod image;
mod source;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::{
    Build, Graph, ImageConfig, ImageRequest, ImageTable, Location, Op, Platform, Stage, StageStep,
    Step, StepId, StepName,
};

use crate::error::{TomlError, Wrong, locate};
use crate::matrix::{self, Combination};
use crate::model::{self, BuildFile, Origin};
use crate::suggest::did_you_mean;
use crate::template::Scope;
use crate::text::Text;

/// What a compilation is told besides the file.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--build-arg`: values of parameters.
    pub params: BTreeMap<String, String>,
    /// `--target`: the image, or a step.
    pub target: Option<String>,
    /// `--platform`, at least one.
    pub platforms: Vec<Platform>,
    /// What the builder runs on.
    pub build_platform: Platform,
    /// The main context's ignore patterns.
    pub ignore: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
}

/// What came of a compilation.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The build.
    Done(Box<Compiled>),
    /// These images must be known first; and where each is asked for.
    Needs(Vec<(ImageRequest, Option<Location>)>),
}

/// A compiled file.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph and the image wanted, once for each platform.
    pub build: Build,
    /// The image's layers by path, if the file says.
    pub layers: Vec<LayerRule>,
    /// The folders of the context that the graph names, from the context on.
    pub folders: BTreeMap<String, String>,
}

/// Paths that go into a layer of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRule {
    /// The layer's name.
    pub name: String,
    /// Patterns of its paths.
    pub paths: Vec<String>,
}

/// Compiles one image of a file.
///
/// # Errors
/// When the file asks for something that can't be.
pub fn compile(
    file: &BuildFile,
    options: &Options,
    images: &ImageTable,
) -> Result<Outcome, TomlError> {
    let params = params(file, options)?;
    let mut compiler = Compiler {
        file,
        options,
        images,
        params,
        graph: Graph::new(),
        needs: BTreeMap::new(),
        done: BTreeMap::new(),
        open: BTreeSet::new(),
        stages: Vec::new(),
        folders: BTreeMap::new(),
        place: Place {
            origin: &file.main,
            at: None,
        },
    };
    let mut targets = Vec::new();
    for platform in &options.platforms {
        match compiler.target(platform) {
            Ok(target) => targets.push(target),
            Err(Stop::Needs) => {}
            Err(Stop::Wrong(wrong)) => {
                let origin = compiler.place.origin;
                return Err(wrong.in_file(&origin.file, &origin.text));
            }
            Err(Stop::Error(error)) => return Err(*error),
        }
    }
    if !compiler.needs.is_empty() {
        return Ok(Outcome::Needs(compiler.needs.into_iter().collect()));
    }
    let layers = compiler.layer_rules();
    Ok(Outcome::Done(Box::new(Compiled {
        build: Build {
            graph: compiler.graph,
            targets,
            stages: compiler.stages,
        },
        layers,
        folders: compiler.folders,
    })))
}

/// The values of all parameters.
fn params(file: &BuildFile, options: &Options) -> Result<BTreeMap<String, String>, TomlError> {
    for name in options.params.keys() {
        if !file.params.contains_key(name) && name != "SOURCE_DATE_EPOCH" {
            let hint = did_you_mean(name, file.params.keys().map(String::as_str));
            let text = format!("there is no parameter '{name}'{hint}");
            return Err(TomlError::whole(text));
        }
    }
    let mut values = BTreeMap::new();
    for (name, param) in &file.params {
        let given = options.params.get(name).cloned();
        let value = given.or_else(|| param.default.as_ref().map(ToString::to_string));
        let value = value.ok_or_else(|| {
            TomlError::whole(format!(
                "the parameter '{name}' has no default: give --build-arg {name}=VALUE"
            ))
        })?;
        let choices: Vec<String> = param.choices.iter().map(ToString::to_string).collect();
        if !choices.is_empty() && !choices.contains(&value) {
            let text = format!("{name}={value}: it may be {}", choices.join(", "));
            return Err(TomlError::whole(text));
        }
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// Why something can't be compiled now.
pub(crate) enum Stop {
    /// An image must be known first; it has been noted.
    Needs,
    Wrong(Wrong),
    Error(Box<TomlError>),
}

impl From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

/// A step or source that is done.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) step: StepId,
    /// The configuration of the image that it is built on.
    pub(crate) config: ImageConfig,
    /// The history so far.
    pub(crate) history: Vec<kiln_graph::HistoryLine>,
}

/// Where the compiler is in which file.
#[derive(Clone)]
struct Place<'a> {
    origin: &'a Origin,
    at: Option<Location>,
}

pub(crate) struct Compiler<'a> {
    pub(crate) file: &'a BuildFile,
    pub(crate) options: &'a Options,
    pub(crate) images: &'a ImageTable,
    params: BTreeMap<String, String>,
    pub(crate) graph: Graph,
    pub(crate) needs: BTreeMap<ImageRequest, Option<Location>>,
    done: BTreeMap<(String, Platform), Made>,
    /// Steps that are being compiled: meeting one again is a cycle.
    open: BTreeSet<String>,
    stages: Vec<Stage>,
    pub(crate) folders: BTreeMap<String, String>,
    place: Place<'a>,
}

impl<'a> Compiler<'a> {
    pub(crate) fn scope(&self, platform: &Platform) -> Scope {
        Scope::new(&self.params, platform)
    }

    /// A text with names filled in.
    pub(crate) fn fill(&self, text: &Text, scope: &Scope) -> Result<String, Stop> {
        scope
            .fill(&text.value)
            .map_err(|message| Wrong::at(text, message).into())
    }

    pub(crate) fn fill_all(&self, texts: &[Text], scope: &Scope) -> Result<Vec<String>, Stop> {
        texts.iter().map(|text| self.fill(text, scope)).collect()
    }

    pub(crate) fn location(&self, text: &Text) -> Location {
        locate(&self.place.origin.file, &self.place.origin.text, &text.span)
    }

    /// Adds a step of the author's, or a source.
    pub(crate) fn add(
        &mut self,
        op: Op,
        inputs: Vec<StepId>,
        name: StepName,
        no_cache: bool,
        platform: &Platform,
    ) -> Result<StepId, Stop> {
        let step = Step {
            op,
            name,
            location: self.place.at.clone(),
            platform: platform.clone(),
            no_cache,
        };
        self.graph.add(step, inputs).map_err(|error| {
            let text = format!("{error}; this is a bug in kiln");
            Stop::Error(Box::new(TomlError::whole(text)))
        })
    }

    /// What a name in `from` means: a step, a source, `scratch`, or an image.
    pub(crate) fn named(
        &mut self,
        name: &Text,
        scope: &Scope,
        platform: &Platform,
    ) -> Result<Made, Stop> {
        let wanted = self.fill(name, scope)?;
        let key = (wanted.clone(), platform.clone());
        if let Some(made) = self.done.get(&key) {
            return Ok(made.clone());
        }
        let made = match self.find_step(&wanted) {
            Some((step, chosen)) => self.inner(name, &wanted, step, &chosen, platform)?,
            None => self.source_or_image(name, &wanted, platform)?,
        };
        self.done.insert(key, made.clone());
        Ok(made)
    }

    /// The step that a name means, and which combination of its matrix.
    fn find_step(&self, name: &str) -> Option<(&'a model::Step, Combination)> {
        let (base, _) = name.split_once('@').unwrap_or((name, ""));
        let step = self
            .file
            .steps
            .get(base)
            .or_else(|| self.file.tests.get(base))?;
        let all = matrix::combinations(&step.matrix);
        let found = all
            .into_iter()
            .find(|chosen| matrix::name(base, chosen) == name);
        found.map(|chosen| (step, chosen))
    }

    /// A step, compiled where it is written.
    fn inner(
        &mut self,
        asked: &Text,
        name: &str,
        step: &'a model::Step,
        chosen: &Combination,
        platform: &Platform,
    ) -> Result<Made, Stop> {
        if !self.open.insert(name.to_owned()) {
            let text = format!("'{name}' needs itself: {}", self.cycle(name));
            return Err(Wrong::at(asked, text).into());
        }
        let outer = self.place.clone();
        let base = name.split('@').next().unwrap_or(name);
        let own = ["step", "test"]
            .iter()
            .find_map(|kind| self.file.origins.get(&format!("{kind} {base}")));
        self.place.origin = own.unwrap_or(&self.file.main);
        let scope = self.scope(platform).with_matrix(chosen);
        let made = self.step(name, step, &scope, platform)?;
        self.place = outer;
        self.open.remove(name);
        Ok(made)
    }

    fn cycle(&self, name: &str) -> String {
        let names: Vec<&str> = self.open.iter().map(String::as_str).collect();
        format!(
            "the steps {} are made from each other, and {name} again",
            names.join(", ")
        )
    }

    /// Notes a step of the author's, so that it can be selected.
    pub(crate) fn note(&mut self, stage: &str, number: u32, step: StepId) {
        let (line, end_line) = self
            .place
            .at
            .as_ref()
            .map_or((0, 0), |at| (at.line, at.end_line));
        let own = StageStep {
            number,
            line,
            end_line,
            step,
        };
        match self.stages.iter_mut().find(|known| known.name == stage) {
            Some(known) => known.steps.push(own),
            None => self.stages.push(Stage {
                name: stage.to_owned(),
                steps: vec![own],
            }),
        }
    }

    pub(crate) fn at(&mut self, text: &Text) {
        self.place.at = Some(self.location(text));
    }
}
