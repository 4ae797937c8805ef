//! What the user said holds: a build file gets no more. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, GIT, Run, Script, Space, Web, read, shell};

/// Answers everyone who connects.
const SERVICE: &str = r#"
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(9)
print("port", s.getsockname()[1], flush=True)
while True:
    c, _ = s.accept(); c.sendall(b"LOOPBACK-SERVICE\n"); c.close()
"#;

#[test]
fn a_step_has_no_more_network_than_the_user_gave() {
    let (space, service) = (Space::new(), Script::python(SERVICE));
    let connect = format!("(sleep 1 | nc 127.0.0.1 {}) || true", service.port());
    let build = |run: &str, args: &[&str]| {
        space.write("Dockerfile", format!("FROM {BUSYBOX}\n{run} {connect}\n"));
        space.build(&[&["--no-cache"], args].concat())
    };
    let host = "RUN --network=host";
    for given in [&[][..], &["--network", "none"], &["--network", "sandbox"]] {
        let refused = build(host, given);
        assert!(!refused.stderr.contains("LOOPBACK"), "{}", refused.stderr);
        refused.fails_with(&["network.host is not allowed", "Dockerfile:2", ">>> RUN"]);
    }
    assert!(
        !build("RUN", &["--network", "none"])
            .ok()
            .stderr
            .contains("LOOPBACK")
    );
    for given in [["--network", "host"], ["--allow", "network.host"]] {
        assert!(
            build(host, &given).ok().stderr.contains("LOOPBACK"),
            "{given:?}"
        );
    }
    let toml = |network: &str| {
        format!(
            "version = 1\n[steps.s]\nfrom = '{BUSYBOX}'\nnetwork = '{network}'\nrun = '{connect}; ls /sys/class/net >&2'\n[images.i]\nfrom = 's'\n"
        )
    };
    space.write("kiln.toml", toml("host"));
    space
        .build(&["--network", "none"])
        .fails_with(&["network.host is not allowed", "kiln.toml"]);
    space.write("kiln.toml", toml("sandbox"));
    let none = space.build(&["--network", "none"]).ok();
    assert!(!none.stderr.contains("LOOPBACK"), "{}", none.stderr);
    let wrong = space.build(&["--allow", "network.hots"]);
    assert_eq!(wrong.status, Some(2));
    assert!(
        wrong.stderr.contains("use network.host, security.insecure"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn a_value_of_a_step_needs_the_users_word_too() {
    let space = Space::new();
    space.write(
        "kiln.toml",
        format!(
            "version = 1\n[steps.v]\nfrom = '{BUSYBOX}'\nnetwork = 'host'\nrun = 'echo x'\n[steps.s]\nfrom = '{BUSYBOX}'\nrun = 'echo {{{{ steps.v.stdout }}}}'\n[images.i]\nfrom = 's'\n"
        ),
    );
    space
        .build(&[])
        .fails_with(&["network.host is not allowed"]);
    _ = space.build(&["--allow", "network.host"]).ok();
}

/// An image with a file in it, as an archive and as a layout.
fn private_image(space: &Space) -> [String; 3] {
    std::fs::create_dir(space.path("private")).unwrap();
    std::fs::write(
        space.path("private/Dockerfile"),
        "FROM scratch\nCOPY Dockerfile /PRIVATE-FILE\n",
    )
    .unwrap();
    _ = space
        .kiln(&["build", "private", "-o", "type=oci,dest=private.tar"])
        .ok();
    _ = space
        .kiln(&[
            "build",
            "private",
            "-t",
            "private:1",
            "-o",
            "type=docker,dest=saved.tar",
        ])
        .ok();
    shell(
        &space.path(""),
        "mkdir layout && tar -xf private.tar -C layout",
    );
    let at = |name: &str| space.path(name).display().to_string();
    [
        format!("oci-archive:{}", at("private.tar")),
        format!("oci-layout://{}", at("layout")),
        format!("docker-archive:{}", at("saved.tar")),
    ]
}

#[test]
fn images_of_the_host_are_the_users_to_give() {
    let space = Space::new();
    let mut names = private_image(&space).to_vec();
    names.push(format!("oci:{}", space.path("layout").display()));
    for name in &names {
        for file in [
            format!("FROM {name}\n"),
            format!("FROM {BUSYBOX}\nCOPY --from={name} / /x/\nRUN ls /x\n"),
            format!("FROM {BUSYBOX}\nRUN --mount=from={name},target=/m ls /m\n"),
            format!("FROM {BUSYBOX}\nRUN --mount=type=cache,from={name},target=/m ls /m\n"),
            format!("ARG A={name}\nFROM $A\n"),
        ] {
            space.write("Dockerfile", &file);
            let failed = space.build(&[]);
            assert!(
                !failed.stderr.contains("PRIVATE"),
                "{file}{}",
                failed.stderr
            );
            failed.fails_with(&["ERROR: "]);
        }
        let image = format!("version = 1\n[sources.p]\nimage = '{name}'\n[images.i]\nfrom = 'p'\n");
        space.write("kiln.toml", &image);
        space
            .build(&[])
            .fails_with(&["is an image of this machine", "kiln.toml"]);
        std::fs::remove_file(space.path("context/kiln.toml")).unwrap();
        // With the user's word.
        let file = format!("FROM {BUSYBOX}\nRUN --mount=from=base,target=/m ls /m\n");
        space.write("Dockerfile", file);
        let given = space
            .build(&["--no-cache", "--build-context", &format!("base={name}")])
            .ok();
        assert!(given.stderr.contains("PRIVATE-FILE"), "{}", given.stderr);
        let directory = format!("fs.read={}", space.path("").display());
        space.write("kiln.toml", &image);
        _ = space.build(&["--allow", &directory]).ok();
        let refused = space.build(&["--allow", "fs.read=context"]);
        refused.fails_with(&["is an image of this machine", "--build-context"]);
        std::fs::remove_file(space.path("context/kiln.toml")).unwrap();
    }
    for name in ["docker-daemon:base", "docker-daemon:base:1"] {
        space.write("Dockerfile", format!("FROM {name}\n"));
        space.build(&[]).fails_with(&["ERROR: "]);
        let file = format!("version = 1\n[sources.p]\nimage = '{name}'\n[images.i]\nfrom = 'p'\n");
        space.write("kiln.toml", file);
        let refused = space.build(&[]);
        refused.fails_with(&["is an image of this machine"]);
        std::fs::remove_file(space.path("context/kiln.toml")).unwrap();
    }
}

/// Also where the user names the file: whoever reads the log is somebody else.
#[test]
fn errors_show_nothing_of_files_of_the_host() {
    let space = Space::new();
    let secret =
        |start: usize| format!("{}S3CRETPW and more{}", "x".repeat(start), "y".repeat(600));
    let path = space.path("secret").display().to_string();
    let texts = [0, 100, 124, 136, 148, 257].map(secret);
    let json = ["{\"schemaVersion\":\"S3CRETPW\"}", "[\"S3CRETPW\"]"].map(str::to_owned);
    std::fs::create_dir(space.path("layout")).unwrap();
    for text in texts.iter().chain(&json) {
        std::fs::write(&path, text).unwrap();
        std::fs::write(space.path("layout/index.json"), text).unwrap();
        for name in [
            format!("oci-archive:{path}"),
            format!("docker-archive:{path}"),
            format!("oci-layout://{}", space.path("layout").display()),
        ] {
            space.write("Dockerfile", format!("FROM {name}\n"));
            let by_file = space.build(&[]);
            space.write("Dockerfile", "FROM base\n");
            let by_user = space.build(&["--build-context", &format!("base={name}")]);
            for failed in [by_file, by_user] {
                assert_eq!(failed.status, Some(1), "{}", failed.stderr);
                assert!(!failed.stderr.contains("S3CRET"), "{}", failed.stderr);
            }
        }
    }
}

fn step_from(address: &str) -> String {
    format!(
        "version = 1\n[sources.r]\ngit = '{address}'\n[steps.s]\nfrom = '{BUSYBOX}'\nbinds = [{{ from = 'r', target = '/m' }}]\nrun = 'cat /m/f'\n[images.i]\nfrom = 's'\n"
    )
}

#[test]
fn repositories_of_the_host_are_the_users_to_give() {
    let space = Space::new();
    let script = format!(
        "mkdir private && cd private && {GIT} init -q && echo PRIVATE-SOURCE > f && {GIT} add f && {GIT} commit -qm a && git rev-parse HEAD"
    );
    let commit = shell(&space.path(""), &script);
    let path = space.path("private").display().to_string();
    let up = "../".repeat(20);
    for address in [
        path.clone(),
        format!("file://{path}"),
        format!("FILE://{path}"),
        format!("file://localhost{path}"),
        format!("{up}{path}"),
        format!("ext::cat {path}/f"),
        format!("fd::0,1/{path}"),
    ] {
        space.write("kiln.toml", step_from(&address));
        let failed = space.build(&["--no-cache"]);
        assert_eq!(failed.status, Some(1), "{}", failed.stderr);
        assert!(!failed.stderr.contains("PRIVATE"), "{}", failed.stderr);
        let include = format!(
            "version = 1\ninclude = [{{ git = '{address}', commit = '{}', path = 'f' }}]\n",
            commit.trim()
        );
        space.write("kiln.toml", include);
        let failed = space.build(&[]);
        assert_eq!(failed.status, Some(1), "{}", failed.stderr);
        assert!(!failed.stderr.contains("PRIVATE"), "{}", failed.stderr);
    }
    space.write("kiln.toml", step_from(&path));
    let given = space
        .build(&["--no-cache", "--build-context", "r=private"])
        .ok();
    assert!(given.stderr.contains("PRIVATE-SOURCE"), "{}", given.stderr);
    let given = space
        .build(&["--no-cache", "--allow", "fs.read=private"])
        .ok();
    assert!(given.stderr.contains("PRIVATE-SOURCE"), "{}", given.stderr);
}

/// A repository on the web whose submodule is one of the machine.
#[test]
fn submodules_lead_to_no_repository_of_the_host() {
    let space = Space::new();
    std::fs::create_dir(space.path("srv")).unwrap();
    let web = Web::serve(&space.path("srv"));
    let script = format!(
        "mkdir private; cd private; {GIT} init -q; echo PRIVATE-SOURCE > f; {GIT} add f; {GIT} commit -qm a; cd ..
         mkdir work; cd work; {GIT} init -q; {GIT} -c protocol.file.allow=always submodule --quiet add ../private m
         git config -f .gitmodules submodule.m.url file://$PWD/../private; echo x > f; git add .; {GIT} commit -qm b
         cd ..; {GIT} clone -q --bare work srv/repo.git; git -C srv/repo.git update-server-info"
    );
    shell(&space.path(""), &script);
    let url = web.url("repo.git");
    space.write("Dockerfile", format!("FROM scratch\nADD {url} /x\n"));
    space.build(&[]).fails_with(&["git submodule failed"]);
    let failed = space.kiln(&["build", &url]);
    assert_eq!(failed.status, Some(1), "{}", failed.stderr);
}

/// A web server that serves a directory to whoever sends one header.
const PRIVATE: &str = r#"
import base64, functools, http.server, os
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") in os.environ["WANTED"].split("|"):
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic realm=x")
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=os.environ["DIR"]))
print("port", server.server_port, flush=True)
server.serve_forever()
"#;

/// Credentials of the user's, in every place where git finds them by itself; and programs that its
/// configuration runs.
fn home(space: &Space, port: u16) -> String {
    let home = space.path("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(
        home.join(".netrc"),
        "machine 127.0.0.1 login user password hunter2\n",
    )
    .unwrap();
    let mark = space.path("mark").display().to_string();
    let config = format!(
        "[credential]\n\thelper = \"!f() {{ touch {mark}-helper; echo username=user; echo password=hunter2; }}; f\"\n[http \"http://127.0.0.1:{port}/\"]\n\textraHeader = \"Authorization: Basic dXNlcjpodW50ZXIy\"\n[filter \"evil\"]\n\tsmudge = \"touch {mark}-filter; cat\"\n\trequired = true\n[core]\n\thooksPath = {mark}-hooks\n\tattributesFile = {mark}-attributes\n"
    );
    std::fs::write(home.join(".gitconfig"), config).unwrap();
    std::fs::write(format!("{mark}-attributes"), "* filter=evil\n").unwrap();
    home.display().to_string()
}

/// A repository that asks who wants it, below `srv`; its files are in `work`.
fn private_repository(space: &Space, wanted: &str) -> Script {
    let script = format!(
        "mkdir srv work; cd work; {GIT} init -q; printf 'FROM scratch\\nCOPY f /\\n' > Dockerfile; echo PRIVATE > f; echo '* filter=evil' > .gitattributes; git add .; {GIT} commit -qm a
         cd ..; {GIT} clone -q --bare work srv/repo.git; git -C srv/repo.git update-server-info"
    );
    shell(&space.path(""), &script);
    let directory = space.path("srv").display().to_string();
    Script::python_with(PRIVATE, &[("WANTED", wanted), ("DIR", &directory)])
}

/// Which of the programs of [`home`]'s configuration were run.
fn marks(space: &Space) -> Vec<String> {
    let names = std::fs::read_dir(space.path("")).unwrap();
    let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
    let ran = |name: &String| name == "mark-helper" || name == "mark-filter";
    names.filter(ran).collect()
}

#[test]
fn a_build_files_addresses_get_none_of_the_users_credentials() {
    let space = Space::new();
    let basic = "Basic dXNlcjpodW50ZXIy"; // user:hunter2
    let token = "Basic eC1hY2Nlc3MtdG9rZW46dDBrM24="; // x-access-token:t0k3n
    let server = private_repository(&space, &format!("{basic}|{token}|Bearer t0k3n"));
    let (port, home) = (server.port(), home(&space, server.port()));
    let url = format!("http://127.0.0.1:{port}/repo.git");
    let build = |context: &str, args: &[&str]| {
        let out = format!("type=local,dest={}", space.path("out").display());
        _ = std::fs::remove_dir_all(space.path("out"));
        let all = [&["build", context, "--progress", "plain", "-o", &out], args].concat();
        let mut command = space.command(&all);
        command
            .env("HOME", &home)
            .env("GIT_ASKPASS", "/bin/false")
            .env("TOKEN", "t0k3n")
            .env("HEADER", "Bearer t0k3n");
        Run::of(&command.output().unwrap())
    };
    space.write("Dockerfile", format!("FROM scratch\nADD {url} /x\n"));
    build("context", &[]).fails_with(&["GIT_AUTH_TOKEN", "Dockerfile:2"]);
    assert_eq!(marks(&space), [""; 0]);
    // With the user's word.
    let host = format!("id=GIT_AUTH_TOKEN.127.0.0.1:{port},env=TOKEN");
    for secret in [
        "id=GIT_AUTH_TOKEN,env=TOKEN",
        "id=GIT_AUTH_HEADER,env=HEADER",
        &host,
    ] {
        _ = space.kiln(&["prune", "--all", "--force"]).ok();
        _ = build("context", &["--secret", secret]).ok();
        assert!(space.path("out/x/f").exists(), "{secret}");
    }
    assert_eq!(marks(&space), [""; 0]);
    // The user typed the address: credentials are used, and filters, as Git LFS needs them.
    _ = space.kiln(&["prune", "--all", "--force"]).ok();
    _ = build(&url, &[]).ok();
    assert!(space.path("out/f").exists());
    assert!(marks(&space).contains(&"mark-filter".to_owned()));
    std::fs::remove_file(space.path("mark-filter")).unwrap();
    // What came so isn't for the build file, though it is in the store.
    let commit = shell(&space.path("work"), "git rev-parse HEAD");
    space.write(
        "Dockerfile",
        format!("FROM scratch\nADD {url}#{} /x\n", commit.trim()),
    );
    build("context", &[]).fails_with(&["GIT_AUTH_TOKEN"]);
    // Nor is what came with a token, for a build without it or with another one.
    let (right, wrong) = (
        "id=GIT_AUTH_TOKEN,env=TOKEN",
        "id=GIT_AUTH_TOKEN,env=HEADER",
    );
    for _ in 0..2 {
        _ = build("context", &["--secret", right]).ok();
        build("context", &[]).fails_with(&["GIT_AUTH_TOKEN"]);
        build("context", &["--secret", wrong]).fails_with(&["ls-remote"]);
    }
    // In the address itself.
    let inside = url.replace("http://", "http://user:hunter2@");
    space.write(
        "Dockerfile",
        format!("FROM scratch\nADD --keep-git-dir {inside} /x\n"),
    );
    let added = build("context", &[]).ok();
    assert!(!added.stderr.contains("hunter2"), "{}", added.stderr);
    let found = shell(&space.path(""), "grep -rlaF hunter2 out store || true");
    assert_eq!(found, "");
}

#[test]
fn a_result_with_one_network_is_not_one_with_another() {
    let space = Space::new();
    let build = |from: &str, flags: &[&str]| {
        space.write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\n{from} readlink /proc/self/ns/net > /net; ls /sys/class/net > /all\nRUN cat /all\n"),
        );
        let out = space.build_files(flags);
        (read(out.join("net")), read(out.join("all")))
    };
    let (host, _) = build("RUN", &[]);
    let (none, only) = build("RUN", &["--network", "none"]);
    assert_ne!(host, none);
    assert_eq!(only, "lo\n");
    let why = space.kiln(&["explain"]).ok().stdout;
    assert!(
        why.contains("network changed:\n      - default\n      + none\n"),
        "{why}"
    );
    // Each has its own result from then on.
    assert_eq!(build("RUN", &[]).0, host);
    assert_eq!(build("RUN", &["--network", "none"]).0, none);
    assert_eq!(
        build("RUN --network=none", &[]).0,
        none,
        "it is the same step"
    );
    assert_eq!(
        build("RUN --network=default", &["--network", "none"]).0,
        none
    );
    assert_eq!(
        build("RUN --network=default", &["--network", "host"]).0,
        host
    );
}
