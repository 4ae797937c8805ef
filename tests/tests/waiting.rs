//! Steps that wait for each other: never in a circle, and never against the user's will.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kiln_tests::{BUSYBOX, Space, run};

fn start(space: &Space, folder: &str, args: &[&str]) -> Child {
    let mut command = space.command(&[&["build", folder, "--progress", "plain"], args].concat());
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Whether a build ends in time, and its status.
fn ends(child: &mut Child, seconds: u64) -> Option<i32> {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    _ = child.kill();
    _ = child.wait();
    None
}

fn write(space: &Space, folder: &str, lines: &str) {
    let name = format!("../{folder}/Dockerfile");
    space.write(&name, format!("FROM {BUSYBOX}\n{lines}\n"));
}

fn mounts(ids: &[&str], script: &str) -> String {
    let mount = |id: &&str| format!("--mount=type=cache,id={id},target=/m/{id},sharing=locked");
    let mounts: Vec<String> = ids.iter().map(mount).collect();
    format!("RUN {} {script}", mounts.join(" "))
}

#[test]
fn volumes_in_another_order() {
    let space = Space::new();
    write(&space, "c0", &mounts(&["a"], "sleep 2"));
    write(&space, "c1", &mounts(&["a", "b"], "true"));
    write(&space, "c2", &mounts(&["b", "a"], "true"));
    let mut builds = Vec::new();
    for folder in ["c0", "c1", "c2"] {
        builds.push(start(&space, folder, &["--no-cache"]));
        std::thread::sleep(Duration::from_millis(500));
    }
    for build in &mut builds {
        assert_eq!(ends(build, 60), Some(0));
    }
}

#[test]
fn one_volume_at_two_places() {
    let space = Space::new();
    for (first, second) in [
        ("locked", "locked"),
        ("private", "locked"),
        ("shared", "locked"),
        ("private", "private"),
    ] {
        write(
            &space,
            "c",
            &format!(
                "RUN --mount=type=cache,id=v,target=/1,sharing={first} --mount=type=cache,id=v,target=/2,sharing={second} \
             touch /1/x && ls /2/x"
            ),
        );
        let mut build = start(&space, "c", &["--no-cache"]);
        assert_eq!(ends(&mut build, 60), Some(0), "{first} {second}");
    }
}

#[test]
fn whoever_waits_can_be_stopped() {
    let space = Space::new();
    write(&space, "holds", &mounts(&["v"], "sleep 60"));
    write(&space, "wants", &mounts(&["v"], "true"));
    write(&space, "equal", "RUN sleep 61");
    let mut holders = [start(&space, "holds", &[]), start(&space, "equal", &[])];
    std::thread::sleep(Duration::from_secs(3));
    for folder in ["wants", "equal"] {
        for signal in ["INT", "TERM"] {
            let mut build = start(&space, folder, &[]);
            std::thread::sleep(Duration::from_secs(1));
            assert!(build.try_wait().unwrap().is_none(), "{folder} waits");
            _ = run("kill", &[format!("-{signal}"), build.id().to_string()]);
            let status = ends(&mut build, 10).expect("a signal ends it");
            assert_ne!(status, 0, "{folder} {signal}");
        }
    }
    for holder in &mut holders {
        _ = run("kill", &["-INT".to_owned(), holder.id().to_string()]);
        assert!(ends(holder, 20).is_some());
    }
}

#[test]
fn each_user_has_a_volume() {
    let space = Space::new();
    write(
        &space,
        "c",
        "RUN --mount=type=cache,target=/x touch /x/of-root\nUSER 1234\n\
         RUN --mount=type=cache,target=/x,uid=1234 touch /x/mine && stat -c '%u:%g %a' /x > /tmp/x; ls /x >> /tmp/x\n\
         RUN --mount=type=cache,target=/x,uid=1234,gid=55,mode=0750 stat -c '%u:%g %a' /x > /tmp/y\n\
         RUN --mount=type=cache,target=/x,uid=1234 ls /x > /tmp/z",
    );
    let out = space.path("out").display().to_string();
    _ = space.kiln(&["build", "c", "-o", &out]).ok();
    let read = |name: &str| std::fs::read_to_string(space.path("out/tmp").join(name)).unwrap();
    assert_eq!(read("x"), "1234:0 755\nmine\n");
    assert_eq!(read("y"), "1234:55 750\n");
    assert_eq!(read("z"), "mine\n", "the same one again");
    let listed = space.kiln(&["volume", "ls"]).ok().stdout;
    assert!(listed.contains("/x;uid=1234;gid=55;mode=0750"), "{listed}");
}
