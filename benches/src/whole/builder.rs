//! Who builds: kiln, and what else is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::workload::Workload;

/// A builder's command.
pub(crate) trait Builder {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Its command line.
    fn command(&self, context: &Path, workload: &Workload) -> Command;

    /// Builds once, and says how long it took.
    fn build(&self, context: &Path, workload: &Workload) -> Result<Duration> {
        let mut command = self.command(context, workload);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let output = command.output().with_context(|| self.name().to_owned())?;
        let took = started.elapsed();
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} failed: {text}", self.name());
        Ok(took)
    }
}

/// kiln first, then the others that are here.
pub(crate) fn installed(kiln: &Path, place: &Path) -> Vec<Box<dyn Builder>> {
    let mut builders: Vec<Box<dyn Builder>> = vec![Box::new(Kiln {
        program: kiln.to_owned(),
        root: place.join("kiln"),
    })];
    if runs("buildah", &["--version"]) {
        builders.push(Box::new(Buildah {
            root: place.join("buildah"),
        }));
    }
    if runs("buildctl", &["debug", "workers"]) {
        builders.push(Box::new(BuildKit));
    }
    if runs("docker", &["version"]) && docker_has_buildkit() {
        builders.push(Box::new(Docker));
    }
    builders
}

/// Whether `docker build` talks to the daemon's BuildKit: with buildx, or by itself before version
/// 23 of the command.
fn docker_has_buildkit() -> bool {
    let mut command = Command::new("docker");
    command.args(["version", "--format", "{{.Client.Version}}"]);
    let output = command.output().map(|output| output.stdout);
    let version = String::from_utf8(output.unwrap_or_default()).unwrap_or_default();
    let major = version.split('.').next().and_then(|text| text.parse().ok());
    major.is_some_and(|major: u32| major < 23) || runs("docker", &["buildx", "version"])
}

fn runs(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

struct Kiln {
    program: PathBuf,
    root: PathBuf,
}

impl Builder for Kiln {
    fn name(&self) -> &'static str {
        "kiln"
    }

    fn command(&self, context: &Path, workload: &Workload) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("build")
            .arg(context)
            .env("KILN_ROOT", &self.root);
        if !workload.cached {
            command.arg("--no-cache");
        }
        command
    }
}

struct Buildah {
    root: PathBuf,
}

impl Builder for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn command(&self, context: &Path, workload: &Workload) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(&self.root);
        command.args([
            "build",
            "--isolation",
            "chroot",
            "--layers",
            "--tls-verify=false",
            "-q",
        ]);
        if !workload.cached {
            command.arg("--no-cache");
        }
        command.args(["-t", "bench"]).arg(context);
        command
    }
}

struct BuildKit;

impl Builder for BuildKit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn command(&self, context: &Path, workload: &Workload) -> Command {
        let mut command = Command::new("buildctl");
        command.args(["build", "--frontend", "dockerfile.v0"]);
        for name in ["context", "dockerfile"] {
            command
                .arg("--local")
                .arg(format!("{name}={}", context.display()));
        }
        if !workload.cached {
            command.arg("--no-cache");
        }
        command
    }
}

struct Docker;

impl Builder for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn command(&self, context: &Path, workload: &Workload) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_BUILDKIT", "1").args([
            "build",
            "-q",
            "-t",
            "bench",
            "--network",
            "host",
        ]);
        if !workload.cached {
            command.arg("--no-cache");
        }
        command.arg(context);
        command
    }
}
