//! Differences between images: pushed beside them, pulled, written to files. Whatever is wrong with
//! one, the image is pulled.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};

use kiln_tests::{BUSYBOX, Daemon, Registry, Run, Space, copy_to_layout, digest, noise, shell};

const SIZE: usize = 1_500_000;

/// A registry with an image, `v1`, and a second version of it, `v2`, with its difference.
struct Site {
    space: Space,
    _registry: Registry,
    image: String,
}

impl Site {
    fn new() -> Self {
        let space = Space::new();
        let registry = Registry::start(&space.path("registry"), true);
        let image = registry.name("team/app");
        let dockerfile = format!("FROM {BUSYBOX}\nCOPY lib.so.1 /lib/\nCOPY other /\n");
        space.write("Dockerfile", dockerfile).write("other", "same");
        space.write("lib.so.1", noise(1, SIZE));
        let site = Self {
            space,
            _registry: registry,
            image,
        };
        let _v1 = site.push("v1", &[]);
        site
    }

    fn with_difference() -> Self {
        let site = Self::new();
        let mut changed = noise(1, SIZE);
        changed.splice(700_000..700_004, *b"new code");
        site.space.write("lib.so.1", changed);
        let _v2 = site.push("v2", &["--delta-from", "v1"]);
        site
    }

    fn name(&self, tag: &str) -> String {
        format!("{}:{tag}", self.image)
    }

    fn push(&self, tag: &str, args: &[&str]) -> Run {
        let name = self.name(tag);
        self.space
            .build(&[&["-t", &name, "--push"], args].concat())
            .ok()
    }

    /// The digest that the registry gives for a tag.
    fn digest(&self, tag: &str) -> String {
        digest(&self.name(tag))
    }

    /// The manifest of the artifact, and its digest.
    fn artifact(&self, tag: &str) -> (serde_json::Value, String) {
        let list = self.digest(tag).replace(':', "-");
        let index = self.get(&format!("manifests/{list}"));
        let artifact = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        (self.get(&format!("manifests/{artifact}")), artifact)
    }

    fn get(&self, path: &str) -> serde_json::Value {
        let (host, repository) = self.image.split_once('/').unwrap();
        let accept =
            "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
        let script = format!("curl -sf -H 'Accept: {accept}' http://{host}/v2/{repository}/{path}");
        serde_json::from_str(&shell(&self.space.path(""), &script)).unwrap()
    }

    /// The file of a blob in the registry.
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = "registry/files/docker/registry/v2/blobs/sha256";
        self.space
            .path(blobs)
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// The digest of the tar-diff of the layer that changed.
    fn tar_diff(&self, tag: &str) -> String {
        let (artifact, _) = self.artifact(tag);
        let layers = artifact["layers"].as_array().unwrap();
        let is_diff = |layer: &&serde_json::Value| layer["mediaType"] == "application/vnd.tar-diff";
        let diff = layers.iter().find(is_diff).unwrap();
        diff["digest"].as_str().unwrap().to_owned()
    }

    /// Another machine, which has the first version.
    fn receiver(&self) -> Receiver<'_> {
        let receiver = Receiver {
            site: self,
            space: Space::new(),
        };
        let _v1 = receiver.pull("v1").ok();
        receiver
    }
}

struct Receiver<'a> {
    site: &'a Site,
    space: Space,
}

impl Receiver<'_> {
    fn pull(&self, tag: &str) -> Run {
        self.space.kiln(&["image", "pull", &self.site.name(tag)])
    }

    fn pull_from(&self, tag: &str, base: &str) -> Run {
        let name = self.site.name(tag);
        self.space.kiln(&["image", "pull", &name, "--base", base])
    }

    /// The digest of the image that is in the store.
    fn digest(&self, tag: &str) -> String {
        let name = self.site.name(tag);
        let raw = self.space.path("raw");
        let manifest = self
            .space
            .kiln(&["image", "inspect", &name, "--raw"])
            .ok()
            .stdout;
        std::fs::write(&raw, manifest).unwrap();
        let sum = shell(Path::new("/"), &format!("sha256sum < {}", raw.display()));
        format!("sha256:{}", sum.split(' ').next().unwrap())
    }

    /// Pulls the second version, which must be the very image, whatever way it came.
    fn pulls_v2(&self) -> String {
        let said = self.pull("v2").ok().stderr;
        assert_eq!(self.digest("v2"), self.site.digest("v2"));
        let files = self.space.path("files").display().to_string();
        let line = format!("FROM {}\n", self.site.name("v2"));
        self.space.write("Dockerfile", line);
        let output = format!("type=local,dest={files}");
        let _built = self.space.build(&["-o", &output]).ok();
        let mut library = noise(1, SIZE);
        library.splice(700_000..700_004, *b"new code");
        assert!(std::fs::read(Path::new(&files).join("lib/lib.so.1")).unwrap() == library);
        said
    }
}

#[test]
fn a_difference_is_pushed_and_pulled() {
    let site = Site::with_difference();
    let (artifact, _) = site.artifact("v2");
    assert_eq!(
        artifact["artifactType"],
        "application/vnd.io.github.containers.oci-delta.v1"
    );
    assert_eq!(artifact["subject"]["digest"], site.digest("v2"));
    let of = |name: &str| {
        let full = format!("io.github.containers.delta.{name}");
        artifact["annotations"][full].as_str().unwrap().to_owned()
    };
    assert_eq!(of("source"), site.digest("v1"));
    assert_eq!(of("target"), site.digest("v2"));
    let reused: Vec<String> = serde_json::from_str(&of("reused")).unwrap();
    assert_eq!(reused.len(), 2);
    let diff = std::fs::metadata(site.blob(&site.tar_diff("v2")))
        .unwrap()
        .len();
    assert!(diff < 2000, "{diff}");

    let said = site.receiver().pulls_v2();
    assert!(said.contains("pull difference"), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
}

#[test]
fn the_same_images_give_the_same_difference() {
    let site = Site::with_difference();
    let (_, first) = site.artifact("v2");
    let [old, new] = ["v1", "v2"].map(|tag| site.name(tag));
    let elsewhere = Space::new();
    let made = elsewhere
        .kiln(&["delta", "create", &old, &new, "-o", "update.tar"])
        .ok();
    assert_eq!(made.stdout.trim(), first);
}

/// What keeps a difference from being used: the image comes all the same, and one line says why.
#[test]
fn damaged_differences_cost_a_line() {
    let site = Site::with_difference();
    let diff = site.blob(&site.tar_diff("v2"));
    let good = std::fs::read(&diff).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (bytes, name) in [
        (&flipped[..], "another"),
        (&good[..good.len() / 2], "truncated"),
        (b"", "empty"),
    ] {
        std::fs::write(&diff, bytes).unwrap();
        let said = site.receiver().pulls_v2();
        let lines = said.lines().filter(|line| line.contains("is pulled whole"));
        assert_eq!(lines.count(), 1, "{name}: {said}");
    }
    std::fs::remove_file(&diff).unwrap();
    assert!(site.receiver().pulls_v2().contains("is pulled whole"));
}

/// A difference with right digests all over that gives another layer.
#[test]
fn a_difference_to_something_else_is_noticed() {
    let site = Site::with_difference();
    let mut other = noise(1, SIZE);
    other[5] ^= 1;
    site.space.write("lib.so.1", other);
    let _v3 = site.push("v3", &["--delta-from", "v1"]);
    let wrong = site.tar_diff("v3");
    let size = std::fs::metadata(site.blob(&wrong)).unwrap().len();
    let (mut artifact, listed) = site.artifact("v2");
    let right = site.tar_diff("v2");
    for layer in artifact["layers"].as_array_mut().unwrap() {
        if layer["digest"] == right.as_str() {
            layer["digest"] = wrong.clone().into();
            layer["size"] = size.into();
        }
    }
    // In place of the right one, in the list that clients keep.
    let forged = serde_json::to_vec(&artifact).unwrap();
    std::fs::write(site.space.path("forged"), &forged).unwrap();
    let (host, repository) = site.image.split_once('/').unwrap();
    let list = site.digest("v2").replace(':', "-");
    let script = format!(
        "base=http://{host}/v2/{repository}/manifests
         sum=$(sha256sum < forged | cut -d' ' -f1)
         curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @forged $base/sha256:$sum
         curl -sf -H 'Accept: application/vnd.oci.image.index.v1+json' $base/{list} | sed \"s/{listed}/sha256:$sum/; s/\\\"size\\\":[0-9]*/\\\"size\\\":{size}/\" > list
         curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.index.v1+json' --data-binary @list $base/{list}",
        size = forged.len(),
    );
    let _sent = shell(&site.space.path(""), &script);
    let said = site.receiver().pulls_v2();
    assert!(said.contains("the rebuilt tar has the digest"), "{said}");
}

#[test]
fn without_an_earlier_image_layers_are_pulled() {
    let site = Site::with_difference();
    let receiver = Receiver {
        site: &site,
        space: Space::new(),
    };
    let said = receiver.pulls_v2();
    assert!(!said.contains("difference"), "{said}");
    // One that is no source of any difference.
    let _v2 = site.push("v9", &["--label", "a=b"]);
    let said = receiver.pull("v9").ok().stderr;
    assert!(!said.contains("pull difference"), "{said}");
    assert_eq!(receiver.digest("v9"), site.digest("v9"));
}

/// The old image is another repository's, or lies in a directory: the user says so.
#[test]
fn the_old_image_is_the_one_that_is_named() {
    let site = Site::with_difference();
    let v1 = site.name("v1");
    let files = site.space.path("old-files").display().to_string();
    _ = site.space.kiln(&["image", "unpack", &v1, &files]).ok();
    let layout = site.space.path("old").display().to_string();
    copy_to_layout(&format!("docker://{v1}"), &layout);
    for base in [format!("oci:{layout}"), files.clone()] {
        let receiver = Receiver {
            site: &site,
            space: Space::new(),
        };
        let said = receiver.pull_from("v2", &base).ok().stderr;
        assert!(said.contains("pull difference"), "{base}: {said}");
        assert!(!said.contains("WARNING"), "{base}: {said}");
        assert_eq!(receiver.digest("v2"), site.digest("v2"));
    }
    // A directory with other files, or links to some: the layer is pulled.
    let library = Path::new(&files).join("lib/lib.so.1");
    std::fs::rename(&library, Path::new(&files).join("aside")).unwrap();
    std::os::unix::fs::symlink("../aside", &library).unwrap();
    let receiver = Receiver {
        site: &site,
        space: Space::new(),
    };
    let said = receiver.pull_from("v2", &files).ok().stderr;
    assert!(said.contains("is pulled whole"), "{said}");
    assert_eq!(receiver.digest("v2"), site.digest("v2"));
    // An image that no difference begins at.
    let receiver = Receiver {
        site: &site,
        space: Space::new(),
    };
    let said = receiver.pull_from("v2", BUSYBOX).ok().stderr;
    let line = "no difference to it begins at an image that is here";
    assert!(said.contains(line), "{said}");
    assert_eq!(receiver.digest("v2"), site.digest("v2"));
}

/// Layers that Docker compressed are restored to its very blobs: Go's gzip is known.
#[test]
fn layers_that_docker_compressed_are_restored() {
    let site = Site::new();
    let Some(docker) = Daemon::start(&site.space) else {
        return;
    };
    let mut name = String::new();
    for tag in ["docker1", "docker2"] {
        let mut library = noise(1, SIZE);
        library[tag.len() * 9] ^= tag.as_bytes()[6];
        site.space.write("lib.so.1", library);
        name = site.name(tag);
        let file = site.space.path("image.tar").display().to_string();
        let output = format!("type=docker,dest={file}");
        _ = site.space.build(&["-t", &name, "-o", &output]).ok();
        _ = docker.docker(&["load", "-q", "-i", &file]).ok();
        _ = docker.docker(&["push", "-q", &name]).ok();
    }
    let old = site.name("docker1");
    // The store has the layers in our own compression only.
    let maker = Space::new();
    let made = maker.kiln(&["delta", "create", &old, &name, "--push"]).ok();
    assert!(
        !made.stderr.contains("can't be restored"),
        "{}",
        made.stderr
    );
    let (artifact, _) = site.artifact("docker2");
    let text = artifact.to_string();
    assert!(text.contains("go-gzip:6 bytes=1"), "{text}");

    let receiver = Receiver {
        site: &site,
        space: Space::new(),
    };
    _ = receiver.pull("docker1").ok();
    let said = receiver.pull("docker2").ok().stderr;
    assert!(said.contains("pull difference"), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
    assert_eq!(receiver.digest("docker2"), site.digest("docker2"));
    let raw = receiver
        .space
        .kiln(&["image", "inspect", &name, "--raw"])
        .ok();
    let manifest: serde_json::Value = serde_json::from_str(&raw.stdout).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let changed = layers.iter().max_by_key(|layer| layer["size"].as_u64());
    let digest = changed.unwrap()["digest"].as_str().unwrap();
    let script = format!(
        "find store -type f -size +1000k -exec sha256sum {{}} + | grep -c {}",
        digest.strip_prefix("sha256:").unwrap()
    );
    let count = shell(&receiver.space.path(""), &script);
    assert_eq!(count.trim(), "1", "the blob is here");
}

#[test]
fn differences_travel_as_files() {
    let site = Site::with_difference();
    let [old, new] = ["v1", "v2"].map(|tag| site.name(tag));
    let file = site.space.path("update.tar").display().to_string();
    let made = site
        .space
        .kiln(&["delta", "create", &old, &new, "-o", &file])
        .ok();
    assert!(
        made.stderr.contains("changed layers have"),
        "{}",
        made.stderr
    );
    assert!(std::fs::metadata(&file).unwrap().len() < 30_000);

    let receiver = site.receiver();
    let loaded = receiver.space.kiln(&["image", "load", &file]).ok();
    assert_eq!(loaded.stdout.trim(), new);
    assert_eq!(receiver.digest("v2"), site.digest("v2"));

    let stranger = Space::new();
    stranger
        .kiln(&["image", "load", &file])
        .fails_with(&["is a difference from an image that is not here"]);
    let cut = stranger.path("cut.tar");
    std::fs::write(&cut, &std::fs::read(&file).unwrap()[..6000]).unwrap();
    let cut = receiver
        .space
        .kiln(&["image", "load", &cut.display().to_string()]);
    assert_eq!(cut.status, Some(1), "{}", cut.stderr);
}

/// Documents are named as they are: Docker's by Docker's media types.
#[test]
fn documents_keep_their_media_types() {
    let site = Site::new();
    let push = |tag: &str| {
        let name = site.name(tag);
        let output = format!("type=image,name={name},push=true,oci-mediatypes=false");
        let _pushed = site.space.build(&["-o", &output]).ok();
        name
    };
    let old = push("docker1");
    let mut changed = noise(1, SIZE);
    changed[9] ^= 1;
    site.space.write("lib.so.1", changed);
    let new = push("docker2");
    let _made = site
        .space
        .kiln(&["delta", "create", &old, &new, "--push"])
        .ok();
    let (artifact, _) = site.artifact("docker2");
    let kinds = [0, 1].map(|at| artifact["layers"][at]["mediaType"].as_str().unwrap());
    let docker = ["distribution.manifest.v2", "container.image.v1"];
    assert_eq!(
        kinds,
        docker.map(|kind| format!("application/vnd.docker.{kind}+json"))
    );
}

#[test]
fn a_difference_that_spares_little_is_not_kept() {
    let site = Site::new();
    site.space.write("lib.so.1", noise(2, SIZE));
    let said = site.push("v2", &["--delta-from", "v1"]).stderr;
    assert!(said.contains("spares less than 30 %"), "{said}");
    let [old, new] = ["v1", "v2"].map(|tag| site.name(tag));
    let refused = site
        .space
        .kiln(&["delta", "create", &old, &new, "-o", "update.tar"]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(!site.space.path("update.tar").exists());
    let _kept = site
        .space
        .kiln(&["delta", "create", &old, &new, "-o", "update.tar", "--force"])
        .ok();
}

#[test]
fn auto_begins_at_what_the_tag_named() {
    let site = Site::new();
    let _first = site.push("latest", &[]);
    let before = site.digest("latest");
    let mut changed = noise(1, SIZE);
    changed[9] ^= 1;
    site.space.write("lib.so.1", changed);
    let _second = site.push("latest", &["--delta-from", "auto:3"]);
    let (artifact, _) = site.artifact("latest");
    assert_eq!(
        artifact["annotations"]["io.github.containers.delta.source"],
        before
    );
}

#[test]
fn what_is_mistyped_is_said() {
    let site = Site::new();
    let name = site.name("v2");
    for (args, want) in [
        (
            ["--push", "--delta-from", "auto:99"],
            "auto:N with N from 1 to 16",
        ),
        (
            ["--push", "--delta-from", "other/app:v1"],
            "of the same repository",
        ),
        (["--load", "--delta-from", "v1"], "--push"),
    ] {
        let run = site.space.build(&[&["-t", &name], &args[..]].concat());
        assert_eq!(run.status, Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(want), "{args:?}: {}", run.stderr);
    }
    // One that isn't there costs a line, not the push; whichever flag pushes.
    let output = format!("type=image,name={name},push=true");
    let said = site
        .space
        .build(&["-o", &output, "--delta-from", "nothing"])
        .ok()
        .stderr;
    assert!(said.contains("no difference from"), "{said}");
    let run = site.space.kiln(&["delta", "create", &name, &name]);
    assert_eq!(run.status, Some(2), "{}", run.stderr);
}

/// Differences go with the images that they lead to, and when no tag names the one they begin at.
#[test]
fn differences_are_pruned() {
    let site = Site::new();
    for day in 1..=3 {
        let mut content = noise(1, SIZE);
        content[day] ^= 1;
        site.space.write("lib.so.1", content);
        let epoch = format!("SOURCE_DATE_EPOCH={}", 1_767_225_600 + day * 86_400);
        let tag = format!("day{day}");
        let before = format!("day{}", day - 1);
        let from = ["--delta-from", &before];
        let from = if day > 1 { &from[..] } else { &[] };
        let _pushed = site.push(&tag, &[&["--build-arg", &epoch], from].concat());
    }
    let lists = |tag: &str| -> usize {
        let list = site.digest(tag).replace(':', "-");
        let all = site.get("tags/list");
        // An empty list may be gone.
        let is_there = all["tags"]
            .as_array()
            .unwrap()
            .contains(&list.clone().into());
        let index = is_there.then(|| site.get(&format!("manifests/{list}")));
        index.map_or(0, |index| index["manifests"].as_array().unwrap().len())
    };
    assert_eq!((lists("day2"), lists("day3")), (1, 1));
    let prune = |args: &[&str]| {
        let all = ["registry", "prune", &site.image, "--tags", "day*"];
        site.space.kiln(&[&all[..], args].concat()).ok().stdout
    };
    let shown = prune(&["--keep", "2"]);
    assert_eq!(
        shown.matches("would delete  difference").count(),
        1,
        "{shown}"
    );
    assert_eq!(
        (lists("day2"), lists("day3")),
        (1, 1),
        "nothing goes unasked"
    );
    let _done = prune(&["--keep", "2", "--yes"]);
    assert_eq!((lists("day2"), lists("day3")), (0, 1));
    // Of those that are left, the image goes and the difference from it.
    let shown = prune(&["--keep", "1", "--yes"]);
    assert!(shown.contains("difference"), "{shown}");
    assert_eq!(lists("day3"), 0);
}
