//! Credentials in flags, addresses and variables: none of them is kept, shown or sent to anybody who
//! isn't meant. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, GIT, Run, Script, Space, read, shell};

/// Stands for every credential.
const CANARY: &str = "c4nary-hunter2";

/// Serves a directory to anybody, and keeps what is posted.
const SERVER: &str = r#"
import functools, http.server, os
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        open(os.environ["POSTED"], "ab").write(body)
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=os.environ["DIR"]))
print("port", server.server_port, flush=True)
server.serve_forever()
"#;

struct Site {
    space: Space,
    server: Script,
}

impl Site {
    fn new() -> Self {
        let space = Space::new();
        let script = format!(
            "mkdir srv posted work; printf 'FROM scratch\nCOPY f /f\n' > work/Dockerfile; echo x > work/f; tar cf srv/c.tar -C work .
             cd work; {GIT} init -q; git add .; {GIT} commit -qm a; cd ..; {GIT} clone -q --bare work srv/repo.git; git -C srv/repo.git update-server-info"
        );
        shell(&space.path(""), &script);
        let (directory, posted) = (space.path("srv"), space.path("posted/body"));
        let (directory, posted) = (
            directory.display().to_string(),
            posted.display().to_string(),
        );
        let server = Script::python_with(SERVER, &[("DIR", &directory), ("POSTED", &posted)]);
        Self { space, server }
    }

    /// An address with credentials wherever one can have them.
    fn url(&self, path: &str) -> String {
        let address = format!(
            "http://user:{CANARY}@127.0.0.1:{}/{path}",
            self.server.port()
        );
        match path.ends_with(".git") {
            true => address,
            false => format!("{address}?X-Amz-Signature={CANARY}&{CANARY}"),
        }
    }

    fn kiln(&self, args: &[&str]) -> Run {
        let mut command = self.space.command(args);
        command.env("THE_SECRET", format!("{CANARY}-given")).env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            format!("authorization=Bearer {CANARY}"),
        );
        Run::of(&command.output().unwrap())
    }

    /// Builds with all that can carry a credential, and looks for it everywhere.
    fn build(&self, what: &str, args: &[&str], works: bool) {
        for progress in ["plain", "rawjson"] {
            let flags = ["build", "--no-cache", "--progress", progress, "--explain"];
            let run = self.kiln(&[&flags[..], args].concat());
            assert_eq!(run.status == Some(0), works, "{what}: {}", run.stderr);
            unseen(what, &run);
        }
        self.nowhere(what);
    }

    /// That no credential is kept, or comes out of what is.
    fn nowhere(&self, what: &str) {
        for args in [
            &["history"][..],
            &["history", "--json"],
            &["explain"],
            &["explain", "--json"],
            &["logs"],
            &["timeline"],
        ] {
            unseen(&format!("{what}: {args:?}"), &self.kiln(args));
        }
        let script =
            format!("grep -rlaF {CANARY} store posted shared timeline.html 2>/dev/null || true");
        assert_eq!(shell(&self.space.path(""), &script), "", "{what}");
    }
}

/// That a command shows no credential.
fn unseen(what: &str, run: &Run) {
    let shown = format!("{}{}", run.stdout, run.stderr);
    assert!(!shown.contains(CANARY), "{what}: {shown}");
}

#[test]
fn addresses_are_kept_without_credentials() {
    let site = Site::new();
    let (space, context) = (&site.space, "context");
    let (tar, file, repo) = (site.url("c.tar"), site.url("f"), site.url("repo.git"));
    shell(&space.path(""), "cp work/f srv/f");
    for (what, url) in [("a context", &tar), ("a repository", &repo)] {
        site.build(what, &[url], true);
    }
    for (what, works, line) in [
        ("ADD of a file", true, format!("ADD {file} /f")),
        ("ADD of a repository", true, format!("ADD {repo} /f")),
        (
            "ADD with .git",
            true,
            format!("ADD --keep-git-dir {repo} /f"),
        ),
        (
            "ADD of nothing",
            false,
            format!("ADD {} /f", site.url("none")),
        ),
        (
            "ADD of no repository",
            false,
            format!("ADD {} /f", site.url("none.git")),
        ),
        (
            "ADD of another file",
            false,
            format!("ADD --checksum=sha256:{} {file} /f", "0".repeat(64)),
        ),
        (
            "ADD from no server",
            false,
            format!("ADD http://user:{CANARY}@127.0.0.1:1/?{CANARY} /f"),
        ),
        ("a mistake", false, format!("ADDD {file} /f")),
        (
            "an image",
            false,
            format!("FROM http://user:{CANARY}@127.0.0.1:1/x"),
        ),
    ] {
        space.write("Dockerfile", format!("FROM scratch\n{line}\n"));
        site.build(what, &[context, "-t", "t:1"], works);
    }
    space.write("Dockerfile", "FROM scratch\nCOPY --from=x f /f\n");
    for url in [&tar, &repo] {
        site.build(
            "a named context",
            &[context, "--build-context", &format!("x={url}")],
            true,
        );
    }
    let source = format!(
        "version = 1\n[sources.r]\ngit = '{repo}'\n[sources.f]\nhttp = '{file}'\n[steps.s]\nfrom = 'scratch'\ncopy = [{{ from = 'r', paths = ['f'], to = '/a' }}, {{ from = 'f', paths = ['f'], to = '/b' }}]\n[images.i]\nfrom = 's'\n"
    );
    space.write("kiln.toml", source);
    let built = site.kiln(&["build", context]);
    unseen("kiln.toml", &built);
    site.nowhere("kiln.toml");
    let locked = site.kiln(&["lock", context]);
    unseen("a lock", &locked);
    let lock = std::fs::read_to_string(space.path("context/kiln.lock")).unwrap_or_default();
    assert!(!lock.contains(&format!("user:{CANARY}")), "{lock}");
}

#[test]
fn what_is_remembered_of_a_command_has_no_credentials() {
    let site = Site::new();
    let (space, port) = (&site.space, site.server.port());
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nARG NPM_TOKEN\nARG INDEX\nRUN --mount=type=secret,id=e --mount=type=secret,id=x --mount=type=secret,id=GIT_AUTH_TOKEN test -s /run/secrets/e && test -s /run/secrets/x && echo done > /done\n"),
    );
    let s3 = format!(
        "type=s3,bucket=b,region=r,endpoint_url=http://127.0.0.1:1,access_key_id={CANARY},secret_access_key={CANARY},session_token={CANARY}"
    );
    let otlp = format!("http://user:{CANARY}@127.0.0.1:{port}");
    let arg = |name: &str, value: &str| format!("{name}={}", value.replace("CANARY", CANARY));
    let flags = [
        ("--build-arg", arg("NPM_TOKEN", "CANARY")),
        (
            "--build-arg",
            arg("INDEX", "https://user:CANARY@pypi.example/simple"),
        ),
        (
            "--build-arg",
            arg("HTTP_PROXY", "http://user:CANARY@127.0.0.1:1"),
        ),
        ("--build-arg", arg("https_proxy", "user:CANARY@127.0.0.1:1")),
        ("--secret", "id=e,env=THE_SECRET".to_owned()),
        (
            "--secret",
            arg("id", &format!("x,src=exec:echo {CANARY}-given")),
        ),
        ("--cache-to", s3.clone()),
        ("--cache-from", s3),
        ("--cache-to", "type=local,dest=shared,mode=max".to_owned()),
        ("--otlp-endpoint", otlp),
        ("--creds", format!("r.example=user:{CANARY}")),
    ];
    let mut args = vec!["context"];
    for (name, value) in &flags {
        args.extend([*name, value.as_str()]);
    }
    site.build("all flags", &args, true);
    assert!(space.path("posted/body").exists(), "a trace was sent");
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nARG NPM_TOKEN\nRUN --mount=type=secret,id=x exit 3\n"),
    );
    site.build("a failure", &args, false);
    for wrong in [
        format!("id=s,value={CANARY}"),
        CANARY.to_owned(),
        format!("id=s,src=exec:echo {CANARY}; exit 3"),
    ] {
        space.write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\nRUN --mount=type=secret,id=s,required true\n"),
        );
        site.build("a mistake", &["context", "--secret", &wrong], false);
    }
}

/// Whoever asks for the same again is told what was left out.
#[test]
fn a_command_with_a_credential_is_given_again() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nARG A\nARG NPM_TOKEN\nRUN echo $A\n"),
    );
    _ = space.build(&["--build-arg", "A=1"]).ok();
    let edited = |space: &Space| space.kiln(&["explain", "--what-if", "context/Dockerfile"]);
    _ = edited(&space).ok();
    _ = space
        .build(&["--build-arg", "A=1", "--build-arg", "NPM_TOKEN=x"])
        .ok();
    let lost = edited(&space);
    assert_eq!(lost.status, Some(2), "{}", lost.stderr);
    assert!(
        lost.stderr.contains("--build-arg NPM_TOKEN"),
        "{}",
        lost.stderr
    );
}

/// A server whose file only those get that show a token, and which sends others elsewhere first.
const GUARDED: &str = "
class Answer(Handler):
    def do_GET(self):
        if self.path == '/elsewhere':
            return self.answer(302, b'', {'Location': 'http://localhost:%d/file' % server.server_port})
        if self.headers.get('Authorization') == 'Bearer t0ken-of-the-user':
            return self.answer(200, b'let in')
        self.answer(401, b'kept out')
";

#[test]
fn a_web_server_is_shown_the_secret_that_is_named_after_it() {
    let server = Script::answering(GUARDED);
    let space = Space::new();
    let add = |path: &str| {
        let url = format!("http://127.0.0.1:{}/{path}", server.port());
        space.write("Dockerfile", format!("FROM scratch\nADD {url} /file\n"));
    };
    std::fs::write(space.path("token"), "t0ken-of-the-user\n").unwrap();
    let secret = |name: &str| {
        let file = space.path("token").display().to_string();
        ["--secret".to_owned(), format!("id={name},src={file}")]
    };
    add("file");
    space.build(&[]).fails_with(&["401"]);
    let other = secret("HTTP_AUTH_TOKEN_files.example");
    space.build(&[&other[0], &other[1]]).fails_with(&["401"]);
    let own = secret("HTTP_AUTH_TOKEN_127.0.0.1");
    let out = space.build_files(&[&own[0], &own[1]]);
    assert_eq!(read(out.join("file")), "let in");
    // What is in the store is for those only whom the server lets in.
    space.build(&[]).fails_with(&["401"]);
    // Nor is a server shown it that the first one names.
    add("elsewhere");
    space.build(&[&own[0], &own[1]]).fails_with(&["401"]);
}
