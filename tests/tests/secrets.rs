//! Secrets: every provider, no trace of their values, and the search for what steps leave behind.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::Aead as _;
use crypto_box::{SalsaBox, SecretKey};
use kiln_tests::{BUSYBOX, Run, Script, Space};

/// Whether a file below `directory` holds a text.
fn holds(directory: &Path, text: &str) -> Vec<String> {
    let output = std::process::Command::new("grep")
        .args(["-rlaF", "--", text])
        .arg(directory)
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    found.lines().map(str::to_owned).collect()
}

/// An EJSON file with one value, and the directory with its key.
fn ejson(space: &Space, value: &str) {
    let (own, other) = (SecretKey::from([5; 32]), SecretKey::from([6; 32]));
    let nonce = [1; 24];
    let sealed = SalsaBox::new(&own.public_key(), &other).encrypt(&nonce.into(), value.as_bytes());
    let public = hex::encode(own.public_key().as_bytes());
    let sealed = format!(
        "EJ[1:{}:{}:{}]",
        STANDARD.encode(other.public_key().as_bytes()),
        STANDARD.encode(nonce),
        STANDARD.encode(sealed.unwrap())
    );
    let text = format!(r#"{{"_public_key": "{public}", "db": {{"password": "{sealed}"}}}}"#);
    std::fs::write(space.path("s.ejson"), text).unwrap();
    std::fs::create_dir(space.path("keys")).unwrap();
    std::fs::write(space.path("keys").join(public), hex::encode([5; 32])).unwrap();
}

/// An age file, and the identity that opens it.
fn age_file(space: &Space, value: &str) {
    let identity = age::x25519::Identity::generate();
    let sealed = age::encrypt(&identity.to_public(), value.as_bytes()).unwrap();
    std::fs::write(space.path("s.age"), sealed).unwrap();
    use age::secrecy::ExposeSecret as _;
    std::fs::write(space.path("age.key"), identity.to_string().expose_secret()).unwrap();
}

/// A stand-in for Vault's KV version 2 that checks path and token.
const VAULT: &str = r#"
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        right = self.headers.get("X-Vault-Token") == "t0k3n-of-vault"
        found = self.path == "/v1/secret/data/app"
        status = 403 if not right else 404 if not found else 200
        self.send_response(status)
        self.end_headers()
        if status == 200:
            self.wfile.write(json.dumps({"data": {"data": {"key": "value-from-vault"}, "metadata": {}}}).encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print("port", server.server_port, flush=True)
server.serve_forever()
"#;

#[test]
fn every_provider_and_no_trace() {
    let space = Space::new();
    let values = [
        ("file", "value-from-file"),
        ("env", "value-from-env"),
        ("exec", "value-from-exec"),
        ("vault", "value-from-vault"),
        ("ejson", "value-from-ejson"),
        ("age", "value-from-age"),
    ];
    std::fs::write(space.path("s.txt"), "value-from-file").unwrap();
    ejson(&space, "value-from-ejson");
    age_file(&space, "value-from-age");
    let vault = Script::python(VAULT);
    let mut file = format!("FROM {BUSYBOX}\n");
    for (id, value) in values {
        let (start, end) = value.split_at(8);
        file += &format!(
            "RUN --mount=type=secret,id={id},required,env=S <<E\n test \"$S\" = {start}{end} || echo wrong\n echo \"{id}: $S\"; A=\"${{S%????}}\"; printf '%s' \"$A\"; sleep 0.1; echo \"${{S#\"$A\"}}.\"\n echo {id} > /done-{id}\nE\n"
        );
    }
    // The values themselves must not stand in the build file.
    let file = file.replace("value-from-", "value-'from'-");
    space.write("Dockerfile", &file);
    let oci = space.path("image.tar");
    let mut command = space.command(&["build", "context", "--progress", "rawjson"]);
    command
        .args([
            "--secret",
            "id=file,src=s.txt",
            "--secret",
            "id=env,env=THE_SECRET",
        ])
        .args(["--secret", "id=exec,src=exec:echo value-''from-exec"])
        .args(["--secret", "id=vault,src=vault:secret/app#key"])
        .args(["--secret", "id=ejson,src=ejson:s.ejson#db.password"])
        .args(["--secret", "id=age,src=age:s.age", "-o"])
        .arg(format!("type=oci,dest={}", oci.display()))
        .env("THE_SECRET", "value-from-env")
        .env("VAULT_ADDR", format!("http://127.0.0.1:{}", vault.port()))
        .env("VAULT_TOKEN", "t0k3n-of-vault")
        .env("EJSON_KEYDIR", space.path("keys"))
        .env("AGE_IDENTITY", space.path("age.key"));
    let run = Run::of(&command.output().unwrap()).ok();
    assert!(!run.stderr.contains("\"bytes\":\"wrong"), "{}", run.stderr);
    assert!(run.stderr.contains("vault: ***"), "{}", run.stderr);
    assert!(run.stderr.contains("***.\\n"), "{}", run.stderr);
    for (_, value) in values {
        assert!(!run.stderr.contains(value), "{}", run.stderr);
        assert_eq!(holds(&space.path("store"), value), [""; 0]);
    }
    std::fs::create_dir(space.path("unpacked")).unwrap();
    let script = "cd unpacked; tar xf ../image.tar; for f in blobs/sha256/*; do zcat $f 2>/dev/null || cat $f; done > all";
    let unpacked = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(space.path(""))
        .status();
    assert!(unpacked.unwrap().success());
    assert_eq!(holds(&space.path("unpacked"), "value-from-"), [""; 0]);
}

#[test]
fn providers_that_refuse() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN --mount=type=secret,id=s,required true\n"),
    );
    let vault = Script::python(VAULT);
    let build = |source: &str, token: &str| {
        let mut command = space.command(&[
            "build",
            "context",
            "--secret",
            &format!("id=s,src={source}"),
        ]);
        command
            .env("VAULT_ADDR", format!("http://127.0.0.1:{}", vault.port()))
            .env("VAULT_TOKEN", token);
        Run::of(&command.output().unwrap())
    };
    build("vault:secret/app#key", "wrong").fails_with(&["refuses the token", "Dockerfile:2"]);
    build("vault:secret/none#key", "t0k3n-of-vault").fails_with(&["nothing at secret/none"]);
    build("vault:secret/app#none", "t0k3n-of-vault").fails_with(&["no field 'none'"]);
    build("exec:exit 7", "").fails_with(&["exit status: 7"]);
    build("age:/no/such", "").fails_with(&["/no/such"]);
    space.build(&[]).fails_with(&["--secret id=s,src=FILE"]);
}

#[test]
fn a_secret_left_behind_stops_the_build() {
    let space = Space::new();
    std::fs::write(space.path("s.txt"), "hunter2-and-more\n").unwrap();
    let secret = ["--secret", "id=token,src=s.txt"];
    let run = "RUN --mount=type=secret,id=token --mount=type=cache,target=/cache";
    let cases = [
        ("cp /run/secrets/token /kept", "/kept"),
        ("base64 < /run/secrets/token > /kept", "base64"),
        (
            "{ printf xy; cat /run/secrets/token; } | base64 > /kept",
            "base64",
        ),
        (
            "od -An -tx1 -v < /run/secrets/token | tr -d ' \\n' > /kept",
            "hexadecimal",
        ),
        ("ln -s \"$(cat /run/secrets/token)\" /link", "in /link"),
        ("mkdir \"/$(cat /run/secrets/token)\"", "in a name in / "),
        ("cp /run/secrets/token /cache/kept", "cache volume"),
    ];
    for (script, want) in cases {
        space.write("Dockerfile", format!("FROM {BUSYBOX}\n{run} {script}\n"));
        let failed = space.build(&secret);
        assert!(!failed.stderr.contains("hunter2"), "{}", failed.stderr);
        failed.fails_with(&["the secret 'token' was found", want, "Dockerfile:2"]);
        _ = space.kiln(&["prune", "--all", "--force"]).ok();
    }
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nARG A\nENV B=$A\n{run} true\n"),
    );
    let arg = ["--build-arg", "A=hunter2-and-more"];
    space.build(&[&secret[..], &arg[..]].concat()).fails_with(&[
        "the image's configuration (ENV B): no image",
        "sensitive=false",
    ]);
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\n{run} cp /run/secrets/token /etc/wanted\n"),
    );
    let allowed = ["--allow-secret-in", "/etc/want*"];
    _ = space.build(&[&secret[..], &allowed[..]].concat()).ok();
}

#[test]
fn a_changed_secret_counts_only_when_asked_for() {
    let space = Space::new();
    let set = |value: &str| {
        let mut file = std::fs::File::create(space.path("s.txt")).unwrap();
        file.write_all(value.as_bytes()).unwrap();
    };
    let id = |spec: &str| {
        let out = space.build_files(&["--secret", spec]);
        std::fs::read_to_string(out.join("id")).unwrap()
    };
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\nRUN --mount=type=secret,id=s cat /proc/sys/kernel/random/uuid > /id\n"
        ),
    );
    set("first-value");
    let (plain, keyed) = (id("id=s,src=s.txt"), id("id=s,src=s.txt,in-key=true"));
    assert_ne!(plain, keyed);
    set("second-value");
    assert_eq!(id("id=s,src=s.txt"), plain);
    assert_ne!(id("id=s,src=s.txt,in-key=true"), keyed);
}

/// Nobody is asked for a secret that no step needs.
#[test]
fn secrets_are_asked_for_when_a_step_needs_them() {
    let space = Space::new();
    let asked = space.path("asked").display().to_string();
    let secret = format!("id=s,src=exec:echo x >> {asked}; echo value-from-exec");
    let times = || std::fs::read_to_string(&asked).map_or(0, |text| text.lines().count());
    let build = |text: &str| {
        space.write("Dockerfile", format!("FROM {BUSYBOX}\n{text}"));
        space.build(&["--secret", &secret, "-t", "a:1"])
    };
    let run = "RUN --mount=type=secret,id=s,required test -s /run/secrets/s\n";
    _ = build("RUN true\n").ok();
    assert_eq!(times(), 0, "no step names it");
    _ = build(run).ok();
    assert_eq!(times(), 1);
    _ = build(run).ok();
    assert_eq!(times(), 1, "all is cached");
    build(&format!(
        "{run}RUN --mount=type=secret,id=s echo again\nLABEL a=value-from-exec\n"
    ))
    .fails_with(&["the image's configuration"]);
    assert_eq!(times(), 2, "a step needed it");
}

/// Public bytes, and text that a step's root had before.
#[test]
fn what_is_no_leak() {
    let space = Space::new();
    std::fs::write(space.path("ca.pem"), "certificate-of-everybody\n").unwrap();
    let copy =
        "RUN --mount=type=secret,id=ca cat /run/secrets/ca; cp /run/secrets/ca /etc/ca.pem\n";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{copy}"));
    space
        .build(&["--secret", "id=ca,src=ca.pem"])
        .fails_with(&["the secret 'ca' was found"]);
    let shown = space
        .build(&["--secret", "id=ca,src=ca.pem,sensitive=false"])
        .ok();
    assert!(
        shown.stderr.contains("certificate-of-everybody"),
        "{}",
        shown.stderr
    );
    space.write("bundle", "before certificate-of-everybody\n");
    let before = "COPY bundle /etc/bundle\n";
    let after =
        "RUN --mount=type=secret,id=ca cat /etc/bundle > /etc/new; mv /etc/new /etc/bundle\n";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{before}{after}"));
    _ = space.build(&["--secret", "id=ca,src=ca.pem"]).ok();
    // An image tells what its base told.
    let base = "127.0.0.1:1/base:1";
    let env = "ENV CA=certificate-of-everybody\n";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{env}"));
    _ = space.build(&["-t", base]).ok();
    let run = "RUN --mount=type=secret,id=ca test -s /run/secrets/ca\n";
    space.write("Dockerfile", format!("FROM {base}\n{run}"));
    _ = space
        .build(&["--secret", "id=ca,src=ca.pem", "-t", "a:1"])
        .ok();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{run}{env}"));
    space
        .build(&["--secret", "id=ca,src=ca.pem", "-t", "a:1"])
        .fails_with(&["the image's configuration (ENV CA)"]);
    let wrong = space.build(&["--secret", "id=ca,src=ca.pem,sensitive=maybe"]);
    assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
}
