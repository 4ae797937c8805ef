//! `kiln build --call`: questions about a build file, answered in the shapes that BuildKit uses.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use kiln_engine::Engine;
use kiln_frontend_dockerfile::{Diagnostic, Outline, Place, Target};
use serde::Serialize;

use super::{Failed, print, print_json_text};
use crate::report;
use kiln::{Assume, CheckedFile, DockerfileRequest, Error, Located, Prepared, open_build_file};

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
pub(crate) fn answer(
    call: Call,
    engine: &Engine,
    mut request: DockerfileRequest,
) -> Result<(), Failed> {
    // What a step asks for is allowed or not when it runs.
    request.options.allow_insecure = true;
    request.assume_images = Assume::Missing;
    let shown = |at: Located| Failed::of(&at.0, &at.1);
    let opened = open_build_file(engine, &request)?;
    if opened.is_toml() {
        let text =
            "--call is for Dockerfiles; 'kiln steps' and 'kiln graph' show what a kiln.toml does";
        return Err(Error::Usage(text.to_owned()).into());
    }
    match call.method {
        Method::Check => answer_check(call.json, &opened.check(engine, &request).map_err(shown)?),
        Method::Outline => {
            let prepared = opened.prepare(engine, &request).map_err(shown)?;
            let (outline, text) = (&prepared.compiled.outline, prepared.texts.main());
            match call.json {
                true => print_json(&Answer {
                    answer: outline,
                    sources: [encoded(text)],
                }),
                false => print(&outline_text(outline)),
            }
            Ok(())
        }
        Method::Targets => {
            let (targets, texts) = opened.stages().map_err(shown)?;
            match call.json {
                true => print_json(&Answer {
                    answer: Stages { targets: &targets },
                    sources: [encoded(texts.main())],
                }),
                false => print(&targets_text(&targets)),
            }
            Ok(())
        }
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
fn print_json(answer: &impl Serialize) {
    let text = serde_json::to_string_pretty(answer).unwrap_or_default();
    let escaped = text
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    print_json_text(&format!("{escaped}\n"));
}

fn answer_check(json: bool, file: &CheckedFile) -> Result<(), Failed> {
    let checked = &file.checked;
    if json {
        print_json(&lint_results(file));
    } else {
        print(&check_text(file));
    }
    let failed = |text: String| Err(Failed { text, status: 1 });
    match &checked.error {
        Some(error) => {
            let error = Error::from(error.clone());
            failed(report::error(&error, &file.texts))
        }
        None if checked.warnings.is_empty() => Ok(()),
        None => failed(String::new()),
    }
}

/// A build file may want warnings to be errors.
pub(crate) fn refuse_warnings(prepared: &Prepared) -> Result<(), Failed> {
    let warnings = &prepared.compiled.warnings;
    if !prepared.compiled.warnings_are_errors || warnings.is_empty() {
        return Ok(());
    }
    let rules: BTreeSet<&str> = warnings.iter().map(|warning| warning.rule.name()).collect();
    let rules: Vec<&str> = rules.into_iter().collect();
    let text = format!(
        "ERROR: lint violation found for rules: {}",
        rules.join(", ")
    );
    Err(Failed { text, status: 1 })
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
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0) + 4;
    let (first, second) = (width(0), width(1));
    for [a, b, c] in &rows {
        let line = format!("{a:first$}{b:second$}{c}");
        _ = writeln!(text, "{}", line.trim_end());
    }
}
