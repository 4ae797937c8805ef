//! Results of other builds in the place of a build's contexts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use kiln::Error;
use kiln_engine::write_directory;
use kiln_graph::ImageConfig;
use kiln_llb::image_of_ref;
use tonic::Status;

use super::run::Run;
use super::{Kept, definition, image_config, lend};
use crate::error::BuildError;
use crate::proto::pb::Definition;
use crate::result_ref::{new_id, ref_of};

/// The files of an input that takes the place of a client's directory.
pub(super) fn tree(run: &Run<'_>, name: &str) -> Result<Option<PathBuf>, BuildError> {
    let Some(definition) = run.asked.inputs.get(name) else {
        return Ok(None);
    };
    if definition.def.is_empty() {
        let text = "invalid nil input definition to definition op";
        return Err(Status::invalid_argument(text).into());
    }
    let kept = built(run, name, definition)?;
    let directory = run.scratch.vacant("input")?;
    if let Some(target) = kept.target() {
        let files = kept.built.solved.root_files(target, &*kept.built.journal);
        let files = files.map_err(Error::from)?;
        write_directory(&files, &directory, &|_| Ok(())).map_err(cannot_keep)?;
    }
    Ok(Some(directory))
}

/// Gives another build's result a name in the store, for as long as this build takes.
pub(super) fn image(run: &Run<'_>, name: &str) -> Result<String, BuildError> {
    let inputs = &run.asked.inputs;
    // An input of one platform has the platform behind its name.
    let is_it = |(own, _): &(&String, _)| {
        own.split("::").next() == Some(name.split("::").next().unwrap_or(name))
    };
    let mut alike = inputs.iter().filter(is_it).map(|(_, found)| found);
    let found = match (inputs.get(name), alike.next(), alike.next()) {
        (Some(found), ..) | (None, Some(found), None) => Ok(found),
        (None, None, _) => Err(format!("there is no input {name}")),
        (None, Some(_), Some(_)) => Err(format!("the input {name} has several platforms")),
    };
    let kept = built(run, name, found.map_err(Status::invalid_argument)?)?;
    let id = new_id()?;
    let tag = image_of_ref(&id).map_err(|error| Status::internal(error.to_string()))?;
    let config = match kept.built.is_definition {
        true => config(run, name)?,
        false => None,
    };
    lend::lend(run, &kept, tag.clone(), config)?;
    Ok(tag)
}

/// The configuration that an input has as an image, when the client says it.
fn config(run: &Run<'_>, name: &str) -> Result<Option<ImageConfig>, Status> {
    let key = format!("input-metadata:{name}");
    let Some(about) = run.client.attributes.text(&key) else {
        return Ok(None);
    };
    let wrong = |reason: String| Status::invalid_argument(format!("{key}: {reason}"));
    let about: BTreeMap<String, String> =
        serde_json::from_str(about).map_err(|error| wrong(error.to_string()))?;
    let Some(config) = about.get("containerimage.config") else {
        return Ok(None);
    };
    let json = base64::engine::general_purpose::STANDARD.decode(config);
    let json = json.map_err(|error| wrong(error.to_string()))?;
    image_config(&json).map(Some)
}

/// The result that an input is.
fn built(run: &Run<'_>, name: &str, input: &Definition) -> Result<Kept, BuildError> {
    match ref_of(input) {
        Some(id) => Ok(run.client.server.jobs.result(&id)?),
        None => built_definition(run, name, input),
    }
}

/// Builds an input that is a definition.
fn built_definition(
    run: &Run<'_>,
    name: &str,
    definition: &Definition,
) -> Result<Kept, BuildError> {
    let empty = || Status::invalid_argument(format!("the input {name} is empty"));
    let answer = definition::build(run, definition)?;
    let built = answer.result.ok_or_else(empty)?;
    Ok(Kept { built, number: 0 })
}

fn cannot_keep(source: std::io::Error) -> BuildError {
    BuildError::Host {
        what: "cannot keep another build's result",
        source,
    }
}
