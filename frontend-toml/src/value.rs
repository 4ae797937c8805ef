//! `{{ steps.NAME.stdout }}`: what steps write to their standard output, which is known only once
//! they have run.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::Platform;

use crate::matrix;
use crate::model::{BuildFile, ParamType, Step};
use crate::suggest::did_you_mean;
use crate::template::Unfilled;

/// A value that must be known: what a step writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueRequest {
    /// The step's name, with the values of its matrix.
    pub step: String,
    /// The platform of the image that it is wanted for.
    pub platform: Platform,
}

/// What steps have written.
pub type ValueTable = BTreeMap<ValueRequest, String>;

/// The values that texts may name.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    file: &'a BuildFile,
    known: &'a ValueTable,
    asked: RefCell<BTreeSet<ValueRequest>>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(file: &'a BuildFile, known: &'a ValueTable) -> Self {
        Self {
            file,
            known,
            asked: RefCell::default(),
        }
    }

    /// What has been asked for and isn't known.
    pub(crate) fn asked(&self) -> BTreeSet<ValueRequest> {
        self.asked.borrow().clone()
    }

    /// The value called `steps.NAME.stdout`; nothing for what isn't called so.
    pub(crate) fn get(&self, name: &str, platform: &Platform) -> Option<Result<String, Unfilled>> {
        let step = name.strip_prefix("steps.")?;
        let Some(step) = step.strip_suffix(".stdout") else {
            let message = format!("'{name}' is not known here: write steps.NAME.stdout");
            return Some(Err(message.into()));
        };
        Some(self.written(step, platform))
    }

    fn written(&self, name: &str, platform: &Platform) -> Result<String, Unfilled> {
        let step = self.step(name)?;
        let request = ValueRequest {
            step: name.to_owned(),
            platform: platform.clone(),
        };
        let Some(written) = self.known.get(&request) else {
            self.asked.borrow_mut().insert(request);
            return Err(Unfilled::Waits);
        };
        // As a shell takes what a command writes.
        let text = written.trim_end_matches('\n');
        match step.output.map(|kind| kind.read(text)) {
            None => Ok(text.to_owned()),
            Some(Some(value)) => Ok(value),
            Some(None) => {
                let kind = step.output.map_or("", ParamType::shown);
                Err(
                    format!("the output of the step '{name}' must be {kind}, but is '{text}'")
                        .into(),
                )
            }
        }
    }

    fn step(&self, name: &str) -> Result<&'a Step, String> {
        let base = name.split('@').next().unwrap_or(name);
        let Some(step) = self.file.steps.get(base).or(self.file.tests.get(base)) else {
            let known = self.file.steps.keys().map(crate::text::Name::as_str);
            return Err(format!(
                "there is no step '{base}'{}",
                did_you_mean(base, known)
            ));
        };
        if step.run.is_none() && step.script.is_none() {
            return Err(format!(
                "the step '{base}' runs nothing, so it writes nothing"
            ));
        }
        let made = matrix::names(base, &step.matrix);
        match made.iter().any(|made| made == name) {
            true => Ok(step),
            false => Err(format!(
                "there is no '{name}': the step '{base}' makes {}",
                made.join(", ")
            )),
        }
    }
}
