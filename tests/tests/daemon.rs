//! A Docker daemon as the judge of images. It needs root, as CI has it.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_tests::{BUSYBOX, Run, Space, run};

/// A daemon of Debian's package with everything of its own, that touches no firewall.
struct Daemon {
    process: Child,
    folder: PathBuf,
}

impl Daemon {
    /// `None` for ordinary users: the daemon runs as root only.
    fn start(space: &Space) -> Option<Self> {
        if run("id", &["-u"]).ok().stdout.trim() != "0" {
            return None;
        }
        let folder = space.path("docker");
        std::fs::create_dir(&folder).unwrap();
        let part = |name: &str| folder.join(name).display().to_string();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let process = Command::new("dockerd")
            .args([
                "--iptables=false",
                "--bridge=none",
                "--data-root",
                &part("data"),
            ])
            .args(["--exec-root", &part("exec"), "--pidfile", &part("pid")])
            .args(["-H", &format!("unix://{}", part("socket"))])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { process, folder };
        let started = Instant::now();
        while daemon.docker(&["version"]).status != Some(0) {
            let log = std::fs::read_to_string(daemon.folder.join("log")).unwrap();
            assert!(started.elapsed() < Duration::from_mins(1), "{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(daemon)
    }

    fn address(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    fn docker(&self, args: &[&str]) -> Run {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", self.address());
        Run::of(&command.output().unwrap())
    }

    /// The files of an image as the daemon unpacks them.
    fn files(&self, image: &str) -> String {
        let made = self.docker(&["create", image, "/none"]).ok().stdout;
        let id = made.trim();
        let tar = self.folder.join("export.tar").display().to_string();
        _ = self.docker(&["export", "-o", &tar, id]).ok();
        _ = self.docker(&["rm", id]).ok();
        listed(&tar)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = run("kill", &[&self.process.id().to_string()]);
        _ = self.process.wait();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let folder = self.folder.display().to_string();
        for mount in own.filter(|mount| mount.starts_with(&folder)) {
            _ = run("umount", &["-l", mount]);
        }
    }
}

/// A tar's entries but for what the daemon adds for its containers.
fn listed(tar: &str) -> String {
    let list = run("tar", &["tvf", tar, "--numeric-owner", "--full-time"])
        .ok()
        .stdout;
    let added = [
        "dev/",
        "proc/",
        "sys/",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/mtab",
        ".dockerenv",
    ];
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in list.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, size, day, time, name, rest @ ..] = &words[..] else {
            panic!("{line}");
        };
        let name = name.trim_start_matches("./");
        if name.is_empty() || name == "etc/" || added.iter().any(|part| name.starts_with(part)) {
            continue;
        }
        // The daemon exports whole seconds only.
        let seconds = time.split('.').next().unwrap();
        let rest = rest.join(" ");
        let about = format!("{mode} {owner} {size} {day} {seconds} {rest}");
        entries.push((name.to_owned(), about));
    }
    entries.sort();
    let lines = entries
        .iter()
        .map(|(name, about)| format!("{name} {about}\n"));
    lines.collect()
}

const FILE: &str = "FROM BASE AS one
RUN mkdir -p /opt/lib /app && echo lib > /opt/lib/a && chmod 4755 /opt/lib/a && ln /opt/lib/a /opt/lib/b && echo x > /app/x
RUN rm /app/x && echo y > /app/y && rm -r /root && mkdir -p /root/new && chown 7:8 /app/y
FROM one
# layer: data
RUN echo 1 > /one && ln -s one /link
RUN echo 2 > /two && rm /one && mkfifo /pipe
# layer: top
RUN rm -r /opt/lib && echo file > /opt/lib
";

#[test]
fn a_docker_daemon_unpacks_every_plan_to_the_same_files() {
    let space = Space::new();
    let Some(daemon) = Daemon::start(&space) else {
        return;
    };
    space.write("Dockerfile", FILE.replace("BASE", BUSYBOX));
    let tar = space.path("own.tar").display().to_string();
    _ = space.build(&["-o", &format!("type=tar,dest={tar}")]).ok();
    let own = listed(&tar);
    assert!(own.contains("app/y -rw-r--r-- 7/8 2 "), "{own}");
    for plan in ["named", "per-step", "per-stage", "squash", "flat", "auto:4"] {
        let image = format!("kiln-plan:{}", plan.replace(':', "-"));
        let mut command =
            space.command(&["build", "context", "-t", &image, "--load", "--layers", plan]);
        command.env("DOCKER_HOST", daemon.address());
        _ = Run::of(&command.output().unwrap()).ok();
        let seen = daemon.files(&image);
        assert_eq!(seen, own, "{plan}");
    }
}
