//! A place for end-to-end tests: directories, a store, and the `kiln` command.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking"
)]

mod actions_cache;
mod api;
mod casd;
mod certificates;
mod client;
mod cluster;
mod daemon;
mod definition;
mod image;
mod judges;
mod layer;
mod node;
mod pod;
mod program;
mod registry;
mod s3;
mod sigstore;
mod web;

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

pub use actions_cache::ActionsCache;
pub use api::Client;
pub use casd::{Casd, CasdWorker};
pub use certificates::certificates;
pub use client::{Server, buildx};
pub use cluster::{Cluster, Fault};
pub use daemon::Daemon;
pub use definition::{definition_of, file_definition};
pub use image::{copy_to_layout, digest, unpack};
pub use judges::Judges;
pub use node::Node;
pub use pod::{Bundle, Cgroup, Pod};
pub use program::compile;
pub use registry::Registry;
pub use s3::{KEY, S3, SECRET};
pub use sigstore::{ISSUER, Sigstore, WORKFLOW, attach_bundle};
pub use web::{Script, Web};

/// The base image that `scripts/setup-tests` serves.
pub const BUSYBOX: &str = "127.0.0.1:5000/busybox:latest";

/// `git` with somebody's name, for the shell.
pub const GIT: &str = "git -c user.name=t -c user.email=t@localhost -c init.defaultBranch=main";

/// The `kiln` command: `$KILN_BIN`, or the one beside the tests.
#[must_use]
pub fn kiln_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("KILN_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test knows its own path");
    let directory = test
        .ancestors()
        .nth(2)
        .expect("tests lie in target/PROFILE/deps");
    directory.join("kiln")
}

/// Where `scripts/setup-tests` puts programs that it fetches.
#[must_use]
pub fn test_cache() -> PathBuf {
    let own = std::env::var_os("KILN_TEST_CACHE").map(PathBuf::from);
    let caches = || {
        let xdg = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::home_dir().unwrap_or_default().join(".cache");
        xdg.unwrap_or_else(home)
    };
    own.unwrap_or_else(|| caches().join("kiln-tests"))
}

/// A directory with a context and a store of its own.
#[derive(Debug)]
pub struct Space {
    directory: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Run {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Run {
    /// Turns a finished process into what it did.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Demands success.
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Demands a failed build (status 1) whose message has all of `parts`.
    pub fn fails_with(&self, parts: &[&str]) {
        self.ends_with(1, parts);
    }

    /// Expects a command line that is refused, and these parts of the message.
    #[track_caller]
    pub fn is_refused_with(&self, parts: &[&str]) {
        self.ends_with(2, parts);
    }

    #[track_caller]
    fn ends_with(&self, status: i32, parts: &[&str]) {
        assert_eq!(
            self.status,
            Some(status),
            "{}\n{}",
            self.stdout,
            self.stderr
        );
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "'{part}' is not in:\n{}",
                self.stderr
            );
        }
    }
}

impl Default for Space {
    fn default() -> Self {
        Self::new()
    }
}

impl Space {
    /// An empty context and no store yet.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("context")).unwrap();
        Self { directory }
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the context.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path("context").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// The `kiln` command with this directory's store.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(kiln_binary());
        command
            .args(args)
            .env("KILN_ROOT", self.path("store"))
            .current_dir(self.directory.path());
        // Images that [`Self::image`] made are the user's to give.
        if args.first() == Some(&"build") && self.path("evil").is_dir() {
            let image = format!("evil=oci:{}:latest", self.path("evil").display());
            command.args(["--build-context", &image]);
        }
        command
    }

    /// Runs `kiln`.
    #[must_use]
    pub fn kiln(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().expect("kiln can be started"))
    }

    /// Runs `kiln build` on the context with plain progress.
    #[must_use]
    pub fn build(&self, args: &[&str]) -> Run {
        self.kiln(&[&["build", "context", "--progress", "plain"], args].concat())
    }

    /// Builds, and reads files of the result.
    #[must_use]
    pub fn build_files(&self, args: &[&str]) -> PathBuf {
        let out = self.path("out");
        _ = std::fs::remove_dir_all(&out);
        let output = format!("type=local,dest={}", out.display());
        let _done = self.build(&[args, &["-o", &output]].concat()).ok();
        out
    }
}

/// The text of a file.
#[must_use]
pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A file of JSON.
#[must_use]
pub fn read_json(path: impl AsRef<Path>) -> serde_json::Value {
    serde_json::from_str(&read(path)).unwrap()
}

/// Runs another program and demands success.
#[must_use]
pub fn run(program: &str, args: &[impl AsRef<OsStr>]) -> Run {
    let output = Command::new(program).args(args).output();
    Run::of(&output.unwrap_or_else(|error| panic!("{program}: {error}; run scripts/setup-tests")))
        .ok()
}

/// Bytes that don't compress, and are the same each time.
#[must_use]
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Runs lines of the shell in a directory, demands success, and gives what they printed.
pub fn shell(directory: &Path, script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(directory);
    Run::of(&command.output().unwrap()).ok().stdout
}

/// Whether a process with these words runs.
#[must_use]
pub fn runs(words: &str) -> bool {
    let found = Command::new("pgrep").args(["-f", words]).output();
    found.unwrap().status.success()
}

/// Whether the tests are root.
#[must_use]
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Waits until somebody listens at an address.
///
/// # Panics
/// When nobody does for a minute.
pub(crate) fn wait_for_listener(address: impl ToSocketAddrs) {
    let began = Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(began.elapsed() < Duration::from_mins(1), "it doesn't start");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An address of this machine that nobody listens at.
fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

/// Waits for a process; panics when that takes more than a minute.
pub fn wait(child: &mut Child) {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The one copy of the one volume of a store.
#[must_use]
pub fn volume_of(store: &Path) -> Option<PathBuf> {
    let volumes = std::fs::read_dir(store.join("volumes")).ok()?;
    let mut copies = volumes.flatten().map(|entry| entry.path().join("0"));
    copies.find(|copy| copy.exists())
}
