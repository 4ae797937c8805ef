//! Limits of the machine, and of what strangers may ask of it, end in words.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use kiln_tests::{BUSYBOX, Run, Space, is_root, kiln_binary};

/// Builds as root below a limit that a shell sets.
fn below(space: &Space, limit: &str, args: &str) -> Run {
    let script = format!(
        "{limit} && KILN_ROOT='{0}/store' exec '{1}' build '{0}/context' {args}",
        space.path("").display(),
        kiln_binary().display()
    );
    Run::of(&Command::new("bash").args(["-c", &script]).output().unwrap())
}

#[test]
fn numbers_that_no_user_has() {
    for lines in [
        "USER 4294967295\nRUN id -u",
        "USER 2147483648\nRUN id -u",
        "USER -1\nRUN id -u",
        "USER 1:4294967295\nRUN id -u",
        "RUN echo evil:x:4294967295:0::/:/bin/sh >> /etc/passwd\nUSER evil\nRUN id -u",
        "RUN echo evil:x:7:4294967295::/:/bin/sh >> /etc/passwd\nUSER evil\nRUN id -u",
        "RUN echo evil:x:4294967295: >> /etc/group\nUSER 7:evil\nRUN id -u",
        "COPY --chown=4294967295 Dockerfile /x",
        "COPY --chown=4294967295:4294967295 Dockerfile /x",
        "COPY --chown=0:4294967295 Dockerfile /x",
        "ADD --chown=2147483648:0 Dockerfile /x",
        "RUN --mount=type=cache,target=/t,uid=4294967295 true",
        "RUN --mount=type=cache,target=/t,gid=4294967295 true",
        "RUN --mount=type=secret,id=t,uid=4294967295 true",
        "RUN --mount=type=ssh,gid=4294967295 true",
    ] {
        let space = Space::new();
        space.write("Dockerfile", format!("FROM {BUSYBOX}\n{lines}\n"));
        let done = space.build(&[]);
        assert_eq!(done.status, Some(1), "{lines}: {}", done.stderr);
        assert!(
            done.stderr.contains("0-2147483647"),
            "{lines}: {}",
            done.stderr
        );
        assert!(
            done.stderr.contains("Dockerfile:"),
            "{lines}: {}",
            done.stderr
        );
    }
    let space = Space::new();
    let most = "COPY --chown=2147483647:2147483647 Dockerfile /x\nUSER 2147483647:2147483647\nRUN echo \"$(id -u) $(id -g) $(stat -c %u:%g /x)\" > /tmp/seen";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{most}\n"));
    let seen = std::fs::read_to_string(space.build_files(&[]).join("tmp/seen")).unwrap();
    assert_eq!(seen, "2147483647 2147483647 2147483647:2147483647\n");
}

#[test]
fn more_stages_than_descriptors() {
    let space = Space::new();
    let mut file = String::new();
    for number in 0..500 {
        file += &format!("FROM {BUSYBOX} AS s{number}\nRUN echo {number} > /n\n");
    }
    file += "FROM scratch\n";
    for number in 0..500 {
        file += &format!("COPY --from=s{number} /n /{number}\n");
    }
    space.write("Dockerfile", &file);
    let done = below(&space, "ulimit -n 256", "--progress quiet").ok();
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

#[test]
fn steps_do_not_inherit_the_builders_settings() {
    let space = Space::new();
    // Without a shell, which has settings of its own.
    let show =
        r#"["grep", "-E", "Sig(Ign|Blk)|Max open", "/proc/self/status", "/proc/self/limits"]"#;
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN {show}\n"));
    let limit = "ulimit -Sn 700; trap '' INT USR1 HUP PIPE QUIT";
    let done = below(&space, limit, "--progress plain").ok();
    for name in ["SigBlk", "SigIgn"] {
        let line = format!("{name}:\t0000000000000000");
        assert!(done.stderr.contains(&line), "{}", done.stderr);
    }
    let limits = done
        .stderr
        .lines()
        .find(|line| line.contains("Max open files"))
        .unwrap();
    let words: Vec<&str> = limits.split_whitespace().collect();
    assert!(words.contains(&"700"), "{limits}");
}

#[test]
fn files_beyond_the_limit_on_sizes_are_an_error() {
    let space = Space::new();
    space.write("big", vec![7; 3 << 20]);
    space.write("Dockerfile", "FROM scratch\nCOPY big /\n");
    let out = format!(
        "-o type=oci,dest='{}',compression=uncompressed",
        space.path("out.tar").display()
    );
    let done = below(&space, "ulimit -f 1024", &out);
    assert_eq!(done.status, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("File too large"), "{}", done.stderr);
}

#[test]
fn users_with_few_processes_are_told() {
    if !is_root() {
        return;
    }
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN true\n"));
    let binary = space.path("kiln");
    std::fs::copy(kiln_binary(), &binary).unwrap();
    let directory = space.path("").display().to_string();
    _ = kiln_tests::run("chown", &["-R", "kiln-test", &directory]);
    for processes in [1, 2, 3, 4, 6, 8, 12, 16] {
        let script = format!(
            "ulimit -u {processes}; KILN_ROOT='{directory}/store' exec '{}' build '{directory}/context'",
            binary.display()
        );
        let done = Run::of(
            &Command::new("su")
                .args(["kiln-test", "-s", "/bin/bash", "-c", &script])
                .output()
                .unwrap(),
        );
        if done.stderr.contains("fork") && done.stderr.contains("su:") {
            continue;
        }
        assert!(
            !done.stderr.contains("panicked"),
            "{processes}: {}",
            done.stderr
        );
        assert!(matches!(done.status, Some(0 | 1)), "{processes}: {done:?}");
    }
}

#[test]
fn stores_of_other_users_are_refused() {
    if !is_root() {
        return;
    }
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN true\n"));
    let store = space.path("store");
    std::fs::create_dir(&store).unwrap();
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o755)).unwrap();
    _ = kiln_tests::run("chown", &["kiln-test", &store.display().to_string()]);
    space
        .build(&[])
        .fails_with(&["belongs to the user", "KILN_ROOT"]);
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0);
    let mode = std::fs::metadata(&store).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "nothing was changed");
    let below = store.join("deep/store").display().to_string();
    let mut command = space.command(&["build", "context"]);
    let done = Run::of(&command.env("KILN_ROOT", below).output().unwrap());
    done.fails_with(&["belongs to the user"]);
}

#[test]
fn logs_end() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN exec 2>/dev/null; echo first; timeout 1 yes 01234567890123456789; echo last\n"),
    );
    _ = space
        .kiln(&["build", "context", "--progress", "quiet"])
        .ok();
    let size = kiln_tests::run(
        "du",
        &["-sk", &space.path("store/logs").display().to_string()],
    );
    let size: u64 = size
        .stdout
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(size < 8 << 10, "{size} KiB");
    let log = space.kiln(&["logs"]).ok().stdout;
    assert!(log.lines().any(|line| line == "first"));
    // What was ended may have written half a line before it.
    assert!(log.ends_with("last\n"));
    assert!(log.contains("bytes are left out here"));
}
