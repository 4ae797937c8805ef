//! Questions about a build file: BuildKit's subrequests.

use std::collections::HashMap;

use kiln::question::{self, Said};
use kiln::{Assume, DockerfileRequest, Error, Located, Prepared, Pull, open_build_file};
use kiln_engine::Engine;
use serde_json::json;
use tonic::Code;

use crate::error::{BuildError, detail, rpc_status, with_details};
use crate::proto::RpcStatus;

/// The version of the documents.
const VERSION: &str = "1.0.0";

/// Answers a question.
pub(super) fn answer(
    engine: &Engine,
    mut request: DockerfileRequest,
    question: &str,
) -> Result<HashMap<String, Vec<u8>>, BuildError> {
    // What a step asks for is allowed or not when it runs.
    request.options.allow_insecure = true;
    request.assume_images = Assume::Missing;
    if request.pull == Pull::Always {
        request.pull = Pull::Missing;
    }
    let located = |at: Located| BuildError::of(at.0, at.1, "");
    if question == "frontend.subrequests.describe" {
        return Ok(said(&describe()));
    }
    let known = ["frontend.lint", "frontend.outline", "frontend.targets"];
    if !known.contains(&question) {
        return Err(unsupported(question));
    }
    let opened = open_build_file(engine, &request)?;
    if opened.is_toml() {
        let text = "a kiln.toml answers no questions: use 'kiln steps'";
        return Err(Error::Usage(text.to_owned()).into());
    }
    match question {
        "frontend.lint" => {
            let file = opened.check(engine, &request).map_err(located)?;
            let checked = &file.checked;
            let is_bad = checked.error.is_some() || !checked.warnings.is_empty();
            let mut answer = said(&question::check(&file));
            let code = if is_bad { "1" } else { "0" };
            answer.insert("result.statuscode".to_owned(), code.into());
            Ok(answer)
        }
        "frontend.outline" => {
            let prepared = opened.prepare(engine, &request).map_err(located)?;
            refuse_warnings(&prepared)?;
            Ok(said(&question::outline(&prepared)))
        }
        _ => {
            let (targets, texts) = opened.stages().map_err(located)?;
            Ok(said(&question::targets(&targets, &texts)))
        }
    }
}

/// A build file may want warnings to be errors.
pub(super) fn refuse_warnings(prepared: &Prepared) -> Result<(), BuildError> {
    match prepared.compiled.violations() {
        Some(text) => Err(with_details(text, Vec::new()).into()),
        None => Ok(()),
    }
}

fn said(said: &Said) -> HashMap<String, Vec<u8>> {
    let pairs = [
        ("result.json", said.json.as_str()),
        ("result.txt", &said.text),
        ("version", VERSION),
    ];
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.as_bytes().to_vec());
    pairs.into_iter().map(owned).collect()
}

/// Which questions there are.
fn describe() -> Said {
    let all = [
        (
            "frontend.outline",
            "List all parameters current build target supports",
        ),
        (
            "frontend.targets",
            "List all targets current build supports",
        ),
        ("frontend.lint", "Lint a Dockerfile"),
        (
            "frontend.subrequests.describe",
            "List available subrequest types",
        ),
    ];
    let document = all.map(|(name, description)| {
        json!({ "name": name, "version": VERSION, "type": "rpc", "description": description })
    });
    let line = |(name, description): &(&str, &str)| format!("{name:<32} {description}\n");
    Said {
        json: json!(document).to_string(),
        text: all.iter().map(line).collect(),
    }
}

fn unsupported(question: &str) -> BuildError {
    let status = RpcStatus {
        code: Code::Unimplemented.into(),
        message: format!("unsupported request {question}"),
        details: vec![detail("errdefs.Subrequest", &json!({ "name": question }))],
    };
    rpc_status(status).into()
}
