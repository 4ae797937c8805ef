//! Limits of steps: control groups hold them, or a sentence says why they can't be had.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Bundle, Cgroup, Pod, Run, Space};

fn build(lines: &str, args: &[&str]) -> Run {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{lines}\n"));
    space.build(args)
}

/// Whether this machine lets groups be made: asked of the kernel, not of kiln.
fn groups_can_be_made() -> bool {
    let probe = |directory: &str| {
        let directory = Path::new(directory).join("kiln-test-probe");
        let made = std::fs::create_dir(&directory).is_ok();
        let has = directory.join("memory.max").exists()
            || directory.join("memory.limit_in_bytes").exists();
        _ = std::fs::remove_dir(&directory);
        made && has
    };
    probe("/sys/fs/cgroup") || probe("/sys/fs/cgroup/memory")
}

fn groups_left() -> usize {
    let mut left = 0;
    for directory in [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/cpu",
    ] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Other tests' groups are of running processes.
            let process = name
                .strip_prefix("kiln-")
                .and_then(|rest| rest.split('-').next());
            let gone = |id: &str| !Path::new("/proc").join(id).exists();
            left += usize::from(process.is_some_and(gone));
        }
    }
    left
}

/// Takes 256 MB of memory in one process.
const HUNGRY: &str =
    "RUN awk 'BEGIN { s = \"x\"; while (length(s) < 200000000) s = s s; print length(s) }'";

#[test]
fn a_step_that_takes_more_memory_than_it_may_is_killed() {
    let limit = ["--memory", "64m", "--memory-swap", "64m"];
    let limited = build(HUNGRY, &limit);
    if !groups_can_be_made() {
        limited.fails_with(&["can't be limited here", "systemd-run"]);
        return;
    }
    limited.fails_with(&["memory ran out", "--memory"]);
    let _enough = build(HUNGRY, &["--resource", "memory=1500m"]).ok();
    assert_eq!(groups_left(), 0);
}

#[test]
fn groups_have_what_the_flags_say() {
    if !groups_can_be_made() {
        return;
    }
    let args = [
        "--cpus",
        "0.5",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
        "-m",
        "128m",
    ];
    let lines = "RUN cat /proc/self/cgroup; nproc; grep Cpus_allowed_list /proc/self/status";
    let said = build(lines, &args).ok().stderr;
    assert!(said.contains("/kiln-"), "{said}");
    assert!(
        said.lines()
            .any(|line| line.ends_with("Cpus_allowed_list:\t0")),
        "{said}"
    );
    // Limits change nothing of the result, so they are no part of its key.
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo x > /x\n"));
    let _first = space.build(&args).ok();
    let second = space.build(&[]).ok().stderr;
    assert!(second.contains("CACHED"), "{second}");
}

#[test]
fn steps_are_below_the_group_that_is_named_also_without_limits() {
    let name = format!("kiln-test-parent-{}", std::process::id());
    let hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"];
    let top = hierarchies.map(Path::new).into_iter().find(|top| {
        top.join("cgroup.procs").exists() && std::fs::create_dir(top.join(&name)).is_ok()
    });
    let Some(top) = top else { return };
    let parent = format!("/{name}");
    let built = build("RUN cat /proc/self/cgroup", &["--cgroup-parent", &parent]);
    _ = std::fs::remove_dir(top.join(&name));
    let said = built.ok().stderr;
    assert!(said.contains(&format!("{parent}/kiln-")), "{said}");
}

#[test]
fn where_there_are_no_groups_that_is_said_before_any_step() {
    let bundle = Bundle::new();
    bundle.write(
        "/run/Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo the-step-ran\n"),
    );
    for cgroup in [Cgroup::None, Cgroup::V1, Cgroup::V2] {
        let pod = Pod {
            cgroup,
            ..Pod::ROOT_DEFAULT
        };
        let run = bundle.run(pod, "kiln build /run --progress plain --memory 64m");
        run.fails_with(&["can't be limited here"]);
        assert!(!run.stderr.contains("the-step-ran"), "{cgroup:?}");
    }
}

#[test]
fn limits_that_are_none_are_mistakes() {
    for args in [
        ["--memory", "much"],
        ["--memory", "1k"],
        ["--cpus", "-1"],
        ["--cpuset-cpus", "all"],
        ["--resource", "disk=1g"],
        ["--memory-swap", "1g"],
    ] {
        let built = build("RUN true", &args);
        assert_eq!(built.status, Some(2), "{args:?}: {}", built.stderr);
    }
}
