//! The store survives: full disks, many builds and prunes at once.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::process::{Child, Stdio};

use kiln_tests::{BUSYBOX, Space, read, run};

/// A small disk in memory, for as long as it is held.
struct Disk(String);

impl Disk {
    fn mount(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let path = path.display().to_string();
        _ = run(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", &path],
        );
        Self(path)
    }

    fn grow(&self, size: &str) {
        _ = run("mount", &["-o", &format!("remount,size={size}"), &self.0]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_breaks() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\nRUN head -c 6000000 /dev/urandom > /big\nRUN sha256sum /big > /sum\n"
        ),
    );
    // Too small for the base's blob, for its files, for the step, for the output.
    for size in ["600k", "1500k", "5m", "9m"] {
        let disk = Disk::mount(&space.path("store"), size);
        let output = format!("type=oci,dest={}", space.path("store/out.tar").display());
        let failed = space.build(&["-o", &output]);
        assert_eq!(failed.status, Some(1), "{size}: {}", failed.stderr);
        let text = failed.stderr.to_lowercase();
        assert!(
            text.contains("no space left") || text.contains("exit code"),
            "{size}: {text}"
        );
        assert!(!text.contains("panicked"), "{text}");
        disk.grow("100m");
        let checked = space.kiln(&["fsck"]);
        assert_eq!(
            checked.status,
            Some(0),
            "{size}: {}{}",
            checked.stdout,
            checked.stderr
        );
        _ = space.build(&["-o", &output]).ok();
    }
}

#[test]
fn many_builds_and_prunes_at_once() {
    let space = Space::new();
    let build = |number: usize| -> Child {
        let name = format!("Dockerfile.{number}");
        let text = format!(
            "FROM {BUSYBOX}\nRUN echo shared > /shared\nRUN echo {number} > /own; head -c 200000 /dev/zero > /zero\nCOPY --from={BUSYBOX} /bin/busybox /copied\n"
        );
        space.write(&name, text);
        let file = space.path("context").join(&name).display().to_string();
        let output = format!(
            "type=local,dest={}",
            space.path(format!("out{number}")).display()
        );
        let mut command = space.command(&["build", "context", "-f", &file, "-o", &output]);
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let builds: Vec<Child> = (0..32).map(build).collect();
    for _ in 0..10 {
        _ = space.kiln(&["prune", "--all", "--force"]).ok();
    }
    for (number, child) in builds.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{number}: {text}");
        let own = read(space.path(format!("out{number}/own")));
        assert_eq!(own, format!("{number}\n"));
        assert!(space.path(format!("out{number}/copied")).exists());
    }
    let checked = space.kiln(&["fsck"]);
    assert_eq!(
        checked.status,
        Some(0),
        "{}{}",
        checked.stdout,
        checked.stderr
    );
}
