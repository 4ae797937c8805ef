//! Flags of `kiln build` as users of `docker build` know them, and what is said of wrong ones.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Run, Space, run};

fn space(lines: &str) -> Space {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{lines}\n"));
    space
}

#[test]
fn hosts_have_addresses() {
    let space = space("RUN cat /etc/hosts > /hosts");
    let hosts = |flag: &str| {
        let out = space.build_files(&["--add-host", flag]);
        std::fs::read_to_string(out.join("hosts")).unwrap()
    };
    for (flag, line) in [
        ("my:1.2.3.4", "1.2.3.4\tmy"),
        ("my=1.2.3.4", "1.2.3.4\tmy"),
        ("my:::1", "::1\tmy"),
        ("my=[fd00::1]", "fd00::1\tmy"),
        ("my:host-gateway", "127.0.0.1\tmy"),
    ] {
        assert!(hosts(flag).lines().any(|it| it == line), "{flag}");
    }
    let alone = [
        "--network",
        "none",
        "--no-cache",
        "--add-host",
        "my:host-gateway",
    ];
    let out = space.build_files(&alone);
    let text = std::fs::read_to_string(out.join("hosts")).unwrap();
    assert!(!text.contains("my"), "nobody is reached there: {text}");
    for wrong in ["my:hello", "my:999.1.1.1", "my", ":1.2.3.4", "a b:1.2.3.4"] {
        let built = space.build(&["--add-host", wrong]);
        assert_eq!(built.status, Some(2), "{wrong}: {}", built.stderr);
    }
}

#[test]
fn memory_has_units() {
    let space = space("RUN df -k /dev/shm | tail -1 > /shm");
    for (size, blocks) in [
        ("134217728", "131072"),
        ("128m", "131072"),
        ("0.5g", "524288"),
        ("0", "65536"),
    ] {
        let out = space.build_files(&["--no-cache", "--shm-size", size]);
        let text = std::fs::read_to_string(out.join("shm")).unwrap();
        assert!(
            text.split_ascii_whitespace().any(|word| word == blocks),
            "{size}: {text}"
        );
    }
    assert_eq!(space.build(&["--shm-size", "much"]).status, Some(2));
}

#[test]
fn mistakes_are_said_before_anything_runs() {
    let space = space("RUN echo the-step-ran");
    let directory = space.path("").display().to_string();
    std::fs::write(space.path("file"), "").unwrap();
    let in_file = format!("type=local,dest={directory}/file/below");
    let at_directory = format!("type=tar,dest={directory}");
    let digest = format!("a@sha256:{}", "0".repeat(64));
    let wrong: &[&[&str]] = &[
        &["-t", "Upper/Case:1"],
        &["-t", "name:bad tag"],
        &["-t", ""],
        &["-t", &digest],
        &["-t", "good:1", "-t", "Bad:1"],
        &["-o", "type=image,name=Upper/Case:1"],
        &["-o", "type=oci,dest=/proc/nowhere/x.tar"],
        &["-o", "type=local,dest=/proc/nowhere/x"],
        &["-o", &in_file],
        &["-o", &at_directory],
        &["-o", "dest=out"],
        &["-o", "type=oci,dest=o.tar,compression-level=high"],
        &["-o", "type=image,push=perhaps"],
        &["-t", "a:1", "--iidfile", "/proc/nowhere/iid"],
        &["-t", "a:1", "--metadata-file", "/proc/nowhere/meta"],
        &["--ulimit", "files=1"],
        &["--ulimit", "nofile=2:1"],
        &["--annotation", "bogus:a=1"],
        &["--annotation", "index:a=1"],
    ];
    for args in wrong {
        let built = space.build(args);
        assert_ne!(built.status, Some(0), "{args:?}");
        assert!(
            !built.stderr.contains("the-step-ran"),
            "{args:?}: {}",
            built.stderr
        );
    }
    let left: Vec<_> = std::fs::read_dir(space.path(""))
        .unwrap()
        .flatten()
        .map(|it| it.file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().contains(".kiln-")),
        "{left:?}"
    );
    _ = space.build(&["--ulimit", "nofile=100:200"]).ok();
}

#[test]
fn ids_are_there_without_a_name() {
    let space = space("RUN echo 1 > /x");
    let printed = space
        .kiln(&[
            "build",
            "context",
            "-q",
            "--build-arg",
            "SOURCE_DATE_EPOCH=1",
        ])
        .ok()
        .stdout;
    assert!(printed.starts_with("sha256:"), "{printed}");
    for args in [
        &[][..],
        &["-o", "type=local,dest=l"],
        &["-o", "type=oci,dest=o.tar"],
    ] {
        _ = std::fs::remove_file(space.path("iid"));
        _ = space
            .build(
                &[
                    &[
                        "--iidfile",
                        "iid",
                        "--metadata-file",
                        "meta",
                        "--build-arg",
                        "SOURCE_DATE_EPOCH=1",
                    ],
                    args,
                ]
                .concat(),
            )
            .ok();
        let id = std::fs::read_to_string(space.path("iid")).unwrap();
        assert_eq!(id, printed.trim(), "{args:?}");
        let metadata = std::fs::read_to_string(space.path("meta")).unwrap();
        assert!(metadata.contains(&id), "{args:?}: {metadata}");
    }
}

/// Prints `NAME KEY=VALUE` for each annotation of a document or descriptor of an OCI archive.
const ANNOTATIONS: &str = r#"
import json, sys, tarfile
t = tarfile.open(sys.argv[1]); read = lambda n: json.load(t.extractfile(n))
def show(what, it): [print(what, k + "=" + v) for k, v in sorted(it.get("annotations", {}).items()) if "." not in k]
def walk(d, what):
    show(what + "-descriptor", d); doc = read("blobs/" + d["digest"].replace(":", "/")); show(what, doc)
    for m in doc.get("manifests", []): walk(m, m["platform"]["architecture"])
for m in read("index.json")["manifests"]: walk(m, "top")
"#;

#[test]
fn annotations_go_where_they_say() {
    let space = space("COPY Dockerfile /d");
    let annotations = |args: &[&str]| {
        _ = space
            .build(&[args, &["-o", "type=oci,dest=o.tar"]].concat())
            .ok();
        let tar = space.path("o.tar").display().to_string();
        let said = run("python3", &["-c", ANNOTATIONS, &tar]).stdout;
        said.lines().collect::<Vec<_>>().join("; ")
    };
    let one = annotations(&[
        "--annotation",
        "plain=0",
        "--annotation",
        "manifest:m=1",
        "--annotation",
        "manifest[linux/amd64]:p=2",
        "--annotation",
        "manifest-descriptor:d=3",
        "--annotation",
        "manifest[linux/s390x]:no=4",
    ]);
    assert_eq!(one, "top-descriptor d=3; top m=1; top p=2; top plain=0");
    let two = annotations(&[
        "--platform",
        "linux/amd64,linux/arm64",
        "--annotation",
        "index:i=1",
        "--annotation",
        "index,manifest:b=2",
        "--annotation",
        "manifest[linux/arm64]:m=3",
        "--annotation",
        "index-descriptor:id=4",
        "--annotation",
        "manifest-descriptor[linux/arm64]:d=5",
    ]);
    assert_eq!(
        two,
        "top-descriptor id=4; top b=2; top i=1; amd64 b=2; arm64-descriptor d=5; arm64 b=2; arm64 m=3"
    );
}

#[test]
fn other_users_write_to_their_output() {
    let space = space(
        "USER 1001:1002\nRUN echo one > /dev/stdout; echo two >> /dev/stderr; echo three > /proc/self/fd/1\n\
         RUN ls nothing-here 2> /dev/stdout; true",
    );
    let said = space.build(&[]).ok().stderr;
    for word in [" one", " two", " three", "nothing-here: No such file"] {
        assert!(
            said.lines()
                .any(|line| line.ends_with(word) || line.contains("here: No")),
            "{word}: {said}"
        );
    }
    assert!(!said.contains("ermission denied"), "{said}");
}

#[test]
fn empty_variables_say_nothing() {
    let space = space("ENV A=1");
    let names = [
        "DOCKER_DEFAULT_PLATFORM",
        "BUILDKIT_PROGRESS",
        "KILN_CONFIG",
        "KILN_EXECUTOR",
        "KILN_ISOLATION",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "REGISTRY_AUTH_FILE",
        "SOURCE_DATE_EPOCH",
        "XDG_CONFIG_HOME",
    ];
    // Were it read, it would be refused.
    space.write("kiln/kiln.conf", "no table\n");
    let mut command = space.command(&["build", "."]);
    let command = command.current_dir(space.path("context"));
    let run = Run::of(&command.envs(names.map(|name| (name, ""))).output().unwrap()).ok();
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
}

#[test]
fn switches_take_true_and_false() {
    let space = space("ENV A=1");
    let flags = [
        "--load=false",
        "--push=false",
        "--no-cache=true",
        "--quiet=1",
    ];
    assert!(space.build(&flags).ok().stdout.starts_with("sha256:"));
    let run = space.build(&["--no-cache=maybe"]);
    assert_eq!(run.status, Some(2));
    assert!(
        run.stderr.contains("--no-cache=true or --no-cache=false"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_build_file_may_lie_beside_the_context() {
    let space = Space::new();
    space.write("f", "1").write("g", "2");
    std::fs::create_dir(space.path("files")).unwrap();
    std::fs::write(space.path("files/Made"), "FROM scratch\nCOPY . /\n").unwrap();
    std::fs::write(space.path("files/Made.dockerignore"), "g\n").unwrap();
    for file in ["files/Made", "context/../files/Made"] {
        let out = space.build_files(&["-f", file]);
        assert!(out.join("f").exists() && !out.join("g").exists(), "{file}");
    }
}
