//! Images from elsewhere: archives, registries that misbehave, mirrors, the store itself.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Registry, Run, Script, Space, copy_to_layout, digest, read, run, shell};

/// The base image as a directory that `skopeo` wrote.
fn layout(space: &Space) -> String {
    let directory = space.path("layout").display().to_string();
    copy_to_layout(&format!("docker://{BUSYBOX}"), &directory);
    directory
}

/// A registry that serves a layout, and does to it what `MODE` says.
const REGISTRY: &str = r#"
import base64, hashlib, http.server, json, os, sys
LAYOUT, MODE = os.environ["LAYOUT"], os.environ["MODE"]
index = json.load(open(LAYOUT + "/index.json"))
top = index["manifests"][0]
count = {}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body=b"", headers={}):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        path = self.path.split("?")[0]
        count[path] = count.get(path, 0) + 1
        me = f"http://127.0.0.1:{server.server_port}"
        if path == "/token":
            basic = "Basic " + base64.b64encode(b"me:pass").decode()
            ok = self.headers.get("Authorization") == basic
            return self.answer(200 if ok else 401, json.dumps({"token": "letmein"}).encode())
        if MODE == "bearer" and self.headers.get("Authorization") != "Bearer letmein":
            return self.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{me}/token",service="s",scope="repository:a:pull"'})
        if MODE == "busy" and count[path] == 1:
            return self.answer(429, b"", {"Retry-After": "0"})
        digest = path.rsplit("/", 1)[1]
        if "/manifests/" in path and not digest.startswith("sha256:"): digest = top["digest"]
        data = open(f"{LAYOUT}/blobs/sha256/{digest[7:]}", "rb").read()
        if "/manifests/" in path:
            if MODE == "manifest": data = data.replace(b'"schemaVersion"', b'"schemaversion"')
            return self.answer(200, data, {"Content-Type": top["mediaType"]})
        if len(data) < 100000:
            return self.answer(200, data)
        if MODE == "cut" and count[path] < 3:
            start = 0
            if self.headers.get("Range"): start = int(self.headers["Range"][6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start:start + 300000])
            self.close_connection = True
            return
        if MODE == "wrong": data = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
        if MODE == "short": data = data[:-1000]
        start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") and MODE == "cut" else 0
        self.answer(206 if start else 200, data[start:])
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("port", server.server_port, flush=True)
server.serve_forever()
"#;

fn registry(layout: &str, mode: &str) -> Script {
    Script::python_with(REGISTRY, &[("LAYOUT", layout), ("MODE", mode)])
}

#[test]
fn registries_that_make_it_hard() {
    let space = Space::new();
    let layout = layout(&space);
    let build = |mode: &str, config: &str| {
        let registry = registry(&layout, mode);
        let name = format!("127.0.0.1:{}/a", registry.port());
        let docker = space.path(format!("docker-{mode}"));
        std::fs::create_dir_all(&docker).unwrap();
        let config = config.replace("HOST", &format!("127.0.0.1:{}", registry.port()));
        std::fs::write(docker.join("config.json"), config).unwrap();
        space.write(
            "Dockerfile",
            format!("FROM {name}\nRUN test -x /bin/busybox\n"),
        );
        let output = space
            .command(&["build", "context", "--progress", "plain"])
            .env("KILN_ROOT", space.path(format!("store-{mode}")))
            .env("DOCKER_CONFIG", docker)
            .output();
        Run::of(&output.unwrap())
    };
    // "me:pass"
    let login = r#"{"auths": {"HOST": {"auth": "bWU6cGFzcw=="}}}"#;
    _ = build("bearer", login).ok();
    build("bearer", "{}").fails_with(&["refuses access", "docker login", "Dockerfile:1"]);
    _ = build("busy", "{}").ok();
    _ = build("cut", "{}").ok();
    build("wrong", "{}").fails_with(&["ERROR"]);
    build("short", "{}").fails_with(&["bytes instead of"]);
    build("manifest", "{}").fails_with(&["can't be understood"]);
    _ = build("none", "{}").ok();
}

#[test]
fn mirrors_come_first_and_may_be_down() {
    let space = Space::new();
    let layout = layout(&space);
    let mirror = registry(&layout, "none");
    let config = |hosts: &str| {
        let text = format!("[registries.\"registry.invalid\"]\nmirrors = [{hosts}]\n");
        std::fs::write(space.path("kiln.conf"), text).unwrap();
    };
    space.write("Dockerfile", "FROM registry.invalid/a\nRUN true\n");
    let build = || {
        let mut command = space.command(&["build", "context"]);
        command.env("KILN_CONFIG", space.path("kiln.conf"));
        Run::of(&command.output().unwrap())
    };
    config(&format!(
        "\"http://127.0.0.1:1\", \"http://127.0.0.1:{}\"",
        mirror.port()
    ));
    _ = build().ok();
    config("\"http://127.0.0.1:1\"");
    std::fs::remove_dir_all(space.path("store")).unwrap();
    build().fails_with(&["registry.invalid", "Dockerfile:1"]);
    std::fs::write(space.path("kiln.conf"), "[registry]\n").unwrap();
    let wrong = build();
    assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("unknown field `registry`"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn archives_as_bases_and_into_the_store() {
    let space = Space::new();
    let layout = layout(&space);
    let path = |name: &str| space.path(name).display().to_string();
    let (old, oci) = (path("old.tar"), path("oci.tar"));
    let from = format!("oci:{layout}:latest");
    _ = run(
        "skopeo",
        &[
            "copy",
            "-q",
            &from,
            &format!("docker-archive:{old}:example.org/saved:v1"),
        ],
    );
    _ = run(
        "skopeo",
        &["copy", "-q", &from, &format!("oci-archive:{oci}:v2")],
    );
    for base in [
        format!("docker-archive:{old}"),
        format!("oci-archive:{oci}"),
        format!("oci-layout://{layout}"),
    ] {
        space.write("Dockerfile", "FROM base\nRUN echo made > /made\n");
        let context = format!("base={base}");
        let out = space.build_files(&["--build-context", &context]);
        assert_eq!(read(out.join("made")), "made\n", "{base}");
    }
    let loaded = space.kiln(&["image", "load", &old]).ok();
    assert_eq!(loaded.stdout, "example.org/saved:v1\n");
    _ = space
        .kiln(&[
            "image",
            "load",
            &format!("oci:{layout}:latest"),
            "-t",
            "local/base",
        ])
        .ok();
    for name in ["example.org/saved:v1", "local/base"] {
        space.write(
            "Dockerfile",
            format!("FROM {name}\nRUN echo made > /made\n"),
        );
        let out = space.build_files(&[]);
        assert_eq!(read(out.join("made")), "made\n");
    }
    std::fs::write(space.path("no.tar"), "nothing").unwrap();
    let failed = space.kiln(&["image", "load", &path("no.tar")]);
    assert_eq!(failed.status, Some(1), "{}", failed.stderr);
}

#[test]
fn what_was_built_is_a_base() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nENV A=1\nRUN echo base > /base\n"),
    );
    _ = space.build(&["-t", "mine/base:v1"]).ok();
    space.write(
        "Dockerfile",
        "FROM mine/base:v1\nRUN echo $A$(cat /base) > /top\n",
    );
    let out = space.build_files(&["-t", "mine/top"]);
    assert_eq!(read(out.join("top")), "1base\n");
    let listed = space.kiln(&["image", "ls"]).ok().stdout;
    assert!(listed.contains("docker.io/mine/top:latest"), "{listed}");
}

/// Layers of a base that no step asked for stay where they are, and nobody else has what was built.
#[test]
fn what_was_built_is_a_base_though_its_layers_never_came_here() {
    let space = Space::new();
    let (first, second) = ("127.0.0.1:1/lazy:1", "127.0.0.1:1/lazy:2");
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nENV A=1\n"));
    _ = space.build(&["-t", first]).ok();
    space.write("Dockerfile", format!("FROM {first}\nENV B=2\n"));
    _ = space.build(&["--pull=never", "-t", second]).ok();
    let layers = space.kiln(&["image", "layers", second]).ok().stdout;
    assert!(layers.contains("bin/busybox"), "{layers}");
    let to = space.path("root").display().to_string();
    let _unpacked = space.kiln(&["image", "unpack", first, &to]).ok();
    assert!(space.path("root/bin/busybox").exists());
    let other = Space::new();
    other.write("Dockerfile", format!("FROM {BUSYBOX}\nENV A=1\n"));
    _ = other.build(&["-t", first]).ok();
    other.write("Dockerfile", format!("FROM {first}\nRUN echo $A > /top\n"));
    let out = other.build_files(&["--pull=never"]);
    assert_eq!(read(out.join("top")), "1\n");
}

#[test]
fn a_base_that_a_build_brought_here_is_found_without_its_registry() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let base = registry.name("base");
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nENV A=1\n"));
    _ = space.build(&["-t", &base, "--push"]).ok();
    space.write("Dockerfile", format!("FROM {base}\nRUN echo $A > /a\n"));
    let other = |args: &[&str]| {
        let mut command = space.command(&["build", "context"]);
        command.env("KILN_ROOT", space.path("other"));
        Run::of(&command.args(args).output().unwrap())
    };
    other(&["--pull=never"]).fails_with(&["not in kiln's store"]);
    _ = other(&[]).ok();
    drop(registry);
    _ = other(&["--pull=never", "--no-cache"]).ok();
    other(&[]).fails_with(&["cannot reach"]);
}

#[test]
fn an_image_whose_layers_never_came_here_is_pushed() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let push = |space: &Space, repository: &str, args: &[&str]| {
        let name = registry.name(repository);
        _ = space
            .build(&[&["-t", name.as_str()][..], args].concat())
            .ok();
        let pushed = space.kiln(&["image", "push", &name]).ok();
        assert_eq!(pushed.stdout.trim(), digest(&name), "{}", pushed.stderr);
        let says = format!("pushed   {name}:latest (linux/");
        assert!(pushed.stderr.contains(&says), "{}", pushed.stderr);
        _ = Space::new().kiln(&["image", "layers", &name]).ok();
    };
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nENV A=1\n"));
    push(&space, "fetched", &[]);
    let base = registry.name("fetched");
    let other = Space::new();
    other.write("Dockerfile", format!("FROM {base}\nENV B=2\n"));
    push(&other, "mounted", &[]);
    // Results of a shared cache, in the registry and in a directory.
    space.write("Dockerfile", format!("FROM {base}\nRUN echo a > /a\n"));
    let directory = space.path("cache").display().to_string();
    let cache = registry.name("cache");
    for (kind, to, from) in [
        ("registry", format!("ref={cache}"), format!("ref={cache}")),
        (
            "local",
            format!("dest={directory}"),
            format!("src={directory}"),
        ),
    ] {
        let to = format!("type={kind},{to},mode=max");
        _ = space.build(&["--cache-to", &to]).ok();
        let other = Space::new();
        other.write("Dockerfile", format!("FROM {base}\nRUN echo a > /a\n"));
        let from = format!("type={kind},{from}");
        push(&other, kind, &["--cache-from", &from]);
    }
}

#[test]
fn the_files_of_an_image_are_unpacked() {
    let space = Space::new();
    let to = space.path("root").display().to_string();
    let _unpacked = space.kiln(&["image", "unpack", BUSYBOX, &to]).ok();
    assert!(space.path("root/bin/busybox").metadata().unwrap().len() > 100_000);
    assert!(read(space.path("root/etc/passwd")).starts_with("root:"));
    let again = space.kiln(&["image", "unpack", BUSYBOX, &to]);
    assert_eq!(again.status, Some(2), "{}", again.stderr);
    assert!(again.stderr.contains("isn't empty"), "{}", again.stderr);
}

/// `docker load` takes archives that are compressed as a whole, and reads standard input.
#[test]
fn archives_are_loaded_as_docker_does() {
    let space = Space::new();
    let archive = space.path("saved.tar").display().to_string();
    let layout = layout(&space);
    let to = format!("docker-archive:{archive}:example.org/saved:v1");
    _ = run(
        "skopeo",
        &["copy", "-q", &format!("oci:{layout}:latest"), &to],
    );
    for (form, command) in [
        ("gz", "gzip -c saved.tar"),
        ("zst", "zstd -q -c saved.tar"),
        ("xz", "xz -0 -c saved.tar"),
    ] {
        let packed = format!("saved.{form}");
        _ = shell(&space.path(""), &format!("{command} > {packed}"));
        let packed = space.path(packed).display().to_string();
        let name = format!("local/{form}");
        _ = space
            .kiln(&["image", "load", "-i", &packed, "-t", &name])
            .ok();
        space.write(
            "Dockerfile",
            format!("FROM {name}\nRUN echo {form} > /made\n"),
        );
        let out = space.build_files(&[]);
        assert_eq!(read(out.join("made")), format!("{form}\n"));
    }
    let load = |args: &[&str], file: &str| {
        let mut command = space.command(args);
        let input = std::fs::File::open(space.path(file)).unwrap();
        Run::of(&command.stdin(input).output().unwrap())
    };
    for args in [&["load"][..], &["image", "load", "-"]] {
        let loaded = load(args, "saved.gz").ok();
        assert_eq!(loaded.stdout, "example.org/saved:v1\n");
    }
    load(&["load"], "context/Dockerfile").fails_with(&["no archive of an image"]);
    for args in [["load", "-i", "no.tar"], ["image", "load", "no.tar"]] {
        let args: Vec<&str> = args.into();
        space
            .kiln(&args)
            .fails_with(&["no.tar: No such file or directory"]);
    }
}

#[test]
fn images_have_ids_as_well_as_names() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let id = space.build(&["-q", "-t", "mine:1"]).ok().stdout;
    let id = id.trim();
    let short = &id["sha256:".len()..][..12];
    let listed = space.kiln(&["image", "ls", "--quiet"]).ok().stdout;
    assert_eq!(listed, format!("{short}\n"));
    _ = space.kiln(&["image", "tag", short, "mine:2"]).ok();
    _ = space.kiln(&["image", "inspect", id]).ok();
    let to = space.path("files").display().to_string();
    _ = space.kiln(&["image", "unpack", short, &to]).ok();
    let listed = space.kiln(&["image", "ls", "--json"]).ok().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[1]["name"], "docker.io/library/mine:2");
    space
        .kiln(&["image", "inspect", "sha256:0000"])
        .is_refused_with(&["no image sha256:0000 in the store"]);
    _ = space.kiln(&["image", "rm", short]).ok();
    assert_eq!(space.kiln(&["image", "ls"]).ok().stdout, "");
}

/// What was mistyped is told from what a registry doesn't have.
#[test]
fn names_that_no_image_has_are_compared_with_those_of_the_store() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    _ = space.build(&["-t", "127.0.0.1:1/mine:1"]).ok();
    for (name, says) in [
        (
            "127.0.0.1:1/mine:2",
            "in the store there is 127.0.0.1:1/mine:1",
        ),
        (
            "127.0.0.1:1/other:2",
            "the store has no image of this name, either",
        ),
    ] {
        for verb in ["inspect", "layers"] {
            let failed = space.kiln(&["image", verb, name]);
            failed.fails_with(&["cannot reach 127.0.0.1:1", says]);
        }
    }
    let name = "127.0.0.1:1/mine:1";
    for args in [
        &["image", "layers", name, "--platform", "linux/s390x"][..],
        &["image", "inspect", name, "--platform", "linux/s390x"],
        &["image", "sbom", name, "--platform", "linux/s390x"],
        &["image", "diff", name, name, "--platform", "linux/s390x"],
    ] {
        let says = "--platform linux/s390x: 127.0.0.1:1/mine:1 is an image for linux/";
        space.kiln(args).is_refused_with(&[says]);
    }
}

/// The store has an image's documents and none of its layers, when nothing was made of these here.
#[test]
fn an_image_whose_layers_are_elsewhere_is_inspected() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nLABEL a=b\n"));
    let name = "127.0.0.1:1/labelled:1";
    _ = space.build(&["-t", name]).ok();
    let host = format!("linux/{}", kiln_graph::Platform::host().architecture);
    let found = space.kiln(&["image", "inspect", name, "--platform", &host]);
    assert!(found.ok().stdout.contains("\"a\": \"b\""));
}

#[test]
fn an_image_is_pulled_for_another_platform_than_the_one_that_is_here() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let name = registry.name("several");
    space.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /\n",
    );
    space.write("amd64", "1").write("arm64", "2");
    let platforms = "--platform=linux/amd64,linux/arm64";
    _ = space.build(&[platforms, "-t", &name, "--push"]).ok();
    let platforms = |space: &Space| {
        let listed = space.kiln(&["image", "ls", "--json"]).ok().stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        listed[0]["platforms"].clone()
    };
    // Of the index in the store, and of the one in the registry.
    let inspected = |space: &Space, architecture: &str| {
        let platform = format!("linux/{architecture}");
        let inspect = ["image", "inspect", &name, "--platform", &platform];
        let shown = space.kiln(&inspect).ok().stdout;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["config"]["architecture"], architecture);
        assert!(shown["manifest"]["layers"].is_array(), "{shown}");
        shown["manifest"].clone()
    };
    let other = Space::new();
    for architecture in ["amd64", "arm64"] {
        let stored = inspected(&space, architecture);
        assert_eq!(inspected(&other, architecture), stored);
    }
    for place in [&space, &other] {
        let none = place.kiln(&["image", "inspect", &name, "--platform", "linux/s390x"]);
        assert_ne!(none.status, Some(0), "{}", none.stdout);
    }
    for platform in ["linux/amd64", "linux/arm64", "linux/amd64"] {
        _ = other
            .kiln(&["image", "pull", &name, "--platform", platform])
            .ok();
        assert_eq!(platforms(&other), serde_json::json!([platform]));
    }
    let failed = other.kiln(&["image", "pull", BUSYBOX, "--platform", "linux/s390x"]);
    failed.is_refused_with(&["is an image for linux/"]);
}

#[test]
fn a_version_of_the_operating_system_is_part_of_a_platform() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let (name, top) = (registry.name("windows:1"), registry.name("top:1"));
    space.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETPLATFORM TARGETOSVERSION\nCOPY <<EOF /said\n$TARGETPLATFORM $TARGETOSVERSION\nEOF\n",
    );
    let both = "windows(10.0.20348.1006)/amd64,windows(10.0.17763.1)/amd64";
    _ = space
        .build(&["--platform", both, "-t", &name, "--push"])
        .ok();
    let document = |args: &[&str], name: &str| -> serde_json::Value {
        let address = format!("docker://{name}");
        let words = [&["inspect", "--tls-verify=false"], args, &[&address]].concat();
        serde_json::from_str(&run("skopeo", &words).ok().stdout).unwrap()
    };
    let index = document(&["--raw"], &name);
    let versions: Vec<&str> = (0..2)
        .map(|at| {
            index["manifests"][at]["platform"]["os.version"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(versions, ["10.0.20348.1006", "10.0.17763.1"], "{index}");
    // A base image is the one of that version, and what is built on it has it.
    space.write("Dockerfile", format!("FROM {name}\nCOPY Dockerfile /\n"));
    let old = "windows(10.0.17763)/amd64";
    let out = space.build_files(&["--platform", old]);
    let said = std::fs::read_to_string(out.join("said")).unwrap();
    assert_eq!(said, "windows(10.0.17763.1)/amd64 10.0.17763.1\n");
    _ = space
        .build(&["--platform", "windows/amd64", "-t", &top, "--push"])
        .ok();
    let words = [
        "--override-os",
        "windows",
        "inspect",
        "--tls-verify=false",
        "--config",
        "--raw",
    ];
    let address = format!("docker://{top}");
    let config = run("skopeo", &[&words[..], &[&address]].concat())
        .ok()
        .stdout;
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["os.version"], "10.0.20348.1006", "{config}");
    for wrong in ["windows(1/amd64", "windows(1)x/amd64"] {
        let refused = space.build(&["--platform", wrong]);
        assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    }
}
