//! Cache volumes: what they keep, how they are shared, how they travel.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use kiln_tests::{BUSYBOX, Run, S3, Space, read};

/// Runs a step with the volume `v` at `/v`, and gives what it wrote to `/out`.
fn step(space: &Space, store: &str, options: &str, script: &str, args: &[&str]) -> (String, Run) {
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN --mount=type=cache,id=v,target=/v{options} {script}\n"),
    );
    let out = space.path("out");
    _ = std::fs::remove_dir_all(&out);
    let output = format!("type=local,dest={}", out.display());
    let mut command = space.command(&[
        "build",
        "context",
        "--no-cache",
        "--progress",
        "plain",
        "-o",
        &output,
    ]);
    command.args(args).env("KILN_ROOT", space.path(store));
    let run = Run::of(&command.output().unwrap()).ok();
    (read(out.join("out")), run)
}

const LIST: &str = "find /v -exec stat -c '%n %a %u %g %s %y %h' {} + | sort > /out; cat /v/f /v/link >> /out 2>/dev/null; cat /v/* | sha256sum >> /out; true";

#[test]
fn a_volume_travels_and_a_second_time_only_its_change() {
    let space = Space::new();
    let fill = "mkdir -p /v/d; head -c 20000000 /dev/urandom > /v/big; echo hello > /v/f; ln /v/f /v/hard; ln -s f /v/link; chmod 4711 /v/f; touch -d @12345 /v/f; chown 7:8 /v/d; echo > /out";
    _ = step(&space, "a", "", fill, &[]);
    let (before, _) = step(&space, "a", "", LIST, &[]);
    let server = S3::start(&space.path("s3"));
    let kiln = |store: &str, args: &[&str]| {
        let mut command = space.command(args);
        command.env("KILN_ROOT", space.path(store));
        command.envs(server.variables());
        Run::of(&command.output().unwrap())
    };
    let directory = space.path("remote").display().to_string();
    let name = format!("127.0.0.1:5000/volumes-{}:x", std::process::id());
    let bucket = "s3://bucket/volumes".to_owned();
    for remote in [&directory, &name, &bucket] {
        let sent = kiln("a", &["volume", "export", "v", remote]).ok().stdout;
        assert!(
            sent.contains("19.07 MiB,") && sent.contains(" MiB sent"),
            "{sent}"
        );
        let store = format!("from-{}", remote.len());
        _ = kiln(&store, &["volume", "import", "v", remote]).ok();
        let (after, _) = step(&space, &store, "", LIST, &[]);
        assert_eq!(after, before);
    }
    _ = step(&space, "a", "", "echo changed > /v/f; echo > /out", &[]);
    let sent = kiln("a", &["volume", "export", "v", &directory])
        .ok()
        .stdout;
    let bytes = sent.split(", ").nth(1).unwrap();
    assert!(
        bytes.contains("KiB sent") || bytes.starts_with("1.") || bytes.starts_with("2."),
        "{sent}"
    );
    let listed = kiln("a", &["volume", "ls"]).ok().stdout;
    assert!(listed.contains(" v\n"), "{listed}");
    _ = kiln("a", &["volume", "rm", "v"]).ok();
    assert_eq!(
        kiln("a", &["volume", "export", "v", &directory]).status,
        Some(2)
    );
    assert_eq!(
        kiln("a", &["volume", "import", "none", &directory]).status,
        Some(2)
    );
}

#[test]
fn a_build_brings_the_volumes_it_mounts() {
    let space = Space::new();
    let directory = space.path("remote");
    let to = format!("type=local,dest={},volumes=all", directory.display());
    let from = format!("type=local,src={},volumes=all", directory.display());
    let count = "echo x >> /v/n; wc -l < /v/n > /out";
    let (first, run) = step(&space, "a", "", count, &["--cache-to", &to]);
    assert!(run.stderr.contains("volume v:"), "{}", run.stderr);
    assert_eq!(first, "1\n");
    assert_eq!(
        step(&space, "b", "", count, &["--cache-from", &from]).0,
        "2\n"
    );
    assert_eq!(
        step(&space, "b", "", count, &["--cache-from", &from]).0,
        "3\n",
        "once here, it stays"
    );
    assert_eq!(step(&space, "c", "", count, &[]).0, "1\n");
    for entry in std::fs::read_dir(directory.join("blobs/sha256")).unwrap() {
        std::fs::write(entry.unwrap().path(), "damaged").unwrap();
    }
    let (fresh, run) = step(&space, "d", "", count, &["--cache-from", &from]);
    assert_eq!(fresh, "1\n");
    assert!(run.stderr.contains("starts empty"), "{}", run.stderr);
}

/// Eight builds at once that count in the volume, with time to get in each other's way.
fn eight(sharing: &str) -> Vec<String> {
    let space = Space::new();
    let build = |number: usize| -> Child {
        let name = format!("Dockerfile.{number}");
        space.write(
            &name,
            format!(
                "FROM {BUSYBOX}\nRUN --mount=type=cache,id=v,target=/v,sharing={sharing} n=$(cat /v/n 2>/dev/null || echo 0); sleep 0.05; echo $((n+1)) > /v/n; cat /v/n > /out; echo {number} > /unique\n"
            ),
        );
        let file = space.path("context").join(&name).display().to_string();
        let output = format!(
            "type=local,dest={}",
            space.path(format!("out{number}")).display()
        );
        let mut command = space.command(&["build", "context", "-f", &file, "-o", &output]);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let builds: Vec<Child> = (0..8).map(build).collect();
    for mut build in builds {
        assert!(build.wait().unwrap().success());
    }
    let mut seen: Vec<String> = (0..8)
        .map(|number| {
            read(space.path(format!("out{number}/out")))
                .trim()
                .to_owned()
        })
        .collect();
    seen.sort();
    seen
}

#[test]
fn eight_builds_on_one_volume() {
    assert_eq!(eight("locked"), ["1", "2", "3", "4", "5", "6", "7", "8"]);
    let private = eight("private");
    assert!(
        private.iter().filter(|seen| *seen == "1").count() > 1,
        "{private:?}"
    );
    assert_eq!(eight("shared").len(), 8);
}

#[test]
fn a_killed_step_leaves_a_volume_that_works() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN --mount=type=cache,id=v,target=/v,sharing=locked echo 1 > /v/n; echo is written; sleep 60\n"),
    );
    let mut child = space
        .command(&["build", "context", "--progress", "plain"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let is_output =
        |line: &std::io::Result<String>| line.as_ref().unwrap().ends_with(" is written");
    assert!(lines.any(|line| is_output(&line)));
    child.kill().unwrap();
    _ = child.wait().unwrap();
    let (seen, _) = step(&space, "store", ",sharing=locked", "cat /v/n > /out", &[]);
    assert_eq!(seen, "1\n");
}

#[test]
fn killed_transfers_leave_what_the_next_one_can_use() {
    let space = Space::new();
    let fill = "mkdir -p /v/d; head -c 40000000 /dev/urandom > /v/big; echo hello > /v/f; ln -s f /v/link; touch -d @12345 /v/f; echo > /out";
    _ = step(&space, "a", "", fill, &[]);
    let (before, _) = step(&space, "a", "", LIST, &[]);
    let remote = space.path("remote").display().to_string();
    let start = |store: &str, what: &str| {
        let mut command = space.command(&["volume", what, "v", &remote]);
        command.env("KILN_ROOT", space.path(store));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let killed = |store: &str, what: &str, delay: u64| {
        let mut transfer = start(store, what);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        _ = transfer.kill();
        _ = transfer.wait().unwrap();
    };
    let whole = |store: &str, what: &str| {
        _ = Run::of(&start(store, what).wait_with_output().unwrap()).ok();
    };
    for delay in [4, 12, 30, 60, 110, 180] {
        killed("a", "export", delay);
    }
    whole("a", "export");
    for delay in [4, 12, 30, 60, 110, 180] {
        killed("b", "import", delay);
    }
    whole("b", "import");
    let (after, _) = step(&space, "b", "", LIST, &[]);
    assert_eq!(after, before);
    for store in ["a", "b"] {
        let mut command = space.command(&["fsck"]);
        command.env("KILN_ROOT", space.path(store));
        let checked = Run::of(&command.output().unwrap()).ok().stdout;
        assert!(checked.contains("no damage"), "{checked}");
        let left: Vec<_> = std::fs::read_dir(space.path(store).join("tmp"))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_volume_follows_a_lock_file() {
    let space = Space::new();
    let tied = ["--volume-key", "id=v,file=lock"];
    let count = "echo x >> /v/n; wc -l < /v/n > /out";
    let seen = |store: &str, lock: &str, more: &[&str]| {
        space.write("lock", lock);
        step(&space, store, "", count, &[&tied[..], more].concat()).0
    };
    assert_eq!(seen("a", "one", &[]), "1\n");
    assert_eq!(seen("a", "one", &[]), "2\n");
    assert_eq!(seen("a", "two", &[]), "3\n", "another begins as the newest");
    assert_eq!(
        seen("a", "one", &[]),
        "3\n",
        "the exact one goes before the newest"
    );
    let remote = space.path("remote").display().to_string();
    let to = format!("type=local,dest={remote},volumes=all");
    let from = format!("type=local,src={remote},volumes=all");
    assert_eq!(seen("a", "one", &["--cache-to", &to]), "4\n");
    assert_eq!(seen("a", "two", &["--cache-to", &to]), "4\n");
    assert_eq!(seen("a", "two", &["--cache-to", &to]), "5\n");
    assert_eq!(seen("b", "one", &["--cache-from", &from]), "5\n", "exact");
    assert_eq!(seen("c", "new", &["--cache-from", &from]), "6\n", "newest");
    let names = space
        .command(&["volume", "ls"])
        .env("KILN_ROOT", space.path("a"))
        .output();
    let names = Run::of(&names.unwrap()).ok().stdout;
    assert_eq!(names.matches("  v@").count(), 2, "{names}");
    let namespace = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=n"];
    assert_eq!(seen("a", "one", &namespace), "1\n");
    assert_eq!(seen("a", "two", &namespace), "2\n", "begins as the newest");
    assert_eq!(seen("a", "one", &namespace), "2\n", "tied there, too");
    let wrong = space.build(&["--volume-key", "id=v,file=../lock"]);
    assert_eq!(wrong.status, Some(1), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("which the volume v is tied to"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn damage_is_found_and_mended() {
    let space = Space::new();
    let file = format!("FROM {BUSYBOX}\nRUN echo kept > /kept\n");
    space.write("Dockerfile", &file);
    _ = space.build(&["-t", "x"]).ok();
    assert!(space.kiln(&["fsck"]).ok().stdout.contains("no damage"));
    let found = std::process::Command::new("find")
        .args([space.path("store/trees").as_os_str()])
        .args(["-name", "kept"])
        .output();
    let path = Run::of(&found.unwrap()).ok().stdout.trim().to_owned();
    std::fs::write(&path, "bad!\n").unwrap();
    let failed = space.kiln(&["fsck"]);
    assert!(failed.stdout.contains("/kept changed"), "{}", failed.stdout);
    failed.fails_with(&["1 of", "--repair"]);
    _ = space.kiln(&["fsck", "--repair"]).ok();
    assert_eq!(read(space.build_files(&[]).join("kept")), "kept\n");
    assert!(space.kiln(&["fsck"]).ok().stdout.contains("no damage"));
}

#[test]
fn the_store_keeps_to_its_policy() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN head -c 9000000 /dev/urandom > /big\n"),
    );
    std::fs::write(space.path("kiln.conf"), "[gc]\nmax-storage = '4MB'\n").unwrap();
    _ = space.build(&[]).ok();
    std::thread::sleep(std::time::Duration::from_millis(50));
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let mut command = space.command(&["build", "context"]);
    command.env("KILN_CONFIG", space.path("kiln.conf"));
    _ = Run::of(&command.output().unwrap()).ok();
    let total = space.kiln(&["du"]).ok().stdout;
    let line = total.lines().last().unwrap();
    assert!(!line.contains("11.") && !line.contains("12."), "{total}");
}

#[test]
fn names_of_images_expire() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo kept\n"));
    for tag in ["app:1", "app:2", "other:1"] {
        _ = space.build(&["-t", tag]).ok();
        // Names are dated by the second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let would = space
        .kiln(&["prune", "--keep-images", "1", "--dry-run"])
        .ok()
        .stdout;
    assert!(
        would.contains("app:1\n") && !would.contains("app:2"),
        "{would}"
    );
    _ = space.kiln(&["prune", "--keep-images", "1"]).ok();
    let images = space.kiln(&["image", "ls"]).ok().stdout;
    assert!(
        images.contains("app:2") && images.contains("other:1"),
        "{images}"
    );
    assert!(!images.contains("app:1"), "{images}");
    _ = space
        .kiln(&["prune", "--images-older-than", "1s", "--filter", "until=1h"])
        .ok();
    assert!(!space.kiln(&["image", "ls"]).ok().stdout.contains("app:2"));
    assert_eq!(space.kiln(&["prune", "--filter", "x=y"]).status, Some(2));
}

#[test]
fn a_volume_may_be_a_file() {
    let space = Space::new();
    let build = |mounts: &str, script: &str| {
        space.write(
            "Dockerfile",
            format!(
                "FROM {BUSYBOX} AS from\nRUN mkdir /d; echo one > /d/file; chmod 640 /d/file; chown 7:8 /d/file; ln /d/file /d/hard; ln -s d/file /link; mkfifo /d/pipe\nFROM {BUSYBOX}\nRUN {mounts} {script}\n"
            ),
        );
        let run = space.build(&[
            "--no-cache",
            "-o",
            &format!("type=local,dest={}", space.path("out").display()),
        ]);
        (read(space.path("out/out")), run)
    };
    let mount = |source: &str, more: &str| {
        format!("--mount=type=cache,id=f,from=from,source={source},target=/m/x{more}")
    };
    let script =
        "stat -c '%F %a %u %g' /m/x > /out; cat /m/x >> /out; echo more >> /m/x; ls /m >> /out";
    for source in ["/d/file", "/d/hard", "/link"] {
        let begin = "regular file 640 7 8\none\n";
        let (first, run) = build(&mount(source, ""), script);
        _ = run.ok();
        assert_eq!(first, format!("{begin}x\n"), "{source}");
        let (second, _) = build(&mount(source, ""), script);
        assert_eq!(second, format!("{begin}more\nx\n"), "{source}");
        let (_, run) = build(&mount(source, ",ro"), "echo no >> /m/x");
        run.fails_with(&["Read-only file system"]);
    }
    let (_, run) = build(&mount("/d/pipe", ""), "true");
    run.fails_with(&["\"/d/pipe\": is neither a file nor a directory"]);
    let (_, run) = build(&mount("/d/none", ""), "true");
    run.fails_with(&["\"/d/none\": not found in its source"]);
}
