//! Images that a build uses by names in the store: results of other builds, and images of a client's
//! layouts. They are named for as long as the build takes.

use kiln::Error;
use kiln_engine::ImageOptions;
use kiln_graph::{ImageConfig, Platform};
use kiln_llb::{image_of_ref, results_in};
use tonic::Status;

use super::attributes::LayoutName;
use super::run::Run;
use super::{Built, layout as image_layout};
use crate::error::{BuildError, of_definition};
use crate::proto::pb::Definition;
use crate::session::ClientStore;

/// Gives a result the name of an image in the store while this build takes.
pub(super) fn lend(
    run: &Run<'_>,
    built: &Built,
    name: String,
    config: Option<ImageConfig>,
) -> Result<(), BuildError> {
    let solved = &built.solved;
    let options = ImageOptions {
        config: config.map(Box::new),
        ..built.options.clone()
    };
    let targets = solved.build().targets.iter();
    let images = targets.map(|target| solved.image(target, &options, &*run.progress));
    let images = images.collect::<Result<Vec<_>, _>>().map_err(Error::from)?;
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
        lend(run, &kept.built, name, None)?;
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
