//! How registries are spoken to and logged in to, from the command line.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Registry, Run, Space, run};

/// `docker-registry`'s form of the user `user` with the password `hunter2` (bcrypt).
const USER: &str = "user:$2b$04$zIl6gY4skHneMRndUS3dj.oQId0OiA3/nuvcwaIUlilsvIYuV1Ryi";

/// A registry that isn't at 127.0.0.1, so that HTTPS is expected of it.
const ADDRESS: &str = "127.0.0.2";

fn copy_busybox(from: &Registry) -> String {
    let name = from.name("busybox:1");
    let to = format!("docker://{name}");
    let from = format!("docker://{BUSYBOX}");
    let flags = [
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    ];
    let login = ["--dest-creds", "user:hunter2"];
    let _done = run("skopeo", &[&flags[..], &login, &[&from, &to]].concat());
    name
}

fn kiln(space: &Space, args: &[&str]) -> Run {
    let mut command = space.command(args);
    let output = command.env("DOCKER_CONFIG", space.path("none")).output();
    Run::of(&output.unwrap())
}

#[test]
fn a_registry_without_tls_is_named_with_its_setting() {
    let space = Space::new();
    let registry = Registry::start_at(&space.path("registry"), ADDRESS, "");
    let name = copy_busybox(&registry);
    let pull = kiln(&space, &["image", "pull", &name]);
    pull.fails_with(&["answers in plain HTTP", "http = true", "--tls-verify=false"]);
    let _done = kiln(&space, &["image", "pull", &name, "--tls-verify=false"]).ok();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let push = |insecure: &str| {
        let name = registry.name("app:1");
        let output = format!("type=image,name={name},push=true,{insecure}annotation.k=v");
        kiln(&space, &["build", "context", "-o", &output])
    };
    push("").fails_with(&["answers in plain HTTP"]);
    let _done = push("registry.insecure=true,").ok();
    let name = registry.name("app:1");
    let raw = kiln(
        &space,
        &["image", "inspect", "--raw", "--tls-verify=false", &name],
    );
    assert!(raw.ok().stdout.contains(r#""annotations":{"k":"v"}"#));
}

/// An authority's certificate, and one by it for the registry: files of a directory.
fn certificates(directory: &Path) {
    std::fs::create_dir_all(directory.join("trusted")).unwrap();
    let at = |name: &str| directory.join(name).display().to_string();
    let make = |name: &str, key: &str, out: &str, more: &[&str]| {
        let subject = format!("/CN={name}");
        let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt"];
        let options = ["ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let files = ["-subj", &subject, "-keyout", key, "-out", out];
        let _done = run("openssl", &[&request[..], &options, &files, more].concat());
    };
    let (authority, authority_key) = (at("trusted/ca.crt"), at("ca.key"));
    make("authority", &authority_key, &authority, &[]);
    let name = format!("subjectAltName=IP:{ADDRESS}");
    let by = [
        "-CA",
        &authority,
        "-CAkey",
        &authority_key,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        &name,
    ];
    make("registry", &at("key.pem"), &at("own.pem"), &by);
}

#[test]
fn certificates_and_credentials_for_one_command() {
    let space = Space::new();
    certificates(&space.path("tls"));
    std::fs::write(space.path("htpasswd"), USER).unwrap();
    let settings = format!(
        "  tls: {{certificate: {0}/tls/own.pem, key: {0}/tls/key.pem}}\nauth:\n  htpasswd: {{realm: x, path: {0}/htpasswd}}\n",
        space.path("").display()
    );
    let registry = Registry::start_at(&space.path("registry"), ADDRESS, &settings);
    let name = copy_busybox(&registry);
    let host = name.split('/').next().unwrap();
    let pull = |args: &[&str]| kiln(&space, &[&["image", "pull", &name], args].concat());
    pull(&[]).fails_with(&["isn't trusted", "--cert-dir"]);
    let directory = space.path("tls/trusted").display().to_string();
    let trusting = ["--cert-dir", &directory];
    pull(&trusting).fails_with(&["refuses access", "docker login"]);
    let with = |args: &[&str]| pull(&[&trusting[..], args].concat());
    with(&["--creds", "user:wrong"]).fails_with(&["refuses access"]);
    let _done = with(&["--creds", "user:hunter2"]).ok();
    let _done = pull(&["--tls-verify=false", "--creds", "user:hunter2"]).ok();
    // In the form of podman's auth.json; base64 of user:hunter2.
    let file = space.path("auth.json").display().to_string();
    let text = format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjpodW50ZXIy"}}}}}}"#);
    std::fs::write(&file, text).unwrap();
    let _done = with(&["--authfile", &file]).ok();
    let missing = with(&["--authfile", "/no/such/file"]);
    assert_eq!(missing.status, Some(2), "{}", missing.stderr);

    // What a build file names is not given credentials that name no registry.
    space.write("Dockerfile", format!("FROM {name}\nRUN true\n"));
    let build = |login: &str| {
        let own = ["build", "context", "--no-cache", "--pull", "--creds", login];
        kiln(&space, &[&own[..], &trusting].concat())
    };
    let refused = build("user:hunter2");
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--creds HOST=USER:PASSWORD"));
    let _done = build(&format!("{host}=user:hunter2")).ok();
    let history = kiln(&space, &["history", "--json"]).ok();
    assert!(!history.stdout.contains("hunter2"));
}
