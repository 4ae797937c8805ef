//! Layers in zstd:chunked are pulled file by file where most files are here; whatever is wrong, they are
//! pulled whole. The registry is `fixtures/registry.py`.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Run, Script, Space, copy_to_layout, noise, shell};

const FILES: u64 = 60;
const SIZE: usize = 70_000;

/// A registry with two versions of an image in zstd:chunked.
struct Site {
    space: Space,
    registry: Script,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            space: Space::new(),
            registry: Script::python(include_str!("../fixtures/registry.py")),
        };
        let dockerfile = format!("FROM {BUSYBOX}\nCOPY files /opt/files\n");
        site.space.write("Dockerfile", dockerfile);
        for number in 0..FILES {
            let name = format!("files/{number:02}");
            site.space.write(&name, noise(number, SIZE));
        }
        site.push("v1");
        site.space.write("files/07", noise(107, SIZE));
        site.space.write("files/new", noise(108, SIZE));
        let moved = [("files/20", "files/deeper/20"), ("files/21", "files/zz")];
        for (from, to) in moved {
            let content = std::fs::read(site.space.path("context").join(from)).unwrap();
            site.space.write(to, content);
            std::fs::remove_file(site.space.path("context").join(from)).unwrap();
        }
        site.push("v2");
        site
    }

    fn name(&self, tag: &str) -> String {
        format!("127.0.0.1:{}/team/app:{tag}", self.registry.port())
    }

    fn push(&self, tag: &str) {
        let name = self.name(tag);
        let output =
            format!("type=registry,name={name},compression=zstd:chunked,force-compression=true");
        _ = self.space.build(&["-o", &output]).ok();
    }

    /// Pulls the second version while the registry is in a mode; what was said, and the lengths of the parts
    /// that it sent.
    fn pull(&self, receiver: &Space, mode: &str, args: &[&str]) -> (Run, Vec<u64>) {
        self.registry.http("POST", &format!("/_mode/{mode}"));
        let name = self.name("v2");
        let run = receiver
            .kiln(&[&["image", "pull", &name], args].concat())
            .ok();
        let log = self.registry.http("GET", "/_log");
        let parts = log.lines().filter(|line| line.starts_with("part "));
        let sizes = parts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap());
        let sizes = sizes.collect();
        self.registry.http("POST", "/_mode/good");
        (run, sizes)
    }

    /// The second version in a store is the pushed one.
    fn check(&self, receiver: &Space) {
        let name = self.name("v2");
        let raw = receiver.kiln(&["image", "inspect", &name, "--raw"]).ok();
        self.registry.http("POST", "/_mode/good");
        let pushed = self.space.kiln(&["image", "inspect", &name, "--raw"]).ok();
        assert_eq!(raw.stdout, pushed.stdout);
        receiver.write("Dockerfile", format!("FROM {name}\n"));
        let files = receiver.build_files(&[]);
        let script = format!(
            "diff -r {} {}",
            files.join("opt/files").display(),
            self.space.path("context/files").display()
        );
        assert_eq!(shell(Path::new("/"), &script), "");
    }

    /// A machine that has the first version.
    fn receiver(&self) -> Space {
        let receiver = Space::new();
        _ = receiver.kiln(&["image", "pull", &self.name("v1")]).ok();
        receiver
    }
}

/// The lines that say that a layer is pulled whole.
fn whole(said: &str) -> usize {
    let lines = said.lines();
    lines
        .filter(|line| line.contains("is pulled whole"))
        .count()
}

#[test]
fn only_changed_files_are_fetched() {
    let site = Site::new();
    let receiver = site.receiver();
    let (run, parts) = site.pull(&receiver, "parts", &[]);
    assert!(run.stderr.contains("pull files"), "{}", run.stderr);
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    // The tables, one file, and two beside each other, of which one has another name now.
    assert_eq!(parts.len(), 3, "{parts:?}");
    let sum: u64 = parts.iter().sum();
    assert!(sum < 4 * SIZE as u64, "{parts:?}");
    site.check(&receiver);
    let (_, again) = site.pull(&receiver, "parts", &[]);
    assert_eq!(again, Vec::<u64>::new(), "it is here");
}

#[test]
fn a_build_fetches_only_changed_files() {
    let site = Site::new();
    let receiver = site.receiver();
    site.registry.http("POST", "/_mode/parts");
    receiver.write(
        "Dockerfile",
        format!("FROM {}\nRUN true\n", site.name("v2")),
    );
    let said = receiver.build(&[]).ok().stderr;
    assert!(said.contains("pull files"), "{said}");
}

#[test]
fn whatever_registries_do_the_image_comes() {
    let site = Site::new();
    for (mode, lines) in [
        ("parts-416", 1),
        ("parts-whole", 1),
        ("parts-other", 1),
        ("parts-damaged", 1),
        ("parts-short", 1),
        ("parts-cut", 0),
    ] {
        let receiver = site.receiver();
        let (run, _) = site.pull(&receiver, mode, &[]);
        assert_eq!(whole(&run.stderr), lines, "{mode}: {}", run.stderr);
        site.check(&receiver);
    }
}

#[test]
fn the_old_image_is_the_one_that_is_named() {
    let site = Site::new();
    let v1 = site.name("v1");
    let layout = site.space.path("layout").display().to_string();
    copy_to_layout(&format!("docker://{v1}"), &layout);
    let files = site.space.path("old-files").display().to_string();
    _ = site.space.kiln(&["image", "unpack", &v1, &files]).ok();
    // The tables of the layer, and two parts; of a directory's image the base's layer, too.
    for (base, want) in [(format!("oci:{layout}"), 3), (files.clone(), 4), (v1, 3)] {
        let receiver = Space::new();
        let (run, parts) = site.pull(&receiver, "parts", &["--base", &base]);
        assert_eq!(parts.len(), want, "{base}: {parts:?} {}", run.stderr);
        site.check(&receiver);
    }
    // Files of the directory that are others by now are fetched.
    std::fs::write(Path::new(&files).join("opt/files/30"), noise(999, SIZE)).unwrap();
    std::fs::remove_file(Path::new(&files).join("opt/files/40")).unwrap();
    let link = Path::new(&files).join("opt/files/40");
    std::os::unix::fs::symlink("/etc/shadow", link).unwrap();
    let receiver = Space::new();
    let (_, parts) = site.pull(&receiver, "parts", &["--base", &files]);
    assert_eq!(parts.len(), 6, "{parts:?}");
    site.check(&receiver);
}

#[test]
fn a_base_that_is_none_is_said() {
    let space = Space::new();
    space.write("layout/oci-layout", "{}").write("file", "");
    let inside = |name: &str| space.path("context").join(name).display().to_string();
    for (base, want) in [
        (inside("nothing"), "there is no such directory"),
        (inside("file"), "there is no such directory"),
        (inside("layout"), "--base oci:"),
    ] {
        let run = space.kiln(&["image", "pull", BUSYBOX, "--base", &base]);
        assert_eq!(run.status, Some(2), "{base}: {}", run.stderr);
        assert!(run.stderr.contains(want), "{base}: {}", run.stderr);
    }
    let run = space.kiln(&["image", "pull", BUSYBOX, "--base", "127.0.0.1:5000/none:1"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(
        run.stderr.contains("127.0.0.1:5000/none:1"),
        "{}",
        run.stderr
    );
}
