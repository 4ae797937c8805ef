//! Who builds: kiln, and what else is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::workload::{Output, Start, Workload};

/// What images are pushed as.
const PUSHED: &str = "127.0.0.1:5000/bench";

/// A builder's command.
pub(crate) trait Builder {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Its command line; `None` for what it can't do.
    fn command(&self, context: &Path, workload: &Workload) -> Option<Command>;

    /// Removes everything it has stored.
    fn forget(&self) -> Result<()>;

    /// Builds once, and says how long it took.
    fn build(&self, context: &Path, workload: &Workload) -> Result<Option<Duration>> {
        let Some(mut command) = self.command(context, workload) else {
            return Ok(None);
        };
        if workload.start == Start::Nothing {
            self.forget()?;
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let output = command.output().with_context(|| self.name().to_owned())?;
        let took = started.elapsed();
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} failed: {text}", self.name());
        Ok(Some(took))
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
        builders.push(Box::new(BuildKit {
            archive: place.join("buildkit.tar"),
        }));
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

/// Two commands as one.
fn shell(first: &Command, second: &Command) -> Command {
    let words = |command: &Command| {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_string_lossy()));
        quoted.collect::<Vec<_>>().join(" ")
    };
    let mut command = Command::new("sh");
    command
        .arg("-ec")
        .arg(format!("{}\n{}", words(first), words(second)));
    command
}

fn done(mut command: Command) -> Result<()> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {text}");
    Ok(())
}

struct Kiln {
    program: PathBuf,
    root: PathBuf,
}

impl Builder for Kiln {
    fn name(&self) -> &'static str {
        "kiln"
    }

    fn command(&self, context: &Path, workload: &Workload) -> Option<Command> {
        let mut command = Command::new(&self.program);
        command.arg("build").arg(context);
        command.env("KILN_ROOT", &self.root);
        if workload.start == Start::Steps {
            command.arg("--no-cache");
        }
        let archive = self.root.with_extension("tar");
        match workload.output {
            Output::Stored => &mut command,
            Output::Archive(codec) => command.arg("-o").arg(format!(
                "type=oci,compression={codec},dest={}",
                archive.display()
            )),
            Output::Pushed => command.args(["-t", PUSHED, "--push"]),
        };
        Some(command)
    }

    fn forget(&self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .args(["prune", "--all", "--force"])
            .env("KILN_ROOT", &self.root);
        done(command)
    }
}

struct Buildah {
    root: PathBuf,
}

impl Buildah {
    fn start(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(&self.root);
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn command(&self, context: &Path, workload: &Workload) -> Option<Command> {
        let mut build = self.start();
        build.args([
            "build",
            "--isolation",
            "chroot",
            "--layers",
            "--tls-verify=false",
            "-q",
        ]);
        if workload.start == Start::Steps {
            build.arg("--no-cache");
        }
        build.args(["-t", "bench"]).arg(context);
        let mut push = self.start();
        push.args(["push", "-q", "--tls-verify=false", "bench"]);
        match workload.output {
            Output::Stored => return Some(build),
            Output::Archive("gzip") => {
                let archive = self.root.with_extension("tar");
                _ = std::fs::remove_file(&archive);
                push.arg(format!("oci-archive:{}", archive.display()))
            }
            Output::Archive(_) => return None,
            Output::Pushed => push.arg(format!("docker://{PUSHED}")),
        };
        Some(shell(&build, &push))
    }

    fn forget(&self) -> Result<()> {
        let mut command = self.start();
        command.args(["rmi", "--all", "--force"]);
        done(command)
    }
}

struct BuildKit {
    archive: PathBuf,
}

impl Builder for BuildKit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn command(&self, context: &Path, workload: &Workload) -> Option<Command> {
        let mut command = Command::new("buildctl");
        command.args(["build", "--frontend", "dockerfile.v0"]);
        for name in ["context", "dockerfile"] {
            let directory = format!("{name}={}", context.display());
            command.arg("--local").arg(directory);
        }
        if workload.start == Start::Steps {
            command.arg("--no-cache");
        }
        let output = match workload.output {
            Output::Stored => return Some(command),
            Output::Archive(codec) => format!(
                "type=oci,dest={},compression={codec},force-compression=true",
                self.archive.display()
            ),
            Output::Pushed => format!("type=image,name={PUSHED},push=true,registry.insecure=true"),
        };
        command.arg("--output").arg(output);
        Some(command)
    }

    fn forget(&self) -> Result<()> {
        let mut command = Command::new("buildctl");
        command.args(["prune", "--all"]);
        done(command)
    }
}

struct Docker;

impl Builder for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn command(&self, context: &Path, workload: &Workload) -> Option<Command> {
        let mut build = Command::new("docker");
        build.args(["build", "-q", "-t", PUSHED, "--network", "host"]);
        if workload.start == Start::Steps {
            build.arg("--no-cache");
        }
        build.arg(context);
        let mut push = Command::new("docker");
        push.args(["push", "-q", PUSHED]);
        let mut command = match workload.output {
            Output::Stored => build,
            Output::Archive(_) => return None,
            Output::Pushed => shell(&build, &push),
        };
        command.env("DOCKER_BUILDKIT", "1");
        Some(command)
    }

    fn forget(&self) -> Result<()> {
        let mut command = Command::new("docker");
        command.args(["system", "prune", "--all", "--force"]);
        done(command)?;
        let mut command = Command::new("docker");
        command.args(["builder", "prune", "--all", "--force"]);
        done(command)
    }
}
