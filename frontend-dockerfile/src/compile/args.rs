//! ARG: global and of a stage, predefined ones, and the expansion of words.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use kiln_graph::{LayerOrigin, Platform};

use super::outline::Declared;
use super::stage::StageState;
use super::{Compiler, Stop};
use crate::DockerfileError;
use crate::ast::{Instruction, Kind};
use crate::error::fault;
use crate::expand::Lexer;
use crate::lint::At;

/// Arguments that steer the builder and are no variables.
const NOT_VARIABLES: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The arguments that FROM can use, and stages can declare.
#[derive(Clone, Debug, Default)]
pub(crate) struct Globals {
    pub(crate) values: IndexMap<String, String>,
    /// Those of the file's own declarations.
    pub(crate) declared: BTreeMap<String, Declared>,
}

impl Globals {
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}

impl Compiler<'_> {
    /// The predefined arguments for one platform.
    pub(crate) fn predefined(&self, target: &Platform) -> Globals {
        let build = &self.options.build_platform;
        let last = self.stages.last().and_then(|stage| stage.from.stage_name());
        let wanted = self.options.target.clone().filter(|name| !name.is_empty());
        let stage = wanted.or(last).unwrap_or_else(|| "default".to_owned());
        let all = [
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", build.os_version.clone()),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", build.variant.clone()),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", target.os_version.clone()),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", target.variant.clone()),
            ("TARGETSTAGE", stage),
        ];
        let value = |(name, value): (&str, String)| {
            let given = self.options.build_args.get(name).cloned();
            (name.to_owned(), given.unwrap_or(value))
        };
        Globals {
            values: all.into_iter().map(value).collect(),
            declared: BTreeMap::new(),
        }
    }

    /// Adds the ARGs before the first FROM, with the values that `given` has.
    pub(crate) fn declare_globals(
        &self,
        mut globals: Globals,
        given: &BTreeMap<String, String>,
    ) -> Result<Globals, DockerfileError> {
        let file = self.file;
        for at in &file.instructions {
            let Kind::Arg(args) = &at.kind else { break };
            for (name, default) in args {
                let mut needs = std::collections::BTreeSet::new();
                let value = match (given.get(name), default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, None) => None,
                    (None, Some(text)) => {
                        let lookup = |name: &str| globals.get(name);
                        let expanded = Lexer::new(file.escape).expand(text, &lookup);
                        let expanded = expanded.map_err(|bad| fault(at, &bad.message))?;
                        needs = expanded.set;
                        if needs.remove(name)
                            && let Some(old) = globals.declared.get(name)
                        {
                            needs.extend(old.needs.iter().cloned());
                        }
                        Some(expanded.text)
                    }
                };
                if let Some(value) = &value {
                    globals.values.insert(name.clone(), value.clone());
                }
                let declared = Declared {
                    value: value.unwrap_or_default(),
                    description: at.description(name).unwrap_or_default().to_owned(),
                    location: at.location.clone(),
                    needs,
                };
                globals.declared.insert(name.clone(), declared);
            }
        }
        Ok(globals)
    }

    /// ARG inside of a stage.
    pub(crate) fn arg(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        args: &[(String, Option<String>)],
    ) -> Result<(), Stop> {
        let mut recorded = Vec::new();
        for (name, default) in args {
            self.lint.secret_name(at.into(), name, "ARG");
            let given = self.options.build_args.get(name).cloned();
            let is_inherited =
                given.is_none() && default.is_none() && self.globals.values.contains_key(name);
            let value = match (given, default) {
                (Some(given), _) => Some(given),
                (None, Some(text)) => Some(self.expand(state, at, text)?),
                (None, None) => self.globals.get(name),
            };
            if let Some(value) = &value
                && !NOT_VARIABLES.contains(&name.as_str())
            {
                let set = state.set_env(name, value);
                set.map_err(|message| fault(at, &message))?;
            }
            if !is_inherited {
                let declared = Declared {
                    value: value.clone().unwrap_or_default(),
                    description: at.description(name).unwrap_or_default().to_owned(),
                    location: at.location.clone(),
                    needs: std::collections::BTreeSet::new(),
                };
                state.captured.known.insert(name.clone(), declared);
            }
            state.captured.used.insert(name.clone());
            recorded.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            state.args.insert(name.clone(), value);
        }
        let text = format!("ARG {}", recorded.join(" "));
        self.record(state, text, LayerOrigin::None)
    }

    /// One word of a stage's instruction.
    pub(crate) fn expand(
        &mut self,
        state: &StageState,
        at: &Instruction,
        text: &str,
    ) -> Result<String, Stop> {
        self.expand_as(Lexer::new(self.file.escape), state, at, text)
    }

    /// A here-document's text.
    pub(crate) fn expand_text(
        &mut self,
        state: &StageState,
        at: &Instruction,
        text: &str,
    ) -> Result<String, Stop> {
        self.expand_as(Lexer::for_text(), state, at, text)
    }

    fn expand_as(
        &mut self,
        lexer: Lexer,
        state: &StageState,
        at: &Instruction,
        text: &str,
    ) -> Result<String, Stop> {
        let expanded = lexer.expand(text, &|name| state.lookup(name));
        let (unset, text) = match expanded {
            Ok(expanded) => (expanded.unset, Ok(expanded.text)),
            Err(bad) => (bad.unset, Err(fault(at, &bad.message))),
        };
        if state.env_is_known {
            for name in unset {
                let is_declared = state.args.contains_key(&name);
                if !is_declared && !NOT_VARIABLES.contains(&name.as_str()) {
                    let known = state.env.keys().map(String::as_str);
                    self.lint.undefined(at.into(), &name, known);
                }
            }
        }
        let text = text?;
        self.budget.add(text.len())?;
        Ok(text)
    }

    /// The words that a word of a stage's instruction expands to.
    pub(crate) fn expand_words(
        &mut self,
        state: &StageState,
        at: &Instruction,
        text: &str,
    ) -> Result<Vec<String>, Stop> {
        let lookup = |name: &str| state.lookup(name);
        let expanded = Lexer::new(self.file.escape).expand(text, &lookup);
        let words = expanded.map_err(|bad| fault(at, &bad.message))?.words;
        self.budget.add(words.iter().map(String::len).sum())?;
        Ok(words)
    }

    /// Warns of stages whose image has no name unless arguments are given.
    pub(crate) fn lint_default_args(&mut self, predefined: &Globals) {
        let file = self.file;
        let Ok(defaults) = self.declare_globals(predefined.clone(), &BTreeMap::new()) else {
            return;
        };
        let lookup = |name: &str| defaults.get(name);
        for at in &file.instructions {
            let Kind::From(from) = &at.kind else { continue };
            let Ok(image) = Lexer::new(file.escape).expand(&from.image, &lookup) else {
                return;
            };
            if crate::image_name::check(&image.text).is_err() {
                let message = format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    from.image
                );
                self.lint.warn(
                    At::only(&at.location),
                    crate::Rule::InvalidDefaultArgInFrom,
                    message,
                );
            }
        }
    }
}
