//! `kiln image mount`: other programs see an image's files on a directory. The kernel mounts it, so this
//! needs root; what users can have is tried as one.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Run, Space, is_root, read, shell};

/// A store with the image `app` of three layers, in which later ones remove and replace files.
fn site() -> Space {
    let space = Space::new();
    let text =
        "RUN echo 1 > /changed && echo 1 > /gone && chmod 4755 /bin/busybox && chown 7:8 /changed
RUN rm /gone && echo 22 > /changed && rm -rf /root && mkdir -m 700 /root && mknod /null c 1 3";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{text}\n"));
    _ = space.build(&["-t", "app"]).ok();
    space
}

impl Mounts<'_> {
    fn mount(&self, flags: &[&str]) -> Run {
        self.0.kiln(&[&["image", "mount"], flags].concat())
    }

    fn umount(&self, flags: &[&str]) -> Run {
        self.0.kiln(&[&["image", "umount"], flags].concat())
    }
}

/// Unmounts all at the end.
struct Mounts<'a>(&'a Space);

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        _ = self.umount(&["--all"]);
    }
}

#[test]
fn an_image_is_one_layer_and_its_changes() {
    if !is_root() {
        return;
    }
    let space = site();
    let mounts = Mounts(&space);
    let at = space.path("mnt");
    let at = at.to_str().unwrap();
    _ = mounts.mount(&["app", at]).ok();
    let files = space.build_files(&[]);
    let list = "find . -printf '%p %y %m %U %G %s\\n' | grep -v '^./null' | LC_ALL=C sort";
    let is_directory = |line: &&str| line.contains(" d ");
    let (shown, want) = (shell(Path::new(at), list), shell(&files, list));
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !is_directory(line));
        lines
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&shown), names(&want));
    assert!(shown.contains("./changed f 644 7 8 3\n"), "{shown}");
    assert!(shown.contains("./root d 700 0 0 "), "{shown}");
    assert!(read("/proc/self/mountinfo").contains(at));

    // What is changed there changes nothing else.
    let change = "echo 333 > changed && rm -rf etc && echo new > new && chmod 600 bin/busybox";
    _ = shell(Path::new(at), change);
    let second = space.path("second");
    let second = second.to_str().unwrap();
    _ = mounts.mount(&["app", second]).ok();
    assert_eq!(read(format!("{second}/changed")), "22\n");
    assert!(read(format!("{second}/etc/passwd")).contains("root"));
    assert!(!Path::new(&format!("{second}/new")).exists());
    assert_eq!(space.kiln(&["fsck"]).ok().status, Some(0));

    let listed = mounts.mount(&[]).ok().stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    // It stays while it is mounted, whatever is removed.
    _ = space.kiln(&["image", "rm", "app"]).ok();
    _ = space.kiln(&["prune", "--all", "--force"]);
    assert_eq!(read(format!("{second}/changed")), "22\n");
    _ = mounts.umount(&[at, second]).ok();
    assert!(!read("/proc/self/mountinfo").contains(at));
    assert_eq!(mounts.mount(&[]).ok().stdout, "");
    assert!(
        std::fs::read_dir(space.path("store/mounts"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn what_is_mounted_gives_nobody_power() {
    if !is_root() {
        return;
    }
    let space = site();
    let mounts = Mounts(&space);
    let at = space.path("mnt");
    let at = at.to_str().unwrap();
    _ = mounts.mount(&["--read-only", "app", at]).ok();
    let options = |at: &str| {
        let all = read("/proc/self/mountinfo");
        let line = all
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(at))
            .unwrap();
        line.split(' ').nth(5).unwrap().to_owned()
    };
    assert_eq!(options(at), "ro,nosuid,nodev,relatime");
    let run = |script: &str| {
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .output();
        Run::of(&output.unwrap())
    };
    for script in [
        "echo 1 > changed",
        "rm changed",
        "cat null",
        "mount -o remount,rw,bind . && echo 1 > changed",
    ] {
        let tried = run(&format!("cd {at} && {script}"));
        assert_ne!(tried.status, Some(0), "{script}");
    }
    _ = mounts.umount(&[at]).ok();
    assert!(
        run(&format!("test -d {at}")).status == Some(0),
        "the directory stays"
    );
    _ = mounts.mount(&["--allow-setuid", "app", at]).ok();
    assert_eq!(options(at), "rw,nodev,relatime");
}

#[test]
fn what_is_mistyped_is_said() {
    let space = site();
    let mounts = Mounts(&space);
    let path = |name: &str| space.path(name).display().to_string();
    space.write("x", "");
    let (full, missing, store) = (path("context"), path("a/b"), path("store"));
    let at = path("mnt");
    let cases: &[(&[&str], &str)] = &[
        (&["app"], "DIRECTORY"),
        (&["nothing.invalid/app", &at], "the store has no image"),
        (
            &["nothing.invalid/app", &at, "--platform", "linux/amd64"],
            "the store has no image",
        ),
        (&["app", &full], "isn't empty"),
        (&["app", &missing], "cannot make the directory"),
        (&["app", &store], "kiln's store"),
        (&["app", &at, "--platform", "x"], "--platform"),
        (&["--read-only"], "NAME"),
    ];
    for (flags, says) in cases {
        let tried = mounts.mount(flags);
        assert_ne!(tried.status, Some(0), "{flags:?}");
        assert!(tried.stderr.contains(says), "{flags:?}: {}", tried.stderr);
        assert!(!Path::new(&at).exists(), "{flags:?}");
    }
    mounts
        .umount(&[&full])
        .fails_with(&["no image is mounted on", "kiln image mount"]);
    assert_eq!(mounts.umount(&[]).status, Some(2));
}

#[test]
fn a_command_has_the_image_for_as_long_as_it_runs() {
    let space = site();
    let at = space.path("mnt");
    let at = at.to_str().unwrap();
    let script = format!("cat {at}/changed && echo more >> {at}/changed && exit 7");
    let command =
        |image: &str| space.kiln(&["image", "mount", image, at, "--", "sh", "-c", &script]);
    let ran = command("app");
    assert_eq!(ran.status, Some(7), "{}", ran.stderr);
    assert_eq!(ran.stdout, "22\n");
    assert_eq!(command("app").stdout, "22\n", "changes go with the mount");
    assert_eq!(space.kiln(&["image", "mount"]).ok().stdout, "");
    let missing = space.kiln(&["image", "mount", "app", at, "--", "no-such-program"]);
    missing.fails_with(&["cannot run no-such-program"]);
    assert_eq!(space.kiln(&["image", "mount"]).ok().stdout, "");
}
