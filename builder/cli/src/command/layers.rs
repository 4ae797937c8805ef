//! `--layers`: a plan's name, or a file that describes one.
//!
//! ```toml
//! plan = "per-step"        # or per-stage, squash, flat, named, auto
//! # or, instead of a plan, layers by path, lowest first; the rest goes into one more:
//! [[layer]]
//! name = "dependencies"
//! paths = ["usr/lib/python3/**", "opt/venv"]
//! ```

use std::path::Path;

use kiln_engine::{LayerPlan, PathRule};
use serde::Deserialize;

use kiln::{Error, file_text};

/// How many layers `auto` makes unless the user says otherwise.
const AUTO: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    plan: Option<String>,
    #[serde(default)]
    layer: Vec<LayerRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerRule {
    name: String,
    paths: Vec<String>,
}

/// The plan that a text names.
pub(crate) fn plan(text: &str) -> Result<LayerPlan, Error> {
    let known = by_name(text);
    if let Some(plan) = known {
        return Ok(plan);
    }
    if !Path::new(text).is_file() {
        return Err(Error::Usage(format!(
            "'{text}' is not a layer plan: {}",
            super::compat::LAYERS
        )));
    }
    let content = file_text(Path::new(text))?;
    let wrong = |reason: &dyn std::fmt::Display| Error::Usage(format!("{text}: {reason}"));
    let file: PlanFile = toml::from_str(&content).map_err(|error| wrong(&error))?;
    match (file.plan, file.layer.is_empty()) {
        (Some(name), true) => {
            by_name(&name).ok_or_else(|| wrong(&format!("there is no plan '{name}'")))
        }
        (None, false) => {
            let rule = |rule: LayerRule| PathRule {
                name: rule.name,
                paths: rule.paths,
            };
            Ok(LayerPlan::Paths(file.layer.into_iter().map(rule).collect()))
        }
        _ => Err(wrong(&"give either plan or [[layer]]")),
    }
}

fn by_name(name: &str) -> Option<LayerPlan> {
    Some(match name {
        "named" => LayerPlan::Named,
        "per-step" => LayerPlan::PerStep,
        "per-stage" => LayerPlan::PerStage,
        "squash" => LayerPlan::Squash,
        "flat" => LayerPlan::Flat,
        "auto" => LayerPlan::Auto(AUTO),
        other => LayerPlan::Auto(
            other
                .strip_prefix("auto:")?
                .parse()
                .ok()
                .filter(|n| *n > 1)?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_by_name_and_file() {
        assert_eq!(plan("auto:3").unwrap(), LayerPlan::Auto(3));
        assert_eq!(plan("squash").unwrap(), LayerPlan::Squash);
        assert!(plan("auto:1").is_err() && plan("sqash").is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        let read = || plan(&file.path().display().to_string());
        write("[[layer]]\nname = 'a'\npaths = ['x/**']\n");
        assert!(matches!(read().unwrap(), LayerPlan::Paths(rules) if rules[0].name == "a"));
        write("[[layers]]\n");
        assert!(read().is_err());
    }
}
