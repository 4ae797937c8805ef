//! `kiln serve --remote-execution`: a machine that runs steps of other machines' builds.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{Space, free_address, kiln_binary};

/// A running node with a store of its own.
#[derive(Debug)]
pub struct Node {
    process: Child,
    address: String,
    root: PathBuf,
}

impl Node {
    /// Starts one; `more` are further flags.
    #[must_use]
    pub fn start(space: &Space, more: &[&str]) -> Self {
        let address = free_address().to_string();
        let root = space.path("node");
        let process = Command::new(kiln_binary())
            .args(["serve", "--remote-execution", "--addr"])
            .arg(format!("tcp://{address}"))
            .arg("--root")
            .arg(&root)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let node = Self {
            process,
            address,
            root,
        };
        crate::wait_for_listener(&node.address);
        node
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// It as `--executor` takes it.
    #[must_use]
    pub fn executor(&self) -> String {
        format!("grpc://{}", self.address)
    }

    /// Its store.
    #[must_use]
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// Ends it at once, as a machine that dies.
    pub fn kill(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
