//! The graph while it grows, and what names in the file mean.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use kiln_graph::{
    Export, Graph, HistoryLine, ImageConfig, ImageRequest, ImageTable, Location, Op, Platform,
    Reuse, Stage, StageStep, Step, StepId, StepName, WorkerProperties,
};

use super::named_image::NamedImage;
use super::{LayerRule, Options, Policy, Settings};
use crate::error::Wrong;
use crate::matrix::{self, Combination};
use crate::model::{self, BuildFile};
use crate::template::{Scope, Unfilled};
use crate::text::{Name, Text};
use crate::value::Values;

/// A step or source that is done.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) step: StepId,
    /// What it runs on.
    pub(super) platform: Platform,
    /// The configuration of the image that it is built on.
    pub(super) config: Rc<ImageConfig>,
    /// The last line of the history so far.
    pub(super) history: Option<LineId>,
    /// Whether it, or something it needs, waits for a value and isn't right yet.
    pub(super) waits: bool,
}

/// A line of a history, and the one before it: steps made from one another share their lines.
struct Line {
    line: HistoryLine,
    before: Option<LineId>,
}

/// A line, by its number.
#[derive(Clone, Copy)]
pub(super) struct LineId(usize);

/// What something is compiled for: the platform of the image wanted, and what names stand for.
#[derive(Clone)]
pub(super) struct View<'a> {
    pub(super) platform: Platform,
    pub(super) scope: Scope<'a>,
}

impl View<'_> {
    /// A text with names filled in.
    pub(super) fn fill(&self, text: &Text) -> Result<String, Wrong> {
        let filled = self.scope.fill(&text.value);
        filled.map_err(|error| unfilled(text, error))
    }

    pub(super) fn fill_all(&self, texts: &[Text]) -> Result<Vec<String>, Wrong> {
        texts.iter().map(|text| self.fill(text)).collect()
    }

    pub(super) fn fill_some(&self, text: Option<&Text>) -> Result<Option<String>, Wrong> {
        text.map(|text| self.fill(text)).transpose()
    }
}

/// A text that can't be filled in, or not yet.
pub(super) fn unfilled(text: &Text, error: Unfilled) -> Wrong {
    match error {
        Unfilled::Wrong(message) => Wrong::at(&text.span, message),
        Unfilled::Waits => Wrong::waits(),
    }
}

/// What was asked for alone to find mistakes may wait.
fn unless_waiting<T>(made: Result<T, Wrong>) -> Result<(), Wrong> {
    match made {
        Err(wrong) if !wrong.waits => Err(wrong),
        _ => Ok(()),
    }
}

/// A vertex to be added.
pub(super) struct New<'n> {
    pub(super) op: Op,
    pub(super) inputs: Vec<StepId>,
    pub(super) name: StepName,
    pub(super) reuse: Reuse,
    pub(super) remote: WorkerProperties,
    pub(super) platform: &'n Platform,
    pub(super) at: &'n Range<usize>,
}

/// A step as it is written, and one combination of its matrix.
pub(super) type Found<'a> = (&'a Name, &'a model::Step, Combination);

/// A name filled in, the platform wanted, and that of images.
pub(super) type Key = (String, Platform, Platform);

pub(super) struct Compiler<'a> {
    pub(super) file: &'a BuildFile,
    pub(super) options: &'a Options,
    pub(super) images: &'a ImageTable,
    pub(super) params: &'a BTreeMap<String, String>,
    pub(super) graph: Graph,
    pub(super) needs: BTreeMap<ImageRequest, Option<Location>>,
    pub(super) stages: Vec<Stage>,
    pub(super) directories: BTreeMap<String, String>,
    /// The files that volumes are tied to, by the volumes' names.
    pub(super) volume_files: BTreeMap<String, String>,
    pub(super) exports: Vec<Export>,
    pub(super) layers: Vec<LayerRule>,
    /// What the image must keep to.
    pub(super) policy: Option<Policy>,
    /// Where the image goes.
    pub(super) settings: Option<Settings>,
    /// The images that were named, with the signatures that their sources want.
    pub(super) named_images: BTreeMap<ImageRequest, NamedImage>,
    /// The named contexts of the command line that something was taken from.
    pub(super) used_contexts: BTreeSet<String>,
    pub(super) done: BTreeMap<Key, Made>,
    pub(super) values: Rc<Values<'a>>,
    /// Whether something that waits has been named since the last step was begun.
    pub(super) met_waiting: bool,
    lines: Vec<Line>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        file: &'a BuildFile,
        options: &'a Options,
        images: &'a ImageTable,
        params: &'a BTreeMap<String, String>,
    ) -> Self {
        Self {
            file,
            options,
            images,
            params,
            graph: Graph::new(),
            needs: BTreeMap::new(),
            stages: Vec::new(),
            directories: BTreeMap::new(),
            volume_files: BTreeMap::new(),
            exports: Vec::new(),
            layers: Vec::new(),
            policy: None,
            settings: None,
            named_images: BTreeMap::new(),
            used_contexts: BTreeSet::new(),
            done: BTreeMap::new(),
            values: Rc::new(Values::new(file, &options.values)),
            met_waiting: false,
            lines: Vec::new(),
        }
    }

    /// Compiles all that the file has, for its mistakes.
    pub(super) fn everything(&mut self) -> Result<(), Wrong> {
        for platform in &self.options.platforms {
            let view = self.view(platform);
            let file = self.file;
            let steps = file.steps.keys().chain(file.tests.keys());
            for step in steps.clone() {
                for variant in self.variants(step.text(), &view)? {
                    self.named(&variant, &view)?;
                }
            }
            for source in file.sources.keys() {
                unless_waiting(self.named(source.text(), &view))?;
            }
            for (name, image) in &file.images {
                unless_waiting(self.whole_image(name, image, &view))?;
            }
        }
        Ok(())
    }

    pub(super) fn view(&self, platform: &Platform) -> View<'a> {
        View {
            platform: platform.clone(),
            scope: Scope::new(
                self.params,
                platform,
                &self.options.build_platform,
                self.values.clone(),
            ),
        }
    }

    pub(super) fn add(&mut self, new: New<'_>) -> Result<StepId, Wrong> {
        let step = Step {
            op: new.op,
            name: new.name,
            location: self.file.files.location(new.at),
            platform: new.platform.clone(),
            reuse: new.reuse,
            remote: new.remote,
        };
        let added = self.graph.add(step, new.inputs);
        added.map_err(|error| Wrong::at(new.at, format!("{error}; this is a bug in kiln")))
    }

    /// What a name in `from` means: a step, a source, `scratch`, or an image.
    pub(super) fn named(&mut self, name: &Text, view: &View<'_>) -> Result<Made, Wrong> {
        self.named_on(name, view, &view.platform)
    }

    /// The same, where an image may have to be for another platform.
    pub(super) fn named_on(
        &mut self,
        name: &Text,
        view: &View<'_>,
        image_platform: &Platform,
    ) -> Result<Made, Wrong> {
        let made = self.find(name, view, image_platform)?;
        self.met_waiting |= made.waits;
        Ok(made)
    }

    fn find(
        &mut self,
        name: &Text,
        view: &View<'_>,
        image_platform: &Platform,
    ) -> Result<Made, Wrong> {
        let wanted = view.fill(name)?;
        if let Some(found) = self.step_of(name, &wanted)? {
            return self.with_its_own(wanted, found, &view.platform);
        }
        let key = (wanted, view.platform.clone(), image_platform.clone());
        if let Some(made) = self.done.get(&key) {
            return Ok(made.clone());
        }
        let made = self.source_or_image(name, &key.0, view, image_platform)?;
        self.done.insert(key, made.clone());
        Ok(made)
    }

    /// The step or test called so, without its variant.
    pub(super) fn step_called(&self, name: &str) -> Option<(&'a Name, &'a model::Step)> {
        let steps = self.file.steps.get_key_value(name);
        steps.or_else(|| self.file.tests.get_key_value(name))
    }

    /// The step that a name means, and which combination of its matrix.
    pub(super) fn step_of(&self, asked: &Text, name: &str) -> Result<Option<Found<'a>>, Wrong> {
        let base = name.split('@').next().unwrap_or(name);
        let Some((own, step)) = self.step_called(base) else {
            return Ok(None);
        };
        let mut all = matrix::combinations(&step.matrix).into_iter();
        if let Some(chosen) = all.find(|chosen| matrix::name(base, chosen) == name) {
            return Ok(Some((own, step, chosen)));
        }
        let names = matrix::names(base, &step.matrix).join(", ");
        let message = format!("there is no '{name}': the step '{base}' makes {names}");
        Err(Wrong::at(&asked.span, message))
    }

    /// All variants of a step that is named without one; whatever else is named, itself.
    pub(super) fn variants(&self, name: &Text, view: &View<'_>) -> Result<Vec<Text>, Wrong> {
        let wanted = view.fill(name)?;
        let names = match self.step_called(&wanted) {
            Some((_, step)) => matrix::names(&wanted, &step.matrix),
            None => vec![wanted],
        };
        let span = &name.span;
        let text = |value| Text {
            value,
            span: span.clone(),
        };
        Ok(names.into_iter().map(text).collect())
    }

    /// Adds a line to a history.
    pub(super) fn line(&mut self, before: Option<LineId>, line: HistoryLine) -> Option<LineId> {
        self.lines.push(Line { line, before });
        Some(LineId(self.lines.len() - 1))
    }

    /// A whole history, by its last line.
    pub(super) fn history(&self, mut last: Option<LineId>) -> Vec<HistoryLine> {
        let mut lines = Vec::new();
        while let Some(line) = last.and_then(|id| self.lines.get(id.0)) {
            lines.push(line.line.clone());
            last = line.before;
        }
        lines.reverse();
        lines
    }

    /// Notes a step of the author's, so that it can be selected. Lines are the main file's: a step
    /// of an included one has none.
    pub(super) fn note(&mut self, stage: &str, number: u32, step: StepId) {
        let at = self.graph.step(step).location.as_ref();
        let at = at.filter(|at| self.file.files.is_main(at));
        let (line, end_line) = at.map_or((0, 0), |at| (at.line, at.end_line));
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
}
