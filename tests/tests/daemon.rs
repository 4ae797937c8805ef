//! A Docker daemon as the judge of images. It needs root, as CI has it.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::net::TcpListener;

use kiln_tests::{BUSYBOX, Daemon, Run, Space, certificates, run};

/// The files of an image as the daemon unpacks them.
fn files(daemon: &Daemon, image: &str) -> String {
    let made = daemon.docker(&["create", image, "/none"]).ok().stdout;
    let id = made.trim();
    let tar = daemon.directory().join("export.tar").display().to_string();
    _ = daemon.docker(&["export", "-o", &tar, id]).ok();
    _ = daemon.docker(&["rm", id]).ok();
    listed(&tar)
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
        let seen = files(&daemon, &image);
        assert_eq!(seen, own, "{plan}");
    }
}

/// As CI services give one to jobs: behind a port, for who has a certificate.
#[test]
fn images_are_loaded_into_daemons_at_ports() {
    let space = Space::new();
    let keys = space.path("keys");
    std::fs::create_dir(&keys).unwrap();
    certificates(&keys);
    for (from, to) in [("client.pem", "cert.pem"), ("client.key", "key.pem")] {
        std::fs::copy(keys.join(from), keys.join(to)).unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (address, path) = (format!("tcp://{port}"), |name: &str| {
        keys.join(name).display().to_string()
    });
    let flags = [
        "-H",
        &address,
        "--tlsverify",
        "--tlscacert",
        &path("ca.pem"),
        "--tlscert",
        &path("server.pem"),
        "--tlskey",
        &path("server.key"),
    ];
    let Some(daemon) = Daemon::start_with(&space, &flags) else {
        return;
    };
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nENV A=1\n"));
    let load = |directory: &str| {
        let mut command = space.command(&["build", "context", "--load", "-q"]);
        let environment = [
            ("DOCKER_HOST", address.as_str()),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", directory),
        ];
        Run::of(&command.envs(environment).output().unwrap())
    };
    let id = load(&keys.display().to_string()).ok().stdout;
    _ = daemon.docker(&["image", "inspect", id.trim()]).ok();
    let refused = load("/nowhere");
    assert!(
        refused.stderr.contains("/nowhere/ca.pem"),
        "{}",
        refused.stderr
    );
}
