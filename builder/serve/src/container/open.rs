//! A container that is there, and all those of a build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_engine::Container;
use tonic::Status;

use crate::build::Results;

/// One container, with what it is made of.
#[derive(Debug)]
pub(crate) struct OpenContainer {
    pub(crate) container: Container,
    /// What it shows stays as long as it does.
    pub(crate) _results: Results,
}

/// The containers of a build, by the names that its client has for them.
#[derive(Debug, Default)]
pub(crate) struct Containers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<String, Arc<OpenContainer>>,
    /// Whether the build has ended: there are no more.
    has_ended: bool,
}

impl Containers {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one.
    pub(crate) fn add(&self, name: String, container: OpenContainer) -> Result<(), Status> {
        let mut state = self.lock();
        if state.has_ended {
            return Err(Status::cancelled("context canceled"));
        }
        if state.open.contains_key(&name) {
            let text = format!("container {name} already exists");
            return Err(Status::already_exists(text));
        }
        state.open.insert(name, Arc::new(container));
        Ok(())
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<OpenContainer>, Status> {
        let found = self.lock().open.get(name).cloned();
        found.ok_or_else(|| unknown(name))
    }

    /// Ends one with all of its processes.
    pub(crate) fn release(&self, name: &str) -> Result<(), Status> {
        let found = self.lock().open.remove(name);
        found.ok_or_else(|| unknown(name))?.container.kill();
        Ok(())
    }

    /// Ends all, for the build has.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        let open = std::mem::take(&mut state.open);
        drop(state);
        for container in open.into_values() {
            container.container.kill();
        }
    }
}

fn unknown(name: &str) -> Status {
    Status::not_found(format!(
        "container {name:?} previously released or not created"
    ))
}
