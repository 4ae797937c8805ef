//! `-o type=squashfs|ext4|cpio`: the kernel mounts the file systems, and `cpio` unpacks the archive; all
//! show the tree. Mounting needs root.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};

use kiln_tests::{BUSYBOX, Space, is_root, run, shell};

/// Everything of a tree that a user can see.
fn listing(root: &Path) -> String {
    shell(
        root,
        "find . -mindepth 1 -printf '%p %y %m %U %G %l ' -a \\( ! -type d -printf '%n ' -o -true \\) -a \\( -type f -printf '%s ' -o -true \\) -a -printf '%TY-%Tm-%Td %TH:%TM\\n' | LC_ALL=C sort
         find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
         find . \\( -type c -o -type b \\) -print0 | LC_ALL=C sort -z | xargs -0 -r stat -c '%n %t:%T'",
    )
}

const DOCKERFILE: &str = r#"FROM BASE
RUN mkdir -p /many /deep/a/b/c /links && cd /many && i=0 && while [ $i -lt 700 ]; do echo $i > a-rather-long-name-of-a-file-$i; i=$((i+1)); done
RUN cd /links && i=0 && while [ $i -lt 300 ]; do ln /many/a-rather-long-name-of-a-file-1 a-rather-long-name-of-another-link-$i; i=$((i+1)); done
RUN head -c 5000000 /dev/urandom > /big && truncate -s 9000000 /big && head -c 4096 /big > /block && head -c 4097 /big > /more && : > /empty
RUN ln /big /deep/hard && ln -s ../big /deep/soft && ln -s $(head -c 300 /dev/zero | tr '\0' x) /deep/long
RUN mkfifo /pipe && chmod 4711 /block && chown 1000:70000 /more /deep && chmod 1777 /deep && mknod /null c 1 3 && mknod /disk b 259 70000
RUN echo 1 > '/deep/a "quoted" name' && echo 2 > '/deep/<12>' && echo 3 > '/deep/back\slash' && echo 4 > '/deep/#5' && touch -d @4000000000 /deep/later
RUN rm -rf /bin/vi /var && echo 6 > '/TRAILER!!!'
"#;

/// A tree, its image in a form, and what `tar` makes of it.
fn written(kind: &str) -> (Space, PathBuf, PathBuf) {
    let space = Space::new();
    space.write("Dockerfile", DOCKERFILE.replace("BASE", BUSYBOX));
    let output = format!("type={kind},dest=root.img");
    _ = space.build(&["-o", &output]).ok();
    _ = space.build(&["-o", "type=tar,dest=root.tar"]).ok();
    let files = space.path("files");
    std::fs::create_dir(&files).unwrap();
    _ = shell(&files, "tar xf ../root.tar --numeric-owner");
    let image = space.path("root.img");

    // The same tree gives the same bytes, also a while later and as somebody else.
    let first = std::fs::read(&image).unwrap();
    std::fs::remove_file(&image).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    _ = space.build(&["-o", &output]).ok();
    assert!(std::fs::read(&image).unwrap() == first, "{kind}");
    (space, image, files)
}

fn compare(shown: &str, want: &str) {
    for (shown, want) in shown.lines().zip(want.lines()) {
        assert_eq!(shown, want);
    }
    assert_eq!(shown.lines().count(), want.lines().count());
}

fn mounts(kind: &str, spec: &str) -> (Space, PathBuf) {
    let (space, image, files) = written(spec);
    let known = kiln_tests::read("/proc/filesystems");
    if !is_root() || !known.contains(kind) {
        return (space, image);
    }
    let at = space.path("mnt").display().to_string();
    std::fs::create_dir(&at).unwrap();
    let source = image.display().to_string();
    let options = if kind == "ext4" {
        "loop,ro,noload"
    } else {
        "loop,ro"
    };
    _ = run("mount", &["-t", kind, "-o", options, &source, &at]).ok();
    let shown = listing(Path::new(&at));
    _ = run("umount", &[&at]);
    compare(&shown, &listing(&files));
    (space, image)
}

#[test]
fn the_kernel_mounts_squashfs() {
    _ = mounts("squashfs", "squashfs,compression=zstd");
}

#[test]
fn the_kernel_mounts_ext4() {
    let (space, image) = mounts("ext4", "ext4,size=64MiB");
    assert_eq!(std::fs::metadata(&image).unwrap().len(), 64 << 20);
    let checked = run("/usr/sbin/e2fsck", &["-fn", &image.display().to_string()]);
    assert_eq!(checked.status, Some(0), "{}", checked.stdout);
    let small = space.build(&["-o", "type=ext4,dest=small.img,size=4MiB"]);
    small.fails_with(&["bytes are too few for an ext4 file system"]);
    assert!(!space.path("small.img").exists());
}

#[test]
fn cpio_unpacks_cpio() {
    let (space, image, files) = written("cpio");
    if !is_root() {
        return;
    }
    let unpacked = space.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let script = format!(
        "cpio -idm --quiet --no-absolute-filenames < {}",
        image.display()
    );
    _ = shell(&unpacked, &script);
    // `cpio` sets no times of links, and those of directories before it fills them.
    let without_times = |text: String| -> String {
        let has_none = |line: &str| line.contains(" d ") || line.contains(" l ");
        let lines = text.lines().map(|line| match has_none(line) {
            true => line[..line.len() - 16].to_owned(),
            false => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    compare(
        &without_times(listing(&unpacked)),
        &without_times(listing(&files)),
    );
}

#[test]
fn what_can_not_be_is_said() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    for kind in ["squashfs", "ext4", "cpio"] {
        let output = format!("type={kind},dest=a.img");
        let run = space.build(&["-o", &output, "--platform", "linux/amd64,linux/arm64"]);
        assert_eq!(run.status, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains("give one --platform"), "{}", run.stderr);
        let to_stdout = space.build(&["-o", &format!("type={kind},dest=-")]).ok();
        assert!(to_stdout.stdout.len() > 100, "{kind}");
    }
    let nowhere = space.path("empty").display().to_string();
    let mut command = space.command(&["build", "context", "-o", "type=squashfs,dest=a.img"]);
    let output = command.env("PATH", &nowhere).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_elsewhere = Path::new("/usr/sbin/mksquashfs").exists();
    assert!(
        is_elsewhere || said.contains("package squashfs-tools"),
        "{said}"
    );
    let odd = format!("FROM {BUSYBOX}\nRUN touch \"/$(printf 'a\\nb')\"\n");
    space.write("Dockerfile", odd);
    let run = space.build(&["-o", "type=ext4,dest=a.img"]);
    run.fails_with(&["has a line feed in its name"]);
}
