//! Runs real processes: needs root (or user namespaces) and a static busybox.
#![allow(
    clippy::disallowed_methods,
    reason = "tests make and look at files of their own"
)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests")]

use std::io::Read as _;
use std::path::{Path, PathBuf};

use kiln_graph::UnixId;
use kiln_sandbox::{
    Exit, Finished, Mount, MountKind, Network, Output, OwnerCalls, Root, Sandbox, Spec, Ways,
};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// A root with busybox, or nothing where it is not installed or we aren't root.
    fn new() -> Option<Self> {
        let busybox = Path::new("/bin/busybox");
        if !rustix::process::geteuid().is_root() || !busybox.exists() {
            eprintln!("SKIPPED: needs root and Debian's busybox-static");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let place = Self { directory };
        std::fs::create_dir_all(place.at("lower/bin")).unwrap();
        std::fs::copy(busybox, place.at("lower/bin/busybox")).unwrap();
        for name in [
            "sh", "true", "cat", "ls", "sleep", "ip", "mount", "id", "stat",
        ] {
            std::os::unix::fs::symlink("busybox", place.at("lower/bin").join(name)).unwrap();
        }
        Some(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spec(&self, script: &str) -> Spec {
        for name in ["upper", "work"] {
            _ = std::fs::remove_dir_all(self.at(name));
            std::fs::create_dir(self.at(name)).unwrap();
        }
        let lowers = vec![self.at("lower").into()];
        Spec {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".into(), "/bin".into())],
            cwd: "/".into(),
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
            groups: vec![],
            hostname: "box".into(),
            root: Root::Overlay {
                lowers,
                upper: self.at("upper"),
                work: self.at("work"),
            },
            mounts: vec![],
            network: Network::Host,
            limits: vec![],
            shm_size: 1 << 20,
            insecure: false,
            owner_calls: OwnerCalls::Real,
            in_user_namespace: false,
            ways: Ways::NAMESPACES,
            terminal: false,
        }
    }

    fn upper(&self) -> Vec<String> {
        let mut all = Vec::new();
        list(&self.at("upper"), "", &mut all);
        all.sort();
        all
    }
}

fn list(directory: &Path, prefix: &str, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            list(&entry.path(), &name, all);
        }
        all.push(name);
    }
}

fn run(spec: &Spec) -> (Finished, String) {
    let sandbox = Sandbox::of_program(env!("CARGO_BIN_EXE_kiln-sandbox-helper").into());
    let mut child = sandbox.spawn(spec, Output::Piped).unwrap();
    let mut text = String::new();
    child
        .take_stdout()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    child
        .take_stderr()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    (child.wait().unwrap(), text)
}

fn output(place: &Place, script: &str) -> String {
    let (finished, text) = run(&place.spec(script));
    assert_eq!(finished.exit, Exit::Code(0), "{text}");
    text
}

#[test]
fn outcomes() {
    let Some(place) = Place::new() else { return };
    let exit = |script: &str| run(&place.spec(script)).0.exit;
    assert_eq!(exit("exit 3"), Exit::Code(3));
    assert_eq!(exit("sh -c 'kill -9 $$'; exit $?"), Exit::Code(137));
    assert_eq!(
        exit("sleep 1000 & true"),
        Exit::Code(0),
        "what is left running is ended"
    );
    let mut spec = place.spec("");
    spec.args = vec!["no-such-program".into()];
    let reason = "exec: \"no-such-program\": executable file not found in $PATH".to_owned();
    assert_eq!(run(&spec).0.exit, Exit::NotExecuted { reason, code: 127 });
}

#[test]
fn a_step_that_does_nothing_changes_nothing() {
    let Some(place) = Place::new() else { return };
    let mut spec = place.spec("true");
    let file = MountKind::File {
        content: b"s".to_vec().into(),
        mode: 0o400,
        uid: UnixId::ROOT,
        gid: UnixId::ROOT,
    };
    spec.mounts = vec![
        Mount {
            target: "/a/b/secret".into(),
            kind: file,
        },
        Mount {
            target: "/etc/hosts".into(),
            kind: MountKind::Tmpfs {
                size: None,
                mode: 0o755,
            },
        },
    ];
    let (finished, text) = run(&spec);
    assert_eq!(finished.exit, Exit::Code(0), "{text}");
    // BuildKit leaves these too.
    assert_eq!(place.upper(), ["/dev", "/proc", "/sys"]);
}

#[test]
fn changes_land_in_the_upper_directory() {
    let Some(place) = Place::new() else { return };
    output(
        &place,
        "echo 1 > /new; echo x > /dev/shm/x; echo y > /dev/y",
    );
    assert_eq!(place.upper(), ["/dev", "/new", "/proc", "/sys"]);
}

#[test]
fn confinement() {
    let Some(place) = Place::new() else { return };
    let status = output(&place, "cat /proc/self/status");
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
    assert!(status.contains("Seccomp:\t2"));
    assert_eq!(
        output(&place, "mount -t tmpfs t /bin 2>/dev/null || echo refused"),
        "refused\n"
    );
    assert_eq!(output(&place, "cat /proc/keys /proc/timer_list"), "");
    assert!(output(&place, "echo 1 > /proc/sys/kernel/hostname; true").contains("Read-only"));
    let mut user = place.spec("id; cat /proc/self/status");
    let id = |number: u32| UnixId::try_from(number).unwrap();
    (user.uid, user.gid, user.groups) = (id(7), id(8), vec![id(9)]);
    let text = run(&user).1;
    assert!(text.contains("uid=7 gid=8 groups=9"), "{text}");
    assert!(text.contains("CapEff:\t0000000000000000"));
}

#[test]
fn only_loopback_without_network() {
    let Some(place) = Place::new() else { return };
    let mut spec = place.spec("ip -o addr");
    spec.network = Network::None;
    let text = run(&spec).1;
    assert!(
        text.contains("127.0.0.1") && !text.contains("eth0"),
        "{text}"
    );
}

#[test]
fn mounts_stay_inside_the_root() {
    let Some(place) = Place::new() else { return };
    std::os::unix::fs::symlink("/", place.at("lower/out")).unwrap();
    let outside = format!("/out{}", place.at("escaped").display());
    let mut spec = place.spec(&format!("cat {outside}"));
    let kind = MountKind::File {
        content: b"inside".to_vec().into(),
        mode: 0o444,
        uid: UnixId::ROOT,
        gid: UnixId::ROOT,
    };
    spec.mounts = vec![Mount {
        target: outside.into(),
        kind,
    }];
    assert_eq!(run(&spec).1, "inside");
    assert!(!place.at("escaped").exists());
}

#[test]
fn three_hundred_layers() {
    let Some(place) = Place::new() else { return };
    let mut lowers = vec![place.at("lower").into()];
    for number in 0..300 {
        let lower = place.at(&format!("layer{number}"));
        std::fs::create_dir(&lower).unwrap();
        std::fs::write(lower.join(format!("f{number}")), b"").unwrap();
        lowers.push(lower.into());
    }
    let mut spec = place.spec("ls / | busybox grep -c ^f");
    spec.root = Root::Overlay {
        lowers,
        upper: place.at("upper"),
        work: place.at("work"),
    };
    assert_eq!(run(&spec).1, "300\n");
}

#[test]
fn killing_ends_everything() {
    let Some(place) = Place::new() else { return };
    let sandbox = Sandbox::of_program(env!("CARGO_BIN_EXE_kiln-sandbox-helper").into());
    let spec = place.spec("sleep 12345 & echo started; wait");
    let mut child = sandbox.spawn(&spec, Output::Piped).unwrap();
    let mut first = [0; 7];
    child.take_stdout().unwrap().read_exact(&mut first).unwrap();
    let killer = child.killer();
    let waiting = std::thread::spawn(move || child.wait().unwrap());
    killer.kill();
    assert_eq!(waiting.join().unwrap().exit, Exit::Killed);
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|p| std::fs::read_to_string(p.path().join("cmdline")).ok());
    assert_eq!(
        commands.filter(|command| command.contains("12345")).count(),
        0
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.directory.path().to_str().unwrap()));
}

/// Ids that the command's process asks for before it executes the command, and that the command does.
#[test]
fn a_process_with_one_id_that_asks_for_others_is_ended() {
    let Some(place) = Place::new() else { return };
    let sandbox = Sandbox::of_program(env!("CARGO_BIN_EXE_kiln-sandbox-helper").into());
    let id = |id: u32| UnixId::try_from(id).unwrap();
    let ended = |script: &str, uid: u32, groups: &[u32]| {
        let spec = Spec {
            owner_calls: OwnerCalls::Refused,
            uid: id(uid),
            groups: groups.iter().map(|group| id(*group)).collect(),
            ..place.spec(script)
        };
        let child = sandbox.spawn(&spec, Output::Piped).unwrap();
        let (ended, wait) = std::sync::mpsc::channel();
        _ = std::thread::spawn(move || _ = ended.send(child.wait()));
        let patience = std::time::Duration::from_secs(60);
        wait.recv_timeout(patience).unwrap()
    };
    assert_eq!(ended("exit 3", 0, &[]).unwrap().exit, Exit::Code(3));
    let own = "busybox chown 1:2 /bin/busybox";
    for (script, uid, groups) in [(own, 0, &[][..]), ("true", 0, &[5]), ("true", 7, &[])] {
        let error = ended(script, uid, groups).unwrap_err().to_string();
        assert!(error.contains("with one user id"), "{error}");
    }
}
