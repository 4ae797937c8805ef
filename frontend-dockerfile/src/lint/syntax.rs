//! The rules that the syntax shows.

use std::collections::BTreeSet;

use super::{At, Linter};
use crate::Rule;
use crate::ast::{Dockerfile, Instruction, Kind};
use crate::compile::WORKER_DIRECTIVE;

/// What is found while a file is parsed.
pub(crate) fn check_parsed(file: &Dockerfile, lint: &mut Linter) {
    for location in &file.empty_continuations {
        let message = "Empty continuation line".to_owned();
        lint.warn(At::only(location), Rule::NoEmptyContinuation, message);
    }
    for instruction in &file.instructions {
        check_instruction(instruction, lint);
    }
}

/// What is found in a file that was parsed to its end.
pub(crate) fn check_stages(file: &Dockerfile, lint: &mut Linter) {
    check_names(file, lint);
    check_casing(file, lint);
}

fn check_instruction(at: &Instruction, lint: &mut Linter) {
    match &at.kind {
        Kind::From(from) => check_from(at, from, lint),
        Kind::Arg(args) => {
            let names: Vec<&str> = args.iter().map(|(name, _)| name.as_str()).collect();
            check_description(at, "ARG", &names, lint);
        }
        Kind::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
            lint.warn(at.into(), Rule::MaintainerDeprecated, message);
        }
        _ => {}
    }
}

fn check_from(at: &Instruction, from: &crate::ast::From, lint: &mut Linter) {
    let (Some(name), Some(stage)) = (&from.name, from.stage_name()) else {
        return;
    };
    if *name != stage {
        let message = format!("Stage name '{name}' should be lowercase");
        lint.warn(at.into(), Rule::StageNameCasing, message);
    }
    let (word, keyword) = (from.as_keyword.as_deref().unwrap_or_default(), &at.keyword);
    let fits = match Case::of(keyword) {
        Case::Lower => Case::of(word) == Case::Lower,
        Case::Upper => Case::of(word) == Case::Upper,
        Case::Mixed => true,
    };
    if !fits {
        let message = format!("'{word}' and '{keyword}' keywords' casing do not match");
        lint.warn(at.into(), Rule::FromAsCasing, message);
    }
    check_description(at, "FROM", &[&stage], lint);
}

/// The last comment above an argument or a stage is its description, and starts with its name.
fn check_description(at: &Instruction, keyword: &str, names: &[&str], lint: &mut Linter) {
    let Some(last) = at.comments.last() else {
        return;
    };
    let word = last.split(' ').next().unwrap_or_default();
    // Names of layers and properties of workers are kiln's own, and no descriptions.
    let is_own = word.starts_with("layer:") || word.starts_with(WORKER_DIRECTIVE);
    if is_own || names.contains(&word) {
        return;
    }
    let example = match names {
        [only] => only,
        _ => "<arg_key>",
    };
    let message =
        format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    lint.warn(at.into(), Rule::InvalidDefinitionDescription, message);
}

fn check_names(file: &Dockerfile, lint: &mut Linter) {
    let mut seen = BTreeSet::new();
    for at in &file.instructions {
        let Kind::From(from) = &at.kind else { continue };
        let Some(name) = from.stage_name() else {
            continue;
        };
        if ["scratch", "context"].contains(&name.as_str()) {
            let message =
                format!("Stage name should not use the same name as reserved stage \"{name}\"");
            lint.warn(At::only(&at.location), Rule::ReservedStageName, message);
        }
        if seen.contains(&name) {
            let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
            lint.warn(At::only(&at.location), Rule::DuplicateStageName, message);
        }
        seen.insert(name);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
    Mixed,
}

impl Case {
    fn of(word: &str) -> Self {
        if word == word.to_lowercase() {
            Self::Lower
        } else if word == word.to_uppercase() {
            Self::Upper
        } else {
            Self::Mixed
        }
    }
}

/// Keywords are in the case of most; ARGs before the first FROM don't count.
fn check_casing(file: &Dockerfile, lint: &mut Linter) {
    let all = file.instructions.iter();
    let counted: Vec<&Instruction> = all
        .skip_while(|at| matches!(at.kind, Kind::Arg(_)))
        .collect();
    let count = |case: Case| {
        let same = counted.iter().filter(|at| Case::of(&at.keyword) == case);
        same.count()
    };
    let (wanted, name) = match count(Case::Lower) > count(Case::Upper) {
        true => (Case::Lower, "lowercase"),
        false => (Case::Upper, "uppercase"),
    };
    for at in counted {
        if Case::of(&at.keyword) != wanted {
            let message = format!(
                "Command '{}' should match the case of the command majority ({name})",
                at.keyword
            );
            lint.warn(
                At::only(&at.location),
                Rule::ConsistentInstructionCasing,
                message,
            );
        }
    }
}
