//! ARG: global and of a stage, predefined ones, and the expansion of words.

use std::collections::BTreeMap;

use kiln_graph::{LayerOrigin, PROXIES, Platform};

use super::stage::{StageState, set};
use super::{Compiler, Stop};
use crate::DockerfileError;
use crate::ast::{Instruction, Kind};
use crate::expand::Expander;
use crate::lint::Suspect;

/// Predefined arguments.
pub(crate) const PLATFORM_ARGS: &[&str] = &[
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETSTAGE",
];

impl Compiler<'_> {
    /// Reads the ARGs before the first FROM.
    pub(crate) fn read_global_args(&mut self) -> Result<(), DockerfileError> {
        let file = self.file;
        for instruction in &file.instructions {
            let Kind::Arg(args) = &instruction.kind else {
                break;
            };
            for (name, default) in args {
                let value = match self.options.build_args.get(name) {
                    Some(given) => Some(given.clone()),
                    None => match default {
                        Some(text) => Some(self.expand_global(text, instruction)?),
                        None => self.platform_arg(name, &self.options.platforms[0]),
                    },
                };
                self.global_args.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// What the ARGs before the first FROM are when nobody gives them values.
    pub(crate) fn default_args(&self, target: &Platform) -> BTreeMap<String, Option<String>> {
        let mut defaults: BTreeMap<String, Option<String>> = BTreeMap::new();
        for instruction in &self.file.instructions {
            let Kind::Arg(args) = &instruction.kind else {
                break;
            };
            for (name, default) in args {
                let lookup = |name: &str| match defaults.get(name) {
                    Some(value) => value.clone(),
                    None => self.platform_arg(name, target),
                };
                let expander = Expander::new(self.file.escape, &lookup);
                let value = default.as_ref().and_then(|text| expander.word(text).ok());
                let value = value.or_else(|| self.platform_arg(name, target));
                defaults.insert(name.clone(), value);
            }
        }
        defaults
    }

    fn expand_global(&self, text: &str, at: &Instruction) -> Result<String, DockerfileError> {
        let lookup = |name: &str| self.global(name, &self.options.platforms[0]);
        let expander = Expander::new(self.file.escape, &lookup);
        expander.word(text).map_err(|message| fault(at, &message))
    }

    /// What a name means in FROM.
    pub(crate) fn global(&self, name: &str, platform: &Platform) -> Option<String> {
        match self.global_args.get(name) {
            Some(value) => value.clone(),
            None => self.platform_arg(name, platform),
        }
    }

    /// The predefined platform arguments.
    pub(crate) fn platform_arg(&self, name: &str, target: &Platform) -> Option<String> {
        let build = &self.options.build_platform;
        Some(match name {
            "TARGETPLATFORM" => target.to_string(),
            "TARGETOS" => target.os.clone(),
            "TARGETARCH" => target.architecture.clone(),
            "TARGETVARIANT" => target.variant.clone(),
            "BUILDPLATFORM" => build.to_string(),
            "BUILDOS" => build.os.clone(),
            "BUILDARCH" => build.architecture.clone(),
            "BUILDVARIANT" => build.variant.clone(),
            "TARGETSTAGE" => self
                .options
                .target
                .clone()
                .or_else(|| self.stages.last().and_then(|stage| stage.from.name.clone()))
                .unwrap_or_else(|| "default".to_owned()),
            _ => return None,
        })
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
            let name = self.expand(state, at, name)?;
            self.lint.secret_name(at, &name, "ARG");
            let default = default
                .as_ref()
                .map(|text| self.expand(state, at, text))
                .transpose()?;
            let given = self.options.build_args.get(&name).cloned();
            let inherited = || match self.global_args.get(&name) {
                Some(global) => global.clone(),
                None => self.platform_arg(&name, &self.options.platforms_of(state)),
            };
            let value = given.or_else(|| default.clone()).or_else(inherited);
            if let Some(value) = &value {
                state.set_env(&name, value);
            }
            if PROXIES.contains(&name.as_str()) {
                continue;
            }
            recorded.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            set(&mut state.args, &name, value);
        }
        if !recorded.is_empty() {
            let text = format!("ARG {}", recorded.join(" "));
            state.record(text, LayerOrigin::None, self.created.as_ref());
        }
        Ok(())
    }

    /// One word of a stage's instruction.
    pub(crate) fn expand(
        &mut self,
        state: &StageState,
        at: &Instruction,
        text: &str,
    ) -> Result<String, Stop> {
        let lookup = |name: &str| state.lookup(name);
        let expander = Expander::new(self.file.escape, &lookup);
        let word = expander.word(text).map_err(|message| fault(at, &message))?;
        self.lint_unset(state, at, &expander);
        Ok(word)
    }

    /// The words that a word of a stage's instruction expands to.
    pub(crate) fn expand_words(
        &mut self,
        state: &StageState,
        at: &Instruction,
        text: &str,
    ) -> Result<Vec<String>, Stop> {
        let lookup = |name: &str| state.lookup(name);
        let expander = Expander::new(self.file.escape, &lookup);
        let words = expander
            .words(text)
            .map_err(|message| fault(at, &message))?;
        self.lint_unset(state, at, &expander);
        Ok(words)
    }

    /// A here-document's text.
    pub(crate) fn expand_text(
        &mut self,
        state: &StageState,
        at: &Instruction,
        text: &str,
    ) -> Result<String, Stop> {
        let lookup = |name: &str| state.lookup(name);
        let expander = Expander::new(self.file.escape, &lookup);
        expander
            .text(text)
            .map_err(|message| fault(at, &message).into())
    }

    fn lint_unset(&mut self, state: &StageState, at: &Instruction, expander: &Expander<'_>) {
        for name in expander.take_unset() {
            let declared = state.args.iter().any(|(known, _)| *known == name);
            if !declared {
                let known = state.env.iter().map(|(name, _)| name.as_str());
                let known = known.chain(state.args.iter().map(|(name, _)| name.as_str()));
                self.lint.undefined(
                    at,
                    &Suspect {
                        name: &name,
                        known: known.collect(),
                    },
                );
            }
        }
    }
}

impl super::Options {
    /// The platform that TARGET* arguments speak of in a stage: the image's, not the stage's own.
    fn platforms_of(&self, state: &StageState) -> Platform {
        match self
            .platforms
            .iter()
            .find(|platform| **platform == state.platform)
        {
            Some(platform) => platform.clone(),
            None => self.platforms[0].clone(),
        }
    }
}

/// An error at an instruction.
pub(crate) fn fault(at: &Instruction, message: &str) -> DockerfileError {
    let keyword = at.keyword.to_ascii_uppercase();
    DockerfileError::at(
        at.location.clone(),
        format!("failed to process {keyword}: {message}"),
    )
}
