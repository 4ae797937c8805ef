//! Old tags go: in a registry that deletes, and in the store.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_image::Client;
use kiln_tests::{BUSYBOX, Registry, Space};

/// Pushes an image that was made on a day of January 2026.
fn push(space: &Space, name: &str, content: &str, day: u64) {
    let text = format!("FROM {BUSYBOX}\nENV CONTENT={content}\nCOPY f /f\n");
    space.write("f", content).write("Dockerfile", text);
    let epoch = format!("SOURCE_DATE_EPOCH={}", 1_767_225_600 + (day - 1) * 86_400);
    _ = space
        .build(&["--push", "-t", name, "--build-arg", &epoch])
        .ok();
}

fn tags(repository: &str) -> Vec<String> {
    let all = Client::default()
        .tagged(&repository.parse().unwrap())
        .unwrap();
    all.into_iter().map(|tag| tag.tag).collect()
}

#[test]
fn tags_of_a_registry() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), true);
    let name = registry.name("team/app");
    for (tag, content, day) in [
        ("v1", "one", 1),
        ("v2", "two", 2),
        ("v3", "three", 3),
        ("v4", "four", 4),
        ("stable", "two", 2),
        ("pr-1", "pr", 1),
    ] {
        push(&space, &format!("{name}:{tag}"), content, day);
    }
    let to = format!("type=registry,ref={name}:cache,mode=max");
    _ = space.build(&["--cache-to", &to]).ok();
    let before = tags(&name);
    assert!(
        before.iter().any(|tag| tag.starts_with("cache-step-")),
        "{before:?}"
    );

    let prune = |args: &[&str]| space.kiln(&[&["registry", "prune", &name], args].concat());
    let shown = prune(&["--keep", "1", "--tags", "v*"]).ok();
    assert!(
        shown.stdout.contains("would delete 2 of "),
        "{}",
        shown.stdout
    );
    assert!(shown.stderr.contains("v2 stays: "), "{}", shown.stderr);
    assert_eq!(prune(&["--older-than", "1d", "--dry-run"]).status, Some(0));
    assert_eq!(tags(&name), before, "nothing goes unasked");

    let gone: kiln_image::Reference = format!("{name}:v1").parse().unwrap();
    let old = Client::default().manifest_bytes(&gone).unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&old);
    let done = prune(&["--keep", "1", "--tags", "v*", "--yes"]).ok().stdout;
    assert!(
        done.contains("deleted 2 of ") && done.contains(" v1\n"),
        "{done}"
    );
    let left: Vec<String> = before
        .into_iter()
        .filter(|tag| tag != "v1" && tag != "v3")
        .collect();
    assert_eq!(tags(&name), left);
    let by_digest = format!("{name}@sha256:{}", hex::encode(digest))
        .parse()
        .unwrap();
    assert!(Client::default().manifest_bytes(&by_digest).is_err());
    for tag in ["v2", "stable", "v4", "pr-1"] {
        space.write("Dockerfile", format!("FROM {name}:{tag}\nRUN test -s /f\n"));
        _ = space.build(&["--no-cache"]).ok();
    }

    // Entries of caches say when they were written.
    let done = prune(&["--keep", "0", "--tags", "cache-*", "--yes"]).ok();
    assert!(
        !tags(&name).iter().any(|tag| tag.starts_with("cache-")),
        "{}",
        done.stdout
    );
    for wrong in [
        &["--yes"][..],
        &["--keep", "1", "--yes", "--dry-run"],
        &["--keep", "x"],
    ] {
        assert_eq!(prune(wrong).status, Some(2));
    }
    assert_eq!(
        space
            .kiln(&["registry", "prune", &format!("{name}:v1"), "--keep", "1"])
            .status,
        Some(2)
    );
}

#[test]
fn indexes_go_with_their_parts() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), true);
    let name = registry.name("multi");
    space.write(
        "Dockerfile",
        "FROM scratch\nARG CONTENT\nENV CONTENT=$CONTENT\nCOPY Dockerfile /\n",
    );
    for (tag, day) in [("old", 1), ("new", 2)] {
        let content = format!("CONTENT={tag}");
        let epoch = format!("SOURCE_DATE_EPOCH={}", 1_767_225_600 + day * 86_400);
        let tag = format!("{name}:{tag}");
        let args = [
            "--push",
            "-t",
            &tag,
            "--platform",
            "linux/amd64,linux/arm64",
        ];
        let args = [&args[..], &["--build-arg", &content, "--build-arg", &epoch]].concat();
        _ = space.build(&args).ok();
    }
    let repository = name.parse().unwrap();
    let before = Client::default().tagged(&repository).unwrap();
    let old = before.iter().find(|tag| tag.tag == "old").unwrap();
    assert_eq!(old.parts.len(), 2);
    assert_eq!(old.created.as_deref(), Some("2026-01-02T00:00:00Z"));
    let done = space
        .kiln(&["registry", "prune", &name, "--keep", "1", "--yes"])
        .ok()
        .stdout;
    assert!(done.contains("deleted 1 of 2 tags, 3 manifests"), "{done}");
    assert_eq!(tags(&name), ["new"]);
    for part in &old.parts {
        let by_digest = format!("{name}@{part}").parse().unwrap();
        assert!(Client::default().manifest_bytes(&by_digest).is_err());
    }
}

#[test]
fn a_registry_that_never_deletes_says_so() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let name = registry.name("app");
    push(&space, &format!("{name}:v1"), "one", 1);
    let failed = space.kiln(&["registry", "prune", &name, "--keep", "0", "--yes"]);
    failed.fails_with(&["allows no deletion", "REGISTRY_STORAGE_DELETE_ENABLED"]);
    assert_eq!(tags(&name), ["v1"]);
}
