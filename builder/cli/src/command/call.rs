//! `kiln build --call`: questions about a build file, answered in the shapes that BuildKit uses.

use std::str::FromStr;

use kiln_engine::Engine;

use super::{Failed, print, print_json_text};
use crate::report;
use kiln::question::{self, Said};
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
            refuse_warnings(&prepared)?;
            show(call.json, &question::outline(&prepared));
            Ok(())
        }
        Method::Targets => {
            let (targets, texts) = opened.stages().map_err(shown)?;
            show(call.json, &question::targets(&targets, &texts));
            Ok(())
        }
    }
}

fn show(json: bool, said: &Said) {
    match json {
        true => print_json_text(&said.json),
        false => print(&said.text),
    }
}

fn answer_check(json: bool, file: &CheckedFile) -> Result<(), Failed> {
    let checked = &file.checked;
    show(json, &question::check(file));
    let failed = |text: String| Err(Failed { text, status: 1 });
    match &checked.error {
        Some(error) => {
            let error = Error::from(error.clone());
            failed(report::error(&error, &file.texts))
        }
        None if checked.warnings.is_empty() => Ok(()),
        // People see the warnings.
        None if !crate::display::is_for_program() => failed(String::new()),
        None => failed("the build file has warnings".to_owned()),
    }
}

/// A build file may want warnings to be errors.
pub(crate) fn refuse_warnings(prepared: &Prepared) -> Result<(), Failed> {
    match prepared.compiled.violations() {
        Some(text) => Err(Failed {
            text: format!("ERROR: {text}"),
            status: 1,
        }),
        None => Ok(()),
    }
}
