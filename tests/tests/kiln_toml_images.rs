//! Where the images of a kiln.toml go: names, platforms, outputs, shared caches, groups.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Registry, Run, Space, read, read_json};

fn space(text: &str) -> Space {
    let space = Space::new();
    space.write("kiln.toml", text.replace("BUSYBOX", BUSYBOX));
    space
}

const TWO: &str = r#"
version = 1

[params.tag]
default = "1"

[defaults.image]
tags = ["r.example/{{ image.name }}:{{ params.tag }}"]

[steps.a]
from = "BUSYBOX"
run = "echo a > /a"

[steps.b]
extends = ["a"]
run = "echo b > /b"

[images.app]
from = "a"

[images.worker]
from = "b"

[groups]
both = ["worker", "app"]
"#;

/// Demands a usage error whose message has all of `parts`.
fn refused(run: &Run, parts: &[&str]) {
    assert_eq!(run.status, Some(2), "{}\n{}", run.stdout, run.stderr);
    for part in parts {
        assert!(
            run.stderr.contains(part),
            "'{part}' is not in:\n{}",
            run.stderr
        );
    }
}

/// What the store has, by name.
fn stored(space: &Space) -> String {
    space.kiln(&["image", "ls"]).ok().stdout
}

#[test]
fn all_images_are_built_and_named() {
    let space = space(TWO);
    let run = space.build(&["--metadata-file", "meta.json"]).ok();
    assert!(run.stderr.contains("==> app") && run.stderr.contains("==> worker"));
    let list = stored(&space);
    assert!(list.contains("r.example/app:1") && list.contains("r.example/worker:1"));
    let meta = read_json(space.path("meta.json"));
    for image in ["app", "worker"] {
        let name = meta[image]["image.name"].as_str().unwrap();
        assert_eq!(name, format!("r.example/{image}:1"));
    }
    // A group, another parameter, and what the command line says instead.
    _ = space
        .build(&["--target", "both", "--build-arg", "tag=2"])
        .ok();
    assert!(stored(&space).contains("r.example/worker:2"));
    _ = space.build(&["--target", "app", "-t", "own:3"]).ok();
    let list = stored(&space);
    assert!(list.contains("own:3") && !list.contains("r.example/app:3"));
    // `-q` gives an ID for each.
    assert_eq!(space.build(&["-q"]).ok().stdout.lines().count(), 2);
}

#[test]
fn what_is_about_one_image_needs_one() {
    let space = space(TWO);
    for flags in [
        &["-t", "a:1"][..],
        &["-o", "out"],
        &["-o", "type=oci,dest=x.tar"],
        &["--iidfile", "id"],
        &["--until", "a"],
        &["--from", "a", "--target", "both"],
    ] {
        refused(&space.build(flags), &["choose one with --target", "app"]);
    }
    space
        .build(&["--target", "ap"])
        .fails_with(&["there is no image or step 'ap'", "did you mean 'app'?"]);
    // A failing step says how to go on with its image.
    let text = TWO
        .replace("echo b > /b", "exit 3")
        .replace("BUSYBOX", BUSYBOX);
    space.write("kiln.toml", text);
    let run = space.build(&[]);
    run.fails_with(&["kiln build", "--target worker --from"]);
}

#[test]
fn two_images_have_two_names() {
    let space = space(&TWO.replace("{{ image.name }}", "same"));
    let says = ["app and worker have the same tag", "r.example/same:1"];
    refused(&space.build(&[]), &says);
    assert!(!stored(&space).contains("same"), "nothing was built");
    space.write(
        "kiln.toml",
        TWO.replace("{{ image.name }}", "Upper")
            .replace("BUSYBOX", BUSYBOX),
    );
    let says = ["kiln.toml: tags of the image 'app'", "r.example/Upper:1"];
    refused(&space.build(&["--target", "app"]), &says);
}

const PLATFORMS: &str = r#"
version = 1
[params.other]
default = "arm64"
[steps.a]
from = "scratch"
copy = [{ text = "{{ platform.arch }}", to = "/arch" }]
[images.app]
from = "a"
platforms = ["linux/amd64", "linux/{{ params.other }}"]
outputs = ["type=oci,dest=app.tar"]
"#;

#[test]
fn platforms_are_those_of_the_file() {
    let space = space(PLATFORMS);
    let flags = ["--allow", "fs.write=.", "--metadata-file", "meta.json"];
    let run = space.build(&flags).ok();
    assert!(
        run.stderr.contains("linux/amd64 linux/arm64"),
        "{}",
        run.stderr
    );
    assert!(space.path("context/app.tar").exists());
    let run = space
        .build(&["--platform", "linux/s390x", "-o", "out"])
        .ok();
    assert!(!run.stderr.contains("arm64"), "{}", run.stderr);
    assert_eq!(read(space.path("out/arch")), "s390x");
    let arm = ["--build-arg", "other=riscv64", "-o", "type=oci,dest=x.tar"];
    assert!(space.build(&arm).ok().stderr.contains("linux/riscv64"));
    space
        .build(&["--build-arg", "other=arm65"])
        .fails_with(&["arm65", "did you mean 'arm64'?"]);
}

/// A build file may be a stranger's: it writes nowhere by itself.
#[test]
fn outputs_need_the_users_word() {
    let output = |text: &str| PLATFORMS.replace("type=oci,dest=app.tar", text);
    let space = space(PLATFORMS);
    let says = ["outputs of the image 'app'", "--allow fs.write=context"];
    refused(&space.build(&[]), &says);
    assert!(!space.path("context/app.tar").exists());
    std::fs::create_dir(space.path("context/allowed")).unwrap();
    std::fs::create_dir(space.path("context/other")).unwrap();
    std::os::unix::fs::symlink("../other", space.path("context/allowed/link")).unwrap();
    let allow = ["--allow", "fs.write=context/allowed"];
    for (text, says) in [
        ("type=oci,dest=app.tar", "fs.write="),
        ("type=oci,dest=allowed/../app.tar", "fs.write="),
        ("type=local,dest=allowed/link/x", "fs.write="),
        ("type=local,dest=allowed/link", "fs.write="),
        ("type=registry,name=r.example/a", "--push"),
        ("type=image,push=true,name=r.example/a", "--push"),
        ("type=docker", "--load"),
        ("type=tar,dest=-", "standard output"),
        ("type=ozi,dest=allowed/x", "unknown type 'ozi'"),
    ] {
        space.write("kiln.toml", output(text));
        refused(&space.build(&allow), &["kiln.toml: outputs", says]);
    }
    assert_eq!(
        std::fs::read_dir(space.path("context/other"))
            .unwrap()
            .count(),
        0
    );
    space.write("kiln.toml", output("type=local,dest=allowed/new/x"));
    _ = space.build(&allow).ok();
    assert_eq!(
        read(space.path("context/allowed/new/x/linux_arm64/arch")),
        "arm64"
    );
}

#[test]
fn shared_caches_need_the_users_word() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::start(directory.path(), false);
    let text = r#"
version = 1
[steps.a]
from = "BUSYBOX"
run = "cat /proc/sys/kernel/random/uuid > /a"
[images.app]
from = "a"
cache_from = ["type=registry,ref=CACHE"]
cache_to = ["type=registry,ref=CACHE"]
"#;
    let text = text.replace("CACHE", &registry.name("cache/app:1"));
    let build = |space: &Space, flags: &[&str]| -> Run { space.build(flags).ok() };
    let (first, second, third) = (space(&text), space(&text), space(&text));
    let run = build(&first, &["-o", "out"]);
    assert!(
        run.stderr.contains("only with --allow cache"),
        "{}",
        run.stderr
    );
    _ = build(&first, &["--allow", "cache", "-o", "out"]);
    _ = build(&second, &["--allow", "cache", "-o", "out"]);
    assert_eq!(read(first.path("out/a")), read(second.path("out/a")));
    _ = build(&third, &["-o", "out"]);
    assert_ne!(read(first.path("out/a")), read(third.path("out/a")));
    assert!(run.stderr.contains("cache_to of the image 'app'"));
}

#[test]
fn shared_caches_in_directories_begin_at_the_context_and_need_their_own_word() {
    let text = r#"
version = 1
[steps.a]
from = "BUSYBOX"
run = "cat /proc/sys/kernel/random/uuid > /a"
[images.app]
from = "a"
[images.second]
from = "a"
cache_from = ["type=local,src=c"]
cache_to = ["type=local,dest=c"]
"#;
    let space = space(text);
    let says = ["cache_from of the image 'second'", "--allow fs.read="];
    refused(&space.build(&["--allow", "cache"]), &says);
    let read = format!("fs.read={}", space.path("context").display());
    let says = ["cache_to of the image 'second'", "--allow fs.write="];
    refused(&space.build(&["--allow", "cache", "--allow", &read]), &says);
    assert_eq!(stored(&space), "", "nothing was built before the mistake");
    let write = format!("fs.write={}", space.path("context").display());
    let allow = ["--allow", "cache", "--allow", &read, "--allow", &write];
    _ = space.build(&allow).ok();
    assert!(space.path("context/c").is_dir());
    for (from, to, says) in [
        (
            "type=locl,src=c",
            "type=inline",
            "cache_from of the image 'second'",
        ),
        (
            "type=inline",
            "type=inline",
            "cache_from of the image 'second'",
        ),
        (
            "type=local,src=c",
            "type=local,to=c",
            "cache_to of the image 'second'",
        ),
        (
            "type=local,src=c",
            "type=inline,ref=r.example/a",
            "cache_to of the image 'second'",
        ),
    ] {
        let text = text.replace("type=local,src=c", from);
        let text = text.replace("type=local,dest=c", to);
        space.write("kiln.toml", text.replace("BUSYBOX", BUSYBOX));
        refused(&space.build(&allow), &[says]);
    }
}
