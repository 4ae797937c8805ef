//! A new user's first minute, recorded: each command with all that it prints. What differs from run
//! to run (times, sizes, digests, addresses) is replaced; the rest is as people see it.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;
use std::process::Command;

use kiln_tests::{Registry, Run, kiln_binary, run};
use regex::Regex;
use tempfile::TempDir;

/// A directory, and what was done in it.
struct Walk {
    directory: TempDir,
    registry: Registry,
    /// The directory that commands are run in.
    at: PathBuf,
    text: String,
}

impl Walk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::start(&directory.path().join("registry"), false);
        let hub = format!("docker://{}", registry.name("library/busybox:latest"));
        let from = format!("docker://{}", kiln_tests::BUSYBOX);
        let flags = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        _ = run("skopeo", &["copy", flags[0], flags[1], &from, &hub]).ok();
        let host = registry.name("");
        let host = host.trim_end_matches('/');
        let config = format!("[registries.\"docker.io\"]\nmirrors = [\"http://{host}\"]\n");
        std::fs::write(directory.path().join("kiln.conf"), config).unwrap();
        std::fs::create_dir(directory.path().join("bin")).unwrap();
        let kiln = directory.path().join("bin/kiln");
        std::os::unix::fs::symlink(kiln_binary(), kiln).unwrap();
        let at = directory.path().join("app");
        std::fs::create_dir(&at).unwrap();
        Self {
            directory,
            registry,
            at,
            text: String::new(),
        }
    }

    /// What somebody does between two commands.
    fn write(&mut self, name: &str, text: &str) {
        self.text += &format!("\n## writes {name}\n");
        std::fs::write(self.at.join(name), text).unwrap();
    }

    /// Runs a command line, and notes it with what it prints.
    fn types(&mut self, line: &str) -> Run {
        let path = format!(
            "{}:{}",
            self.directory.path().join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let shell = line.replace("REGISTRY", self.registry.name("").trim_end_matches('/'));
        let output = Command::new("bash")
            .args(["-c", &shell])
            .current_dir(&self.at)
            .env("PATH", path)
            .env("KILN_CONFIG", self.directory.path().join("kiln.conf"))
            .env("KILN_ROOT", self.directory.path().join("store"))
            .env("COLUMNS", "100")
            .env_remove("BUILDKIT_PROGRESS")
            .env_remove("GITHUB_ACTIONS")
            .env_remove("GITLAB_CI")
            .output();
        let run = Run::of(&output.unwrap());
        self.text += &format!("\n$ {line}\n");
        for text in [&run.stderr, &run.stdout] {
            self.text += text;
            if !text.is_empty() && !text.ends_with('\n') {
                self.text.push('\n');
            }
        }
        if let Some(status) = run.status.filter(|status| *status != 0) {
            self.text += &format!("[exit status {status}]\n");
        }
        run
    }

    /// The walk without what differs from run to run.
    fn told(&self) -> String {
        let registry = self.registry.name("");
        let text = self
            .text
            .replace(registry.trim_end_matches('/'), "REGISTRY");
        let directory = self.directory.path().display().to_string();
        let mut text = text.replace(&directory, "HOME");
        for (pattern, with) in [
            (r"sha256:[0-9a-f]{64}", "sha256:…"),
            (r"\b[0-9a-f]{12,64}\b", "HEX"),
            (r"\b\d+(\.\d+)? ?(ms|s|MiB/s|KiB/s|B/s)\b", "TIME"),
            (r"\b\d+(\.\d+)? (B|KiB|MiB|GiB)\b", "SIZE"),
            (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?Z?\b", "DATE"),
            (r"\r", ""),
            // When an image is pulled, and what took longest, is a matter of chance.
            (r"(?m)^(pull|transfers:|critical path) .*\n", ""),
            (r"\bHEX-\d+-(HEX|[0-9a-f]+)\b", "BUILD"),
            (r"(?m)^(#\d+) \d+\.\d+ ", "$1 TIME "),
            (r"  +", "  "),
        ] {
            let pattern = Regex::new(pattern).unwrap();
            text = pattern.replace_all(&text, with).into_owned();
        }
        text
    }
}

#[test]
fn from_an_empty_directory_to_a_pushed_image() {
    let mut walk = Walk::new();
    // What `doctor` says of the machine is another's: only that it ends well.
    assert!(walk.types("kiln doctor > /dev/null").status == Some(0));
    _ = walk.types("kiln build");
    _ = walk.types("kiln init");
    _ = walk.types("kiln biuld");
    _ = walk.types("kiln build --tga hello");
    walk.write("Dockerfile", "FROM bussybox\nCOPY greeting /\n");
    _ = walk.types("kiln build --pull=never");
    let text = "FROM busybox\nCOPY greetnig /greeting\nRUN ech \"made by kiln\" >> /greeting\nCMD [\"cat\", \"/greeting\"]\n";
    walk.write("Dockerfile", text);
    walk.write("greeting", "hello\n");
    _ = walk.types("kiln build . -t Hello");
    _ = walk.types("kiln build . -t hello:1");
    walk.write("Dockerfile", &text.replace("greetnig", "greeting"));
    assert_eq!(walk.types("kiln build . -t hello:1").status, Some(1));
    _ = walk.types("echo 'cat /greeting' | kiln shell | grep -o '^hello'");
    let text = text
        .replace("greetnig", "greeting")
        .replace("ech ", "echo ");
    walk.write("Dockerfile", &text);
    assert_eq!(walk.types("kiln build . -t hello:1").status, Some(0));
    _ = walk.types("kiln build . -t hello:1");
    walk.write("greeting", "good morning\n");
    _ = walk.types("kiln build . -t hello:1");
    _ = walk.types("kiln explain");
    _ = walk.types("kiln steps");
    _ = walk.types("kiln image ls");
    _ = walk.types("kiln build . -q -o out && cat out/greeting");
    _ = walk.types("kiln build . -t REGISTRY/hello:1 --push --provenance=false");
    let pushed = walk
        .types("skopeo inspect --tls-verify=false --format '{{.Name}}' docker://REGISTRY/hello:1");
    assert_eq!(pushed.status, Some(0));
    insta::assert_snapshot!(walk.told());
}

#[test]
fn bake_files_and_a_matrix_of_a_ci() {
    let mut walk = Walk::new();
    walk.write(
        "Dockerfile",
        "FROM busybox\nARG V=0\nRUN echo $V > /version\n",
    );
    walk.write(
        "docker-bake.hcl",
        "group \"default\" { targets = [\"one\", \"two\"] }\ntarget \"one\" { tags = [\"app:one\"] }\ntarget \"two\" {\n  inherits = [\"one\"]\n  args = { V = \"2\" }\n  tags = [\"app:two\"]\n}\n",
    );
    assert_eq!(walk.types("kiln bake").status, Some(0));
    _ = walk.types("kiln bake tow");
    // Each job of a CI builds and pushes one platform, the last merges them.
    for platform in ["amd64", "arm64"] {
        walk.write("Dockerfile", "FROM scratch\nCOPY greeting /\n");
        walk.write("greeting", platform);
        let line = format!(
            "kiln build . -q --platform linux/{platform} -t REGISTRY/app:{platform} --push --provenance=false"
        );
        assert_eq!(walk.types(&line).status, Some(0));
    }
    let line = "kiln image create -t REGISTRY/app:1 REGISTRY/app:amd64 REGISTRY/app:arm64";
    _ = walk.types(line);
    _ = walk.types("kiln image inspect REGISTRY/app:1");
    insta::assert_snapshot!(walk.told());
}
