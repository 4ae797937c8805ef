//! `kiln mirror serve`: daemons pull from it what the registry above has, and nobody gets more than
//! that registry gives them.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_tests::{
    BUSYBOX, Daemon, Registry, Run, Space, copy_to_layout, digest, is_root, run, shell,
};

/// `docker-registry`'s form of the user `user` with the password `hunter2` (bcrypt).
const USER: &str = "user:$2b$04$zIl6gY4skHneMRndUS3dj.oQId0OiA3/nuvcwaIUlilsvIYuV1Ryi";
const LOGIN: &str = "user:hunter2";

/// A running mirror.
struct Mirror {
    child: Child,
    address: String,
}

impl Mirror {
    fn start(space: &Space, args: &[&str]) -> Self {
        let all = [&["mirror", "serve", "127.0.0.1:0"], args].concat();
        let log = std::fs::File::create(space.path("mirror.log")).unwrap();
        let mut command = space.command(&all);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        let address = address.trim().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        Self { child, address }
    }

    fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// The status of an answer, and its body.
    fn ask(&self, path: &str, flags: &str) -> (String, String) {
        let script = format!(
            "curl -s {flags} -o body -w '%{{http_code}}' 'http://{}{path}'; echo; cat body; : > body",
            self.address
        );
        let directory = tempfile::tempdir().unwrap();
        let said = shell(directory.path(), &script);
        let (status, body) = said.split_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        _ = run("kill", &[&self.child.id().to_string()]);
        _ = self.child.wait();
    }
}

/// Two versions of an image, with the difference between them.
fn push_versions(space: &Space, registry: &Registry) {
    let dockerfile = format!("FROM {BUSYBOX}\nCOPY data /\n");
    let text: String = (0..60_000).map(|number| format!("{number} ")).collect();
    space.write("Dockerfile", dockerfile);
    let v1 = registry.name("team/app:v1");
    let v2 = registry.name("team/app:v2");
    let _v1 = space
        .write("data", &text)
        .build(&["-t", &v1, "--push"])
        .ok();
    space.write("data", format!("{text} and more"));
    let _v2 = space
        .build(&["-t", &v2, "--push", "--delta-from", "v1"])
        .ok();
}

/// A registry with two versions of an image, and a mirror before it, on a node with nothing.
fn two_versions(builder: &Space) -> (Registry, Space, Mirror) {
    let registry = Registry::start(&builder.path("registry"), false);
    push_versions(builder, &registry);
    let node = Space::new();
    let above = registry.name("");
    let mirror = Mirror::start(&node, &["--upstream", above.trim_end_matches('/')]);
    (registry, node, mirror)
}

fn log(space: &Space) -> String {
    std::fs::read_to_string(space.path("mirror.log")).unwrap()
}

#[test]
fn daemons_pull_the_pushed_images() {
    let builder = Space::new();
    let (registry, node, mirror) = two_versions(&builder);
    let docker = Daemon::start(&node);
    for tag in ["v1", "v2"] {
        let image = format!("team/app:{tag}");
        let (own, theirs) = (mirror.name(&image), digest(&registry.name(&image)));
        assert_eq!(digest(&own), theirs);
        let layout = node.path(tag).display().to_string();
        copy_to_layout(&format!("docker://{own}"), &layout);
        if let Some(docker) = &docker {
            let said = docker.docker(&["pull", &own]).ok().stdout;
            assert!(said.contains(&format!("Digest: {theirs}")), "{said}");
        }
    }
    assert!(log(&node).contains("pull difference"), "{}", log(&node));
}

/// Daemons ask for the layers alone that they lack: the base's may be there from elsewhere.
#[test]
fn differences_need_no_layers_of_the_base() {
    let builder = Space::new();
    let (_registry, node, mirror) = two_versions(&builder);
    for tag in ["v1", "v2"] {
        let accept = "-H 'Accept: application/vnd.oci.image.manifest.v1+json'";
        let (status, manifest) = mirror.ask(&format!("/v2/team/app/manifests/{tag}"), accept);
        assert_eq!(status, "200", "{manifest}");
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        for described in [&manifest["config"], &manifest["layers"][1]] {
            let digest = described["digest"].as_str().unwrap();
            let address = mirror.name(&format!("v2/team/app/blobs/{digest}"));
            let sum = shell(&node.path("."), &format!("curl -s {address} | sha256sum"));
            assert_eq!(sum.split(' ').next(), digest.strip_prefix("sha256:"));
        }
    }
    assert!(log(&node).contains("pull difference"), "{}", log(&node));
}

/// What podman says of an image that it pulls from a registry nobody can reach, whose mirror is ours.
#[test]
fn podman_pulls_the_pushed_images() {
    if !is_root() {
        return;
    }
    let builder = Space::new();
    let (registry, node, mirror) = two_versions(&builder);
    let settings = format!(
        "[[registry]]\nlocation = \"registry.invalid\"\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        mirror.address
    );
    std::fs::write(node.path("registries.conf"), settings).unwrap();
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        for (flag, name) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ] {
            command.arg(flag).arg(node.path("podman").join(name));
        }
        command.args(["--storage-driver", "vfs", "--events-backend", "none"]);
        command.env("CONTAINERS_REGISTRIES_CONF", node.path("registries.conf"));
        Run::of(&command.args(args).output().unwrap()).ok().stdout
    };
    for tag in ["v1", "v2"] {
        let image = format!("registry.invalid/team/app:{tag}");
        _ = podman(&["pull", "-q", &image]);
        let own = podman(&["image", "inspect", "--format", "{{.Digest}}", &image]);
        let theirs = digest(&registry.name(&format!("team/app:{tag}")));
        assert_eq!(own.trim(), theirs, "{tag}");
    }
    assert!(log(&node).contains("pull difference"), "{}", log(&node));
}

/// A containerd of its own.
struct Containerd {
    child: Child,
    directory: PathBuf,
}

impl Containerd {
    fn start(space: &Space) -> Self {
        let directory = space.path("containerd");
        std::fs::create_dir(&directory).unwrap();
        let part = |name: &str| directory.join(name).display().to_string();
        std::fs::write(
            directory.join("config.toml"),
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
        )
        .unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let child = Command::new("containerd")
            .args(["--config", &part("config.toml"), "--root", &part("root")])
            .args(["--state", &part("state"), "--address", &part("socket")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Self { child, directory };
        let started = Instant::now();
        while containerd.ctr(&["version"]).status != Some(0) {
            let log = std::fs::read_to_string(containerd.directory.join("log")).unwrap();
            assert!(started.elapsed() < Duration::from_mins(1), "{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        containerd
    }

    fn ctr(&self, args: &[&str]) -> Run {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.directory.join("socket"));
        Run::of(&command.args(args).output().unwrap())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// containerd says in each request which registry it means.
#[test]
fn containerd_pulls_the_pushed_images() {
    if !is_root() {
        return;
    }
    let builder = Space::new();
    let registry = Registry::start(&builder.path("registry"), false);
    push_versions(&builder, &registry);
    let node = Space::new();
    let above = registry.name("").trim_end_matches('/').to_owned();
    let mirror = Mirror::start(&node, &["--upstream", &above]);
    let hosts = node.path("certs.d").join(&above);
    std::fs::create_dir_all(&hosts).unwrap();
    // What the mirror can't give comes from nowhere.
    let settings = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        mirror.address
    );
    std::fs::write(hosts.join("hosts.toml"), settings).unwrap();
    let containerd = Containerd::start(&node);
    let directory = node.path("certs.d").display().to_string();
    for tag in ["v1", "v2"] {
        let image = registry.name(&format!("team/app:{tag}"));
        let pull = ["images", "pull", "--snapshotter", "native", "--hosts-dir"];
        _ = containerd
            .ctr(&[&pull[..], &[&directory, &image]].concat())
            .ok();
        let listed = containerd.ctr(&["images", "ls"]).ok().stdout;
        let line = listed
            .lines()
            .find(|line| line.starts_with(&image))
            .unwrap();
        assert!(line.contains(&digest(&image)), "{line}");
    }
    assert!(log(&node).contains("pull difference"), "{}", log(&node));
}

#[test]
fn what_is_no_request_for_an_image_is_refused() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    push_versions(&space, &registry);
    let above = registry.name("");
    let mirror = Mirror::start(&space, &["--upstream", above.trim_end_matches('/')]);
    let zeros = "0".repeat(64);
    let unknown = format!("/v2/team/app/blobs/sha256:{zeros}");
    for (path, flags, want) in [
        ("/v2/", "", "200"),
        ("/v2/team/app/manifests/v1", "", "200"),
        ("/v2/team/app/manifests/none", "", "404"),
        (&unknown, "", "404"),
        ("/v2/team/app/manifests/v1", "-X PUT -d x", "405"),
        ("/v2/team/app/blobs/uploads/", "-X POST", "405"),
        ("/v2/app/manifests/v1?ns=other.example", "", "404"),
        ("/v2/../../etc/passwd", "--path-as-is", "404"),
        ("/v2/team/app/blobs/sha256:..%2f..%2fx", "", "404"),
        ("/metrics", "", "404"),
    ] {
        let (status, body) = mirror.ask(path, flags);
        assert_eq!(status, want, "{path}: {body}");
    }
    let (_, manifest) = mirror.ask("/v2/team/app/manifests/v1", "");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = manifest["layers"][1]["digest"].as_str().unwrap();
    let blob = format!("/v2/team/app/blobs/{layer}");
    let (status, _) = mirror.ask(&blob, "-r 10-19");
    assert_eq!(status, "206");
    let part = shell(
        Path::new("/"),
        &format!("curl -s -r 10-19 http://{}{blob} | wc -c", mirror.address),
    );
    assert_eq!(part.trim(), "10");
}

#[test]
fn silent_connections_do_not_keep_others_out() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let above = registry.name("");
    let mirror = Mirror::start(&space, &["--upstream", above.trim_end_matches('/')]);
    let connect = |_| std::net::TcpStream::connect(&mirror.address).unwrap();
    let silent: Vec<_> = (0..256).map(connect).collect();
    let (status, body) = mirror.ask("/v2/", "--max-time 60");
    assert_eq!(status, "200", "{body}");
    drop(silent);
}

/// Neither the user's credentials nor those of another caller let anybody in.
#[test]
fn callers_get_what_their_own_credentials_give() {
    let space = Space::new();
    std::fs::write(space.path("htpasswd"), USER).unwrap();
    let settings = format!(
        "auth:\n  htpasswd: {{realm: x, path: {}/htpasswd}}\n",
        space.path("").display()
    );
    let registry = Registry::start_at(&space.path("registry"), "127.0.0.1", &settings);
    let name = registry.name("private:1");
    let from = format!("docker://{BUSYBOX}");
    let to = format!("docker://{name}");
    let flags = [
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--dest-creds",
        LOGIN,
    ];
    _ = run(
        "skopeo",
        &[&["copy", "-q"], &flags[..], &[&from, &to]].concat(),
    );
    // The user of the store has the image.
    let _pulled = space.kiln(&["image", "pull", &name, "--creds", LOGIN]).ok();
    let above = registry.name("");
    let above = above.trim_end_matches('/');
    let login = format!("{above}={LOGIN}");
    let mirror = Mirror::start(&space, &["--upstream", above, "--creds", &login]);
    let with = format!("-u {LOGIN}");
    let path = "/v2/private/manifests/1";
    let (status, manifest) = mirror.ask(path, &with);
    assert_eq!(status, "200", "{manifest}");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let blob = format!("/v2/private/blobs/{layer}");
    assert_eq!(mirror.ask(&blob, &with).0, "200");
    for flags in [
        "",
        "-u user:wrong",
        "-u other:hunter2",
        "-H 'Authorization: Bearer x'",
    ] {
        for path in [path, &blob] {
            let (status, body) = mirror.ask(path, flags);
            assert_eq!(status, "401", "{flags} {path}: {body}");
        }
    }
    let challenge = shell(
        Path::new("/"),
        &format!("curl -si http://{}/v2/", mirror.address),
    );
    assert!(
        challenge.to_lowercase().contains("www-authenticate: basic"),
        "{challenge}"
    );
    // As a client does it.
    let own = format!("docker://{}", mirror.name("private:1"));
    let layout = format!("oci:{}", space.path("layout").display());
    let login = ["--src-tls-verify=false", "--src-creds", LOGIN];
    _ = run(
        "skopeo",
        &[&["copy", "-q"], &login[..], &[&own, &layout]].concat(),
    );
}

#[test]
fn without_a_network_the_named_images_are_served() {
    let builder = Space::new();
    let registry = Registry::start(&builder.path("registry"), false);
    push_versions(&builder, &registry);
    let node = Space::new();
    let [v1, v2] = ["team/app:v1", "team/app:v2"].map(|image| registry.name(image));
    let update = node.path("update.tar").display().to_string();
    let _made = builder
        .kiln(&["delta", "create", &v1, &v2, "-o", &update])
        .ok();
    let _pulled = node.kiln(&["image", "pull", &v1]).ok();
    let _loaded = node.kiln(&["image", "load", &update]).ok();
    let want = digest(&v2);
    let above = registry.name("").trim_end_matches('/').to_owned();
    drop(registry);
    let mirror = Mirror::start(&node, &["--offline", "--upstream", &above]);
    let own = mirror.name("team/app:v2");
    assert_eq!(digest(&own), want);
    let layout = node.path("layout").display().to_string();
    copy_to_layout(&format!("docker://{own}"), &layout);
    // What no named image of the repository needs isn't served.
    let other = want.replace("sha256:", "");
    let path = format!("/v2/another/app/blobs/sha256:{other}");
    assert_eq!(mirror.ask(&path, "").0, "404");
    assert_eq!(mirror.ask("/v2/team/app/manifests/v3", "").0, "404");
}

#[test]
fn what_is_mistyped_is_said() {
    let space = Space::new();
    for (args, want) in [
        (&["mirror", "serve", "nowhere"][..], "nowhere"),
        (
            &["mirror", "serve", "--upstream", "https://x.example"],
            "name a registry",
        ),
        (
            &["mirror", "serve", "--upstream", "team/app"],
            "name a registry",
        ),
    ] {
        let run = space.kiln(args);
        assert_eq!(run.status, Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(want), "{args:?}: {}", run.stderr);
    }
}
