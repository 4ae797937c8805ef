//! What the command says when something was probably meant otherwise.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{Script, Space};

#[test]
fn a_misspelt_stage_is_not_only_an_image_that_is_missing() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        "FROM scratch AS builder\nCOPY Dockerfile /\nFROM scratch\nCOPY --from=bulider /Dockerfile /\n",
    );
    let run = space.build(&["--pull=never"]);
    run.fails_with(&["did you mean the stage builder?", "Dockerfile:4"]);
}

#[test]
fn arguments_that_nothing_declares_are_warned_about() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        "ARG BASE=scratch\nFROM ${BASE}\nARG VERSION\nCOPY . /\n",
    );
    let known = [
        "VERSION=1",
        "BASE=scratch",
        "HTTP_PROXY=x",
        "SOURCE_DATE_EPOCH=1",
    ];
    let known = known.iter().flat_map(|text| ["--build-arg", text]);
    let run = space.build(&known.collect::<Vec<_>>()).ok();
    assert!(
        !run.stderr.contains("no ARG has this name"),
        "{}",
        run.stderr
    );
    let run = space
        .build(&["--build-arg", "VERSOIN=1", "--build-arg", "NIX=1"])
        .ok();
    for text in [
        "--build-arg VERSOIN: no ARG has this name; did you mean VERSION?",
        "--build-arg NIX: no ARG has this name",
    ] {
        assert!(run.stderr.contains(text), "{}", run.stderr);
    }
}

#[test]
fn which_build_file_is_used_is_said() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let run = space.build(&[]).ok();
    assert!(
        run.stderr.contains("building context (Dockerfile)"),
        "{}",
        run.stderr
    );
    space.write("Cargo.toml", "[package]\nname = 'x'\n");
    let init = space.kiln(&["init", "context"]);
    assert_eq!(init.status, Some(2), "{}", init.stderr);
    assert!(
        init.stderr.contains("kiln convert context/Dockerfile"),
        "{}",
        init.stderr
    );
    assert!(!space.path("context/kiln.toml").exists());
    let convert = ["convert", "context/Dockerfile", "-o", "context/kiln.toml"];
    let _done = space.kiln(&convert).ok();
    let run = space.build(&[]).ok();
    for text in ["building context/kiln.toml", "-f context/Dockerfile"] {
        assert!(run.stderr.contains(text), "{}", run.stderr);
    }
    let quiet = space.build(&["-q"]).ok();
    assert!(!quiet.stderr.contains("building"), "{}", quiet.stderr);
}

#[test]
fn an_address_that_leads_nowhere_is_shown_with_its_line() {
    let server = Script::python(
        "import http.server\ns = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\nprint('port', s.server_port, flush=True)\ns.serve_forever()\n",
    );
    let address = format!("http://127.0.0.1:{}/no/such.tar", server.port());
    let space = Space::new();
    space.write("Dockerfile", format!("FROM scratch\nADD {address} /\n"));
    let run = space.build(&[]);
    run.fails_with(&["not found", "check the address", "Dockerfile:2", ">>> ADD"]);
    let context = space.kiln(&["build", &address]);
    context.fails_with(&["not found", "check the address"]);
}

#[test]
fn files_that_the_ignore_list_hides_are_named_with_its_line() {
    let space = Space::new();
    space.write(".dockerignore", "*.txt\n").write("a.txt", "x");
    space.write("Dockerfile", "FROM scratch\nCOPY a.txt /\n");
    space
        .build(&[])
        .fails_with(&[".dockerignore leaves it out ('*.txt')"]);
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfiel /\n");
    space.build(&[]).fails_with(&["did you mean Dockerfile?"]);
}
