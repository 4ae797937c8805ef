//! Sigstore's services on loopback: those of `@sigstore/mock`, which `scripts/setup-tests` fetches.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{Run, Script, digest, run, test_cache};

const SERVER: &str = include_str!("../fixtures/sigstore/server.js");
const VERIFY: &str = include_str!("../fixtures/sigstore/verify.js");
const SIGN: &str = include_str!("../fixtures/sigstore/sign.js");
const SIGN_IN_PYTHON: &str = include_str!("../fixtures/sigstore/sign.py");
const ATTACH: &str = include_str!("../fixtures/sigstore/attach.py");

/// Who the services say has vouched for a workflow.
pub const ISSUER: &str = "https://token.actions.githubusercontent.com";
/// The workflow whose token they give.
pub const WORKFLOW: &str = "https://github.com/o/r/.github/workflows/ci.yml@refs/heads/main";

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
        if !test_cache().join("sigstore/python").exists() {
            eprintln!("skipped: scripts/setup-tests could not fetch Sigstore's tools");
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

    /// Has `@sigstore/sign` sign a statement in one of the ways of `sign.js`, of which some are with a key.
    pub fn sign(&self, kind: &str, statement: &Path, key: &Path, bundle: &Path) {
        let mut command = node(SIGN);
        command.args([&self.url(""), &self.file("token")]);
        _ = command.arg(statement).arg(kind).arg(bundle).arg(key);
        _ = Run::of(&command.output().expect("node can be started")).ok();
    }

    /// Has PyPI's `sigstore` sign a statement, with a log of a version.
    pub fn sign_in_python(&self, log: &str, statement: &Path, bundle: &Path) {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", test_cache().join("sigstore/python"));
        command.args(["-c", SIGN_IN_PYTHON, &self.url("")]);
        command.args([&self.file("trusted_root.json"), log, &self.file("token")]);
        _ = command.arg(statement).arg(bundle);
        _ = Run::of(&command.output().expect("python3 can be started")).ok();
    }
}

/// Attaches a bundle to an image by hand.
pub fn attach_bundle(name: &str, bundle: &Path) {
    let repository = name.rsplit_once(':').map_or(name, |(rest, _)| rest);
    let bundle = bundle.display().to_string();
    let args = ["-c", ATTACH, repository, &digest(name), &bundle];
    _ = run("python3", &args).ok();
}
