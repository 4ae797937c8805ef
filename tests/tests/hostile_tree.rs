//! What a hostile step tries against the builder's own accesses to trees and volumes: it changes
//! them while, or before, the builder reads, fills, copies, exports and removes them. Each test is
//! named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln_tests::{BUSYBOX, Run, Space, volume_of};

/// A directory of the host with a number of files.
fn canaries(space: &Space, count: usize) -> PathBuf {
    let directory = space.path("canaries");
    std::fs::create_dir(&directory).unwrap();
    for number in 0..count {
        std::fs::write(directory.join(format!("f{number}")), "").unwrap();
    }
    directory
}

fn count(directory: impl AsRef<Path>) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// One step waits for the directory in which the builder, filling the volume for another step,
/// will come to put a file, and puts a link to the host there.
#[test]
fn volumes_are_filled_where_no_step_reaches() {
    let space = Space::new();
    let canary = canaries(&space, 0);
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS base\n\
             FROM base AS evil\n\
             RUN mkdir -p /fill/a /fill/z && cd /fill/a && seq 1 15000 | xargs touch && echo x > /fill/z/pwned\n\
             FROM base AS a\n\
             RUN --mount=type=cache,id=race,target=/c,from=evil,source=/fill ls /c/z > /a\n\
             FROM base AS b\n\
             COPY --from=evil /fill/z/pwned /b\n\
             RUN sleep 0.1\n\
             RUN --mount=type=cache,id=race,target=/c n=0; while [ ! -e /c/a ] && [ $n -lt 100000 ]; do n=$((n+1)); done; ln -s {} /c/z; true\n\
             FROM base\n\
             COPY --from=a /a /a\n\
             COPY --from=b /b /b\n",
            canary.display()
        ),
    );
    for _ in 0..3 {
        _ = space.build(&["--no-cache"]);
        assert_eq!(count(&canary), 0, "the builder wrote through a link");
        _ = space.kiln(&["volume", "rm", "race"]);
    }
}

/// While the builder removes what a step wrote into a bind mount, another step, which was given a
/// descriptor of it, exchanges a directory and a link to the host.
#[test]
fn what_is_thrown_away_is_removed_alone() {
    let space = Space::new();
    _ = space.attack();
    let canary = canaries(&space, 2000);
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS base\n\
             COPY attack /attack\n\
             FROM base AS b\n\
             RUN --mount=type=cache,id=s,target=/c rm -f /c/s; /attack take /c/s /attack swap d l 2; echo ok > /done\n\
             FROM base AS a\n\
             RUN --mount=type=cache,id=s,target=/c --mount=type=bind,rw,from=base,source=/root,target=/m mkdir /m/d && cd /m/d && seq 0 1999 | sed s/^/f/ | xargs touch; ln -s {} /m/l; /attack give /c/s /m\n\
             FROM base\n\
             COPY --from=a /etc /v\n\
             COPY --from=b /done /done\n",
            canary.display()
        ),
    );
    for _ in 0..3 {
        _ = space.build(&["--no-cache"]);
        assert_eq!(count(&canary), 2000, "the builder removed the host's files");
    }
}

/// Links to the host, put into a tree by a descriptor that outlived its step.
const EXCHANGE: &str = "cd /proc/self/fd/9 && rm x && ln -s $secret x && mv d e && ln -s $directory d && mv etc was && ln -s $directory etc";

/// However what a step left behind is read, nothing of the host is: whatever it holds by then.
#[test]
fn changed_trees_show_nothing_of_the_host() {
    let space = Space::new();
    _ = space.attack();
    let directory = space.path("host");
    std::fs::create_dir_all(directory.join("dir")).unwrap();
    for name in ["dir/inside", "passwd", "archive.tar"] {
        std::fs::write(directory.join(name), "CANARY:x:77:77::/:/bin/sh\n").unwrap();
    }
    let exchange = EXCHANGE
        .replace(
            "$secret",
            &directory.join("dir/inside").display().to_string(),
        )
        .replace("$directory", &directory.display().to_string());
    let uses = [
        "FROM base\nCOPY --from=b /done /done\nCOPY --from=a /x /out",
        "FROM base\nCOPY --from=b /done /done\nCOPY --from=a /d/dir/inside /out",
        "FROM base\nCOPY --from=b /done /done\nCOPY --from=a /d /out",
        "FROM base\nCOPY --from=b /done /done\nCOPY --parents --from=a /d/./dir/inside /out/",
        "FROM base\nCOPY --from=b /done /done\nADD --from=a /d/archive.tar /out/",
        "FROM base\nCOPY --from=b /done /done\nRUN --mount=type=bind,from=a,source=/d/dir,target=/m cat /m/inside > /out",
        "FROM base\nCOPY --from=b /done /done\nRUN --mount=type=bind,from=a,source=/x,target=/m cat /m > /out",
        "FROM base\nCOPY --from=b /done /done\nRUN --mount=type=bind,rw,from=a,source=/d/dir,target=/m cat /m/inside > /out",
        "FROM base\nCOPY --from=b /done /done\nRUN --mount=type=cache,id=new,target=/m,from=a,source=/d/dir cat /m/inside > /out",
        "FROM a\nCOPY --from=b /done /done\nCOPY --chown=CANARY attack /out",
        "FROM a\nCOPY --from=b /done /done",
    ];
    for wanted in uses {
        space.write(
            "Dockerfile",
            format!(
                "# syntax=docker/dockerfile:1-labs\n\
                 FROM {BUSYBOX} AS base\n\
                 COPY attack /attack\n\
                 FROM base AS b\n\
                 RUN --mount=type=cache,id=s,target=/c rm -f /c/s; /attack take /c/s sh -c 'sleep 0.5; {exchange}'; echo ok > /done\n\
                 FROM base AS a\n\
                 RUN --mount=type=cache,id=s,target=/c mkdir -p /d/dir; echo no | tee /x /d/dir/inside > /d/archive.tar; /attack give /c/s /\n\
                 {wanted}\n"
            ),
        );
        let out = space.path("out");
        _ = std::fs::remove_dir_all(&out);
        let output = format!("type=local,dest={}", out.display());
        let built = space.build(&["--no-cache", "-o", &output]);
        let grep = Command::new("grep")
            .args(["-rl", "CANARY:x"])
            .arg(&out)
            .output();
        let found = Run::of(&grep.unwrap()).stdout;
        assert!(found.is_empty(), "{wanted}: {found}\n{}", built.stderr);
        assert!(!built.stderr.contains("CANARY:x"), "{}", built.stderr);
    }
}

const LIST: &str = "find . -mindepth 1 -exec stat -c '%n %F %a %u %g %s %Y %h %t:%T' {} + | grep -v '^./sub ' | sort";

#[test]
fn a_filled_volume_is_as_its_source() {
    let space = Space::new();
    let make = "mkdir -p /fill/d && cd /fill && echo 1 > f && ln f d/hard && ln -s f link && mkfifo pipe && mknod null c 1 3 && chown 7:8 d f && chown -h 9:9 link && chmod 4711 f && chmod 640 pipe && touch -d @12345 f pipe && touch -d @2345 d";
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS src\n\
             RUN {make}\n\
             FROM {BUSYBOX}\n\
             RUN --mount=type=bind,from=src,source=/fill,target=/f cd /f && {LIST} > /want\n\
             RUN --mount=type=cache,id=v,target=/v,uid=5,gid=6,mode=0750,from=src,source=/fill cd /v && {LIST} > /out && stat -c '%a %u %g' . > /own\n"
        ),
    );
    let out = space.build_files(&[]);
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(read("want").contains("./d/hard regular file 4711 7 8 2 12345 2"));
    assert_eq!(read("out"), read("want"));
    // As in BuildKit: what the mount says is for volumes that no directory fills.
    assert_eq!(read("own"), "755 0 0\n");
}

#[test]
fn a_killed_filling_leaves_no_half_volume() {
    let space = Space::new();
    let files = 6000;
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS src\n\
             RUN mkdir /fill && cd /fill && seq 1 {files} | xargs touch\n\
             FROM {BUSYBOX}\n\
             RUN --mount=type=cache,id=v,target=/v,from=src,source=/fill ls /v | wc -l > /out; sleep 30\n"
        ),
    );
    _ = space.build(&["--target", "src"]).ok();
    for delay in [20, 40, 60, 80, 110, 140, 180, 230, 300, 400] {
        let mut command = space.command(&["build", "context"]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        _ = child.wait().unwrap();
        let found = volume_of(&space.path("store")).map_or(files, count);
        assert_eq!(found, files, "after {delay} ms");
    }
    let fill = std::fs::read_to_string(space.path("context/Dockerfile")).unwrap();
    space.write("Dockerfile", fill.replace("; sleep 30", ""));
    let seen = std::fs::read_to_string(space.build_files(&[]).join("out")).unwrap();
    assert_eq!(seen.trim(), files.to_string());
}

/// An export, or a copy for another key, waits for the step that uses the volume.
#[test]
fn volumes_are_read_when_no_step_writes() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN --mount=type=cache,id=v,target=/v echo 1 > /v/first; sleep 2; echo 2 > /v/last\n"),
    );
    let mut command = space.command(&["build", "context", "--no-cache"]);
    let mut step = command.stderr(Stdio::null()).spawn().unwrap();
    let begun = || {
        let volume = volume_of(&space.path("store"));
        volume.is_some_and(|volume| volume.join("first").exists())
    };
    let waits = (0..500).take_while(|_| !begun());
    waits.for_each(|_| std::thread::sleep(Duration::from_millis(20)));
    let remote = space.path("remote").display().to_string();
    _ = space.kiln(&["volume", "export", "v", &remote]).ok();
    assert!(step.wait().unwrap().success());
    let mut import = space.command(&["volume", "import", "v", &remote]);
    import.env("KILN_ROOT", space.path("other"));
    _ = Run::of(&import.output().unwrap()).ok();
    let volume = volume_of(&space.path("other")).unwrap();
    assert!(
        volume.join("last").exists(),
        "a half-written volume was sent"
    );
}

#[test]
fn local_outputs_have_pipes_and_devices() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN mkfifo -m 640 /pipe && mknod -m 600 /zero c 1 5 && mkdir -m 1750 /d && touch -d @777 /d\n"),
    );
    let out = space.build_files(&[]);
    let kind = |name: &str| {
        std::fs::symlink_metadata(out.join(name))
            .unwrap()
            .file_type()
    };
    assert!(kind("pipe").is_fifo());
    assert!(kind("zero").is_char_device());
    let about = std::fs::metadata(out.join("d")).unwrap();
    let modified = about.modified().unwrap();
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_secs(), 777);
    // What an output left there doesn't lead the next one elsewhere.
    let canary = canaries(&space, 1);
    for name in ["bin", "d", "pipe"] {
        let path = out.join(name);
        _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        std::os::unix::fs::symlink(&canary, path).unwrap();
    }
    let output = format!("type=local,dest={}", out.display());
    _ = space.build(&["-o", &output]).ok();
    assert_eq!(count(&canary), 1);
    assert!(kind("pipe").is_fifo() && kind("bin").is_dir());
}
