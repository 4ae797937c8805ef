//! What registries answer, in every phase of a push and a pull: the image arrives, or it is said why
//! not. The registry is `fixtures/registry.py`.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::sync::atomic::{AtomicU32, Ordering};

use kiln_tests::{BUSYBOX, Run, Script, Space};

/// A registry, a store, and images with a layer of their own each.
struct Meeting {
    space: Space,
    registry: Script,
    count: AtomicU32,
}

impl Meeting {
    /// The registry has the tests' base image as `base:1`.
    fn new() -> Self {
        let it = Self {
            space: Space::new(),
            registry: Script::python(include_str!("../fixtures/registry.py")),
            count: AtomicU32::new(0),
        };
        it.space
            .write("Dockerfile", format!("FROM {BUSYBOX}\nCOPY Dockerfile /\n"));
        _ = it.space.build(&["-t", &it.name("base:1"), "--push"]).ok();
        it
    }

    fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.registry.port())
    }

    /// Pushes an image that the registry doesn't have; how that went, what was asked of the registry,
    /// and whether it now has the image.
    fn push(&self, mode: &str, from: &str) -> (Run, String, bool) {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let random = vec![u8::try_from(number).unwrap(); 300_000];
        self.space.write("random", random);
        self.space.write(
            "Dockerfile",
            format!("FROM {from}\nCOPY random /r{number}\n"),
        );
        self.registry.http("POST", &format!("/_mode/{mode}"));
        let tag = self.name(&format!("app{number}:1"));
        let built = self.space.build(&[
            "-t",
            &tag,
            "--push",
            "-o",
            "type=registry,compression=uncompressed",
        ]);
        let log = self.registry.http("GET", "/_log");
        let has = self
            .registry
            .http("GET", &format!("/_has/app{number}/1"))
            .starts_with("HTTP/1.1 200");
        (built, log, has)
    }

    /// Builds from the registry's image, with nothing in the store.
    fn pull(&self, mode: &str) -> (Run, String) {
        _ = std::fs::remove_dir_all(self.space.path("store"));
        let from = self.name("base:1");
        self.space.write(
            "Dockerfile",
            format!("FROM {from}\nRUN test -e /Dockerfile\n"),
        );
        self.registry.http("POST", &format!("/_mode/{mode}"));
        let built = self.space.build(&[]);
        (built, self.registry.http("GET", "/_log"))
    }
}

#[test]
fn a_push_arrives_whatever_the_registry_does_on_the_way() {
    let it = Meeting::new();
    for (mode, said) in [
        ("good", "PUT "),
        ("put-cut", "hung up"),
        ("put-lost", "hung up"),
        ("put-307", " 307"),
        ("put-308", " 308"),
        ("put-elsewhere", " 307"),
        ("put-429", " 429"),
        ("put-500", " 500"),
        ("put-503", " 503"),
        ("put-date", " 503"),
        ("put-404", " 404"),
        ("put-416", " 416"),
        ("put-400", " 400"),
        ("patch-only", "PATCH "),
        ("post-307", " 307"),
        ("post-503", " 503"),
        ("place-query", "_state=x%2Fy&digest="),
        ("place-absolute", "PUT "),
        ("place-relative", "PUT "),
        ("head-405", " 405"),
        ("head-401", " 401"),
        ("head-403", " 403"),
        ("head-500", " 500"),
        ("head-lie", "HEAD "),
        ("manifest-307", " 307"),
        ("manifest-500", " 500"),
        ("manifest-lost", "hung up"),
        ("token", " 401"),
        ("token-short", " 401"),
    ] {
        let (built, log, has) = it.push(mode, BUSYBOX);
        assert_eq!(built.status, Some(0), "{mode}: {}\n{log}", built.stderr);
        assert!(has, "{mode}: {log}");
        assert!(log.contains(said), "{mode}: nothing with '{said}' in {log}");
    }
}

#[test]
fn what_cannot_be_mounted_is_sent() {
    let it = Meeting::new();
    let base = it.name("base:1");
    for mode in [
        "good",
        "mount-202",
        "mount-401",
        "mount-403",
        "mount-404",
        "mount-405",
        "mount-400",
        "mount-500",
        "mount-lie",
    ] {
        let (built, log, has) = it.push(mode, &base);
        assert_eq!(built.status, Some(0), "{mode}: {}\n{log}", built.stderr);
        assert!(has && log.contains("mount="), "{mode}: {log}");
    }
}

#[test]
fn refusals_are_said_soon() {
    let it = Meeting::new();
    for (mode, words) in [
        ("put-413", "413"),
        ("put-500-always", "500"),
        ("post-403", "DENIED because of post-403"),
        (
            "manifest-denied",
            "TAG_IS_IMMUTABLE because of manifest-denied",
        ),
        ("place-none", "where to send"),
    ] {
        let (built, log, has) = it.push(mode, BUSYBOX);
        built.fails_with(&[words]);
        assert!(!has, "{mode}: {log}");
    }
}

#[test]
fn a_pull_arrives_whatever_the_registry_does_on_the_way() {
    let it = Meeting::new();
    for (mode, said) in [
        ("good", "GET "),
        ("get-cut", " 206"),
        ("get-cut-other", " 206"),
        ("get-cut-whole", "hung up"),
        ("get-cut-416", " 416"),
        ("get-307", " 307"),
        ("get-429", " 429"),
        ("get-gzip", "GET "),
        ("get-digest-none", "GET "),
        ("get-digest-wrong", "GET "),
        ("token", " 401"),
    ] {
        let (built, log) = it.pull(mode);
        assert_eq!(built.status, Some(0), "{mode}: {}\n{log}", built.stderr);
        assert!(log.contains(said), "{mode}: nothing with '{said}' in {log}");
    }
    for (mode, words) in [
        ("get-gzip-blob", "another encoding"),
        ("get-damaged", "sha256"),
    ] {
        it.pull(mode).0.fails_with(&[words]);
    }
}

#[test]
fn credential_helpers_that_fail_are_named() {
    let space = Space::new();
    let registry = Script::python(
        "import http.server\n\
         class H(http.server.BaseHTTPRequestHandler):\n\
        \x20 def do_GET(s): s.send_response(401); s.send_header('WWW-Authenticate', 'Basic realm=x'); s.send_header('Content-Length', '0'); s.end_headers()\n\
         s = http.server.HTTPServer(('127.0.0.1', 0), H); print('port', s.server_port, flush=True); s.serve_forever()",
    );
    let host = format!("127.0.0.1:{}", registry.port());
    space.write("Dockerfile", format!("FROM {host}/a:1\n"));
    std::fs::create_dir_all(space.path("bin")).unwrap();
    std::fs::create_dir_all(space.path("config")).unwrap();
    for (name, script) in [
        (
            "broken",
            "echo 'the token has expired: run foo login' >&2; exit 1",
        ),
        ("odd", "echo nonsense"),
        (
            "empty",
            "echo credentials not found in native keychain; exit 1",
        ),
    ] {
        let path = space.path("bin").join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\ncat > /dev/null\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let path = format!(
        "{}:{}",
        space.path("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let said = |config: &str| {
        std::fs::write(space.path("config/config.json"), config).unwrap();
        let mut command = space.command(&["build", "context"]);
        let output = command
            .env("PATH", &path)
            .env("DOCKER_CONFIG", space.path("config"))
            .output();
        let run = Run::of(&output.unwrap());
        assert_eq!(run.status, Some(1), "{config}");
        run.stderr
    };
    for (config, words) in [
        (
            format!(r#"{{"credHelpers":{{"{host}":"absent"}}}}"#),
            "docker-credential-absent",
        ),
        (
            r#"{"credsStore":"absent"}"#.to_owned(),
            "docker-credential-absent",
        ),
        (
            format!(r#"{{"credHelpers":{{"{host}":"broken"}}}}"#),
            "the token has expired",
        ),
        (
            r#"{"credsStore":"odd"}"#.to_owned(),
            "docker-credential-odd",
        ),
        (r#"{"credsStore":"empty"}"#.to_owned(), "docker login"),
        (
            format!(r#"{{"auths":{{"{host}":{{"auth":"!"}}}}}}"#),
            "config.json",
        ),
        (r#"{"auths":{},}"#.to_owned(), "config.json"),
        ("{}".to_owned(), "docker login"),
    ] {
        let stderr = said(&config);
        assert!(stderr.contains(words), "{config}: no '{words}' in {stderr}");
    }
}
