//! `kiln build --call`: questions about a build file, answered in the shapes that BuildKit uses.

use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use kiln_frontend_dockerfile::{Diagnostic, Outline, Place, Target, outline, targets};

use super::{Failed, print};
use crate::report;
use kiln::{Error, Prepared};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Check,
    Outline,
    Targets,
}

/// A question about a build file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    method: Method,
    json: bool,
}

impl Call {
    pub(crate) fn check() -> Self {
        Self {
            method: Method::Check,
            json: false,
        }
    }
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = text.split(',');
        let method = match fields.next().unwrap_or_default() {
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            other => {
                return Err(format!(
                    "--call {other}: use check, outline, targets or build"
                ));
            }
        };
        let mut call = Self {
            method,
            json: false,
        };
        for field in fields {
            call.json = match field {
                "format=json" => true,
                "format=text" => false,
                other => {
                    return Err(format!(
                        "--call {text}: '{other}': use format=json or format=text"
                    ));
                }
            };
        }
        Ok(call)
    }
}

/// Answers on standard output.
pub(crate) fn answer(call: Call, prepared: &Prepared) -> Result<(), Failed> {
    let Some(file) = &prepared.file else {
        let text =
            "--call is for Dockerfiles; 'kiln steps' and 'kiln graph' show what a kiln.toml does";
        return Err(Error::Usage(text.to_owned()).into());
    };
    let source = base64::engine::general_purpose::STANDARD.encode(prepared.texts.main());
    match call.method {
        Method::Check => return check(call.json, prepared, &source),
        Method::Outline => {
            let outline = outline(file, &prepared.options, &prepared.compiled);
            match call.json {
                true => print_json(
                    &mut serde_json::to_value(outline).unwrap_or_default(),
                    &source,
                ),
                false => print(&outline_text(&outline)),
            }
        }
        Method::Targets => {
            let targets = targets(file);
            match call.json {
                true => print_json(&mut serde_json::json!({ "targets": targets }), &source),
                false => print(&targets_text(&targets)),
            }
        }
    }
    Ok(())
}

/// Answers carry the files that their places are in.
fn print_json(answer: &mut serde_json::Value, source: &str) {
    answer["sources"] = serde_json::json!([source]);
    print(&format!("{answer:#}\n"));
}

fn check(json: bool, prepared: &Prepared, source: &str) -> Result<(), Failed> {
    let warnings = &prepared.compiled.warnings;
    if json {
        print(&format!("{:#}\n", check_json(prepared, source)));
    } else {
        for warning in warnings {
            print(&check_text(warning, prepared.texts.main()));
        }
        if warnings.is_empty() {
            print("Check complete, no warnings found.\n");
        }
    }
    refuse_warnings(prepared)?;
    if warnings.is_empty() {
        return Ok(());
    }
    let plural = if warnings.len() == 1 {
        " has"
    } else {
        "s have"
    };
    Err(Failed {
        text: format!(
            "Check complete, {} warning{plural} been found!",
            warnings.len()
        ),
        status: 1,
    })
}

/// A build file may want warnings to be errors.
pub(crate) fn refuse_warnings(prepared: &Prepared) -> Result<(), Failed> {
    let warnings = &prepared.compiled.warnings;
    if !prepared.compiled.warnings_are_errors || warnings.is_empty() {
        return Ok(());
    }
    let mut rules: Vec<&str> = warnings.iter().map(|warning| warning.rule.name()).collect();
    rules.dedup();
    let text = format!(
        "ERROR: lint violation found for rules: {}",
        rules.join(", ")
    );
    Err(Failed { text, status: 1 })
}

fn check_json(prepared: &Prepared, source: &str) -> serde_json::Value {
    let warning = |warning: &Diagnostic| {
        serde_json::json!({
            "ruleName": warning.rule.name(),
            "description": warning.rule.description(),
            "url": warning.rule.url(),
            "detail": warning.message,
            "location": Place::from(&warning.location),
        })
    };
    let warnings: Vec<_> = prepared.compiled.warnings.iter().map(warning).collect();
    serde_json::json!({
        "warnings": warnings,
        "sources": [{
            "fileName": prepared.options.file_name,
            "language": "Dockerfile",
            "data": source,
        }],
    })
}

fn check_text(warning: &Diagnostic, text: &str) -> String {
    format!(
        "WARNING: {} - {}\n{}\n{}\n",
        warning.rule.name(),
        warning.rule.url(),
        warning.message,
        report::excerpt(&warning.location, text)
    )
}

fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() {
        _ = writeln!(text, "TARGET:      {}", outline.name);
    }
    if !outline.description.is_empty() {
        _ = writeln!(text, "DESCRIPTION: {}", outline.description);
    }
    let args = outline
        .args
        .iter()
        .map(|arg| [arg.name.as_str(), &arg.value, &arg.description]);
    table(&mut text, ["BUILD ARG", "VALUE", "DESCRIPTION"], args);
    let need = |need: &kiln_frontend_dockerfile::Need| {
        (
            need.name.clone(),
            if need.required { "required" } else { "" },
        )
    };
    let secrets: Vec<_> = outline.secrets.iter().map(need).collect();
    let rows = secrets.iter().map(|(name, required)| [name, *required, ""]);
    table(&mut text, ["SECRET", "REQUIRED", ""], rows);
    let agents: Vec<_> = outline.ssh.iter().map(need).collect();
    let rows = agents.iter().map(|(name, required)| [name, *required, ""]);
    table(&mut text, ["SSH", "REQUIRED", ""], rows);
    let volumes = outline
        .cache
        .iter()
        .map(|volume| [volume.id.as_str(), "", ""]);
    table(&mut text, ["CACHE", "", ""], volumes);
    text
}

fn targets_text(targets: &[Target]) -> String {
    let mut text = String::new();
    let names: Vec<String> = targets
        .iter()
        .map(|target| match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        })
        .collect();
    let rows = names
        .iter()
        .zip(targets)
        .map(|(name, target)| [name.as_str(), &target.base, &target.description]);
    table(&mut text, ["TARGET", "BASE", "DESCRIPTION"], rows);
    text
}

/// Adds a table with aligned columns, unless it has no rows.
fn table<'a>(text: &mut String, head: [&'a str; 3], rows: impl Iterator<Item = [&'a str; 3]>) {
    let rows: Vec<[&str; 3]> = std::iter::once(head).chain(rows).collect();
    if rows.len() == 1 {
        return;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0) + 4;
    let (first, second) = (width(0), width(1));
    for [a, b, c] in &rows {
        let line = format!("{a:first$}{b:second$}{c}");
        _ = writeln!(text, "{}", line.trim_end());
    }
}
