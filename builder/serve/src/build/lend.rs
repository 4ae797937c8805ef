//! Images that a build uses by names in the store: results of other builds, and images of a client's
//! layouts. They are named for as long as the build takes.

use kiln::Error;
use kiln_engine::ImageOptions;
use kiln_graph::{ImageConfig, Platform};
use kiln_llb::{image_of_ref, results_in};
use tonic::Status;

use super::attributes::LayoutName;
use super::run::Run;
use super::{Kept, layout as image_layout};
use crate::error::{BuildError, of_definition};
use crate::proto::pb::Definition;
use crate::session::ClientStore;

/// Gives a result, one target of its build, the name of an image in the store while this build takes.
pub(super) fn lend(
    run: &Run<'_>,
    kept: &Kept,
    name: String,
    config: Option<ImageConfig>,
) -> Result<(), BuildError> {
    let solved = &kept.built.solved;
    let nothing = || Status::unknown("a result of a build that has no such target");
    let target = kept.target().ok_or_else(nothing)?;
    let options = ImageOptions {
        config: config.map(Box::new),
        ..kept.built.options.clone()
    };
    let image = solved.image(target, &options, &*run.progress);
    let images = [image.map_err(Error::from)?];
    // Layers that no step has asked for yet are brought here: what is lent is used from the store.
    let brought = solved.bring(&images, &*run.progress);
    brought.map_err(Error::from)?;
    let tagged = solved.tag(&images, &name, &*run.progress);
    tagged.map_err(Error::from)?;
    run.sources.admit(&name);
    run.lent.borrow_mut().names.push(name);
    Ok(())
}

/// Lends the results that a definition is made from.
pub(super) fn lend_results(run: &Run<'_>, definition: &Definition) -> Result<(), BuildError> {
    for id in results_in(definition).map_err(|error| of_definition(&error))? {
        let kept = run.client.server.jobs.result(&id)?;
        let name = image_of_ref(&id).map_err(|error| Status::unknown(error.to_string()))?;
        lend(run, &kept, name, None)?;
    }
    Ok(())
}

/// Brings an image of a client's layout here; gives the name that it has here. `session` has the
/// layout, if the definition says so.
pub(super) fn layout(
    run: &Run<'_>,
    layout: &LayoutName,
    session: Option<&str>,
) -> Result<String, BuildError> {
    let server = run.client.server;
    let session = match session {
        Some(id) => server.runtime.block_on(server.sessions.get(id))?,
        None => run.client.session.clone(),
    };
    _ = run.check_context(&format!("oci-layout://{}@{}", layout.store, layout.digest))?;
    let name = format!("oci:{}", layout.store);
    let store = ClientStore::new(server.runtime.clone(), session, name);
    let directory = run.scratch.vacant("layout")?;
    let mut platforms = run.client.attributes.options()?.platforms;
    platforms.push(Platform::host());
    let line = format!("[internal] load oci-layout://{}", layout.store);
    run.progress.during(&line, |_| {
        image_layout::fetch(&store, &layout.digest, &platforms, &directory)
    })?;
    Ok(format!("oci:{}", directory.display()))
}
