//! What a hostile registry or remote cache tries. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Run, Script, Space};

/// A registry that answers as `MODE` says; what comes with credentials is noted in `LOG`.
const REGISTRY: &str = r#"
import http.server, json, os, threading
MODE, LOG = os.environ["MODE"], os.environ["LOG"]
def note(text):
    with open(LOG, "a") as log: log.write(text + "\n")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body=b"", headers={}):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def any(self):
        me, it = (f"http://127.0.0.1:{port}" for port in (self.server.server_port, other.server_port))
        kind = "registry" if self.server is server else "elsewhere"
        if self.headers.get("Authorization"): note(f"{kind} {self.headers['Authorization']}")
        length = int(self.headers.get("Content-Length") or 0)
        if length: self.rfile.read(length)
        if kind == "elsewhere":
            return self.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{it}/token",service="s"'})
        if MODE == "upload":
            if self.headers.get("Authorization") is None:
                return self.answer(401, b"", {"WWW-Authenticate": "Basic realm=x"})
            if self.command == "HEAD": return self.answer(404)
            if self.command == "POST": return self.answer(202, b"", {"Location": f"{it}/upload"})
            return self.answer(201)
        if MODE == "redirect": return self.answer(307, b"", {"Location": it + self.path})
        if MODE == "loop": return self.answer(307, b"", {"Location": me + self.path})
        if MODE == "refusal": return self.answer(400, b"\x1b]0;evil\x07\x1b[2Jno")
        self.send_response(400 if MODE == "endless refusal" else 200)
        self.end_headers()
        sent = 0
        try:
            while sent < 1 << 30: sent += self.wfile.write(b" " * (1 << 20))
        except OSError: pass
        note(f"sent {sent >> 20}")
        self.close_connection = True
    do_GET = do_HEAD = do_POST = do_PUT = any
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=other.serve_forever, daemon=True).start()
print("port", server.server_port, flush=True)
server.serve_forever()
"#;

/// What a build, or a push, from such a registry says, and what the registry noted.
fn meet(mode: &str, args: &[&str]) -> (Run, String) {
    let space = Space::new();
    let log = space.path("log").display().to_string();
    std::fs::write(&log, "").unwrap();
    let server = Script::python_with(REGISTRY, &[("MODE", mode), ("LOG", &log)]);
    let host = format!("127.0.0.1:{}", server.port());
    std::fs::create_dir(space.path("docker")).unwrap();
    let config = format!(r#"{{"auths": {{"{host}": {{"auth": "bWU6cGFzcw=="}}}}}}"#);
    std::fs::write(space.path("docker/config.json"), config).unwrap();
    let from = if args.is_empty() {
        format!("{host}/a:1")
    } else {
        BUSYBOX.to_owned()
    };
    space.write("Dockerfile", format!("FROM {from}\nCOPY Dockerfile /\n"));
    let tag = format!("{host}/pushed:1");
    let args: Vec<&str> = args
        .iter()
        .map(|arg| if *arg == "TAG" { &tag } else { *arg })
        .collect();
    let mut command =
        space.command(&[&["build", "context", "--progress", "plain"], &args[..]].concat());
    let output = command
        .env("DOCKER_CONFIG", space.path("docker"))
        .output()
        .unwrap();
    (Run::of(&output), std::fs::read_to_string(log).unwrap())
}

#[test]
fn answers_without_end_are_not_read_to_it() {
    for mode in ["endless", "endless refusal"] {
        let (built, log) = meet(mode, &[]);
        assert_eq!(built.status, Some(1), "{}", built.stderr);
        let sent: Vec<u32> = log
            .lines()
            .filter_map(|line| line.strip_prefix("sent ")?.parse().ok())
            .collect();
        assert!(
            sent.iter().all(|megabytes| *megabytes < 64),
            "{mode}: {log}"
        );
    }
    let (built, _) = meet("endless", &[]);
    built.fails_with(&["larger than any manifest may be"]);
}

#[test]
fn redirections_end() {
    let (built, _) = meet("loop", &[]);
    assert_eq!(built.status, Some(1), "{}", built.stderr);
}

#[test]
fn credentials_stay_with_their_registry() {
    let (built, log) = meet("redirect", &[]);
    assert_eq!(built.status, Some(1));
    assert!(!log.contains("elsewhere"), "{log}");
    let (built, log) = meet("upload", &["-t", "TAG", "--push"]);
    assert_eq!(built.status, Some(1), "{}", built.stderr);
    assert!(log.contains("registry Basic bWU6cGFzcw=="), "{log}");
    assert!(!log.contains("elsewhere"), "{log}");
}

#[test]
fn refusals_do_not_drive_the_terminal() {
    let (built, _) = meet("refusal", &[]);
    assert!(built.stderr.contains("no"), "{}", built.stderr);
    assert!(
        !built.stderr.contains(['\u{1b}', '\u{7}']),
        "{:?}",
        built.stderr
    );
}
