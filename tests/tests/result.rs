//! What a build says it gave, and that a build with nothing to do gives the same again.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::time::Duration;

use kiln_tests::{BUSYBOX, Registry, Run, Space, digest, read, run};

/// The value of a line such as `id       sha256:…` at the end of a build.
fn said(run: &Run, what: &str) -> String {
    let lines = run.stderr.lines();
    let found = lines.filter_map(|line| line.strip_prefix(what)).next();
    let found = found.unwrap_or_else(|| panic!("no '{what}' in:\n{}", run.stderr));
    found.trim().to_owned()
}

#[test]
fn a_rebuild_with_nothing_to_do_gives_the_same_image() {
    let space = Space::new();
    let file = |more: &str| {
        format!(
            "FROM {BUSYBOX} AS one\nRUN echo 1 > /one\nFROM {BUSYBOX}\nENV A=1\nCOPY --link --from=one /one /\nRUN echo 2 > /two\nLABEL b=2{more}\n"
        )
    };
    space.write("Dockerfile", file(""));
    let build = |args: &[&str]| {
        let run = space.build(&[&["-t", "same:1"], args].concat()).ok();
        (said(&run, "id"), said(&run, "digest"))
    };
    let first = build(&[]);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(build(&[]), first);
    assert_eq!(
        build(&["--layers", "squash"]),
        build(&["--layers", "squash"])
    );
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(build(&[]), first);
    // "Now" is for steps that ran.
    assert_ne!(build(&["--no-cache"]), first);
    // What only adds metadata has the time of the steps it is made of.
    let archive = space.path("a.tar");
    let created = || {
        let output = format!("type=oci,dest={}", archive.display());
        _ = space.build(&["-o", &output]).ok();
        let source = format!("oci-archive:{}", archive.display());
        let text = run("skopeo", &["inspect", "--config", &source]).stdout;
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["created"].as_str().unwrap().to_owned()
    };
    let before = created();
    std::thread::sleep(Duration::from_millis(1100));
    space.write("Dockerfile", file("\nLABEL c=3"));
    assert_eq!(created(), before);
}

#[test]
fn a_shared_cache_keeps_the_image() {
    let here = Space::new();
    let file = format!("FROM {BUSYBOX}\nRUN date +%s%N > /now\nRUN echo 2 > /two\n");
    let cache = here.path("cache").display().to_string();
    let registry = Registry::start(&here.path("registry"), false);
    let name = registry.name("inline:1");
    let build = |space: &Space, args: &[&str]| {
        space.write("Dockerfile", &file);
        let run = space.build(&[&["-t", "same:1"], args].concat()).ok();
        (said(&run, "id"), said(&run, "digest"))
    };
    let to = format!("type=local,dest={cache},mode=max");
    let first = build(&here, &["--cache-to", &to]);
    std::thread::sleep(Duration::from_millis(1100));
    let there = Space::new();
    let from = format!("type=local,src={cache}");
    assert_eq!(build(&there, &["--cache-from", &from]), first);
    // The cache that an image carries itself, too.
    let carried = |space: &Space, args: &[&str]| {
        space.write("Dockerfile", &file);
        let inline = ["-t", &name, "--push", "--cache-to", "type=inline"];
        let run = space.build(&[&inline[..], args].concat()).ok();
        (said(&run, "id"), said(&run, "digest"))
    };
    let first = carried(&here, &[]);
    std::thread::sleep(Duration::from_millis(1100));
    let again = Space::new();
    let from = format!("type=inline,ref={name}");
    assert_eq!(carried(&again, &["--cache-from", &from]), first);
}

#[test]
fn every_build_says_what_it_gave() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo 1 > /x\n"));
    let plain = space.build(&[]).ok();
    assert!(said(&plain, "next").contains("-t NAME"), "{}", plain.stderr);
    let id = space.build(&["-q"]).ok().stdout;
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    let named = space.build(&["-t", "named:1"]).ok();
    assert_eq!(said(&named, "id"), id.trim());
    assert_eq!(said(&named, "stored"), "docker.io/library/named:1");
    let name = registry.name("app:1");
    let pushed = space.build(&["-t", &name, "--push"]).ok();
    let digest = said(&pushed, "digest");
    assert_eq!(said(&pushed, "pushed"), name);
    let pinned = registry.name(&format!("app@{digest}"));
    assert!(said(&pushed, "next").contains(&pinned), "{}", pushed.stderr);
    let out = space.path("out.tar").display().to_string();
    let written = space
        .build(&["-o", &format!("type=oci,dest={out}"), "--iidfile", "iid"])
        .ok();
    assert_eq!(said(&written, "written"), out);
    assert_eq!(
        std::fs::read_to_string(space.path("iid")).unwrap(),
        id.trim()
    );
    // Files only, and the image's digests all the same.
    let meta = ["-o", "files", "--metadata-file", "meta.json"];
    _ = space.build(&meta).ok();
    let text = std::fs::read_to_string(space.path("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id.trim());
    assert_eq!(meta["containerimage.digest"], digest);
}

#[test]
fn programs_get_the_result_as_an_event() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo 1 > /x\n"));
    let run = space.kiln(&["build", "context", "-t", "a:1", "--progress", "rawjson"]);
    let lines = run.ok().stderr;
    let events: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let result = events.last().unwrap();
    assert_eq!(result["event"], "result");
    assert_eq!(result["stored"][0], "docker.io/library/a:1");
    assert!(result["digest"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn devices_are_written_to_and_stay() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n"));
    _ = space.build(&["-o", "type=oci,dest=/dev/null"]).ok();
    use std::os::unix::fs::FileTypeExt as _;
    let about = std::fs::metadata("/dev/null").unwrap();
    assert!(about.file_type().is_char_device());
    let piped = space.build(&["-o", "type=tar,dest=-"]).ok();
    assert!(piped.stdout.contains("bin/busybox"));
}

#[test]
fn outputs_of_buildx() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo 1 > /x\n"));
    let layout = space.path("layout");
    let output = format!("type=oci,dest={},tar=false", layout.display());
    let built = space.build(&["-t", "a:1", "-o", &output]).ok();
    let source = format!("oci:{}:1", layout.display());
    let inspected = run("skopeo", &["inspect", &source]).stdout;
    assert!(inspected.contains(&said(&built, "digest")), "{inspected}");
    let registry = Registry::start(&space.path("registry"), false);
    let name = registry.name("by-digest");
    let spec = format!("type=image,name={name},push-by-digest=true,push=true");
    let built = space.build(&["-o", &spec, "--format", "docker"]).ok();
    let pinned = format!("docker://{name}@{}", said(&built, "digest"));
    let raw = run(
        "skopeo",
        &["inspect", "--tls-verify=false", "--raw", &pinned],
    )
    .stdout;
    assert!(raw.contains("vnd.docker.distribution.manifest.v2+json"));
    assert!(
        raw.contains("vnd.docker.image.rootfs.diff.tar.gzip"),
        "{raw}"
    );
    let only = space.build(&["-o", "type=cacheonly"]).ok();
    assert!(!only.stderr.contains("digest"), "{}", only.stderr);
}

#[test]
fn outputs_keep_and_push_what_they_say() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nENV A=1\n"));
    let registry = Registry::start(&space.path("registry"), false);
    let stored = || space.kiln(&["image", "ls"]).ok().stdout;
    _ = space.build(&["-o", "type=cacheonly", "-t", "nowhere"]).ok();
    let name = registry.name("by-digest");
    let spec = format!("type=image,name={name},push-by-digest=true,push=true");
    let meta = space.path("meta.json").display().to_string();
    _ = space.build(&["-o", &spec, "--metadata-file", &meta]).ok();
    let meta: serde_json::Value = serde_json::from_str(&read(meta)).unwrap();
    assert_eq!(meta["image.name"], name.as_str());
    assert_eq!(stored(), "");
    let name = registry.name("named:1");
    let built = space.build(&["--push", "-o", &format!("type=image,name={name}")]);
    assert_eq!(digest(&name), said(&built.ok(), "digest"));
    assert!(stored().contains(&name));
    for form in ["tar", "oci"] {
        let tar = space.build(&["-q", "-o", &format!("type={form}")]).ok();
        assert!(tar.stdout.contains("ustar"), "{form}");
    }
}

#[test]
fn mistakes_are_found_before_the_first_step() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo the-step-ran\n"),
    );
    let socket = space.path("no.sock").display().to_string();
    for (args, says) in [
        (&["--platform", "linux/arm65"][..], "did you mean arm64"),
        (&["-t", "Upper/Case:1"], "-t 'Upper/Case:1'"),
        (&["-o", "type=local,dest=/proc/none/x"], "cannot write"),
        (&["-t", "a", "--iidfile", "/proc/none/x"], "cannot write"),
        (
            &["-t", "127.0.0.1:9/a", "--push"],
            "cannot reach 127.0.0.1:9",
        ),
        (&["--load"], "Docker daemon"),
        (&["--push"], "give -t NAME"),
        (&["--pull=never"], "kiln image pull"),
    ] {
        let mut command = space.command(&["build", "context", "--progress", "plain"]);
        command.env("DOCKER_HOST", format!("unix://{socket}"));
        let run = Run::of(&command.args(args).output().unwrap());
        assert_ne!(run.status, Some(0), "{args:?}");
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("the-step-ran\n#"), "{}", run.stderr);
        assert!(!run.stderr.contains("DONE"), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn a_base_image_of_another_platform_is_warned_about() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nCOPY Dockerfile /\n"));
    let other = match std::env::consts::ARCH {
        "aarch64" => "linux/amd64",
        _ => "linux/arm64",
    };
    let run = space.build(&["--platform", other]).ok();
    assert!(
        run.stderr.contains("InvalidBaseImagePlatform"),
        "{}",
        run.stderr
    );
    let default = space
        .command(&["build", "context"])
        .env("DOCKER_DEFAULT_PLATFORM", other)
        .output();
    let run = Run::of(&default.unwrap());
    assert!(
        run.stderr.contains("InvalidBaseImagePlatform"),
        "{}",
        run.stderr
    );
}

#[test]
fn flags_of_other_builders() {
    let space = Space::new();
    space.write(
        "Containerfile",
        "ARG A\nFROM scratch\nARG A\nENV WAS=$A\nCOPY f /\n",
    );
    space
        .write("f", "f")
        .write("args", "# a comment\nA=from-a-file\n");
    let out = space.path("image.tar").display().to_string();
    let output = format!("type=oci,dest={out}");
    let flags = [
        "--rm",
        "--force-rm=false",
        "--retry",
        "3",
        "--provenance=false",
        "--sbom=false",
        "--builder",
        "default",
        "--identity-label=false",
        "--skip-unused-stages",
        "-D",
        "--squash-all",
        "--timestamp",
        "86400",
        "--env",
        "B=2",
        "--unsetenv",
        "PATH",
        "--build-arg-file",
        "context/args",
        "-o",
        &output,
    ];
    let run = space.build(&flags).ok();
    assert!(
        run.stderr.contains("--rm changes nothing here"),
        "{}",
        run.stderr
    );
    let source = format!("oci-archive:{out}");
    let config = kiln_tests::run("skopeo", &["inspect", "--config", &source]).stdout;
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let env = config["config"]["Env"].to_string();
    assert!(
        env.contains("B=2") && env.contains("WAS=from-a-file"),
        "{env}"
    );
    assert!(!env.contains("PATH"), "{env}");
    assert_eq!(config["created"], "1970-01-02T00:00:00Z");
}

#[test]
fn flags_of_other_builders_that_do_nothing_here_name_what_does() {
    let space = Space::new();
    space.write("Containerfile", "FROM scratch\nCOPY f /\n");
    space.write("f", "f");
    for (flag, says) in [
        ("--destination=a", "use -t NAME --push"),
        ("--provenance=mode=all", "use min or max"),
        ("--builder=other", "kiln is the builder"),
        ("--format=ozi", "use oci or docker"),
        ("--volume=/a:/b", "--build-context"),
    ] {
        let run = space.build(&[flag]);
        assert_eq!(run.status, Some(2), "{flag}: {}", run.stderr);
        assert!(run.stderr.contains(says), "{flag}: {}", run.stderr);
        assert!(
            !run.stderr.contains("unexpected argument"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn a_program_follows_the_events() {
    let space = Space::new();
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/events/kiln_build.py"
    );
    let python = |flags: &[&str]| {
        let words = [&[program, "context"], flags].concat();
        let binary = kiln_tests::kiln_binary();
        let path = format!(
            "{}:{}",
            binary.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let output = std::process::Command::new("python3")
            .args(words)
            .current_dir(space.path("."))
            .env("KILN_ROOT", space.path("store"))
            .env("PATH", path)
            .output();
        Run::of(&output.unwrap())
    };
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX} as base\nRUN echo 1 > /x\n"),
    );
    let good = python(&["-t", "a:1"]).ok().stdout;
    assert!(good.contains("ran       base[2] RUN echo 1 > /x"), "{good}");
    assert!(good.contains("warning: "), "{good}");
    assert!(
        good.contains("\"stored\": [\"docker.io/library/a:1\"]"),
        "{good}"
    );
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN exit 3\n"));
    let bad = python(&[]);
    assert_ne!(bad.status, Some(0));
    assert!(bad.stderr.contains("exit code: 3"), "{}", bad.stderr);
    // A mistake of the command line, and one of the build file.
    assert!(python(&["-t", "Upper:1"]).stderr.contains("Upper:1"));
    space.write("Dockerfile", "RUN echo\n");
    assert!(python(&[]).stderr.contains("ERROR"));
}

#[test]
fn a_cached_build_elsewhere_moves_no_base_layers() {
    let file = format!(
        "FROM {BUSYBOX} AS one\nRUN mkdir -p /d/e && echo 1 > /d/e/f\nFROM {BUSYBOX}\nWORKDIR /w\nCOPY Dockerfile /w/\nCOPY --from=one /d/e/f /etc/passwd /w/\nRUN --mount=type=bind,from=one,source=/d,target=/m cat /m/e/f > /n\nUSER 10\n"
    );
    let home = Space::new();
    let registry = Registry::start(&home.path("registry"), false);
    let (name, cache) = (registry.name("app:1"), registry.name("cache"));
    let inline = format!("type=inline,ref={name}");
    let shared = format!("type=registry,ref={cache}");
    let to = format!("{shared},mode=max");
    let build = |space: &Space, args: &[&str]| {
        space.write("Dockerfile", &file);
        space.build(&[&["-t", &name, "--push"], args].concat()).ok()
    };
    let first = build(&home, &["--cache-to", &to, "--cache-to", "type=inline"]);
    assert!(first.stderr.contains("pull "), "{}", first.stderr);
    let there = Space::new();
    let again = build(
        &there,
        &["--cache-from", &shared, "--cache-to", "type=inline"],
    );
    assert!(!again.stderr.contains("pull "), "{}", again.stderr);
    assert!(!again.stderr.contains("push "), "{}", again.stderr);
    assert_eq!(said(&again, "digest"), said(&first, "digest"));
    let own = Space::new();
    let again = build(&own, &["--cache-from", &shared, "--cache-from", &inline]);
    assert!(!again.stderr.contains("unpack "), "{}", again.stderr);
}

#[test]
fn bringing_a_base_is_not_the_time_of_a_step() {
    for instruction in ["WORKDIR /w", "COPY Dockerfile /", "RUN true"] {
        let space = Space::new();
        space.write("Dockerfile", format!("FROM {BUSYBOX}\n{instruction}\n"));
        let log = space.build(&[]).ok().stderr;
        let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
        assert!(at("pull ") < at(&format!("] {instruction}")), "{log}");
    }
}

#[test]
fn what_is_empty_says_so() {
    let space = Space::new();
    for (args, says) in [
        (["image", "ls"].as_slice(), "no image is kept here"),
        (&["history"], "no build is remembered"),
        (&["volume", "ls"], "no cache volumes"),
    ] {
        let run = space.kiln(args).ok();
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
        let json = space.kiln(&[args, &["--json"]].concat()).ok();
        assert_eq!((json.stdout.trim(), json.stderr.as_str()), ("[]", ""));
    }
    assert_eq!(space.kiln(&["image", "ls", "--quiet"]).ok().stderr, "");
}
