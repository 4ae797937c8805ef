//! Builds, as a user runs them.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Run, Space, is_root, read, read_json, run, unpack};

#[test]
fn nothing_runs_twice_and_equal_output_spares_what_follows() {
    let space = Space::new();
    let file = |first: &str| {
        format!("FROM {BUSYBOX}\nRUN {first} > /same\nRUN cat /proc/sys/kernel/random/uuid > /id\n")
    };
    space.write("Dockerfile", file("echo x"));
    let first = read(space.build_files(&[]).join("id"));
    assert_eq!(read(space.build_files(&[]).join("id")), first, "a hit");
    space.write("Dockerfile", file("printf 'x\\n'"));
    assert_eq!(
        read(space.build_files(&[]).join("id")),
        first,
        "the same output spares the next step"
    );
    space.write("Dockerfile", file("echo y"));
    assert_ne!(read(space.build_files(&[]).join("id")), first);
    let again = read(space.build_files(&[]).join("id"));
    assert_ne!(read(space.build_files(&["--no-cache"]).join("id")), again);
}

#[test]
fn an_edit_that_keeps_size_and_mtime_is_noticed() {
    let space = Space::new();
    space
        .write("Dockerfile", "FROM scratch\nCOPY f /f\n")
        .write("f", "one");
    let path = space.path("context/f");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(read(space.build_files(&[]).join("f")), "one");
    std::fs::write(&path, "two").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(read(space.build_files(&[]).join("f")), "two");
}

#[test]
fn more_steps_in_one_stage_than_overlayfs_has_layers() {
    let space = Space::new();
    let steps: String = (0..510)
        .map(|n| format!("RUN echo {n} > /f{n} && rm -f /f$(({n}-2)); chmod 600 /f{n}\n"))
        .collect();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\n{steps}RUN ls / | grep ^f > /list; stat -c %a /f509 >> /list\n"),
    );
    assert_eq!(
        read(space.build_files(&[]).join("list")),
        "f508\nf509\n600\n"
    );
}

#[test]
fn equal_steps_of_builds_at_once_run_once() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /id\n"),
    );
    let builds: Vec<_> = (0..4)
        .map(|n| {
            let output = format!(
                "type=local,dest={}",
                space.path(format!("out{n}")).display()
            );
            space
                .command(&["build", "context", "-o", &output])
                .spawn()
                .unwrap()
        })
        .collect();
    for mut build in builds {
        assert!(build.wait().unwrap().success());
    }
    let ids: Vec<String> = (0..4)
        .map(|n| read(space.path(format!("out{n}/id"))))
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn independent_judges_agree() {
    let space = Space::new();
    space.write("Dockerfile", format!(
        "FROM {BUSYBOX}\nRUN mkdir /d && echo 1 > /d/a && ln /d/a /d/b && ln -s a /d/c && chmod 4755 /d/a\nRUN rm /etc/group && rm -r /d && mkdir /d && echo 2 > /d/new\nCMD [\"cat\", \"/d/new\"]\n"
    ));
    for (codec, plan) in [
        ("gzip", "per-step"),
        ("zstd", "per-step"),
        ("gzip", "squash"),
        ("gzip", "flat"),
    ] {
        let archive = space.path("image.tar");
        let output = format!("type=oci,dest={},compression={codec}", archive.display());
        let _done = space
            .build(&["-t", "judged:1", "-o", &output, "--layers", plan])
            .ok();
        let source = format!("oci-archive:{}", archive.display());
        assert!(
            run("skopeo", &["inspect", &source])
                .stdout
                .contains("\"Layers\"")
        );
        if codec == "zstd" {
            continue;
        }
        let root = unpack(&source, &space.path(format!("bundle-{codec}-{plan}")));
        assert_eq!(read(root.join("d/new")), "2\n");
        assert!(!root.join("d/a").exists() && !root.join("etc/group").exists());
    }
}

#[test]
fn pushed_images_come_back_and_known_blobs_are_not_sent_again() {
    let space = Space::new();
    space
        .write("Dockerfile", format!("FROM {BUSYBOX}\nCOPY f /f\n"))
        .write("f", "pushed");
    let name = format!("127.0.0.1:5000/test/pushed-{}:1", std::process::id());
    let first = space.build(&["-t", &name, "--push"]).ok();
    assert!(first.stderr.contains("push "), "{}", first.stderr);
    let again = space.build(&["-t", &name, "--push"]).ok();
    assert!(!again.stderr.contains("push "), "{}", again.stderr);
    space.write("Dockerfile", format!("FROM {name}\nRUN cat /f > /g\n"));
    assert_eq!(read(space.build_files(&[]).join("g")), "pushed");
}

#[test]
fn the_same_bytes_with_a_fixed_date() {
    let digest = || {
        let space = Space::new();
        space
            .write(
                "Dockerfile",
                format!("FROM {BUSYBOX}\nRUN echo x > /x\nCOPY f /f\n"),
            )
            .write("f", "f");
        let build = space.build(&[
            "--build-arg",
            "SOURCE_DATE_EPOCH=1",
            "-t",
            "a",
            "--metadata-file",
            "m.json",
        ]);
        let _done = build.ok();
        let metadata = read_json(space.path("m.json"));
        metadata["containerimage.digest"].to_string()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn prune_takes_all_but_named_images() {
    let space = Space::new();
    space
        .write("Dockerfile", "FROM scratch\nCOPY f /f\n")
        .write("f", "f");
    let _done = space.build(&["-t", "kept:1"]).ok();
    let _done = space.kiln(&["prune", "--all", "--force"]).ok();
    assert!(space.kiln(&["image", "ls"]).ok().stdout.contains("kept:1"));
    let usage = space.kiln(&["du"]).ok().stdout;
    assert!(
        usage
            .lines()
            .any(|line| line.starts_with("trees") && line.contains(" 0 ")),
        "{usage}"
    );
    let _done = space.build(&[]).ok();
}

#[test]
fn bad_input_gets_clear_errors() {
    let space = Space::new();
    space.build(&[]).fails_with(&["no Dockerfile", "-f"]);
    assert_eq!(space.build(&["--no-such-flag"]).status, Some(2));
    assert_eq!(space.build(&["-o", "type=nonsense,dest=x"]).status, Some(2));
    space.write("Dockerfile", "FROM scratch\nCOPPY a /\n");
    space.build(&[]).fails_with(&[
        "Dockerfile:2",
        "unknown instruction: COPPY",
        "COPY",
        ">>> COPPY a /",
    ]);
    space.write("Dockerfile", "FROM 127.0.0.1:1/none\nRUN true\n");
    space
        .build(&[])
        .fails_with(&["cannot reach 127.0.0.1:1", "check"]);
    space.write("Dockerfile", "FROM 127.0.0.1:5000/no/such\nRUN true\n");
    space
        .build(&[])
        .fails_with(&["not found on 127.0.0.1:5000"]);
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo before && exit 3\n"),
    );
    space
        .build(&[])
        .fails_with(&["exit code: 3", "before", "Dockerfile:2"]);
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nCOPY missing /\n"));
    space
        .build(&[])
        .fails_with(&["\"/missing\": not found", "Dockerfile:2"]);
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN sleep 4321\n"));
    let mut build = space.command(&["build", "context", "--progress", "plain"]);
    let mut build = build.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(build.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("RUN sleep 4321")));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let _done = run("kill", &["-INT", &build.id().to_string()]);
    assert_eq!(build.wait().unwrap().code(), Some(130));
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let sleeping = processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains("4321"));
    assert_eq!(sleeping.count(), 0);
    assert!(
        std::fs::read_dir(space.path("store/tmp"))
            .unwrap()
            .next()
            .is_none()
    );
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo fine > /x\n"),
    );
    assert_eq!(read(space.build_files(&[]).join("x")), "fine\n");
}

#[test]
fn killed_builds_leave_a_store_that_works() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\nRUN head -c 20000000 /dev/zero > /big\nRUN wc -c < /big > /count\n"
        ),
    );
    for delay in [5, 15, 30, 60, 100, 150] {
        let mut build = space
            .command(&["build", "context", "--progress", "quiet"])
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        build.kill().unwrap();
        build.wait().unwrap();
    }
    assert_eq!(read(space.build_files(&[]).join("count")), "20000000\n");
    let leftover = std::fs::read_dir(space.path("store/tmp")).unwrap();
    let leftover: Vec<_> = leftover.map(|entry| entry.unwrap().file_name()).collect();
    assert!(leftover.is_empty(), "{leftover:?}");
}

/// A build as an ordinary user, in a directory that the user owns.
fn build_as(user: &str, space: &Space) -> Option<Run> {
    if !is_root()
        || std::process::Command::new("id")
            .arg(user)
            .output()
            .ok()?
            .status
            .code()?
            != 0
    {
        return None;
    }
    let directory = space.path("");
    let _done = run("chown", &["-R", user, directory.to_str().unwrap()]).ok();
    let _done = run("chmod", &["755", directory.to_str().unwrap()]).ok();
    let binary = space.path("kiln");
    std::fs::copy(kiln_tests::kiln_binary(), &binary).unwrap();
    let script = format!(
        "cd {0} && KILN_ROOT={0}/store ./kiln build context --progress plain -t a --build-arg SOURCE_DATE_EPOCH=1 --metadata-file m.json -o type=tar,dest=out.tar",
        directory.display()
    );
    let output = std::process::Command::new("su")
        .args([user, "-c", &script])
        .output()
        .unwrap();
    Some(Run::of(&output))
}

#[test]
fn rootless_and_root_give_the_same_image() {
    let make = || {
        let space = Space::new();
        space
            .write(
                "Dockerfile",
                format!("FROM {BUSYBOX}\nRUN echo x > /x && mkdir /d\nCOPY f /f\n"),
            )
            .write("f", "f");
        space
    };
    let as_root = make();
    let _done = as_root
        .build(&[
            "-t",
            "a",
            "--build-arg",
            "SOURCE_DATE_EPOCH=1",
            "--metadata-file",
            "m.json",
        ])
        .ok();
    let digest = |space: &Space| {
        let metadata = read_json(space.path("m.json"));
        metadata["containerimage.digest"].to_string()
    };
    for user in ["kiln-test", "kiln-single"] {
        let space = make();
        let Some(build) = build_as(user, &space) else {
            continue;
        };
        let _done = build.ok();
        assert_eq!(digest(&space), digest(&as_root), "{user}");
    }
}

/// An overlay mount takes no other overlay's changes: a store on one has to do without.
#[test]
fn where_overlayfs_is_refused_roots_are_copied() {
    if !is_root() {
        return;
    }
    let space = Space::new();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(space.path(name)).unwrap();
    }
    let at = |name: &str| space.path(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower"),
        at("upper"),
        at("work")
    );
    let _done = run(
        "mount",
        &["-t", "overlay", "none", "-o", &options, &at("merged")],
    );
    space.write("Dockerfile", format!(
        "FROM {BUSYBOX} AS a\nRUN echo 1 > /x && rm /etc/group && mkdir /d && ln /x /d/y\nRUN echo 2 >> /x\nFROM {BUSYBOX}\nRUN --mount=from=a,target=/a,rw cat /a/x /a/d/y > /o && touch /a/z && ls /a/etc > /p\n"
    ));
    let output = format!("type=local,dest={}", at("out"));
    let build = space.command(&["build", "context", "--progress", "plain", "-o", &output]);
    let mut build = build;
    let build = Run::of(
        &build
            .env("KILN_ROOT", space.path("merged/store"))
            .output()
            .unwrap(),
    );
    let _done = run("umount", &["-l", &at("merged")]);
    let build = build.ok();
    assert_eq!(
        build.stderr.matches("overlayfs can't be used").count(),
        1,
        "{}",
        build.stderr
    );
    assert_eq!(read(space.path("out/o")), "1\n2\n1\n2\n");
    assert_eq!(read(space.path("out/p")), "passwd\n");
}

#[test]
fn a_network_of_its_own() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\nRUN ip route > /routes; wget -qO- http://127.0.0.1:5000/v2/ || echo apart > /apart\n"
        ),
    );
    let out = space.build_files(&["--network", "sandbox"]);
    assert!(read(out.join("routes")).contains("default"));
    assert_eq!(
        read(out.join("apart")),
        "apart\n",
        "the host's loopback is out of reach"
    );
}
