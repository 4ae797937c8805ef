//! What a hostile Dockerfile or base image tries in a step. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use kiln_tests::{BUSYBOX, Run, Space, is_root, kiln_binary};

/// Builds steps over an image and reads what they wrote to `/out`.
fn output(space: &Space, image: &str, steps: &str) -> String {
    space.write("Dockerfile", format!("FROM {image}\n{steps}\n"));
    std::fs::read_to_string(space.build_files(&[]).join("out")).unwrap()
}

#[test]
fn device_nodes_are_only_names() {
    let space = Space::new();
    let devices = "mkdir -p /dev/sub; for at in /node /dev/node /dev/sub/node /dev/shm/node /cache/node; do mknod $at c 1 5 2>/dev/null; head -c 1 $at >/dev/null 2>&1 && echo opened $at; done; true";
    let steps = format!("RUN --mount=type=cache,target=/cache ({devices}) > /out");
    assert_eq!(output(&space, BUSYBOX, &steps), "");
    let image = space.image("add('node', CHAR, devmajor=1, devminor=5, mode=0o666)");
    let steps = "RUN (head -c 1 /node >/dev/null 2>&1 && echo opened; true) > /out";
    assert_eq!(output(&space, &image, steps), "");
    let steps = format!(
        "RUN --mount=type=bind,from={image},source=/node,target=/m --mount=type=bind,from={image},target=/d (for at in /m /d/node; do head -c 1 $at >/dev/null 2>&1 && echo opened; done; true) > /out"
    );
    assert_eq!(output(&space, BUSYBOX, &steps), "");
    let own = "RUN (for name in null zero full random urandom; do test -c /dev/$name || echo no $name; done; head -c 3 /dev/zero | wc -c; chmod 600 /dev/null) > /out";
    assert_eq!(output(&space, BUSYBOX, own), "3\n");
}

#[test]
fn links_for_proc_sys_and_dev_are_refused() {
    for name in ["proc", "sys", "dev"] {
        let space = Space::new();
        let image = space.image(&format!(
            "add('{name}', LINK, linkname='/elsewhere')\nadd('elsewhere', DIR, mode=0o755)"
        ));
        space.write("Dockerfile", format!("FROM {image}\nRUN true\n"));
        space
            .build(&[])
            .fails_with(&[&format!("/{name}"), "must be a directory"]);
    }
}

#[test]
fn what_shows_the_machine_is_masked() {
    let space = Space::new();
    let steps = r#"RUN ( \
        echo x > /proc/sysrq-trigger && echo sysrq; \
        echo x > /proc/sys/kernel/core_pattern && echo core_pattern; \
        echo x > /proc/sys/vm/drop_caches && echo vm; \
        head -c 1 /proc/kcore | grep -q . && echo kcore; \
        head -c 1 /proc/keys | grep -q . && echo keys; \
        ls /sys/firmware | grep -q . && echo firmware; \
        echo x > /sys/kernel/uevent_helper && echo uevent; \
        mount -t tmpfs x /mnt && echo mount; \
        umount /proc/kcore && echo umount; \
        umount /dev && echo umount dev; \
        mount -o remount,rw /sys && echo remount; \
        unshare -U true && echo user namespace; \
        unshare -m true && echo mount namespace; \
        nsenter -t 1 -m true && echo nsenter; \
        ls /proc/1/root/context && echo root; \
        true ) > /out 2>/dev/null"#;
    assert_eq!(output(&space, BUSYBOX, steps), "");
}

#[test]
fn other_processes_are_not_seen_or_signalled() {
    let space = Space::new();
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = other.id();
    let steps = format!(
        "RUN (ls -d /proc/[0-9]* | wc -l; test -e /proc/{pid} && echo seen; kill -0 {pid} && echo signalled; kill -9 -1; true) > /out 2>/dev/null"
    );
    let seen = output(&space, BUSYBOX, &steps);
    let alive = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    _ = other.wait().unwrap();
    assert!(alive, "a process outside was killed");
    let count: u32 = seen.lines().next().unwrap().parse().unwrap();
    assert!(
        count < 10 && !seen.contains("seen") && !seen.contains("signalled"),
        "{seen}"
    );
}

#[test]
fn descriptors_that_were_left_open_are_closed() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN (cat <&7; cat /proc/self/fd/7/shadow; ls /proc/self/fd/8/; ls /proc/$$/fd | grep -v '^[0-9]$'; for fd in 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$fd && readlink /proc/$$/fd/$fd; done; true) > /out 2>/dev/null\n"));
    let out = space.path("out").display().to_string();
    let store = space.path("store").display().to_string();
    let context = space.path("context").display().to_string();
    let (kiln, secret) = (kiln_binary(), space.path("secret"));
    std::fs::write(&secret, "a secret of the host").unwrap();
    let script = format!(
        "exec 7<'{}' 8</etc; KILN_ROOT='{store}' exec '{}' build '{context}' -o type=local,dest='{out}'",
        secret.display(),
        kiln.display()
    );
    let done = Run::of(&Command::new("bash").args(["-c", &script]).output().unwrap());
    _ = done.ok();
    let seen = std::fs::read_to_string(Path::new(&out).join("out")).unwrap();
    assert!(!seen.contains("secret") && !seen.contains("/etc"), "{seen}");
}

#[test]
fn a_working_directory_is_inside() {
    for directory in [
        "/proc/self/fd/7",
        "/proc/self/fd/4",
        "/proc/1/cwd/../..",
        "/proc/self/root/..",
    ] {
        let space = Space::new();
        space.write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\nWORKDIR {directory}\nRUN (ls; ls ../..; ls /) 2>/dev/null > /out; true\n"),
        );
        let tried = space.build(&[
            "-o",
            &format!("type=local,dest={}", space.path("out").display()),
        ]);
        if tried.status == Some(0) {
            let seen = std::fs::read_to_string(space.path("out/out")).unwrap();
            assert!(!seen.contains("context"), "{directory}: {seen}");
            assert!(
                !seen.contains("boot") && !seen.contains("lib64"),
                "{directory}: {seen}"
            );
        }
    }
}

/// CVE-2019-5736: a step that is `/proc/self/exe` holds the builder's own file.
#[test]
fn the_builder_can_not_be_overwritten() {
    let space = Space::new();
    let kiln = space.path("kiln");
    std::fs::copy(kiln_binary(), &kiln).unwrap();
    let before = std::fs::read(&kiln).unwrap();
    // The step's program is kept busy while another writes through its link.
    let image = space.image("put('evil', b'#!/proc/self/exe\\n', mode=0o755)");
    space.write(
        "Dockerfile",
        format!("FROM {image}\nRUN [\"/evil\", \"doctor\"]\n"),
    );
    let build = |kiln: &Path| {
        let mut command = Command::new(kiln);
        command
            .args(["build", "context"])
            .env("KILN_ROOT", space.path("store"));
        command.current_dir(space.path("")).output().unwrap()
    };
    _ = build(&kiln);
    assert!(std::fs::read(&kiln).unwrap() == before);
    // The mount through which the helper was executed.
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN sleep 4\n"));
    let mut running = Command::new(&kiln)
        .args(["build", "context"])
        .env("KILN_ROOT", space.path("store"))
        .current_dir(space.path(""))
        .spawn()
        .unwrap();
    let helper = std::iter::repeat_with(|| helper_of(running.id()))
        .take(3000)
        .find_map(|found| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            found
        });
    let exe = format!("/proc/{}/exe", helper.unwrap());
    let held = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(O_PATH)
        .open(exe)
        .unwrap();
    running.kill().unwrap();
    _ = running.wait().unwrap();
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let busy = std::io::ErrorKind::ExecutableFileBusy;
    let error = loop {
        let opened = std::fs::OpenOptions::new().write(true).open(&link);
        match opened.map(drop).unwrap_err() {
            error if error.kind() == busy => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            error => break error,
        }
    };
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ReadOnlyFilesystem,
        "{error}"
    );
}

/// `open(2)`: names a file without opening it.
const O_PATH: i32 = 0o10_000_000;

/// The process that was started as the sandbox's helper.
fn helper_of(parent: u32) -> Option<u32> {
    let children = std::fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    let lists = children
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let all: Vec<u32> = lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect();
    all.into_iter().find(|pid| {
        let name = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        name.starts_with(b"kiln-sandbox-init")
    })
}

#[test]
fn chains_of_links_end_inside() {
    let space = Space::new();
    // More links than are followed: the last one must not be followed on the host instead.
    let chain = "for n in range(256): add(f'l{n}', LINK, linkname=f'l{n+1}')\nadd('l256', LINK, linkname='/')\nfor n in range(256): add(f'p{n}', LINK, linkname=f'p{n+1}')\nadd('p256', LINK, linkname='/etc/hostname')";
    let image = space.image(chain);
    for (options, target) in [
        ("source=/l0", "/m"),
        ("source=/l1", "/m"),
        ("source=/p1", "/m"),
        ("source=/p0", "/m"),
        ("source=/l0/etc", "/m"),
    ] {
        space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN --mount=type=bind,from={image},{options},target={target} (ls {target}; cat {target}/etc/shadow {target}) > /out 2>/dev/null; true\n"));
        let tried = space.build(&[
            "-o",
            &format!("type=local,dest={}", space.path("out").display()),
        ]);
        let seen = std::fs::read_to_string(space.path("out/out")).unwrap_or_default();
        assert!(
            !seen.contains("root:") && !seen.contains("boot"),
            "{options}: {seen}\n{}",
            tried.stderr
        );
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or("no".to_owned());
        assert!(!seen.contains(host.trim()), "{options}: {seen}");
        _ = std::fs::remove_dir_all(space.path("out"));
    }
}

#[test]
fn copies_follow_links_inside_only() {
    let space = Space::new();
    let secret = space.path("secret");
    std::fs::write(&secret, "a secret of the host").unwrap();
    let out = secret.display();
    let image = space.image(&format!(
        "add('abs', LINK, linkname='{out}')\nadd('up', LINK, linkname='../../../../../../../..{out}')\nadd('dir', LINK, linkname='/')\nadd('directory', DIR, mode=0o755)\nadd('directory/abs', LINK, linkname='{out}')"
    ));
    for source in ["abs", "up", &format!("dir{out}"), "directory/abs"] {
        space.write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\nCOPY --from={image} /{source} /out\n"),
        );
        let tried = space.build(&[
            "-o",
            &format!("type=local,dest={}", space.path("out").display()),
        ]);
        let seen = std::fs::read_to_string(space.path("out/out")).unwrap_or_default();
        assert!(!seen.contains("secret"), "{source}: {seen}{}", tried.stderr);
        _ = std::fs::remove_dir_all(space.path("out"));
    }
    // And destinations.
    let place = space.path("place");
    std::fs::create_dir(&place).unwrap();
    let image = space.image(&format!(
        "add('to', LINK, linkname='{}')\nadd('deep', LINK, linkname='../../../../../../..{}')",
        place.display(),
        place.display()
    ));
    space.write("file", "x");
    space.write("Dockerfile", format!("FROM {image}\nCOPY file /to/file\nCOPY file /deep/more/file\nWORKDIR /to/made\nRUN echo x > /to/ran\n"));
    _ = space.build(&[]).ok();
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn mounts_land_inside_only() {
    let space = Space::new();
    let place = space.path("place");
    std::fs::create_dir(&place).unwrap();
    let image = space.image(&format!("add('to', LINK, linkname='{}')", place.display()));
    let steps = "RUN --mount=type=tmpfs,target=/to/a --mount=type=cache,target=/to/../../../../b --mount=type=bind,source=/,target=/proc/self/c (ls /; echo x > /to/a/file) > /out 2>&1; true";
    space.write("Dockerfile", format!("FROM {image}\n{steps}\n"));
    _ = space.build(&[]);
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn users_are_looked_up_in_plain_files_only() {
    for lines in [
        "add('etc/passwd', FIFO)",
        "add('etc/passwd', CHAR, devmajor=1, devminor=5, mode=0o666)",
        "add('etc/passwd', LINK, linkname='passwd')",
        "add('etc/passwd', DIR)",
        "add('etc/passwd', LINK, linkname='/proc/self/environ')",
    ] {
        let space = Space::new();
        let image = space.image(lines);
        space.write(
            "Dockerfile",
            format!("FROM {image}\nCOPY --chown=someone Dockerfile /a\nUSER 12\nRUN true\n"),
        );
        let done = space.build(&[]);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        space.write(
            "Dockerfile",
            format!("FROM {image}\nUSER someone\nRUN true\n"),
        );
        space.build(&[]).fails_with(&["someone"]);
    }
}

#[test]
fn nobody_else_reaches_what_images_bring() {
    if !is_root() {
        return;
    }
    let space = Space::new();
    let directory = space.path("").parent().unwrap().to_owned();
    let image = space.image(
        "put('evil', b'x', mode=0o6755)\nadd('disk', BLOCK, devmajor=7, devminor=0, mode=0o666)",
    );
    space.write("Dockerfile", format!("FROM {image}\nRUN true\n"));
    _ = space.build(&[]).ok();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(space.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = space.path("store").display().to_string();
    let looked = Command::new("su")
        .args(["kiln-single", "-c", &format!("ls {store}")])
        .output()
        .unwrap();
    assert!(!looked.status.success(), "{directory:?}");
}

/// Each call in the 64-bit and in the 32-bit interface: what Docker's default profile refuses is
/// refused, what it allows isn't, and what neither knows is unknown.
#[test]
#[cfg(target_arch = "x86_64")]
fn system_calls_are_those_of_docker() {
    let space = Space::new();
    kiln_tests::compile(CALLS, &space.path("context/calls"));
    let seen = output(&space, BUSYBOX, "COPY calls /\nRUN /calls > /out");
    assert_eq!(seen, "");
}

/// Names, numbers in both interfaces (0: none), a first argument, and the error wanted; -1: any but
/// those of a filter.
#[cfg(target_arch = "x86_64")]
const CALLS: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct { const char *name; long wide, narrow, first; int want; } calls[] = {
    {"getpid", 39, 20, 0, 0}, {"socket(AF_INET)", 41, 359, 2, -1}, {"chroot", 161, 61, 0, -1},
    {"landlock_create_ruleset", 444, 444, 0, -1}, {"cachestat", 451, 451, -1, -1},
    {"personality(0)", 135, 136, 0, -1}, {"personality(PER_LINUX32)", 135, 136, 8, -1},
    {"personality(ADDR_NO_RANDOMIZE)", 135, 136, 0x40000, EPERM},
    {"socket(AF_ALG)", 41, 359, 38, EPERM}, {"socket(AF_VSOCK)", 41, 359, 40, EPERM},
    {"unshare", 272, 310, 0x10000000, EPERM}, {"clone(CLONE_NEWUSER)", 56, 120, 0x10000000, EPERM},
    {"setns", 308, 346, 0, EPERM}, {"clone3", 435, 435, 0, ENOSYS},
    {"mount", 165, 21, 0, EPERM}, {"umount2", 166, 52, 0, EPERM}, {"pivot_root", 155, 217, 0, EPERM},
    {"fsopen", 430, 430, 0, EPERM}, {"open_tree", 428, 428, 0, EPERM},
    {"move_mount", 429, 429, 0, EPERM}, {"mount_setattr", 442, 442, 0, EPERM},
    {"pidfd_getfd", 438, 438, -1, EPERM}, {"process_madvise", 440, 440, -1, EPERM},
    {"kcmp", 312, 349, 0, EPERM}, {"open_by_handle_at", 304, 342, 0, EPERM},
    {"lsm_get_self_attr", 459, 459, 0, EPERM}, {"lsm_set_self_attr", 460, 460, 0, EPERM},
    {"lsm_list_modules", 461, 461, 0, EPERM},
    {"keyctl", 250, 288, 0, EPERM}, {"add_key", 248, 286, 0, EPERM},
    {"request_key", 249, 287, 0, EPERM}, {"io_uring_setup", 425, 425, 1, EPERM},
    {"io_uring_enter", 426, 426, 0, EPERM}, {"bpf", 321, 357, 0, EPERM},
    {"userfaultfd", 323, 374, 0, EPERM}, {"perf_event_open", 298, 336, 0, EPERM},
    {"kexec_load", 246, 283, 0, EPERM}, {"init_module", 175, 128, 0, EPERM},
    {"finit_module", 313, 350, -1, EPERM}, {"delete_module", 176, 129, 0, EPERM},
    {"reboot", 169, 88, 0, EPERM}, {"swapon", 167, 87, 0, EPERM}, {"acct", 163, 51, 0, EPERM},
    {"settimeofday", 164, 79, 0, EPERM}, {"iopl", 172, 110, 3, EPERM},
    {"ioperm", 173, 101, 0, EPERM}, {"quotactl", 179, 131, 0, EPERM},
    {"get_mempolicy", 239, 275, 0, EPERM}, {"set_mempolicy", 238, 276, 0, EPERM},
    {"mbind", 237, 274, 0, EPERM}, {"syslog", 103, 103, 0, EPERM}, {"vhangup", 153, 111, 0, EPERM},
    {"fanotify_init", 300, 338, 0, EPERM}, {"sethostname", 170, 74, 0, EPERM},
    {"open_tree_attr", 467, 467, 0, ENOSYS}, {"a call of the future", 600, 600, 0, ENOSYS},
    {"x32 getpid", 0x40000000 + 39, 0, 0, ENOSYS}, {"x32 mount", 0x40000000 + 165, 0, 0, ENOSYS},
    {"x32 unshare", 0x40000000 + 272, 0, 0x10000000, ENOSYS},
};

static int try(int narrow, long number, long first) {
    if (!narrow) return syscall(number, first, 0, 0, 0, 0) < 0 ? errno : 0;
    long done;
    __asm__ volatile("int $0x80" : "=a"(done) : "a"(number), "b"(first), "c"(0), "d"(0), "S"(0), "D"(0)
                     : "memory", "r8", "r9", "r10", "r11");
    return done < 0 ? -done : 0;
}

int main(void) {
    for (int at = 0; at < sizeof calls / sizeof *calls; at++)
        for (int narrow = 0; narrow < 2; narrow++) {
            long number = narrow ? calls[at].narrow : calls[at].wide;
            int line[2], error = -1, status;
            if (!number || pipe(line)) continue;
            if (!fork()) {
                error = try(narrow, number, calls[at].first);
                write(line[1], &error, sizeof error);
                _exit(0);
            }
            close(line[1]); read(line[0], &error, sizeof error); close(line[0]); wait(&status);
            int fits = calls[at].want >= 0 ? error == calls[at].want
                                           : error >= 0 && error != EPERM && error != ENOSYS;
            if (!fits) printf("%s %d bits: %d, status %x\n", calls[at].name, narrow ? 32 : 64, error, status);
        }
    return 0;
}
"#;

/// What a step tries against the machine, all at once; each success is a line of `/out`.
const ATTACKS: &str = r#"RUN --mount=type=cache,target=/cache ( \
    for at in /node /dev/node /dev/shm/node /cache/node; do mknod $at c 1 5; head -c 1 $at && echo opened $at; done; \
    echo x > /proc/sysrq-trigger && echo sysrq; \
    echo x > /proc/sys/kernel/core_pattern && echo core_pattern; \
    head -c 1 /proc/kcore | grep -q . && echo kcore; \
    mount -t tmpfs x /mnt && echo mount; \
    umount /proc/kcore && echo umount; \
    mount -o remount,rw /sys && echo remount; \
    unshare -U true && echo user namespace; \
    nsenter -t 1 -m true && echo nsenter; \
    cat /proc/self/fd/7 && echo descriptor; \
    kill -0 $HOST && echo signalled; \
    test -e /proc/$HOST && echo seen; \
    true ) 2>/dev/null | tr -d '\0' > /out"#;

#[test]
fn rootless_users_hold_a_step_as_well() {
    for user in ["kiln-test", "kiln-single"] {
        let known = Command::new("id").arg(user).output();
        if !is_root() || !known.is_ok_and(|known| known.status.success()) {
            return;
        }
        let space = Space::new();
        let steps = format!(
            "FROM {BUSYBOX}\nARG HOST={}\n{ATTACKS}\n",
            std::process::id()
        );
        space.write("Dockerfile", steps);
        _ = kiln_tests::run(
            "chmod",
            &["-R", "a+rwX", &space.path("").display().to_string()],
        );
        let binary = space.path("kiln");
        std::fs::copy(kiln_binary(), &binary).unwrap();
        let script = format!(
            "cd '{0}' && exec 7</etc/passwd && KILN_ROOT='{0}/store' '{1}' build context -o type=local,dest=out",
            space.path("").display(),
            binary.display(),
        );
        let done = Run::of(
            &Command::new("su")
                .args([user, "-s", "/bin/bash", "-c", &script])
                .output()
                .unwrap(),
        );
        _ = done.ok();
        assert_eq!(
            std::fs::read_to_string(space.path("out/out")).unwrap(),
            "",
            "{user}"
        );
    }
}

#[test]
fn all_capabilities_need_the_users_word() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN --security=insecure grep CapEff /proc/self/status\n"),
    );
    space.build(&[]).fails_with(&["--allow security.insecure"]);
    _ = space.build(&["--allow", "security.insecure"]).ok();
}

/// An image's configuration is a stranger's text like any other.
#[test]
fn odd_configurations_end_in_words() {
    let config = |lines: &str| format!("config.setdefault('config', {{}}).update({lines})");
    for lines in [
        "{'User': '../../x', 'WorkingDir': '/'}",
        "{'User': '4294967296', 'WorkingDir': '/'}",
        "{'User': '0:0:0\\n', 'WorkingDir': '/'}",
        "{'WorkingDir': '../../../..'}",
        "{'WorkingDir': '/a\\u0000b'}",
        "{'WorkingDir': '/' + 'x' * 5000}",
        "{'Env': ['A\\u0000=b', '=', 'NOVALUE', 'PATH=' + ':' * 100000]}",
        "{'Env': ['LD_PRELOAD=/evil.so', 'PATH=relative']}",
        "{'Shell': [], 'OnBuild': ['FROM scratch', 'RUN \\u001b[2J']}",
        "{'Labels': {'\\u001b]0;x\\u0007': '\\u001b[2J'}}",
        "{'Healthcheck': {'Interval': -1}, 'StopSignal': '\\u0000'}",
    ] {
        let space = Space::new();
        let image = space.image(&config(lines));
        space.write(
            "Dockerfile",
            format!("FROM {image}\nRUN true\nCOPY Dockerfile b\n"),
        );
        let done = space.build(&["-t", "odd"]);
        let said = format!(
            "{}{}",
            done.stderr,
            space.kiln(&["image", "inspect", "odd"]).stderr
        );
        assert!(
            !said.contains("panicked") && !said.contains("bug in kiln"),
            "{lines}: {said}"
        );
        assert!(
            !said.contains(['\u{7}', '\u{0}']) && !said.contains("\u{1b}[2J"),
            "{lines}: {said:?}"
        );
        assert!(
            done.status == Some(0) || done.status == Some(1),
            "{lines}: {said}"
        );
    }
}

/// Links in an image where kiln mounts its own files: into the root, or to nothing.
#[test]
fn mounted_files_may_be_links() {
    for lines in [
        "add('etc/resolv.conf', LINK, linkname='../run/resolve/stub.conf')",
        "add('etc/hosts', LINK, linkname='/etc/hosts-elsewhere')",
        "add('etc/resolv.conf', LINK, linkname='/etc/passwd')",
    ] {
        let space = Space::new();
        let image = space.image(lines);
        let seen = output(
            &space,
            &image,
            "RUN grep -c localhost /etc/hosts > /out && cat /etc/resolv.conf >/dev/null",
        );
        assert!(seen.trim() != "0", "{lines}: {seen}");
    }
}

/// What is looked through after a step, in its tree and in cache volumes, may be of any depth.
#[test]
fn deep_directories_do_not_end_the_builder() {
    let space = Space::new();
    std::fs::write(space.path("token"), "a-token-of-some-length").unwrap();
    let deep = "d=/v; for n in $(seq 1 40); do d=$d/a/a/a/a/a/a/a/a/a/a; done; mkdir -p $d; touch $d/file; cp -r /v/a /deep";
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\nRUN --mount=type=cache,target=/v --mount=type=secret,id=token {deep}\n"
        ),
    );
    let secret = format!("id=token,src={}", space.path("token").display());
    let output = format!("type=oci,dest={}", space.path("out.tar").display());
    _ = space.build(&["--secret", &secret, "-o", &output]).ok();
    // Deeper than a path can say.
    let deeper = "for n in $(seq 1 3000); do mkdir -p aaaaaaaaaa && cd aaaaaaaaaa || exit 0; done";
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nWORKDIR /d\nRUN {deeper}\n"),
    );
    let failed = space.build(&[]);
    assert_eq!(failed.status, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("too long"), "{}", failed.stderr);
    _ = space.kiln(&["prune", "--all", "--force"]).ok();
    let left = kiln_tests::run("du", &["-s", &space.path("store").display().to_string()]).stdout;
    let left: u64 = left.split_whitespace().next().unwrap().parse().unwrap();
    assert!(left < 4096, "{left} KiB are left");
}
