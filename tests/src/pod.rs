//! Containers as CI systems start them, by runc, on the host's network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::{BUSYBOX, Run, kiln_binary, run, unpack};

/// Docker's default capabilities.
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// What Docker's and Kubernetes' default filter refuses to who has no CAP_SYS_ADMIN.
const REFUSED: &[&str] = &[
    "unshare",
    "mount",
    "umount2",
    "setns",
    "fsopen",
    "fsmount",
    "fspick",
    "fsconfig",
    "move_mount",
    "open_tree",
    "mount_setattr",
    "pivot_root",
    "bpf",
    "keyctl",
    "add_key",
    "quotactl",
];

/// A container's settings.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    /// Its user and group.
    pub user: u32,
    /// Whether it has Docker's default capabilities, and which more.
    pub capabilities: Option<&'static [&'static str]>,
    /// Whether the default filter refuses namespaces and mounts.
    pub filtered: bool,
    /// Whether `/proc` is masked as it is by default.
    pub masked: bool,
    /// Whether it has a user namespace of its own.
    pub user_namespace: bool,
    /// Whether its root is read-only, so that only the volumes can be written.
    pub read_only: bool,
    /// Which control groups it sees.
    pub cgroup: Cgroup,
    /// Whether mounts are refused though namespaces are not, as by Docker's AppArmor profile.
    pub mounts_refused: bool,
}

/// Control groups as a container sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroup {
    /// What the host has.
    Host,
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
    /// None.
    None,
}

impl Pod {
    /// Root as Docker and Kubernetes start it by default.
    pub const ROOT_DEFAULT: Self = Self {
        user: 0,
        capabilities: Some(&[]),
        filtered: true,
        masked: true,
        user_namespace: false,
        read_only: false,
        cgroup: Cgroup::Host,
        mounts_refused: false,
    };
    /// Root without a system call filter.
    pub const ROOT_USERNS: Self = Self {
        filtered: false,
        ..Self::ROOT_DEFAULT
    };
    /// An ordinary user without a system call filter.
    pub const USER_USERNS: Self = Self {
        user: 1000,
        capabilities: None,
        ..Self::ROOT_USERNS
    };
    /// An ordinary user as Docker and Kubernetes start it by default.
    pub const USER_DEFAULT: Self = Self {
        filtered: true,
        ..Self::USER_USERNS
    };
    /// `hostUsers: false` with CAP_SYS_ADMIN.
    pub const OWN_USERS: Self = Self {
        capabilities: Some(&["SYS_ADMIN"]),
        user_namespace: true,
        ..Self::ROOT_USERNS
    };
}

/// A root filesystem for pods, with kiln in it, and directories that live as long.
#[derive(Debug)]
pub struct Bundle {
    directory: tempfile::TempDir,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundle {
    /// A container of busybox and kiln.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bundle = Self { directory };
        _ = unpack(&format!("docker://{BUSYBOX}"), &bundle.path("b"));
        bundle.install(&kiln_binary());
        for volume in ["volume", "tmp", "workspace"] {
            std::fs::create_dir_all(bundle.root().join(volume)).unwrap();
        }
        bundle
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The container's root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.path("b/rootfs")
    }

    /// The directory mounted on `/volume`, which is written to whatever else is not.
    #[must_use]
    pub fn volume(&self) -> PathBuf {
        self.path("volume")
    }

    /// Copies kiln, with the libraries that it needs unless it is static.
    fn install(&self, kiln: &Path) {
        let copy = |from: &Path, to: &str| {
            let to = self.root().join(to.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            _ = std::fs::copy(from, to).unwrap();
        };
        copy(kiln, "/usr/bin/kiln");
        let libraries = Command::new("ldd").arg(kiln).output().unwrap();
        for word in String::from_utf8_lossy(&libraries.stdout).split_whitespace() {
            if word.starts_with('/') {
                copy(Path::new(word), word);
            }
        }
    }

    /// Writes a file below the container's root, readable for everybody.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Runs a command of the shell in a container; `KILN_ROOT` is `/volume/store`.
    #[must_use]
    pub fn run(&self, pod: Pod, script: &str) -> Run {
        self.run_on(pod, script, None)
    }

    /// Like [`Bundle::run`], with another file system on `/volume`: its type and options.
    #[must_use]
    pub fn run_on(&self, pod: Pod, script: &str, volume: Option<(&str, &[&str])>) -> Run {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir_all(self.volume()).unwrap();
        // A new tmpfs has the mode of what it is mounted on.
        let (tmp, under) = (self.root().join("tmp"), self.root().join("volume"));
        for directory in [self.volume(), tmp, under] {
            let open = std::fs::Permissions::from_mode(0o1777);
            std::fs::set_permissions(directory, open).unwrap();
        }
        // runc's user namespace has no rights on the directories above.
        let open = std::fs::Permissions::from_mode(0o755);
        for directory in [
            self.directory.path().to_owned(),
            self.path("b"),
            self.root(),
        ] {
            std::fs::set_permissions(directory, open.clone()).unwrap();
        }
        if pod.user_namespace {
            let owner = format!("{FIRST_ID}:{FIRST_ID}");
            _ = run(
                "chown",
                &["-R", &owner, &self.path("b").display().to_string()],
            );
            _ = run("chown", &[&owner, &self.volume().display().to_string()]);
        }
        let config = self.config(pod, script, volume);
        std::fs::write(self.path("b/config.json"), config.to_string()).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kiln-test-{}-{number}", std::process::id());
        let output = Command::new("runc")
            .args(["run", "--bundle"])
            .arg(self.path("b"))
            .arg(name)
            .output();
        Run::of(&output.expect("runc can be started; run scripts/setup-tests"))
    }

    fn config(&self, pod: Pod, script: &str, volume: Option<(&str, &[&str])>) -> Value {
        let text = std::fs::read_to_string(self.path("b/config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"] = json!({
            "user": { "uid": pod.user, "gid": pod.user },
            "cwd": "/tmp",
            "args": ["/bin/sh", "-c", script],
            "env": [
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/tmp",
                "KILN_ROOT=/volume/store",
                "SOURCE_DATE_EPOCH=0",
            ],
            "capabilities": capabilities(pod),
            "terminal": false,
        });
        config["root"]["readonly"] = pod.read_only.into();
        let linux = &mut config["linux"];
        let mut namespaces = vec![
            json!({"type": "pid"}),
            json!({"type": "ipc"}),
            json!({"type": "uts"}),
            json!({"type": "mount"}),
        ];
        if pod.user_namespace {
            namespaces.push(json!({"type": "user"}));
            let map = json!([{ "containerID": 0, "hostID": FIRST_ID, "size": 70_000 }]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
        }
        linux["namespaces"] = namespaces.into();
        linux["seccomp"] = filter(pod);
        if !pod.masked {
            linux["maskedPaths"] = json!([]);
            linux["readonlyPaths"] = json!([]);
        }
        let (kind, options) = volume.unwrap_or(("bind", &["rbind", "rw"]));
        let source = match kind {
            "bind" => self.volume().display().to_string(),
            other => other.to_owned(),
        };
        let mounts = config["mounts"].as_array_mut().unwrap();
        if pod.cgroup != Cgroup::Host {
            mounts.retain(|mount| mount["type"] != "cgroup" && mount["type"] != "cgroup2");
        }
        mounts.extend(self.cgroup_mount(pod.cgroup));
        // In a user namespace that doesn't own the network there is no new sysfs.
        if pod.user_namespace {
            mounts.retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
        }
        mounts.push(json!({
            "destination": "/volume", "type": kind, "source": source, "options": options,
        }));
        config
    }
}

impl Bundle {
    /// A copy of what the other kind of host has: as far as kiln reads it.
    fn cgroup_mount(&self, kind: Cgroup) -> Option<Value> {
        let files: &[&str] = match kind {
            Cgroup::Host | Cgroup::None => return None,
            Cgroup::V1 => &["memory/memory.limit_in_bytes", "cpu/cpu.shares"],
            Cgroup::V2 => &["cgroup.controllers", "cgroup.procs"],
        };
        let directory = self.path("cgroup");
        for file in files {
            let path = directory.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let options = ["rbind", "ro"];
        let source = directory.display().to_string();
        Some(json!({
            "destination": "/sys/fs/cgroup", "type": "bind", "source": source, "options": options,
        }))
    }
}

/// The host's first id of a container with a user namespace.
const FIRST_ID: u32 = 1_000_000;

fn capabilities(pod: Pod) -> Value {
    let more = pod.capabilities;
    let base = more.map_or(&[][..], |_| CAPABILITIES);
    let all = base.iter().chain(more.unwrap_or_default());
    let all: Vec<String> = all.map(|name| format!("CAP_{name}")).collect();
    json!({ "bounding": all, "effective": all, "permitted": all })
}

fn filter(pod: Pod) -> Value {
    let refuse = |names: &[&str], errno: u32| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
    if pod.mounts_refused {
        let mounts = [
            "mount",
            "umount2",
            "fsmount",
            "move_mount",
            "open_tree",
            "pivot_root",
        ];
        return json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refuse(&mounts, 13)] });
    }
    if !pod.filtered {
        return Value::Null;
    }
    let flag = 0x1000_0000;
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            refuse(REFUSED, 1),
            refuse(&["clone3"], 38),
            {
                "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}],
            },
        ],
    })
}
