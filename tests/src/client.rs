//! `kiln serve`, and Debian's buildx as its client.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Run, Space, run};

/// buildx, where `scripts/setup-tests` could fetch it.
#[must_use]
pub fn buildx() -> Option<PathBuf> {
    let path = crate::test_cache().join("docker-buildx");
    path.exists().then_some(path)
}

/// A running server with a space's store, and a client's directory of its own.
#[derive(Debug)]
pub struct Server {
    process: Child,
    client: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts a server, and makes buildx know it.
    #[must_use]
    pub fn start(space: &Space, args: &[&str]) -> Self {
        Self::named(space, "server", args)
    }

    /// The same with another name, and a store of that name where there are several.
    #[must_use]
    pub fn named(space: &Space, name: &str, args: &[&str]) -> Self {
        let args = [&["serve"], args].concat();
        Self::of(space, &crate::kiln_binary(), name, &args)
    }

    /// Starts a server that is another program.
    #[must_use]
    pub fn of(space: &Space, program: &Path, name: &str, args: &[&str]) -> Self {
        let socket = space.path(format!("{name}.sock"));
        let log = space.path(format!("{name}.log"));
        let address = format!("unix://{}", socket.display());
        let mut command = Command::new(program);
        command
            .args(args)
            .args(["--addr", &address])
            .env("KILN_ROOT", space.path("store"))
            .current_dir(space.path(""));
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .expect("kiln can be started");
        let server = Self {
            process,
            client: space.path(format!("{name}-client")),
            socket,
            log,
        };
        let started = Instant::now();
        while UnixStream::connect(&server.socket).is_err() {
            let log = server.log();
            assert!(started.elapsed() < Duration::from_secs(30), "{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::fs::create_dir_all(&server.client).unwrap();
        let create = ["create", "--name", "kiln", "--driver", "remote", &address];
        _ = Run::of(&server.buildx(&create).output().unwrap()).ok();
        server
    }

    /// What the server said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The server's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The directory where the client has its settings.
    #[must_use]
    pub fn client(&self) -> &Path {
        &self.client
    }

    /// buildx with this server, in the directory of the space.
    #[must_use]
    pub fn buildx(&self, args: &[&str]) -> Command {
        let program = buildx().expect("buildx is there; run scripts/setup-tests");
        let mut command = Command::new(program);
        command
            .args(args)
            .env("DOCKER_CONFIG", &self.client)
            .env("BUILDX_BUILDER", "kiln")
            .env("DOCKER_HOST", "unix:///nowhere")
            .env_remove("BUILDKIT_PROGRESS")
            .current_dir(self.client.parent().unwrap());
        command
    }

    /// Builds the space's context with plain progress.
    #[must_use]
    pub fn build(&self, args: &[&str]) -> Run {
        let words = ["build", "--progress", "plain"];
        let all = [&words[..], args, &["context"]].concat();
        Run::of(&self.buildx(&all).output().unwrap())
    }

    /// Asks the server to end, and waits until it has.
    pub fn stop(&mut self) -> Option<i32> {
        _ = run("kill", &[&self.process.id().to_string()]);
        crate::wait(&mut self.process);
        self.process.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            _ = run("kill", &[&self.process.id().to_string()]);
            let started = Instant::now();
            while self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
                if started.elapsed() > Duration::from_secs(15) {
                    _ = self.process.kill();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.log());
        }
    }
}
