//! A Docker daemon of a test's own. It needs root, as CI has it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Run, Space, run};

/// A daemon of Debian's package with everything of its own, that touches no firewall.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    directory: PathBuf,
}

impl Daemon {
    /// `None` for ordinary users: the daemon runs as root only.
    #[must_use]
    pub fn start(space: &Space) -> Option<Self> {
        Self::start_with(space, &[])
    }

    /// The same with more flags.
    #[must_use]
    pub fn start_with(space: &Space, flags: &[&str]) -> Option<Self> {
        if !crate::is_root() {
            return None;
        }
        let directory = space.path("docker");
        std::fs::create_dir(&directory).unwrap();
        let part = |name: &str| directory.join(name).display().to_string();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let process = Command::new("dockerd")
            .args([
                "--iptables=false",
                "--bridge=none",
                "--data-root",
                &part("data"),
            ])
            .args(["--exec-root", &part("exec"), "--pidfile", &part("pid")])
            .args(["-H", &format!("unix://{}", part("socket"))])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { process, directory };
        let started = Instant::now();
        while daemon.docker(&["version"]).status != Some(0) {
            let log = std::fs::read_to_string(daemon.directory.join("log")).unwrap();
            assert!(started.elapsed() < Duration::from_mins(1), "{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(daemon)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.directory.join("socket").display())
    }

    /// Runs `docker`.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Run {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", self.address());
        Run::of(&command.output().unwrap())
    }

    /// A directory of its own.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = run("kill", &[&self.process.id().to_string()]);
        _ = self.process.wait();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let directory = self.directory.display().to_string();
        for mount in own.filter(|mount| mount.starts_with(&directory)) {
            _ = run("umount", &["-l", mount]);
        }
    }
}
