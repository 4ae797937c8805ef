//! A registry of a test's own (Debian's docker-registry), on a free port.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running registry, for as long as it is held.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    /// `HOST:PORT`.
    address: String,
}

impl Registry {
    /// Starts a registry with its files in a directory.
    #[must_use]
    pub fn start(directory: &Path, deletes: bool) -> Self {
        let storage = format!("storage:\n  delete: {{enabled: {deletes}}}\n");
        Self::run(directory, "127.0.0.1", &storage, "")
    }

    /// Starts a registry at an address of this machine, with more lines of settings, the first of
    /// them below `http`.
    #[must_use]
    pub fn start_at(directory: &Path, host: &str, settings: &str) -> Self {
        Self::run(directory, host, "storage:\n", settings)
    }

    fn run(directory: &Path, host: &str, storage: &str, settings: &str) -> Self {
        let free = TcpListener::bind((host, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let address = format!("{host}:{port}");
        std::fs::create_dir_all(directory).unwrap();
        let config = directory.join("config.yml");
        let root = directory.join("files");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\n{storage}  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: '{address}'\n{settings}",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry can be started; run scripts/setup-tests");
        let registry = Self { child, address };
        crate::wait_for_listener(&registry.address);
        registry
    }

    /// The name of a repository.
    #[must_use]
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
