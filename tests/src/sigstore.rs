//! Sigstore's services on loopback: those of `@sigstore/mock`, which `scripts/setup-tests` fetches.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{Script, test_cache};

const SERVER: &str = include_str!("../fixtures/sigstore/server.js");
const VERIFY: &str = include_str!("../fixtures/sigstore/verify.js");

/// Running services, for as long as they are held.
#[derive(Debug)]
pub struct Sigstore {
    server: Script,
    directory: PathBuf,
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .args(["-e", script])
        .env("NODE_PATH", test_cache().join("sigstore/node_modules"));
    command
}

impl Sigstore {
    /// Starts the services, with their certificates and some tokens in a directory; `None` where
    /// `scripts/setup-tests` could not fetch them.
    #[must_use]
    pub fn start(directory: &Path) -> Option<Self> {
        if !test_cache().join("sigstore").exists() {
            eprintln!("skipped: scripts/setup-tests could not fetch @sigstore/mock");
            return None;
        }
        std::fs::create_dir_all(directory).unwrap();
        let server = Script::start(node(SERVER).env("DIRECTORY", directory));
        Some(Self {
            server,
            directory: directory.to_owned(),
        })
    }

    /// The address of a service that is below `path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.server.port())
    }

    /// The path of a file of theirs.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// What `@sigstore/verify` makes of bundles that a workflow should have signed.
    #[must_use]
    pub fn judge(&self, issuer: &str, identity: &str, bundles: &[PathBuf]) -> Output {
        node(VERIFY)
            .args([&self.file("trusted_root.json"), issuer, identity])
            .args(bundles)
            .output()
            .expect("node can be started")
    }
}
