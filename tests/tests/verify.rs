//! Signatures that base images must have: in kiln.toml, in kiln.lock, by several keys.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Script, Space, run};

/// A registry with a base image that has been signed with the keys `a` and `b`, of three.
struct World {
    space: Space,
    _registry: Script,
    base: String,
}

impl World {
    fn new() -> Self {
        let space = Space::new();
        let registry = Script::referrers("");
        let base = format!("127.0.0.1:{}/base:1", registry.port());
        for name in ["a", "b", "c"] {
            let key = space.path(format!("{name}.key")).display().to_string();
            let public = space.path(format!("context/{name}.pub"));
            let public = public.display().to_string();
            let curve = ["-pkeyopt", "ec_paramgen_curve:P-256"];
            let make = [
                "genpkey",
                "-algorithm",
                "EC",
                curve[0],
                curve[1],
                "-out",
                &key,
            ];
            _ = run("openssl", &make).ok();
            _ = run(
                "openssl",
                &["pkey", "-in", &key, "-pubout", "-out", &public],
            )
            .ok();
        }
        let world = Self {
            space,
            _registry: registry,
            base,
        };
        world.space.write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\nRUN echo base > /base\n"),
        );
        for name in ["a", "b"] {
            let key = format!("key={}", world.space.path(format!("{name}.key")).display());
            let flags = ["--push", "-t", &world.base, "--sbom", "--sign", &key];
            _ = world.space.build(&flags).ok();
        }
        std::fs::remove_file(world.space.path("context/Dockerfile")).unwrap();
        // What is built here has no say: the image comes from the registry.
        std::fs::remove_dir_all(world.space.path("store")).unwrap();
        world
    }

    fn toml(&self, source: &str, image: &str) {
        let base = &self.base;
        self.space.write(
            "kiln.toml",
            format!(
                "version = 1\n[sources.base]\nimage = '{base}'\n{source}\n[steps.a]\nfrom = 'base'\nrun = 'cat /base'\n[images.app]\nfrom = 'a'\n{image}\n"
            ),
        );
    }

    /// Whether it is built; else, that `says` is why, and nothing ran.
    fn check(&self, flags: &[&str], says: Option<&str>) {
        let run = self.space.build(flags);
        match says {
            None => _ = run.ok(),
            Some(says) => {
                assert_ne!(run.status, Some(0), "{says}");
                assert!(run.stderr.contains(says), "{says}: {}", run.stderr);
                assert!(!run.stderr.contains("#1 "), "{}", run.stderr);
            }
        }
    }
}

const CASES: &[(&str, Option<&str>)] = &[
    ("key = 'a.pub'", None),
    ("key = 'a.pub', attestations = ['sbom']", None),
    ("keys = ['a.pub', 'b.pub', 'c.pub'], threshold = 2", None),
    ("key = 'c.pub'", Some("it must be signed by c.pub")),
    (
        "keys = ['a.pub', 'a.pub'], threshold = 2",
        Some("2 of 1 signers can't be wanted"),
    ),
    (
        "keys = ['a.pub', 'c.pub'], threshold = 2",
        Some("it must be signed by 2 of a.pub, c.pub"),
    ),
    (
        "key = 'a.pub', attestations = ['cyclonedx']",
        Some("its cyclonedx must be signed by a.pub"),
    ),
    (
        "key = 'a.pub', attestations = ['sbm']",
        Some("unknown attestation 'sbm'"),
    ),
    ("key = 'none.pub'", Some("none.pub")),
    ("key = '../a.key'", Some("a.key")),
    ("threshold = 1", Some("name who must have signed")),
    (
        "identity = 'x', issuer = 'y'",
        Some("identity and issuer go together"),
    ),
];

#[test]
fn a_kiln_toml_says_who_must_have_signed() {
    let world = World::new();
    for (rule, says) in CASES {
        world.toml(&format!("verify = {{ {rule} }}"), "");
        world.check(&[], *says);
        // All images that an image is made from, unless their sources say something themselves.
        world.toml("", &format!("verify = {{ {rule} }}"));
        world.check(&["--no-cache"], *says);
    }
    world.toml("verify = { key = 'a.pub' }", "verify = { key = 'c.pub' }");
    world.check(&[], None);
    // The same image under another name in the file is held to it, too.
    world.toml("verify = { key = 'c.pub' }", "");
    let text = std::fs::read_to_string(world.space.path("context/kiln.toml")).unwrap();
    let direct = text.replace("from = 'base'", &format!("from = '{}'", world.base));
    let direct = direct.replace(
        "run = 'cat /base'",
        "copy = [{ from = 'base', paths = ['/base'], to = '/x' }]",
    );
    world.space.write("kiln.toml", direct);
    world.check(&[], Some("it must be signed by c.pub"));
    // What a step writes is a value: the step needs the signature before it runs.
    let value = "verify = { key = 'c.pub' }\n[steps.v]\nfrom = 'base'\nrun = 'echo 1'";
    world.toml(value, "labels = { v = '{{ steps.v.stdout }}' }");
    world.check(&[], Some("it must be signed by c.pub"));
    world.toml("git = 'x'\nverify = { key = 'c.pub' }", "");
    world.check(&[], Some("needs exactly one of"));
}

#[test]
fn a_lock_says_who_must_have_signed() {
    let world = World::new();
    let lock = || world.space.path("context/kiln.lock");
    world.space.write(
        "Dockerfile",
        format!("FROM {}\nRUN cat /base\n", world.base),
    );
    _ = world.space.kiln(&["lock", "context"]).ok();
    let locked = std::fs::read_to_string(lock()).unwrap();
    for (rule, says) in CASES {
        let text = format!("{locked}verify = {{ {rule} }}\n");
        std::fs::write(lock(), text).unwrap();
        world.check(&["--no-cache"], *says);
    }
    // It stays when the rest is locked again, and counts for what is locked then.
    std::fs::write(lock(), format!("{locked}verify = {{ key = 'a.pub' }}\n")).unwrap();
    _ = world.space.kiln(&["lock", "context", "--update"]).ok();
    let again = std::fs::read_to_string(lock()).unwrap();
    assert!(again.contains("a.pub"), "{again}");
    std::fs::write(lock(), format!("{locked}verify = {{ key = 'c.pub' }}\n")).unwrap();
    let update = world.space.kiln(&["lock", "context", "--update"]);
    update.fails_with(&["it must be signed by c.pub"]);
}

#[test]
fn a_lock_holds_an_image_to_it_however_it_is_named() {
    let world = World::new();
    let lock = || world.space.path("context/kiln.lock");
    let file = |base: &str| {
        let text = format!("FROM {base}\nRUN cat /base\n");
        world.space.write("Dockerfile", text);
    };
    file(&world.base);
    _ = world.space.kiln(&["lock", "context"]).ok();
    let locked = std::fs::read_to_string(lock()).unwrap();
    let held = format!("{locked}verify = {{ key = 'c.pub' }}\n");
    std::fs::write(lock(), &held).unwrap();
    file(&format!(
        "{}@{}",
        world.base,
        kiln_tests::digest(&world.base)
    ));
    world.check(&[], Some("it must be signed by c.pub"));

    // What isn't named for a while is held to it when it is named again.
    file(BUSYBOX);
    for flags in [&["lock", "context"][..], &["lock", "context", "--update"]] {
        _ = world.space.kiln(flags).ok();
    }
    file(&world.base);
    world.check(&[], Some("it must be signed by c.pub"));
}

#[test]
fn several_keys_on_the_command_line() {
    let world = World::new();
    let key = |name: &str| {
        world
            .space
            .path(format!("context/{name}.pub"))
            .display()
            .to_string()
    };
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let verify = |flags: &[&str]| {
        world
            .space
            .kiln(&[&["verify", &world.base], flags].concat())
    };
    _ = verify(&["--key", &a, "--key", &b, "--threshold", "2"]).ok();
    _ = verify(&["--key", &c, "--key", &b]).ok();
    let few = verify(&["--key", &a, "--key", &c, "--threshold", "2"]);
    few.fails_with(&["no valid signature of 2 of"]);
    let json = verify(&["--key", &a, "--json"]).ok().stdout;
    assert!(
        serde_json::from_str::<serde_json::Value>(&json)
            .unwrap()
            .is_array()
    );
    for flags in [
        &["--key", &a, "--threshold", "2"][..],
        &["--key", &a, "--threshold", "0"],
        &[],
        &["--key", &a, "--attestation", "sbm"],
        &["--key", &a, "--timestamp-roots", &a],
        &["--certificate-identity", "x"],
        &["--certificate-oidc-issuer", "x"],
        &["--trusted-root", &a],
        &["--trusted-root", &a, "--key", &a],
        &[
            "--certificate-identity-regexp",
            "(",
            "--certificate-oidc-issuer",
            "y",
            "--ca-roots",
            &a,
            "--rekor-key",
            &a,
        ],
        &[
            "--certificate-identity",
            "x",
            "--certificate-oidc-issuer",
            "y",
            "--trusted-root",
            &a,
        ],
        &["--certificate-identity", "x", "--key", &a],
    ] {
        assert_eq!(verify(flags).status, Some(2), "{flags:?}");
    }
    let nowhere = world.space.kiln(&["verify", "oci:layout", "--key", &a]);
    assert_eq!(nowhere.status, Some(2), "{}", nowhere.stderr);
    assert!(
        nowhere.stderr.contains("in no registry"),
        "{}",
        nowhere.stderr
    );
    let plain = format!("{}-plain", world.base);
    world.space.write("Dockerfile", format!("FROM {BUSYBOX}\n"));
    _ = world
        .space
        .build(&["--push", "-t", &plain, "--provenance=false"])
        .ok();
    let unsigned = world.space.kiln(&["verify", &plain, "--key", &a]);
    unsigned.fails_with(&["its registry has no signature of it"]);
    let identity = [
        "--certificate-identity",
        "x",
        "--certificate-oidc-issuer",
        "y",
    ];
    let files = ["--ca-roots", &a, "--rekor-key", &a];
    let wrong = verify(&[&identity[..], &files].concat());
    assert!(wrong.stderr.contains("no certificate"), "{}", wrong.stderr);
}
