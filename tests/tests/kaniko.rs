//! The command line of kaniko's executor: what each flag does to the image, the registry and the files
//! that are asked for.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Registry, Run, Space, digest, read, run};
use serde_json::Value;

struct Site {
    space: Space,
    registry: Registry,
}

impl Site {
    fn new() -> Self {
        let space = Space::new();
        let lines = "ARG WHO=nobody\nRUN echo $WHO > /who\nRUN echo two > /two\nFROM scratch AS other\nCOPY f /f\nFROM first\n";
        space
            .write("Dockerfile", format!("FROM {BUSYBOX} AS first\n{lines}"))
            .write("f", "f")
            .write("sub/Containerfile", "FROM scratch\nCOPY inner /inner\n")
            .write("sub/inner", "i");
        let registry = Registry::start(&space.path("registry"), false);
        Self { space, registry }
    }

    fn path(&self, name: &str) -> String {
        self.space.path(name).display().to_string()
    }

    fn kaniko(&self, args: &[&str]) -> Run {
        self.space.kiln(&[&["kaniko"], args].concat())
    }

    /// Builds the context without pushing, as an OCI layout.
    fn layout(&self, args: &[&str]) -> Image {
        let layout = self.path("layout");
        _ = std::fs::remove_dir_all(&layout);
        let context = format!("dir://{}", self.path("context"));
        let own = [
            "--context",
            &context,
            "--no-push",
            "--oci-layout-path",
            &layout,
        ];
        let _built = self.kaniko(&[&own[..], args].concat()).ok();
        Image::of(&format!("oci:{layout}"))
    }
}

/// What skopeo says of an image.
struct Image {
    config: Value,
    manifest: Value,
}

impl Image {
    fn of(name: &str) -> Self {
        let inspect = |flags: &[&str]| {
            let args = [&["inspect", "--tls-verify=false"], flags, &[name]].concat();
            serde_json::from_str(&run("skopeo", &args).stdout).unwrap()
        };
        Self {
            config: inspect(&["--config"]),
            manifest: inspect(&["--raw"]),
        }
    }

    fn layers(&self) -> usize {
        self.config["rootfs"]["diff_ids"].as_array().unwrap().len()
    }
}

#[test]
fn destinations_get_the_image_and_files_its_digest() {
    let site = Site::new();
    let (one, two) = (site.registry.name("app:1"), site.registry.name("app/two"));
    let files = ["digest", "named", "tagged"].map(|name| site.path(name));
    let _built = site
        .kaniko(&[
            "-c",
            &site.path("context"),
            "-f",
            "Dockerfile",
            "-d",
            &one,
            &format!("--destination={two}"),
            "--digest-file",
            &files[0],
            "--image-name-with-digest-file",
            &files[1],
            "--image-name-tag-with-digest-file",
            &files[2],
        ])
        .ok();
    let digest = digest(&one);
    let repository = one.strip_suffix(":1").unwrap();
    assert_eq!(read(&files[0]), digest);
    assert_eq!(
        read(&files[1]),
        format!("{repository}@{digest}\n{two}@{digest}\n")
    );
    assert_eq!(read(&files[2]), format!("{one}@{digest}\n{two}@{digest}\n"));
    let _other = Image::of(&format!("docker://{two}:latest"));
}

#[test]
fn the_image_is_what_the_flags_say() {
    let site = Site::new();
    let plain = site.layout(&[]);
    let flags = [
        "--build-arg",
        "WHO=me",
        "--build-arg=UNUSED=1",
        "--label",
        "a=b",
        "--label=c=d e",
    ];
    let labelled = site.layout(&flags);
    assert_eq!(labelled.config["config"]["Labels"]["a"], "b");
    assert_eq!(labelled.config["config"]["Labels"]["c"], "d e");
    assert_ne!(
        labelled.config["rootfs"], plain.config["rootfs"],
        "another argument"
    );
    assert_eq!(site.layout(&["--target", "other"]).layers(), 1);
    assert_eq!(
        site.layout(&["--single-snapshot"]).layers() + 1,
        plain.layers()
    );
    let arm = site.layout(&["--customPlatform=linux/arm64", "--target=other"]);
    assert_eq!(arm.config["architecture"], "arm64");
    let reproducible = site.layout(&["--reproducible"]);
    assert_eq!(reproducible.config["created"], "1970-01-01T00:00:00Z");
    let zstd = site.layout(&[
        "--compression=zstd",
        "--compression-level=3",
        "--target=other",
    ]);
    let kind = zstd.manifest["layers"][0]["mediaType"].as_str().unwrap();
    assert!(kind.ends_with("zstd"), "{kind}");
}

#[test]
fn contexts_come_from_directories_archives_and_standard_input() {
    let site = Site::new();
    let sub = ["--context-sub-path", "sub", "--dockerfile", "Containerfile"];
    assert_eq!(site.layout(&sub).layers(), 1);
    let file = site.path("context/sub/Containerfile");
    let absolute = ["--context-sub-path=sub", "--dockerfile", &file];
    assert_eq!(site.layout(&absolute).layers(), 1);
    let tar = site.path("context.tar.gz");
    let _packed = run("tar", &["-czf", &tar, "-C", &site.path("context"), "."]);
    let archive = format!("tar://{tar}");
    let out = site.path("image.tar");
    let args = [
        "--context",
        &archive,
        "--no-push",
        "--tar-path",
        &out,
        "-d",
        "app:1",
    ];
    let _built = site.kaniko(&args).ok();
    let image = Image::of(&format!("docker-archive:{out}"));
    assert!(image.layers() > 1);
    let mut command = site
        .space
        .command(&["kaniko", "--context", "tar://stdin", "--no-push"]);
    command.stdin(std::fs::File::open(&tar).unwrap());
    let _built = Run::of(&command.output().unwrap()).ok();
    let refused = site.kaniko(&["--context", "s3://bucket/key", "--no-push"]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("dir://"), "{}", refused.stderr);
}

#[test]
fn a_repository_is_a_cache() {
    let site = Site::new();
    let (name, cache) = (site.registry.name("app:1"), site.registry.name("cached"));
    let build = |store: &str, more: &[&str]| {
        let context = site.path("context");
        let args = ["kaniko", "--context", &context, "-d", &name];
        let mut command = site.space.command(&args);
        command.args(more).env("KILN_ROOT", site.path(store));
        Run::of(&command.output().unwrap()).ok().stderr
    };
    let given = ["--cache=true", "--cache-repo", &cache, "--cache-ttl=24h"];
    assert!(!build("a", &given).contains("CACHED"));
    assert!(build("b", &given).contains("CACHED"));
    // Without a name it is beside the image; and may be only read.
    assert!(!build("c", &["--cache", "--no-push-cache"]).contains("CACHED"));
    assert!(
        !build("d", &["--cache"]).contains("CACHED"),
        "nothing was shared"
    );
    assert!(build("e", &["--cache"]).contains("CACHED"));
}

/// Flags that change nothing here, with a value where they take one.
const NOTHING: &[&str] = &[
    "--cache-copy-layers",
    "--cache-dir=/cache",
    "--cache-run-layers=false",
    "--cache-ttl=6h",
    "--cleanup",
    "--compressed-caching=false",
    "--force",
    "--force-build-metadata",
    "--ignore-path=/x",
    "--ignore-var-run",
    "--image-download-retry=2",
    "--image-fs-extract-retry=2",
    "--kaniko-dir=/kaniko",
    "--log-format=json",
    "--log-timestamp",
    "--push-retry=3",
    "--skip-default-registry-fallback",
    "--skip-push-permission-check",
    "--skip-unused-stages",
    "--snapshotMode=redo",
    "--snapshot-mode=time",
    "--use-new-run",
    "-vdebug",
    "--whitelist-var-run=false",
];

#[test]
fn flags_about_how_kaniko_works_change_nothing() {
    let site = Site::new();
    let same = |flags: &[&str]| site.layout(&[flags, &["--reproducible"]].concat()).config;
    assert_eq!(same(NOTHING), same(&[]));
}

#[test]
fn what_can_not_be_had_is_refused_with_what_to_use() {
    let site = Site::new();
    for (args, says) in [
        (
            &["--no-push", "--git", "branch=x"][..],
            "#refs/heads/BRANCH",
        ),
        (
            &["--no-push", "--registry-client-cert=a=b,c"],
            "client certificates",
        ),
        (
            &["--no-push", "--push-ignore-immutable-tag-errors"],
            "a tag",
        ),
        (&["--no-push", "--frobnicate"], "--destination"),
        (&["--no-push", "--cache=maybe"], "true or false"),
        (&[], "--destination"),
        (&["--no-push", "--cache"], "--cache-repo"),
        (&["--no-push", "--registry-map", "x"], "HOST=VALUE"),
        (&["--destination"], "needs a value"),
    ] {
        let refused = site.kaniko(args);
        assert_eq!(refused.status, Some(2), "{args:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(says),
            "{args:?}: {}",
            refused.stderr
        );
    }
    assert!(!Path::new(&site.path("store/trees")).exists());
}
