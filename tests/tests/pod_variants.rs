//! What containers differ in besides their privileges: control groups, memory file systems, the disk
//! below the store, AppArmor's rules. The images are the same everywhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::path::Path;
use std::process::Command;

use kiln_tests::{BUSYBOX, Bundle, Cgroup, Pod, Run, Space, kiln_binary};

/// Steps without tricks.
fn dockerfile() -> String {
    format!(
        "FROM {BUSYBOX} AS other\nRUN mkdir /d && echo other > /d/x && ln /d/x /d/y\n\
         FROM {BUSYBOX}\nRUN echo one > /one && mkdir -p /srv/a && rm -rf /srv/a\n\
         RUN --mount=type=cache,id=c,target=/c echo x >> /c/log; wc -l < /c/log > /count\n\
         COPY --from=other /d /d\nRUN rm /d/y && echo two >> /one\n"
    )
}

fn expected() -> String {
    let space = Space::new();
    space.write("Dockerfile", dockerfile());
    let mut command = space.command(&["build", "context", "--iidfile", "id"]);
    command.env("SOURCE_DATE_EPOCH", "0");
    let _ran = Run::of(&command.output().unwrap()).ok();
    std::fs::read_to_string(space.path("id")).unwrap()
}

const BUILD: &str = "kiln build /run --progress plain --iidfile /volume/id";

/// Builds in a pod on a volume; the image's id is on the last line of the output.
fn build(pod: Pod, volume: Option<(&str, &[&str])>) -> Run {
    let bundle = Bundle::new();
    bundle.write("/run/Dockerfile", dockerfile());
    bundle.run_on(pod, &format!("{BUILD} && cat /volume/id"), volume)
}

const RUNNING: [(&str, Pod); 3] = [
    ("root, as by default", Pod::ROOT_DEFAULT),
    ("root, namespaces", Pod::ROOT_USERNS),
    ("a user, namespaces", Pod::USER_USERNS),
];

#[test]
fn control_groups_of_every_version_or_none() {
    let expected = expected();
    for (name, pod) in RUNNING {
        for cgroup in [Cgroup::V1, Cgroup::V2, Cgroup::None] {
            let run = build(Pod { cgroup, ..pod }, None).ok();
            assert_eq!(run.stdout, expected, "{name}, {cgroup:?}");
        }
    }
}

#[test]
fn little_shared_memory_and_no_fuse() {
    let expected = expected();
    for (name, pod) in RUNNING {
        let bundle = Bundle::new();
        bundle.write("/run/Dockerfile", dockerfile());
        let lacking = "test ! -e /dev/fuse && df -k /dev/shm | grep -qw 65536";
        let run = bundle.run(pod, &format!("{lacking} && {BUILD} && cat /volume/id"));
        assert_eq!(run.ok().stdout, expected, "{name}");
    }
}

#[test]
fn steps_may_have_more_shared_memory_than_their_container() {
    let lines =
        "RUN dd if=/dev/zero of=/dev/shm/x bs=1M count=80 2>/dev/null && wc -c < /dev/shm/x";
    for (name, pod) in RUNNING {
        let bundle = Bundle::new();
        bundle.write("/run/Dockerfile", format!("FROM {BUSYBOX}\n{lines}\n"));
        let run = bundle.run(pod, &format!("{BUILD} --shm-size 128m")).ok();
        assert!(run.stderr.contains("83886080"), "{name}: {}", run.stderr);
    }
}

/// The kernel makes no overlay whose upper directory is on another.
#[test]
fn stores_on_an_overlay() {
    let expected = expected();
    for (name, pod) in RUNNING {
        let bundle = Bundle::new();
        bundle.write("/run/Dockerfile", dockerfile());
        let directory = tempfile::tempdir().unwrap();
        let option = |name: &str, directory_name: &str| {
            let path = directory.path().join(directory_name);
            std::fs::create_dir_all(&path).unwrap();
            open_to_all(&path);
            format!("{name}={}", path.display())
        };
        open_to_all(directory.path());
        let options = [
            option("lowerdir", "lower"),
            option("upperdir", "upper"),
            option("workdir", "work"),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let script =
            format!("grep -q ' /volume overlay' /proc/mounts && {BUILD} && cat /volume/id");
        let run = bundle.run_on(pod, &script, Some(("overlay", &options)));
        assert_eq!(run.ok().stdout, expected, "{name}");
    }
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let open = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(directory, open).unwrap();
}

/// `hostUsers: false` without a filter, with CAP_SYS_ADMIN, and with neither.
#[test]
fn user_namespaces_of_the_container() {
    let expected = expected();
    let own_users = Pod {
        capabilities: Some(&[]),
        ..Pod::OWN_USERS
    };
    let filtered = Pod {
        filtered: true,
        ..own_users
    };
    for (name, pod) in [("no filter", own_users), ("mounts", Pod::OWN_USERS)] {
        let run = build(pod, None).ok();
        assert_eq!(run.stdout, expected, "{name}");
    }
    // Nobody makes device nodes in a user namespace, and a chroot can't do without.
    build(filtered, None).fails_with(&["SYS_ADMIN", "hostUsers"]);
}

/// Docker's AppArmor profile lets namespaces be made, and refuses all mounts in them.
#[test]
fn namespaces_without_mounts_are_none() {
    let expected = expected();
    let pod = Pod {
        mounts_refused: true,
        ..Pod::ROOT_USERNS
    };
    let run = build(pod, None).ok();
    assert_eq!(run.stdout, expected);
    let chroot = run.stderr.matches("in a chroot without namespaces").count();
    assert_eq!(chroot, 1, "{}", run.stderr);
    let user = build(
        Pod {
            user: 1000,
            capabilities: None,
            ..pod
        },
        None,
    );
    user.fails_with(&["no user namespace can be made"]);
}

/// Ubuntu's rule for namespaces of programs without a profile: they can be made, but nobody may write
/// their map. The kernel refuses that as well to a program whose file can't be read.
#[test]
fn namespaces_that_app_armor_restricts() {
    let space = Space::new();
    space.write(
        "copy/Dockerfile",
        format!("FROM {BUSYBOX}\nCOPY Dockerfile /\n"),
    );
    space.write("run/Dockerfile", format!("FROM {BUSYBOX}\nRUN true\n"));
    open_to_all(&space.path(""));
    let kiln = space.path("kiln");
    _ = std::fs::copy(kiln_binary(), &kiln).unwrap();
    let build = |context: &str| {
        let script = format!(
            "mount -t tmpfs none /proc/sys/kernel
             echo 1 > /proc/sys/kernel/apparmor_restrict_unprivileged_userns
             chmod 0711 '{0}'
             cd '{1}' && exec setpriv --reuid=kiln-test --regid=kiln-test --clear-groups \
             env KILN_ROOT=store-user HOME=. '{0}' build context/{context}",
            kiln.display(),
            space.path("").display()
        );
        let args = ["--mount", "sh", "-euc", &script];
        Run::of(&Command::new("unshare").args(args).output().unwrap())
    };
    let _built = build("copy").ok();
    build("run").fails_with(&[
        "apparmor_restrict_unprivileged_userns=0",
        "a profile for kiln",
    ]);
}
