//! Builds that share what they have through a cluster (`type=reapi`).
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Casd, Space};

fn context(space: &Space) {
    space.write("f", "1");
    let steps = "COPY f /f\nRUN head -c 3000000 /dev/urandom > /big\nRUN echo 2 > /two";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{steps}\n"));
}

fn build(space: &Space, store: &str, more: &[&str]) -> kiln_tests::Run {
    let args = [&["build", "context", "--progress", "plain"], more].concat();
    let mut command = space.command(&args);
    _ = command.env("KILN_ROOT", space.path(store));
    kiln_tests::Run::of(&command.output().unwrap())
}

#[test]
fn machines_share_steps_through_a_cluster() {
    let space = Space::new();
    context(&space);
    let Some(server) = Casd::start(&space.path("casd")) else {
        return;
    };
    let spec = format!("type=reapi,url={},mode=max", server.url());
    let first = build(
        &space,
        "one",
        &["--cache-to", &spec, "-o", "type=oci,dest=1.tar"],
    )
    .ok();
    assert!(!first.stderr.contains("warning"), "{}", first.stderr);
    let again = build(
        &space,
        "two",
        &["--cache-from", &spec, "-o", "type=oci,dest=2.tar"],
    )
    .ok();
    assert_eq!(
        again.stderr.matches(" CACHED").count(),
        3,
        "{}",
        again.stderr
    );
    let bytes = |name: &str| std::fs::read(space.path(name)).unwrap();
    assert!(bytes("1.tar") == bytes("2.tar"));
}

#[test]
fn a_cluster_that_fails_is_a_warning() {
    let space = Space::new();
    context(&space);
    let Some(server) = Casd::start(&space.path("casd")) else {
        return;
    };
    let spec = format!("type=reapi,url={},mode=max", server.url());
    _ = build(&space, "one", &["--cache-to", &spec]).ok();
    drop(server);
    let away = build(&space, "two", &["--cache-from", &spec, "--cache-to", &spec]).ok();
    assert!(away.stderr.contains("refused"), "{}", away.stderr);
    let strict = format!("{spec},ignore-error=false");
    build(&space, "three", &["--cache-to", &strict]).fails_with(&["grpc://127.0.0.1", "refused"]);
    let wrong = build(&space, "four", &["--cache-to", "type=reapi,url=h:1"]);
    assert_eq!(wrong.status, Some(2));
    assert!(
        wrong.stderr.contains("grpc://HOST:PORT"),
        "{}",
        wrong.stderr
    );
}

/// A blob that goes after its entry was found costs the step's time, not the build.
#[test]
fn what_a_cluster_loses_is_made_again() {
    let space = Space::new();
    context(&space);
    let Some(server) = Casd::start(&space.path("casd")) else {
        return;
    };
    let spec = format!("type=reapi,url={},mode=max", server.url());
    _ = build(&space, "one", &["--cache-to", &spec]).ok();
    let objects = space.path("casd/cas/objects");
    let files = kiln_tests::run(
        "find",
        &[
            objects.to_str().unwrap(),
            "-size",
            "+1000k",
            "-print",
            "-delete",
        ],
    );
    assert!(!files.stdout.is_empty());
    let again = build(
        &space,
        "two",
        &["--cache-from", &spec, "-o", "type=oci,dest=2.tar"],
    )
    .ok();
    assert!(again.stderr.contains("RUN head"), "{}", again.stderr);
    assert!(space.path("2.tar").exists());
}
