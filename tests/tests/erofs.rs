//! `-o type=erofs`: the kernel mounts what is written, and shows the tree. It needs root, and a kernel
//! that knows EROFS.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Run, Space, is_root, read, read_json, run, shell};

/// A mounted image, for as long as it is held.
struct Mounted(String);

impl Mounted {
    /// `None` where the kernel can't mount it.
    fn new(image: &Path, at: &Path) -> Option<Self> {
        let knows = read("/proc/filesystems").contains("erofs");
        if !knows || !is_root() {
            return None;
        }
        std::fs::create_dir_all(at).unwrap();
        let [image, at] = [image, at].map(|path| path.display().to_string());
        _ = run("mount", &["-t", "erofs", "-o", "loop,ro", &image, &at]);
        Some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        _ = run("umount", &[&self.0]);
    }
}

/// Everything of a tree that a user can see: paths, types, modes, owners, sizes, links, times,
/// contents, attributes.
fn listing(root: &Path) -> String {
    shell(
        root,
        "find . -mindepth 1 -printf '%p %y %m %U %G %n %l ' -a \\( -type f -printf '%s %TY-%Tm-%Td %TH:%TM ' -o -true \\) -a -printf '\\n' | LC_ALL=C sort
         find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
         find . \\( -type c -o -type b \\) -print0 | LC_ALL=C sort -z | xargs -0 -r stat -c '%n %t:%T'",
    )
}

const DOCKERFILE: &str = r#"FROM BASE
RUN mkdir -p /many /deep/a/b/c && cd /many && i=0 && while [ $i -lt 900 ]; do echo $i > a-rather-long-name-of-a-file-$i; i=$((i+1)); done
RUN head -c 5000000 /dev/urandom > /big && head -c 4096 /big > /block && head -c 4097 /big > /more && : > /empty
RUN ln /big /deep/hard && ln -s ../big /deep/soft && ln -s $(head -c 3000 /dev/zero | tr '\0' x) /deep/long
RUN mkfifo /pipe && chmod 4711 /block && chown 1000:70000 /more && chmod 1777 /deep
RUN rm -rf /bin/vi /var
"#;

#[test]
fn the_kernel_shows_the_tree() {
    let space = Space::new();
    space.write("Dockerfile", DOCKERFILE.replace("BASE", BUSYBOX));
    let output = "type=erofs,dest=root.img";
    let _image = space.build(&["-o", output]).ok();
    let _tar = space.build(&["-o", "type=tar,dest=root.tar"]).ok();
    let files = space.path("files");
    std::fs::create_dir(&files).unwrap();
    _ = shell(&files, "tar xf ../root.tar --numeric-owner");
    let image = space.path("root.img");
    let mounted = Mounted::new(&image, &space.path("mnt"));
    let Some(mounted) = mounted else {
        return;
    };
    let (shown, want) = (listing(Path::new(&mounted.0)), listing(&files));
    assert!(shown.contains("/deep/hard"), "{shown}");
    for (shown, want) in shown.lines().zip(want.lines()) {
        assert_eq!(shown, want);
    }
    assert_eq!(shown.lines().count(), want.lines().count());
    drop(mounted);

    // The same tree gives the same bytes.
    let first = std::fs::read(&image).unwrap();
    _ = std::fs::remove_file(&image);
    let _again = space.build(&["-o", output]).ok();
    assert!(std::fs::read(&image).unwrap() == first);
}

/// What an image's manifest says of its EROFS image is what another machine gets.
#[test]
fn the_manifest_knows_the_image() {
    let space = Space::new();
    space.write("Dockerfile", DOCKERFILE.replace("BASE", BUSYBOX));
    let archive = "type=oci,dest=layout,tar=false,erofs-verity=true";
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    _ = space
        .build(
            &[
                &epoch[..],
                &["-o", archive, "-o", "type=erofs,dest=root.img"],
            ]
            .concat(),
        )
        .ok();
    let layout = space.path("layout").display().to_string();
    let document = |digest: &str| -> serde_json::Value {
        let hex = digest.strip_prefix("sha256:").unwrap();
        read_json(format!("{layout}/blobs/sha256/{hex}"))
    };
    let index = read_json(format!("{layout}/index.json"));
    let manifest = document(index["manifests"][0]["digest"].as_str().unwrap());
    let said = manifest["annotations"]["dev.kiln.erofs.fs-verity"]
        .as_str()
        .unwrap();

    let elsewhere = Space::new();
    elsewhere.write("Dockerfile", "FROM app\n");
    let given = format!("app=oci-layout://{layout}");
    let flags = ["--build-context", &given, "-o", "type=erofs,dest=root.img"];
    _ = elsewhere.build(&[&epoch[..], &flags].concat()).ok();
    let [own, other] = [&space, &elsewhere].map(|space| space.path("root.img"));
    assert!(std::fs::read(&own).unwrap() == std::fs::read(&other).unwrap());
    let digest = std::process::Command::new("fsverity")
        .arg("digest")
        .arg(&own)
        .output();
    let Ok(digest) = digest else { return };
    let digest = String::from_utf8(digest.stdout).unwrap();
    assert_eq!(digest.split(' ').next(), Some(said));
}

#[test]
fn attributes_are_in_it() {
    let space = Space::new();
    let layer = space.path("layer");
    std::fs::create_dir_all(&layer).unwrap();
    let script = "echo 1 > file && setfattr -n user.a -v value file && setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 file && mkdir d && setfattr -n user.long -v $(head -c 3500 /dev/zero | tr '\\0' y) d";
    let made = std::process::Command::new("sh")
        .args(["-ec", script])
        .current_dir(&layer)
        .output();
    if Run::of(&made.unwrap()).status != Some(0) {
        return;
    }
    space.write("Dockerfile", "FROM scratch\nADD layer.tar /\n");
    let tar = space.path("context/layer.tar").display().to_string();
    _ = run(
        "tar",
        &[
            "--xattrs",
            "--xattrs-include=*",
            "-C",
            &layer.display().to_string(),
            "-cf",
            &tar,
            ".",
        ],
    );
    let _image = space.build(&["-o", "type=erofs,dest=root.img"]).ok();
    let Some(mounted) = Mounted::new(&space.path("root.img"), &space.path("mnt")) else {
        return;
    };
    let shown = shell(Path::new(&mounted.0), "getfattr -d -m - -e hex file d");
    assert_eq!(shown, shell(&layer, "getfattr -d -m - -e hex file d"));
}

#[test]
fn what_can_not_be_is_said() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let run = space.build(&[
        "-o",
        "type=erofs,dest=a.img",
        "--platform",
        "linux/amd64,linux/arm64",
    ]);
    assert_eq!(run.status, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("give one --platform"), "{}", run.stderr);
    let run = space.build(&["-o", "type=erofs"]);
    assert_eq!(run.status, Some(2), "{}", run.stderr);
}
