//! Where a build's contexts and its build file come from: a directory of the client's, another build's
//! result, an image's layout, an address.

use std::collections::BTreeMap;

use kiln::{BuildFileText, ContextFrom, DockerfileRequest, Error, Texts};
use kiln_engine::Pins;
use kiln_frontend_dockerfile::{ContextKind, is_remote, read_remote};
use kiln_graph::{BlobDigest, ImagePath, Op};
use tonic::Status;

use super::attributes::Source;
use super::contexts::Local;
use super::run::Run;
use super::{frontend, input, lend};
use crate::error::BuildError;
use crate::session::{pull, upload_of};

/// Reads the build file, and prepares the contexts. Gives those that are the client's directories.
pub(super) fn contexts(
    run: &Run<'_>,
    request: &mut DockerfileRequest,
) -> Result<BTreeMap<String, Local>, BuildError> {
    let attributes = run.client.attributes;
    let mut locals = BTreeMap::new();
    match attributes.text("context") {
        None => {
            let (file, own) = build_file(run)?;
            request.text = Some(file);
            let directory = attributes.text("contextkey").unwrap_or("context");
            match input::tree(run, directory)? {
                Some(tree) => request.context = ContextFrom::Directory(tree),
                None => {
                    _ = run.check_context(directory)?;
                    let local = run.client.local("context", directory, own)?;
                    request.context = ContextFrom::Directory(local.directory());
                    locals.insert("context".to_owned(), local);
                }
            }
        }
        Some(address) => remote(run, address, request)?,
    }
    for (name, source) in attributes.contexts()? {
        let kind = match source {
            Source::Client(directory) => {
                _ = run.check_context(&directory)?;
                let local = run.client.local(&name, &directory, None)?;
                let directory = ContextFrom::Directory(local.directory());
                request.contexts.insert(name.clone(), directory);
                locals.insert(name.clone(), local);
                ContextKind::Local
            }
            Source::Remote(address) => {
                hold(request, &address, run.check_context(&address)?);
                let remote = ContextFrom::Remote(address);
                request.contexts.insert(name.clone(), remote);
                ContextKind::Local
            }
            Source::Input(input) => ContextKind::Image(input::image(run, &input)?),
            Source::Layout(layout) => ContextKind::Image(lend::layout(run, &layout, None)?),
            Source::Known(kind) => kind,
        };
        request.options.contexts.insert(name, kind);
    }
    if let Some(file) = &mut request.text {
        let ignore = locals
            .iter()
            .map(|(name, local)| (name.clone(), local.ignore.clone()));
        file.ignore = ignore.collect();
    }
    Ok(locals)
}

/// Reads the build file, from a directory of the client's or from another build's result.
fn build_file(run: &Run<'_>) -> Result<(BuildFileText, Option<Vec<String>>), BuildError> {
    let attributes = run.client.attributes;
    let directory = attributes.text("dockerfilekey").unwrap_or("dockerfile");
    let given = input::tree(run, directory)?;
    if given.is_none() {
        _ = run.check_context(directory)?;
    }
    let (file, own) = run.client.build_file(given.as_deref())?;
    match frontend::foreign_syntax(&file, attributes, &run.client.server.frontends) {
        Ok(None) => Ok((file, own)),
        Ok(Some(foreign)) => Err(BuildError::Frontend(Box::new(foreign))),
        Err(error) => Err(BuildError::of(
            Error::from(error),
            Texts::of(file.text),
            attributes.file_name(),
        )),
    }
}

/// A main context that is no directory of the client's.
fn remote(run: &Run<'_>, address: &str, request: &mut DockerfileRequest) -> Result<(), BuildError> {
    let digest = run.check_context(address)?;
    let attributes = run.client.attributes;
    if let Some(directory) = attributes.text("contextsubdir") {
        request.context_directory = ImagePath::new(directory);
    }
    if attributes.text("dockerfilekey").is_some() {
        request.text = Some(build_file(run)?.0);
    } else {
        request.file = Some(attributes.file_name().into());
    }
    if let Some(name) = upload_of(address) {
        if digest.is_some() {
            let text = "the policy gives the upload of a context a digest, which kiln can't do";
            return Err(Status::unknown(text).into());
        }
        let file = run.scratch.0.join("upload");
        let runtime = &run.client.server.runtime;
        run.progress
            .during("[internal] load remote build context", |_| {
                runtime.block_on(pull(run.client.session, name, &file))
            })?;
        request.context = ContextFrom::File(file);
        return Ok(());
    }
    if !is_remote(address) {
        let text = format!("invalid build context {address:?}: an address is needed");
        return Err(Status::invalid_argument(text).into());
    }
    hold(request, address, digest);
    request.context = ContextFrom::Remote(address.to_owned());
    Ok(())
}

/// Has a context that is a file be what a policy was told of it.
fn hold(request: &mut DockerfileRequest, address: &str, digest: Option<BlobDigest>) {
    if let (Some(digest), Ok(Op::Http(file))) = (digest, read_remote(address, None, None)) {
        let key = Pins::http_key(&file);
        _ = request.context_pins.http.insert(key, digest);
    }
}
