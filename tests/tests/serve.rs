//! `kiln serve`: Debian's `docker buildx` drives it as a remote builder.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln_tests::{
    ActionsCache, BUSYBOX, Daemon, Registry, Run, Server, Space, Web, certificates, read,
    read_json, run, runs, shell, wait,
};

#[test]
fn only_what_changed_travels() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let big = "x".repeat(1 << 20);
    space
        .write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\nCOPY . /in\nRUN cat /in/small > /seen\n"),
        )
        .write(".dockerignore", "ignored\n")
        .write("ignored", "secret")
        .write("big", &big)
        .write("dir/script", "#!/bin/sh\n")
        .write("small", "one");
    let script = space.path("context/dir/script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("small", space.path("context/link")).unwrap();
    let out = |name: &str| format!("type=local,dest={name}");
    let first = server.build(&["-o", &out("out")]).ok().stderr;
    assert!(first.contains("transferring context: 1.05MB"), "{first}");
    let path = |name: &str| space.path("out").join(name);
    assert_eq!(
        (read(path("seen")), read(path("in/big"))),
        ("one".to_owned(), big)
    );
    assert!(!path("in/ignored").exists());
    let mode = std::fs::metadata(path("in/dir/script"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o755);
    let link = std::fs::read_link(path("in/link")).unwrap();
    assert_eq!(link.to_str(), Some("small"));
    space.write("small", "three");
    std::fs::remove_file(script).unwrap();
    let second = server.build(&["-o", &out("again")]).ok().stderr;
    assert!(second.contains("transferring context: 5B"), "{second}");
    assert_eq!(read(space.path("again/seen")), "three");
    assert!(!space.path("again/in/dir/script").exists());
    let third = server.build(&[]).ok().stderr;
    assert!(third.matches("CACHED").count() >= 3, "{third}");
}

#[test]
fn only_what_the_stage_names_travels() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space
        .write(
            "Dockerfile",
            "FROM scratch AS a\nCOPY one /\nFROM scratch\nCOPY d*/two /\n",
        )
        .write("one", "1")
        .write("dir/two", "22")
        .write("huge", "x".repeat(1 << 20));
    let told = server.build(&["-o", "out"]).ok().stderr;
    assert!(told.contains("transferring context: 2B"), "{told}");
    assert_eq!(read(space.path("out/two")), "22");
}

#[test]
fn an_image_is_pushed_and_its_digests_are_told() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let registry = Registry::start(&space.path("registry"), false);
    let name = registry.name("app:1");
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo 1 > /one\nCMD [\"x\"]\n"),
    );
    let files = [
        "--iidfile",
        "id",
        "--metadata-file",
        "about.json",
        "--provenance=false",
    ];
    _ = server
        .build(&[&["-t", &name, "--push"], &files[..]].concat())
        .ok();
    let about = read_json(space.path("about.json"));
    let address = format!("docker://{name}");
    let seen = run("skopeo", &["inspect", "--tls-verify=false", &address]).stdout;
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(about["containerimage.digest"], seen["Digest"]);
    assert_eq!(about["containerimage.descriptor"]["digest"], seen["Digest"]);
    assert_eq!(
        about["containerimage.config.digest"].as_str(),
        Some(read(space.path("id")).as_str())
    );
    assert_eq!(about["image.name"], name);
    let ask = |words: &[&str]| Run::of(&server.buildx(words).output().unwrap()).ok().stdout;
    _ = ask(&["prune", "--force", "--all"]);
    let left = ask(&["du"]);
    assert!(
        left.contains("Total:\t\t0B"),
        "what is pushed may go: {left}"
    );
    let several = [
        "--platform",
        "linux/amd64,linux/arm64",
        "-t",
        &name,
        "--push",
        "--provenance=false",
    ];
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    _ = server.build(&several).ok();
    let index = document(&name);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
}

/// A document of a repository in a registry.
fn document(name: &str) -> serde_json::Value {
    let address = format!("docker://{name}");
    let raw = ["inspect", "--raw", "--tls-verify=false", &address];
    serde_json::from_str(&run("skopeo", &raw).stdout).unwrap()
}

#[test]
fn attestations_lie_beside_the_image_and_in_the_metadata() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let registry = Registry::start(&space.path("registry"), false);
    let name = registry.name("app:1");
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nARG TOKEN\nCOPY Dockerfile /\n"),
    );
    let files = ["--iidfile", "id", "--metadata-file", "about.json"];
    let push = ["-t", &name, "--push", "--build-arg", "TOKEN=hunter2"];
    // What buildx asks for by itself.
    _ = server.build(&[&push[..], &files[..]].concat()).ok();
    let index = document(&name);
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2, "{index}");
    let (image, beside) = (&manifests[0], &manifests[1]);
    assert_eq!(beside["platform"]["os"], "unknown");
    let annotations = &beside["annotations"];
    assert_eq!(
        annotations["vnd.docker.reference.type"],
        "attestation-manifest"
    );
    assert_eq!(annotations["vnd.docker.reference.digest"], image["digest"]);
    let about = read_json(space.path("about.json"));
    assert!(about.get("containerimage.config.digest").is_none());
    assert_eq!(
        about["containerimage.digest"].as_str(),
        Some(read(space.path("id")).as_str())
    );
    let shown = server
        .buildx(&[
            "imagetools",
            "inspect",
            &name,
            "--format",
            "{{json .Provenance}}",
        ])
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let definition = &shown["SLSA"]["buildDefinition"];
    let dependencies = definition["resolvedDependencies"].to_string();
    assert!(dependencies.contains("busybox"), "{shown}");
    assert!(!shown.to_string().contains("hunter2"));
    // What the user asks for.
    let asked = ["--provenance=mode=max,version=v0.2", "--sbom=true"];
    _ = server.build(&[&push[..], &asked].concat()).ok();
    let repository = name.rsplit_once(':').unwrap().0;
    let index = document(&name);
    let digest = index["manifests"][1]["digest"].as_str().unwrap();
    let manifest = document(&format!("{repository}@{digest}"));
    let layers = manifest["layers"].as_array().unwrap();
    let kinds: Vec<&str> = layers
        .iter()
        .map(|layer| {
            layer["annotations"]["in-toto.io/predicate-type"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "https://slsa.dev/provenance/v0.2",
            "https://spdx.dev/Document"
        ]
    );
    // Files get them when that is asked for.
    _ = server.build(&["-o", "plain"]).ok();
    assert!(!space.path("plain/provenance.json").exists());
    _ = server
        .build(&["-o", "told", "--provenance=true", "--sbom=true"])
        .ok();
    assert!(space.path("told/provenance.json").exists() && space.path("told/Dockerfile").exists());
    assert!(space.path("told/sbom.spdx.json").exists());
    server
        .build(&["--sbom=generator=x.example/y"])
        .fails_with(&["generators are not supported"]);
}

#[test]
fn the_command_knows_the_builds_of_clients() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo said\n"));
    _ = server.build(&[]).ok();
    _ = server.build(&["--target", "none"]);
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo said\nRUN exit 3\n"),
    );
    server.build(&[]).fails_with(&["exit code: 3"]);
    let history = space.kiln(&["history", "--json"]).ok().stdout;
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let builds = history.as_array().unwrap();
    assert_eq!(builds.len(), 2, "{history}");
    assert!(
        builds[0]["title"]
            .as_str()
            .unwrap()
            .contains("Dockerfile of context"),
        "{history}"
    );
    let explained = space.kiln(&["explain"]).ok().stdout;
    assert!(explained.contains("RUN exit 3"), "{explained}");
    let logs = space.kiln(&["logs", "--build", builds[1]["id"].as_str().unwrap(), "said"]);
    assert!(logs.ok().stdout.contains("said"));
    // A server that is started again has them too.
    let kept = std::fs::read_dir(space.path("store/history"))
        .unwrap()
        .count();
    assert_eq!(kept, 3);
}

#[test]
fn archives_come_to_the_client_whole() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN head -c 9000000 /dev/urandom > /noise\n"),
    );
    let outputs = [
        "-o",
        "type=oci,dest=oci.tar",
        "-o",
        "type=docker,dest=docker.tar",
        "-o",
        "type=tar,dest=files.tar",
    ];
    _ = server.build(&[&["-t", "x:1"], &outputs[..]].concat()).ok();
    for source in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
        let mut command = Command::new("skopeo");
        let done = command
            .args(["inspect", source])
            .current_dir(space.path(""))
            .output();
        _ = Run::of(&done.unwrap()).ok();
    }
    let listed = shell(&space.path(""), "tar tvf files.tar | grep noise");
    assert!(listed.contains("9000000"), "{listed}");
    let platforms = ["--platform", "linux/amd64,linux/arm64", "-o", "each"];
    space.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n",
    );
    space.write("amd64", "a").write("arm64", "b");
    _ = server.build(&platforms).ok();
    let arch = |name: &str| read(space.path(format!("each/{name}/arch")));
    assert_eq!(
        (arch("linux_amd64"), arch("linux_arm64")),
        ("a".to_owned(), "b".to_owned())
    );
    // All at once, for clients that remove what isn't sent.
    let all = ["-o", "type=local,dest=all,mode=delete"];
    _ = server.build(&[&platforms[..2], &all].concat()).ok();
    let all = |name: &str| read(space.path(format!("all/{name}/arch")));
    assert_eq!(
        (all("linux_amd64"), all("linux_arm64")),
        ("a".to_owned(), "b".to_owned())
    );
    // In one directory nothing of a platform takes the place of another's.
    space.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /$TARGETARCH\n",
    );
    let one = [
        "--provenance=true",
        "-o",
        "type=local,dest=one,platform-split=false",
    ];
    _ = server.build(&[&platforms[..2], &one].concat()).ok();
    for arch in ["amd64", "arm64"] {
        let file = |name: String| space.path("one").join(name);
        assert!(file(arch.to_owned()).exists());
        let provenance = read(file(format!("provenance.linux_{arch}.json")));
        assert!(provenance.contains("buildDefinition"), "{provenance}");
    }
}

#[test]
fn an_image_is_loaded_into_docker() {
    let space = Space::new();
    let Some(daemon) = Daemon::start(&space) else {
        return;
    };
    let server = Server::start(&space, &[]);
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nLABEL by=kiln\n"));
    let words = ["build", "--load", "-t", "loaded:1", "context"];
    let mut command = server.buildx(&words);
    _ = Run::of(
        &command
            .env("DOCKER_HOST", daemon.address())
            .output()
            .unwrap(),
    )
    .ok();
    let seen = daemon.docker(&["inspect", "--format", "{{.Config.Labels.by}}", "loaded:1"]);
    assert_eq!(seen.ok().stdout.trim(), "kiln");
}

#[test]
fn targets_are_built_together_and_one_from_another() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let bake = format!(
        r#"
        group "default" {{ targets = ["app", "each"] }}
        target "base" {{ dockerfile-inline = "FROM {BUSYBOX}\nENV FROM=base\nRUN echo base > /base\n" }}
        target "app" {{
          contexts = {{ mine = "target:base" }}
          dockerfile-inline = "FROM mine\nRUN cat /base > /app && echo $FROM >> /app\nCOPY f /\n"
          output = ["type=local,dest=app"]
        }}
        target "each" {{
          matrix = {{ v = ["1", "2"] }}
          name = "each-${{v}}"
          args = {{ V = v }}
          dockerfile-inline = "FROM {BUSYBOX}\nARG V\nCOPY f /\nRUN echo $V > /v\n"
          output = ["type=local,dest=each-${{v}}"]
        }}
        "#
    );
    std::fs::write(space.path("docker-bake.hcl"), bake).unwrap();
    std::fs::write(space.path("f"), "f").unwrap();
    let done = server.buildx(&["bake", "--progress", "plain"]).output();
    _ = Run::of(&done.unwrap()).ok();
    assert_eq!(read(space.path("app/app")), "base\nbase\n");
    assert_eq!(read(space.path("each-2/v")), "2\n");
    assert_eq!(read(space.path("each-1/f")), "f");
    let left = space.kiln(&["image", "ls"]).ok().stdout;
    assert!(!left.contains("invalid"), "{left}");
}

#[test]
fn secrets_and_agents_are_the_clients() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let canary = "sesame-open-93";
    std::fs::write(space.path("secret"), canary).unwrap();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\n\
             RUN --mount=type=secret,id=s,required test $(cat /run/secrets/s | wc -c) = {}\n\
             RUN --mount=type=ssh test -S $SSH_AUTH_SOCK\n\
             RUN --mount=type=ssh,mode=741,uid=100,gid=102 test \"$(stat -c '%u %g %f' $SSH_AUTH_SOCK)\" = '100 102 c1e1'\n",
            canary.len()
        ),
    );
    let key = "ssh-keygen -q -t ed25519 -N '' -f key";
    _ = shell(&space.path(""), key);
    let flags = ["--secret", "id=s,src=secret", "--ssh", "default=key"];
    _ = server.build(&flags).ok();
    let without = server.build(&["--no-cache", "--ssh", "default=key"]);
    without.fails_with(&["secret", "s"]);
    let found = Command::new("grep")
        .args(["-rl", canary])
        .arg(space.path("store"))
        .output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
}

#[test]
fn errors_show_the_lines_they_are_about() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo said && exit 7\n"),
    );
    server.build(&[]).fails_with(&[
        ">>> RUN echo said && exit 7",
        "process \"/bin/sh -c echo said && exit 7\" did not complete successfully: exit code: 7",
        "said",
    ]);
    space.write("Dockerfile", "FROM scratch\nFOO bar\n");
    server
        .build(&[])
        .fails_with(&[">>> FOO bar", "unknown instruction: FOO"]);
    space.write("Dockerfile", "FROM scratch\nCOPY nothing /\n");
    server.build(&[]).fails_with(&[
        ">>> COPY nothing /",
        "failed to compute cache key: failed to calculate checksum of ref",
        "\"/nothing\": not found",
    ]);
    space.write("Dockerfile", "# syntax=127.0.0.1:1/foobar\nFROM scratch\n");
    server.build(&[]).fails_with(&["127.0.0.1:1/foobar"]);
    server.build(&["-f", "context/None"]).fails_with(&["None"]);
    space.write("Dockerfile", "from scratch AS x\nCOPY Dockerfile /\n");
    let warned = server.build(&[]).ok().stderr;
    assert!(warned.contains("FromAsCasing"), "{warned}");
    let refused = ["--allow", "security.insecure"];
    server
        .build(&refused)
        .fails_with(&["security.insecure is not allowed"]);
    let cache = ["--cache-to", "type=azblob,name=cache"];
    server.build(&cache).fails_with(&["unknown cache type"]);
}

#[test]
fn questions_are_answered() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write(
        "Dockerfile",
        "FROM scratch AS one\nFROM scratch AS two\nARG WHAT=x\n",
    );
    let ask = |what: &str| {
        let print = format!("--print={what}");
        let mut command = server.buildx(&["build", &print, "context"]);
        command.env("BUILDX_EXPERIMENTAL", "1");
        Run::of(&command.output().unwrap()).ok().stdout
    };
    let outline = ask("outline");
    assert!(outline.contains("WHAT"), "{outline}");
    let targets = ask("targets");
    assert!(
        targets.contains("one") && targets.contains("two (default)"),
        "{targets}"
    );
    space.write(
        "Dockerfile",
        "# check=error=true\nfrom scratch AS one\nARG WHAT=x\n",
    );
    let refused = server.buildx(&["build", "--print=outline", "context"]);
    let mut refused = refused;
    let refused = refused.env("BUILDX_EXPERIMENTAL", "1").output().unwrap();
    Run::of(&refused).fails_with(&["lint violation found for rules: "]);
}

#[test]
fn contexts_of_other_kinds() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space
        .write("Dockerfile", "FROM scratch\nCOPY f /\n")
        .write("f", "tar");
    let tar = shell(&space.path("context"), "tar c . > ../context.tar; echo");
    assert_eq!(tar, "\n");
    let stdin = |file: &str, args: &[&str]| {
        let mut command = server.buildx(args);
        command.stdin(std::fs::File::open(space.path(file)).unwrap());
        Run::of(&command.output().unwrap())
    };
    _ = stdin("context.tar", &["build", "-o", "tarred", "-"]).ok();
    assert_eq!(read(space.path("tarred/f")), "tar");
    std::fs::write(
        space.path("own"),
        "FROM img\nCOPY --from=other g /\nCOPY f /\n",
    )
    .unwrap();
    std::fs::create_dir(space.path("other")).unwrap();
    std::fs::write(space.path("other/g"), "named").unwrap();
    let image = format!("img=docker-image://{BUSYBOX}");
    let named = ["--build-context", "other=other", "--build-context", &image];
    let words = [
        &["build", "-f", "-", "-o", "named"],
        &named[..],
        &["context"],
    ]
    .concat();
    _ = stdin("own", &words).ok();
    assert_eq!(read(space.path("named/g")), "named");
    let hostile = ["--build-context", "x=docker-image://oci:/etc"];
    let refused = server.build(&hostile);
    assert_ne!(refused.status, Some(0));
}

/// A target that is an image as it is has layers that nobody has fetched yet.
#[test]
fn a_target_is_made_from_one_without_steps() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let bake = format!(
        r#"
        target "base" {{ dockerfile-inline = "FROM {BUSYBOX}\nENV FROM=base\n" }}
        target "app" {{
          contexts = {{ mine = "target:base" }}
          dockerfile-inline = "FROM mine\nRUN echo $FROM > /app\n"
          output = ["type=local,dest=app"]
        }}
        "#
    );
    std::fs::write(space.path("docker-bake.hcl"), bake).unwrap();
    let done = server
        .buildx(&["bake", "app", "--progress", "plain"])
        .output();
    _ = Run::of(&done.unwrap()).ok();
    assert_eq!(read(space.path("app/app")), "base\n");
}

/// A client takes the blobs of an image, and names its layout as a context of another build.
#[test]
fn layouts_of_clients_are_written_and_read() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo 1 >/one\nENV A=b\n"),
    );
    let to = ["-o", "type=oci,tar=false,dest=layout", "--provenance=false"];
    _ = server.build(&[&to[..], &["-t", "app:1"]].concat()).ok();
    let directory = space.path("layout");
    let name = format!("oci:{}", directory.display());
    let seen = run("skopeo", &["inspect", "--config", &name]).stdout;
    assert!(seen.contains("A=b"), "{seen}");
    let index = read_json(directory.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    space.write(
        "Dockerfile",
        "FROM base AS b\nRUN echo $A >/two\nFROM scratch\nCOPY --from=b /one /two /\n",
    );
    let context = format!("base=oci-layout://{}@{digest}", directory.display());
    _ = server
        .build(&["--build-context", &context, "-o", "out"])
        .ok();
    assert_eq!(read(space.path("out/one")), "1\n");
    assert_eq!(read(space.path("out/two")), "b\n");
    // What a blob's name doesn't say of it is no image.
    let hex = digest.strip_prefix("sha256:").unwrap();
    let manifest = directory.join("blobs/sha256").join(hex);
    let manifest = read_json(manifest);
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = config.strip_prefix("sha256:").unwrap();
    std::fs::write(directory.join("blobs/sha256").join(config), "{}").unwrap();
    server
        .build(&["--build-context", &context, "--no-cache"])
        .fails_with(&["isn't what its digest says"]);
}

#[test]
fn repositories_are_contexts_and_hold_bake_files() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let bake = r#"target "default" { output = ["type=local,dest=baked"] }"#;
    std::fs::create_dir_all(space.path("work")).unwrap();
    std::fs::write(space.path("work/docker-bake.hcl"), bake).unwrap();
    std::fs::write(space.path("work/Dockerfile"), "FROM scratch\nCOPY f /g\n").unwrap();
    std::fs::write(space.path("work/f"), "from git").unwrap();
    let script = "git init -q -b main work && cd work && git add . && \
         git -c user.name=a -c user.email=a@b commit -qm x && cd .. && mkdir srv && \
         git clone -q --bare work srv/repo.git && git -C srv/repo.git update-server-info";
    _ = shell(&space.path(""), script);
    let web = Web::serve(&space.path("srv"));
    let address = web.url("repo.git");
    let ask = |words: &[&str]| Run::of(&server.buildx(words).output().unwrap());
    // buildx reads the bake file through a definition with one source.
    _ = ask(&["bake", "--progress", "plain", &address]).ok();
    assert_eq!(read(space.path("baked/g")), "from git");
    _ = ask(&["build", "-o", "built", &address]).ok();
    assert_eq!(read(space.path("built/g")), "from git");
    // What buildx looked up is no build.
    let history = space.kiln(&["history", "--json"]).ok().stdout;
    assert_eq!(history.matches("\"title\"").count(), 2, "{history}");
    assert!(!history.contains("LLB"), "{history}");
    let missing = web.url("none.git");
    assert_ne!(ask(&["bake", &missing]).status, Some(0));
    assert_ne!(ask(&["bake", &address, "-f", "none.hcl"]).status, Some(0));
}

#[test]
fn a_cache_in_a_registry_serves_another_store() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let cache = format!("type=registry,ref={}", registry.name("cache:main"));
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo $RANDOM > /random\n"),
    );
    let first = Server::start(&space, &[]);
    let to = format!("{cache},mode=max");
    _ = first.build(&["--cache-to", &to, "-o", "one"]).ok();
    let other = space.path("other-store").display().to_string();
    let second = Server::named(&space, "other", &["--root", &other]);
    let told = second
        .build(&["--cache-from", &cache, "-o", "two"])
        .ok()
        .stderr;
    assert!(told.contains("CACHED"), "{told}");
    // busybox's shell gives another number each time.
    assert_eq!(
        read(space.path("one/random")),
        read(space.path("two/random"))
    );
}

#[test]
fn a_workflows_cache_serves_another_store() {
    let space = Space::new();
    let cache = ActionsCache::start();
    let token = ActionsCache::token(&[("refs/heads/main", true)]);
    // buildx 0.13 wants an address of the first version, too.
    let spec = |token: &str| {
        let url = cache.url();
        format!("type=gha,url={url},url_v2={url},token={token},scope=app")
    };
    let (own, guessed) = (spec(&token), spec("guessed"));
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX} AS a\nRUN echo $RANDOM > /random\nFROM scratch\nCOPY --from=a /random /\n"),
    );
    let first = Server::start(&space, &[]);
    let to = format!("{own},mode=max");
    _ = first.build(&["--cache-to", &to, "-o", "one"]).ok();
    let root = |name: &str| space.path(name).display().to_string();
    let second = Server::named(&space, "second", &["--root", &root("second-store")]);
    let from = second.build(&["--cache-from", &own, "-o", "two"]).ok();
    assert!(from.stderr.contains("CACHED"), "{}", from.stderr);
    let random = |out: &str| read(space.path(format!("{out}/random")));
    assert_eq!(random("one"), random("two"));
    // What it has dropped is built again.
    cache.control("drop?prefix=kiln-blob");
    let third = Server::named(&space, "third", &["--root", &root("third-store")]);
    _ = third.build(&["--cache-from", &own, "-o", "three"]).ok();
    assert_ne!(random("one"), random("three"));
    // Failures are errors, unless the client says otherwise.
    let strict = third.build(&["--cache-to", &guessed]);
    strict.fails_with(&["know the token"]);
    let tolerant = third.build(&["--cache-to", &format!("{guessed},ignore-error=true")]);
    assert!(!tolerant.ok().stderr.contains("guessed"));
    third
        .build(&["--cache-to", &format!("{own},ignore-error=maybe")])
        .fails_with(&["ignore-error", "write true or false"]);
    for file in ["store", "second-store", "third-store"] {
        let found = shell(&space.path(file), &format!("grep -rl '{token}' . || true"));
        assert_eq!(found, "", "the token is kept nowhere");
    }
}

#[test]
fn a_cache_in_the_clients_directory_serves_another_store() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX} AS a\nRUN echo $RANDOM > /random\nFROM scratch\nCOPY --from=a /random /\n"),
    );
    let first = Server::start(&space, &[]);
    _ = first
        .build(&["--cache-to", "type=local,dest=cache,mode=max", "-o", "one"])
        .ok();
    // It is a layout that other tools can copy with all that belongs to it.
    let layout = format!("oci:{}:latest", space.path("cache").display());
    let copy = format!("oci:{}:latest", space.path("copy").display());
    _ = run("skopeo", &["copy", &layout, &copy]).ok();
    let other = space.path("other-store").display().to_string();
    let second = Server::named(&space, "other", &["--root", &other]);
    let from = "type=local,src=copy";
    let told = second
        .build(&["--cache-from", from, "-o", "two"])
        .ok()
        .stderr;
    assert!(told.contains("CACHED"), "{told}");
    let random = |out: &str| read(space.path(format!("{out}/random")));
    assert_eq!(random("one"), random("two"));
    // What a build took from a cache goes into the next one.
    let third_root = space.path("third-store").display().to_string();
    let again = [
        "--cache-from",
        from,
        "--cache-to",
        "type=local,dest=again,mode=max",
    ];
    _ = second.build(&again).ok();
    let third = Server::named(&space, "third", &["--root", &third_root]);
    _ = third
        .build(&["--cache-from", "type=local,src=again", "-o", "three"])
        .ok();
    assert_eq!(random("one"), random("three"));
    // Damage is told, and builds go on without the cache.
    for file in std::fs::read_dir(space.path("copy/blobs/sha256")).unwrap() {
        std::fs::write(file.unwrap().path(), "damaged").unwrap();
    }
    let fourth_root = space.path("fourth-store").display().to_string();
    let fourth = Server::named(&space, "fourth", &["--root", &fourth_root]);
    _ = fourth.build(&["--cache-from", from, "-o", "four"]).ok();
    assert_ne!(random("one"), random("four"));
}

#[test]
fn a_client_that_goes_away_leaves_nothing_running() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let mark = format!("sleep 7{}", std::process::id());
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo on; {mark}\n"),
    );
    for signal in ["-INT", "-KILL"] {
        let mut command = server.buildx(&["build", "--progress", "plain", "context"]);
        let mut client = command.stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while !runs(&format!("^{mark}")) {
            assert!(started.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(20));
        }
        _ = run("kill", &[signal, &client.id().to_string()]);
        wait(&mut client);
        let gone = Instant::now();
        while runs(&format!("^{mark}")) {
            assert!(gone.elapsed() < Duration::from_secs(10), "{signal}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    _ = server.build(&[]).ok();
}

#[test]
fn a_server_that_is_stopped_ends_its_builds() {
    let space = Space::new();
    let mut server = Server::start(&space, &[]);
    let mark = format!("sleep 8{}", std::process::id());
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN {mark}\n"));
    let mut command = server.buildx(&["build", "--progress", "plain", "context"]);
    let mut client = command.stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !runs(&format!("^{mark}")) {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.stop(), Some(0));
    wait(&mut client);
    assert_ne!(client.wait().unwrap().code(), Some(0));
    assert!(!runs(&format!("^{mark}")) && !server.socket().exists());
    let mounts = read("/proc/self/mounts");
    assert!(
        !mounts.contains(&space.path("store").display().to_string()),
        "{mounts}"
    );
}

#[test]
fn garbage_disturbs_nobody() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let mode = std::fs::metadata(server.socket()).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let garbage: [&[u8]; 4] = [b"", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096], preface];
    for bytes in garbage {
        let mut stream = UnixStream::connect(server.socket()).unwrap();
        stream.write_all(bytes).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        _ = stream.read(&mut [0; 100]);
    }
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    _ = server.build(&[]).ok();
}

#[test]
fn what_the_store_holds_is_shown_and_removed() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nCOPY Dockerfile /\n"));
    _ = server.build(&[]).ok();
    let ask = |words: &[&str]| Run::of(&server.buildx(words).output().unwrap()).ok().stdout;
    let held = ask(&["du"]);
    assert!(
        held.contains("Total:") && held.lines().count() > 3,
        "{held}"
    );
    let workers = ask(&["inspect"]);
    assert!(
        workers.contains("linux/amd64") || workers.contains("linux/"),
        "{workers}"
    );
    // No build runs: what the last one's result holds isn't in use any more.
    let removed = ask(&["prune", "--force", "--all"]);
    assert!(removed.contains("contexts"), "{removed}");
    let left = ask(&["du"]);
    assert!(left.contains("Total:\t\t0B"), "{left}");
}

#[test]
fn filters_say_what_is_removed() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let run = "RUN --mount=type=cache,target=/c touch /c/1";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{run}\n"));
    _ = server.build(&[]).ok();
    let ask = |words: &[&str]| Run::of(&server.buildx(words).output().unwrap());
    let volumes = ["--filter", "type=exec.cachemount"];
    let held = |filter: &[&str]| {
        let du = [&["du", "--verbose"], filter].concat();
        ask(&du).ok().stdout.matches("ID:").count()
    };
    let all = held(&[]);
    assert_eq!(held(&volumes), 1);
    _ = ask(&[&["prune", "--force"], &volumes[..]].concat()).ok();
    assert_eq!((held(&volumes), held(&[])), (0, all - 1));
    let nothing = ["prune", "--force", "--all", "--filter", "id=nothing"];
    _ = ask(&nothing).ok();
    assert_eq!(held(&[]), all - 1);
    ask(&["prune", "--force", "--filter", "colour=red"]).fails_with(&["colour"]);
}

#[test]
fn rules_about_sources_hold() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN true\n"));
    let build = |rules: &str| {
        let policy = format!("{{\"rules\": [{rules}]}}");
        std::fs::write(space.path("policy.json"), policy).unwrap();
        let words = ["build", "--progress", "plain", "context"];
        let mut command = server.buildx(&words);
        _ = command.env("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "policy.json");
        Run::of(&command.output().unwrap())
    };
    let rule = |action: &str, source: &str, to: &str| {
        format!(
            "{{\"action\": \"{action}\", \"selector\": {{\"identifier\": \"{source}\"}}, \"updates\": {{\"identifier\": \"{to}\"}}}}"
        )
    };
    let image = format!("docker-image://{BUSYBOX}");
    _ = build(&rule("ALLOW", &image, "")).ok();
    for source in [image.as_str(), "docker-image://*", "local://context"] {
        build(&rule("DENY", source, "")).fails_with(&["denied by policy"]);
    }
    let missing = "docker-image://127.0.0.1:5000/no/such:image";
    build(&rule("CONVERT", &image, missing)).fails_with(&["no/such"]);
    build(&rule("CONVERT", "local://context", "local://other")).fails_with(&["policy"]);
    let back = [rule("CONVERT", missing, &image), rule("ALLOW", "*", "")].join(", ");
    space.write(
        "Dockerfile",
        "FROM 127.0.0.1:5000/no/such:image\nRUN true\n",
    );
    _ = build(&back).ok();
}

#[test]
fn the_server_listens_where_only_its_user_comes() {
    let space = Space::new();
    let refused = space.kiln(&["serve", "--addr", "tcp://0.0.0.0:0"]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("TLS"), "{}", refused.stderr);
    let server = Server::start(&space, &[]);
    let address = format!("unix://{}", server.socket().display());
    space
        .kiln(&["serve", "--addr", &address])
        .fails_with(&["another server answers there"]);
}

/// `user` with the password `hunter2`, as `htpasswd -B` writes it.
const USER: &str = "user:$2b$04$zIl6gY4skHneMRndUS3dj.oQId0OiA3/nuvcwaIUlilsvIYuV1Ryi";

#[test]
fn registries_are_reached_with_the_clients_credentials() {
    let space = Space::new();
    std::fs::write(space.path("htpasswd"), USER).unwrap();
    let auth = format!(
        "auth:\n  htpasswd: {{realm: x, path: {}}}\n",
        space.path("htpasswd").display()
    );
    let registry = Registry::start_at(&space.path("registry"), "127.0.0.1", &auth);
    let name = registry.name("private:1");
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let server = Server::start(&space, &[]);
    let push = || server.build(&["-t", &name, "--push"]);
    push().fails_with(&["401"]);
    let host = name.split_once('/').unwrap().0;
    // user:hunter2
    let login = format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjpodW50ZXIy"}}}}}}"#);
    std::fs::write(server.client().join("config.json"), login).unwrap();
    _ = push().ok();
    space.write("Dockerfile", format!("FROM {name}\n"));
    _ = server.build(&["--pull", "--no-cache"]).ok();
    let found = Command::new("grep")
        .args(["-rlE", "dXNlcjpodW50ZXIy|hunter2"])
        .arg(space.path("store"))
        .output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
    std::fs::remove_file(server.client().join("config.json")).unwrap();
    server.build(&["--pull", "--no-cache"]).fails_with(&["401"]);
}

#[test]
fn a_program_named_buildkitd_takes_its_flags() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let mirrored = registry.name("library/busybox:latest");
    let (from, to) = (
        format!("docker://{BUSYBOX}"),
        format!("docker://{mirrored}"),
    );
    let copy = [
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &from,
        &to,
    ];
    _ = run("skopeo", &copy);
    let host = mirrored.split_once('/').unwrap().0;
    let config =
        format!("[registry.\"docker.io\"]\nmirrors = [\"{host}\"]\n[otel]\nsocketPath = \"/x\"\n");
    std::fs::write(space.path("buildkitd.toml"), config).unwrap();
    let program = space.path("buildkitd");
    std::os::unix::fs::symlink(kiln_tests::kiln_binary(), &program).unwrap();
    let flags = [
        "--oci-worker=true",
        "--containerd-worker=false",
        "--oci-worker-snapshotter",
        "overlayfs",
        "--oci-worker-gc=false",
        "--debug",
    ];
    let root = space.path("root").display().to_string();
    let files = ["--config", "buildkitd.toml", "--root", &root];
    let server = Server::of(&space, &program, "server", &[&flags[..], &files].concat());
    space.write("Dockerfile", "FROM busybox\nRUN echo 1 > /one\n");
    _ = server.build(&["-o", "out"]).ok();
    assert_eq!(read(space.path("out/one")), "1\n");
    assert!(space.path("root/trees").is_dir());
}

/// Checks that a command line was wrong, and that this is said.
fn refused(run: &Run, says: &str) {
    assert_eq!(run.status, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains(says), "{}", run.stderr);
}

#[test]
fn a_configuration_that_can_not_be_kept_to_starts_no_server() {
    let space = Space::new();
    let program = space.path("buildkitd");
    std::os::unix::fs::symlink(kiln_tests::kiln_binary(), &program).unwrap();
    let socket = space.path("refused.sock");
    let start = |config: &str, more: &[&str]| {
        std::fs::write(space.path("buildkitd.toml"), config).unwrap();
        let file = space.path("buildkitd.toml").display().to_string();
        let address = format!("unix://{}", socket.display());
        let mut command = Command::new(&program);
        let words = ["--config", &file, "--addr", &address];
        command
            .args(words)
            .args(more)
            .env("KILN_ROOT", space.path("store"));
        Run::of(&command.output().unwrap())
    };
    refused(
        &start("[worker.oci]\napparmor-profile = \"x\"\n", &[]),
        "apparmor-profile",
    );
    refused(&start("[regisrty]\n", &[]), "regisrty");
    refused(&start("", &["--proxy-network"]), "proxyNetwork");
    refused(&start("[grpc.tls]\nca = \"ca.pem\"\n", &[]), "--tlscert");
    // An address that fails takes those before it along.
    let open = ["--addr", "tcp://0.0.0.0:0"];
    refused(&start("", &open), "show a certificate");
    assert!(!socket.exists());
}

#[test]
fn a_frontend_that_is_disabled_does_not_run() {
    let space = Space::new();
    let config = "[frontend.\"dockerfile.v0\"]\nenabled = false\n";
    std::fs::write(space.path("conf.toml"), config).unwrap();
    let server = Server::start(&space, &["--config", "conf.toml"]);
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let disabled = "dockerfile.v0 is disabled by the server's configuration";
    server.build(&[]).fails_with(&[disabled]);
}

#[test]
fn clients_on_other_machines_show_a_certificate() {
    let space = Space::new();
    certificates(&space.path(""));
    let tls = [
        "--tlscacert",
        "ca.pem",
        "--tlscert",
        "server.pem",
        "--tlskey",
        "server.key",
    ];
    // All addresses of the machine: refused without the authority of clients.
    let open = ["--addr", "tcp://0.0.0.0:0"];
    let without = [&["serve"], &open[..], &tls[2..]].concat();
    refused(&space.kiln(&without), "show a certificate");
    let server = Server::start(&space, &[&open[..], &tls[..]].concat());
    let log = server.log();
    let port = log.split("tcp://0.0.0.0:").nth(1).unwrap();
    let port = port.split_whitespace().next().unwrap();
    let address = format!("tcp://127.0.0.1:{port}");
    let place = |file: &str| space.path(file).display().to_string();
    let (authority, own, key) = (place("ca.pem"), place("client.pem"), place("client.key"));
    let options = format!("cacert={authority},cert={own},key={key}");
    let create = ["create", "--name", "tls", "--driver", "remote"];
    let create = [&create[..], &["--driver-opt", &options, &address]].concat();
    _ = Run::of(&server.buildx(&create).output().unwrap()).ok();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let build = ["build", "--builder", "tls", "-o", "out", "context"];
    _ = Run::of(&server.buildx(&build).output().unwrap()).ok();
    assert!(space.path("out/Dockerfile").exists());
    // How many bytes the server answers to the preface of HTTP/2.
    let answer = |shown: &str| {
        let script = format!(
            "{{ printf 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0'; sleep 1; }} | \
             timeout 3 openssl s_client -quiet -alpn h2 -CAfile ca.pem {shown} -connect 127.0.0.1:{port} 2>/dev/null | wc -c"
        );
        shell(&space.path(""), &script)
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    assert!(answer("-cert client.pem -key client.key") >= 9);
    assert_eq!(answer("-cert other.pem -key other.key"), 0);
    assert_eq!(answer(""), 0);
}

#[test]
fn sockets_are_taken_from_who_starts_the_server() {
    let space = Space::new();
    let socket = space.path("given.sock");
    let log = std::fs::File::create(space.path("log")).unwrap();
    // As systemd does: a socket at 3, and the number of the process that it is for.
    let program = "import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')
os.execv(sys.argv[2], ['kiln', 'serve'])";
    let mut server = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::null())
        .args([&socket, &kiln_tests::kiln_binary()])
        .env("KILN_ROOT", space.path("store"))
        .stderr(log)
        .spawn()
        .unwrap();
    let address = format!("unix://{}", socket.display());
    let buildctl = space.path("buildctl");
    std::os::unix::fs::symlink(kiln_tests::kiln_binary(), &buildctl).unwrap();
    let ask = |words: &[&str]| {
        let mut command = Command::new(&buildctl);
        command.args(["--addr", &address]).args(words);
        Run::of(&command.output().unwrap())
    };
    let started = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
    let workers = ask(&["debug", "workers"]).ok().stdout;
    assert!(workers.contains("linux/"), "{workers}");
    // The preface of HTTP/2, without and with something before it.
    let dial = |bytes: &[u8]| {
        let mut command = Command::new(&buildctl);
        command.args(["dial-stdio"]).env("BUILDKIT_HOST", &address);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = dial(preface);
    assert!(
        answer.len() >= 9 && answer[3] == 4,
        "no SETTINGS: {answer:?}"
    );
    _ = run("kill", &[&server.id().to_string()]);
    wait(&mut server);
    assert_eq!(server.wait().unwrap().code(), Some(0));
    // It isn't this server's to remove.
    assert!(socket.exists());
    ask(&["debug", "workers"]).fails_with(&["cannot connect"]);
}
