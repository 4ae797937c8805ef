//! `kiln serve --remote-execution`: a machine that runs steps of other machines' builds.

use std::sync::Arc;

use kiln::{Engine, Error};
use kiln_serve::{Options, OtherApi};

#[cfg(not(feature = "reapi"))]
pub(super) fn open(_: &Engine, _: &Options) -> Result<Arc<dyn OtherApi>, Error> {
    let text = "--remote-execution: this kiln was built without clusters: use a release, or build kiln with '--features reapi'";
    Err(Error::Usage(text.to_owned()))
}

/// What answers the Remote Execution API with a server's engine.
#[cfg(feature = "reapi")]
pub(super) fn open(engine: &Engine, options: &Options) -> Result<Arc<dyn OtherApi>, Error> {
    let is_reachable =
        |address: &kiln_serve::Address| !matches!(address, kiln_serve::Address::Unix(_));
    if !options.addresses.iter().any(is_reachable) {
        let text = "--remote-execution: other machines come by TCP: give --addr tcp://IP:PORT";
        return Err(Error::Usage(text.to_owned()));
    }
    let processors = std::thread::available_parallelism();
    let parts = kiln_cluster::NodeParts {
        trees: engine.trees().clone(),
        sandbox: engine.sandbox().clone(),
        selection: engine.selection().clone(),
        network: options.network,
        jobs: options.jobs.unwrap_or(processors.map_or(1, usize::from)),
    };
    Ok(Arc::new(Node(kiln_cluster::ClusterNode::new(parts))))
}

#[cfg(feature = "reapi")]
#[derive(Debug)]
struct Node(kiln_cluster::ClusterNode);

#[cfg(feature = "reapi")]
impl OtherApi for Node {
    fn has(&self, service: &str) -> bool {
        self.0.has(service)
    }

    fn answer(&self, call: kiln_serve::Call) -> kiln_serve::Answer {
        self.0.answer(call)
    }

    fn stop(&self) {
        self.0.stop();
    }
}
