//! The part of a build that a frontend is run for by the server.

use std::sync::{Arc, Mutex};

use kiln::Provenance;
use tokio::sync::oneshot;
use tonic::Status;

use super::Job;
use crate::build::Asked;
use crate::container::Containers;
use crate::proto::frontend::ReturnRequest;

/// Frontends that run each other are no more: each is a process that waits for the next.
const MAX_DEPTH: u32 = 8;

/// An image that is a frontend.
#[derive(Debug)]
pub(crate) struct FrontendImage {
    /// How many frontends have been run for each other, this one included.
    depth: u32,
    /// What provenance tells of it: its name, its arguments, and where it comes from.
    pub(crate) facts: Provenance,
}

/// The job of a frontend that the server runs: its connection can call no other one's bridge.
#[derive(Clone, Debug)]
pub(crate) struct Bound(pub(crate) Arc<Job>);

impl Job {
    /// The part of a build that a frontend is run for: what it solves is the build's, and what it hands back
    /// is received by whoever runs it.
    ///
    /// # Errors
    /// When frontends have run frontends for too long.
    pub(crate) fn of_a_frontend(
        &self,
        asked: &Asked,
        facts: Provenance,
    ) -> Result<(Arc<Self>, oneshot::Receiver<ReturnRequest>), Status> {
        let frontend = FrontendImage {
            depth: self.frontend.as_ref().map_or(0, |above| above.depth) + 1,
            facts,
        };
        if frontend.depth > MAX_DEPTH {
            let text = format!("more than {MAX_DEPTH} frontends run each other");
            return Err(Status::resource_exhausted(text));
        }
        let (sender, returned) = oneshot::channel();
        let mut request = self.request.clone();
        request.known.frontend_inputs = asked.inputs.clone();
        request.known.frontend_attrs = asked.attributes.clone();
        let (cancel, following) = self.cancel.child();
        let job = Self {
            reference: self.reference.clone(),
            request,
            rules: self.rules.clone(),
            decisions: self.decisions.clone(),
            connection: self.connection,
            begun: self.begun,
            log: self.log.clone(),
            cancel,
            _following: Some(following),
            cancelled: self.cancelled.child_token(),
            containers: Containers::default(),
            frontend: Some(frontend),
            returned: Mutex::new(Some(sender)),
            journals: self.journals.clone(),
        };
        Ok((Arc::new(job), returned))
    }
}
