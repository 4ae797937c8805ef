//! kiln inside containers, as CI systems start them: with Docker's default privileges, without any,
//! with a user namespace, on a read-only root, on a volume of memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use kiln_tests::{BUSYBOX, Bundle, Cgroup, Pod, Run, Space};

/// A build without RUN.
fn copying() -> String {
    format!("FROM {BUSYBOX}\nCOPY --chown=7:8 f /f\nENV A=b\nCMD [\"cat\", \"/f\"]\n")
}

/// Steps that write and remove, with a cache, a secret, another stage's files; and users, where
/// there is more than one id.
fn running() -> String {
    format!(
        "FROM {BUSYBOX} AS other
RUN mkdir /d && echo other > /d/x && ln -s x /d/y && ln /d/x /d/z
FROM {BUSYBOX}
RUN echo one > /one && mkdir -p /srv/a && rm -rf /srv/a && echo said > /dev/stdout && echo told >&2
RUN --mount=type=cache,id=c,target=/c echo x >> /c/log; wc -l < /c/log > /count
RUN --mount=type=secret,id=t test \"$(cat /run/secrets/t)\" = tok
RUN ! test -e /run/secrets/t && test -z \"$(ls -A /proc /sys /dev 2>/dev/null | grep -v :)\" || true
RUN --mount=from=other,source=/d,target=/m cp /m/y /copied && test \"$(cat /m/z)\" = other
RUN --mount=type=tmpfs,target=/t echo x > /t/x && head -c 4 /dev/urandom > /dev/null
COPY --from=other /d /d
RUN rm /d/z && echo two >> /one
"
    )
}

fn write(bundle: &Bundle) {
    bundle.write("/copy/f", "data\n");
    bundle.write("/copy/Dockerfile", copying());
    bundle.write("/run/Dockerfile", running());
    bundle.write("/token", "tok");
}

/// A build in a pod, its digest written to `/volume/id`.
fn build(context: &str) -> String {
    format!(
        "kiln build {context} --secret id=t,src=/token --progress plain --iidfile /volume/id \
         -o type=oci,dest=/volume/out.tar"
    )
}

fn digest(bundle: &Bundle, run: Run) -> String {
    let _ran = run.ok();
    let path = bundle.volume().join("id");
    let id = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    id.trim().to_owned()
}

/// The digest that the host gives.
fn on_host(dockerfile: &str) -> String {
    let space = Space::new();
    space.write("f", "data\n").write("Dockerfile", dockerfile);
    std::fs::write(space.path("token"), "tok").unwrap();
    let secret = format!("id=t,src={}", space.path("token").display());
    let id = space.path("id");
    let out = format!("type=oci,dest={}", space.path("out.tar").display());
    let args = [
        "build",
        "context",
        "-o",
        &out,
        "--secret",
        &secret,
        "--iidfile",
    ];
    let mut command = space.command(&args);
    command.arg(&id).env("SOURCE_DATE_EPOCH", "0");
    let _ran = Run::of(&command.output().unwrap()).ok();
    std::fs::read_to_string(id).unwrap().trim().to_owned()
}

const ALL: &[(&str, Pod)] = &[
    ("root, as by default", Pod::ROOT_DEFAULT),
    ("root, namespaces", Pod::ROOT_USERNS),
    ("a user, namespaces", Pod::USER_USERNS),
    ("a user, as by default", Pod::USER_DEFAULT),
    ("a user namespace of its own", Pod::OWN_USERS),
];

#[test]
fn builds_without_steps_work_everywhere_with_the_same_digest() {
    let expected = on_host(&copying());
    for (name, pod) in ALL {
        let bundle = Bundle::new();
        write(&bundle);
        let run = bundle.run(*pod, &build("/copy"));
        assert_eq!(digest(&bundle, run), expected, "{name}");
    }
}

#[test]
fn steps_run_where_the_machine_allows_with_the_same_digest() {
    let expected = on_host(&running());
    for (name, pod) in ALL
        .iter()
        .filter(|(_, pod)| !(pod.filtered && pod.user != 0))
    {
        let bundle = Bundle::new();
        write(&bundle);
        let run = bundle.run(*pod, &build("/run"));
        assert!(run.stderr.contains("said"), "{name}: {}", run.stderr);
        let weaker = run.stderr.matches("in a chroot without namespaces").count();
        assert_eq!(weaker, usize::from(pod.filtered), "{name}: said once");
        assert_eq!(digest(&bundle, run), expected, "{name}");
    }
}

#[test]
fn what_can_not_be_had_names_the_one_setting_that_gives_it() {
    let bundle = Bundle::new();
    write(&bundle);
    let run = bundle.run(Pod::USER_DEFAULT, &build("/run"));
    run.fails_with(&["seccompProfile", "Unconfined"]);
    for other in ["procMount", "hostUsers", "sysctl"] {
        assert!(!run.stderr.contains(other), "{other}: {}", run.stderr);
    }
    assert!(!bundle.volume().join("out.tar").exists());
    let doctor = bundle.run(Pod::USER_DEFAULT, "kiln doctor").ok();
    assert!(
        doctor.stdout.contains("no   isolation: none"),
        "{}",
        doctor.stdout
    );
}

#[test]
fn a_floor_of_isolation_is_kept() {
    let bundle = Bundle::new();
    write(&bundle);
    bundle.write("/policy", "min-isolation = 'namespaces'\n");
    let script = format!("{} --policy /policy", build("/run"));
    bundle
        .run(Pod::ROOT_DEFAULT, &script)
        .fails_with(&["seccompProfile"]);
    let wrong = bundle.run(Pod::ROOT_DEFAULT, &format!("{script} --isolation chroot"));
    assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
    let chosen = format!("{} --isolation chroot", build("/run"));
    let _ran = bundle.run(Pod::ROOT_USERNS, &chosen).ok();
    let _ran = bundle.run(Pod::ROOT_USERNS, &script).ok();
}

#[test]
fn read_only_roots_volumes_of_memory_and_no_control_groups() {
    let bundle = Bundle::new();
    write(&bundle);
    let script = format!("export HOME=/volume TMPDIR=/volume; {}", build("/run"));
    for pod in [Pod::ROOT_DEFAULT, Pod::ROOT_USERNS, Pod::USER_USERNS] {
        let pod = Pod {
            read_only: true,
            cgroup: Cgroup::None,
            ..pod
        };
        let memory: (&str, &[&str]) = ("tmpfs", &["rw", "mode=1777", "size=200m"]);
        let _ran = bundle.run_on(pod, &script, Some(memory)).ok();
    }
}

#[test]
fn file_systems_without_devices_are_told_of() {
    let bundle = Bundle::new();
    write(&bundle);
    let memory: (&str, &[&str]) = ("tmpfs", &["rw", "nodev", "mode=1777", "size=200m"]);
    let run = bundle.run_on(Pod::ROOT_DEFAULT, &build("/run"), Some(memory));
    run.fails_with(&["nodev", "KILN_ROOT"]);
}

#[test]
fn a_chrooted_step_sees_no_other_root_and_leaves_nothing() {
    let bundle = Bundle::new();
    bundle.write("/token", "tok");
    bundle.write(
        "/run/Dockerfile",
        format!(
            "FROM {BUSYBOX} AS slow\nRUN echo mine > /slow-file && sleep 3\n\
             FROM {BUSYBOX}\n\
             RUN mkdir /x && for i in 1 2 3; do chroot /x /bin/true 2>/dev/null; done; \
             test -z \"$(find / -name slow-file)\"; test ! -e /proc/1/root\n\
             RUN (sleep 1000 & setsid sleep 1000 &) ; ls / > /names\n\
             COPY --from=slow /slow-file /\n"
        ),
    );
    let script = format!("{} && ps", build("/run"));
    let run = bundle.run(Pod::ROOT_DEFAULT, &script).ok();
    assert!(!run.stdout.contains("sleep 1000"), "{}", run.stdout);
}

#[test]
fn caches_and_secrets_survive_a_kill_of_a_chrooted_step_as_they_should() {
    let bundle = Bundle::new();
    bundle.write("/token", "a-secret-token");
    let first = format!(
        "FROM {BUSYBOX}\nRUN --mount=type=cache,id=c,target=/c --mount=type=secret,id=t \
         echo kept > /c/kept && mv /c /moved && cat /run/secrets/t >/dev/null && sleep 60\n"
    );
    let second =
        format!("FROM {BUSYBOX}\nRUN --mount=type=cache,id=c,target=/c cat /c/kept > /result\n");
    bundle.write("/first/Dockerfile", first);
    bundle.write("/second/Dockerfile", second);
    // All but this shell, which is the container's first process, are killed at once.
    let script = format!(
        "secrets() {{ find /volume/store -type f -exec grep -l a-secret-token {{}} +; }}; \
         {} & until secrets; do sleep 0.2; done; sleep 1; kill -9 -1; wait; \
         {} && ! secrets",
        build("/first"),
        build("/second")
    );
    let run = bundle.run(Pod::ROOT_DEFAULT, &script).ok();
    assert!(run.stdout.contains("/run/secrets/t"), "{}", run.stdout);
}
