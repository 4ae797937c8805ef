//! Steps that wait for each other: never in a circle, and never against the user's will.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kiln_tests::{BUSYBOX, Space, noise, run};

fn start(space: &Space, directory: &str, args: &[&str]) -> Child {
    let mut command = space.command(&[&["build", directory, "--progress", "plain"], args].concat());
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

fn write(space: &Space, directory: &str, lines: &str) {
    let name = format!("../{directory}/Dockerfile");
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
    for directory in ["c0", "c1", "c2"] {
        builds.push(start(&space, directory, &["--no-cache"]));
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
    for directory in ["wants", "equal"] {
        for signal in ["INT", "TERM"] {
            let mut build = start(&space, directory, &[]);
            std::thread::sleep(Duration::from_secs(1));
            assert!(build.try_wait().unwrap().is_none(), "{directory} waits");
            _ = run("kill", &[format!("-{signal}"), build.id().to_string()]);
            let status = ends(&mut build, 10).expect("a signal ends it");
            assert_ne!(status, 0, "{directory} {signal}");
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

/// A registry that takes blobs slowly.
const SLOW: &str = r#"
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, headers={}):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_GET(self): self.answer(404)
    do_HEAD = do_GET
    def do_DELETE(self): self.answer(204)
    def do_POST(self): self.answer(202, {"Location": "/v2/app/blobs/uploads/1"})
    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 17)))
            time.sleep(0.03)
        self.answer(201)
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("port", server.server_port, flush=True)
server.serve_forever()
"#;

#[test]
fn a_push_says_how_much_of_a_blob_is_sent() {
    let server = kiln_tests::Script::python(SLOW);
    let space = Space::new();
    space.write("noise", noise(1, 16 << 20));
    space.write("Dockerfile", "FROM scratch\nCOPY noise /\n");
    let name = format!("127.0.0.1:{}/app:1", server.port());
    let args = [
        "build",
        "context",
        "-t",
        &name,
        "--push",
        "--provenance=false",
        "--progress=rawjson",
    ];
    let run = space.kiln(&args).ok();
    let events = run
        .stderr
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let is_push = |event: &serde_json::Value| {
        let name = event["name"].as_str().unwrap_or_default();
        event["event"] == "transfer" && name.starts_with("push ")
    };
    let pushes: Vec<_> = events.filter(is_push).collect();
    let done = |event: &serde_json::Value| event["done"].as_u64().unwrap();
    let total = |event: &serde_json::Value| event["total"].as_u64().unwrap();
    let halfway =
        |event: &&serde_json::Value| event["finished"] == false && done(event) < total(event);
    assert!(pushes.iter().any(|event| halfway(&event)), "{pushes:?}");
    let ends = |event: &&serde_json::Value| event["finished"] == true;
    assert!(
        pushes
            .iter()
            .filter(ends)
            .all(|event| done(event) == total(event))
    );
}
