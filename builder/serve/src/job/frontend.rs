//! The part of a build that a frontend is run for by the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::Job;
use crate::container::Containers;
use crate::proto::frontend::ReturnRequest;
use crate::proto::pb::Definition;

/// The job of a frontend that the server runs: its connection can call no other one's bridge.
#[derive(Clone, Debug)]
pub(crate) struct Bound(pub(crate) Arc<Job>);

impl Job {
    /// The part of a build that a frontend is run for: what it solves is the build's, and what it hands back
    /// is received by whoever runs it.
    pub(crate) fn of_a_frontend(
        &self,
        inputs: HashMap<String, Definition>,
    ) -> (Arc<Self>, oneshot::Receiver<ReturnRequest>) {
        let (sender, returned) = oneshot::channel();
        let mut request = self.request.clone();
        request.known.frontend_inputs = inputs;
        let job = Self {
            reference: self.reference.clone(),
            request,
            rules: self.rules.clone(),
            decisions: self.decisions.clone(),
            connection: self.connection,
            begun: self.begun,
            log: self.log.clone(),
            cancel: self.cancel.clone(),
            cancelled: self.cancelled.child_token(),
            containers: Containers::default(),
            returned: Mutex::new(Some(sender)),
            journals: self.journals.clone(),
        };
        (Arc::new(job), returned)
    }
}
