//! Questions about a build file, answered in the shapes that BuildKit uses for its subrequests
//! `frontend.lint`, `frontend.outline` and `frontend.targets`, version 1.0.0.

use std::fmt::Write as _;

use base64::Engine as _;
use kiln_frontend_dockerfile::{Diagnostic, Outline, Place, Target};
use serde::Serialize;

use crate::excerpt::excerpt;
use crate::{CheckedFile, Prepared, Texts};

/// An answer, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The document, as Go writes it.
    pub json: String,
    /// The same for people.
    pub text: String,
}

/// What is wrong with a Dockerfile.
#[must_use]
pub fn check(file: &CheckedFile) -> Said {
    Said {
        json: go_json(&lint_results(file)),
        text: check_text(file),
    }
}

/// What a build takes: arguments, secrets, SSH agents.
#[must_use]
pub fn outline(prepared: &Prepared) -> Said {
    let outline = &prepared.compiled.outline;
    Said {
        json: go_json(&Answer {
            answer: outline,
            sources: [encoded(prepared.texts.main())],
        }),
        text: outline_text(outline),
    }
}

/// The stages of a Dockerfile.
#[must_use]
pub fn targets(targets: &[Target], texts: &Texts) -> Said {
    Said {
        json: go_json(&Answer {
            answer: Stages { targets },
            sources: [encoded(texts.main())],
        }),
        text: targets_text(targets),
    }
}

/// An answer, with the files that its places are in.
#[derive(Serialize)]
struct Answer<T> {
    #[serde(flatten)]
    answer: T,
    sources: [String; 1],
}

#[derive(Serialize)]
struct Stages<'a> {
    targets: &'a [Target],
}

fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// JSON as Go writes it: what could end a script in a page is escaped.
fn go_json(answer: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(answer).unwrap_or_default();
    let escaped = text
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    escaped + "\n"
}

/// The document of BuildKit's `frontend.lint`, version 1.0.0.
#[derive(Serialize)]
struct LintResults<'a> {
    warnings: Option<Vec<Warning<'a>>>,
    sources: [Source<'a>; 1],
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    error: Option<BuildError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    rule_name: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    detail: &'a str,
    location: Place,
}

#[derive(Serialize)]
struct Source<'a> {
    filename: &'a str,
    data: String,
    language: &'a str,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    location: Place,
}

fn lint_results(file: &CheckedFile) -> LintResults<'_> {
    let checked = &file.checked;
    let warning = |found| -> Warning<'_> {
        let found: &Diagnostic = found;
        Warning {
            rule_name: found.rule.name(),
            description: found.rule.description(),
            url: found.rule.url(),
            detail: &found.message,
            location: Place::from(&found.location),
        }
    };
    let warnings: Vec<_> = checked.warnings.iter().map(warning).collect();
    LintResults {
        // Go writes an empty list that was never made as null.
        warnings: Some(warnings).filter(|warnings| !warnings.is_empty()),
        sources: [Source {
            filename: &file.file_name,
            data: encoded(file.texts.main()),
            language: "Dockerfile",
        }],
        error: checked.error.as_ref().map(|error| BuildError {
            message: error.tool_message(),
            location: error.lines.as_deref().map(Place::from).unwrap_or_default(),
        }),
    }
}

/// What is wrong, in the order of the file.
fn check_text(file: &CheckedFile) -> String {
    let mut warnings: Vec<&Diagnostic> = file.checked.warnings.iter().collect();
    warnings.sort_by_key(|warning| warning.location.line);
    let mut text = match warnings.len() {
        0 if file.checked.error.is_some() => String::new(),
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in warnings {
        text.push_str(&warning_text(warning, file.texts.main()));
    }
    text
}

fn warning_text(warning: &Diagnostic, text: &str) -> String {
    let url = match warning.rule.url().as_str() {
        "" => String::new(),
        url => format!(" - {url}"),
    };
    format!(
        "\nWARNING: {}{url}\n{}\n{}",
        warning.rule.name(),
        warning.message,
        excerpt(&warning.location, text)
    )
}

fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    match (outline.name.as_str(), outline.description.as_str()) {
        ("", "") => {}
        (name, "") => _ = writeln!(text, "TARGET: {name}"),
        ("", description) => _ = writeln!(text, "DESCRIPTION: {description}"),
        (name, description) => {
            _ = writeln!(text, "TARGET:      {name}\nDESCRIPTION: {description}");
        }
    }
    let args = outline
        .args
        .iter()
        .map(|arg| [arg.name.as_str(), &arg.value, &arg.description]);
    table(&mut text, ["BUILD ARG", "VALUE", "DESCRIPTION"], args);
    for (head, needs) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        let rows = needs.iter().map(|need| {
            let required = if need.required { "true" } else { "" };
            [need.name.as_str(), required, ""]
        });
        table(&mut text, [head, "REQUIRED", ""], rows);
    }
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
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0) + 3;
    let (first, second) = (width(0), width(1));
    for [a, b, c] in &rows {
        let line = format!("{a:first$}{b:second$}{c}");
        _ = writeln!(text, "{}", line.trim_end());
    }
}
