//! Signatures without keys: made with Sigstore's services (those of `@sigstore/mock`), verified by kiln and by
//! `@sigstore/verify`.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;

use kiln_tests::{BUSYBOX, ISSUER, Run, Script, Sigstore, Space, WORKFLOW, attach_bundle};
use serde_json::{Value, json};

/// Services, a registry, and a directory to build in.
struct World {
    space: Space,
    sigstore: Sigstore,
    registry: Script,
}

impl World {
    /// `None` where the services could not be fetched.
    fn new() -> Option<Self> {
        let space = Space::new();
        let sigstore = Sigstore::start(&space.path("sigstore"))?;
        Some(Self {
            sigstore,
            registry: Script::referrers(""),
            space,
        })
    }

    fn name(&self, tag: &str) -> String {
        format!("127.0.0.1:{}/app:{tag}", self.registry.port())
    }

    /// Builds and signs; `more` follows the addresses of the services.
    fn sign_by(&self, tag: &str, (fulcio, rekor): (&str, &str), more: &str, flags: &[&str]) -> Run {
        // Each tag is an image of its own: signatures are of digests.
        let file = format!("FROM {BUSYBOX}\nRUN echo {tag} > /signed\n");
        self.space.write("Dockerfile", file);
        let (fulcio, rekor) = (self.sigstore.url(fulcio), self.sigstore.url(rekor));
        let sign = format!("keyless,fulcio={fulcio},rekor={rekor}{more}");
        let name = self.name(tag);
        let own = ["--push", "-t", &name, "--sign", &sign];
        self.space.build(&[&own[..], flags].concat())
    }

    fn sign(&self, tag: &str, more: &str) -> Run {
        let token = format!(",token=file:{}{more}", self.sigstore.file("token"));
        self.sign_by(tag, ("", ""), &token, &[])
    }

    fn verify_with(&self, tag: &str, flags: &[&str]) -> Run {
        let (name, root) = (self.name(tag), self.sigstore.file("trusted_root.json"));
        let own = ["verify", &name, "--trusted-root", &root];
        self.space.kiln(&[&own[..], flags].concat())
    }

    fn verify(&self, tag: &str) -> Run {
        let (identity, issuer) = ("--certificate-identity", "--certificate-oidc-issuer");
        self.verify_with(tag, &[identity, WORKFLOW, issuer, ISSUER])
    }

    /// The documents below an image, as the registry has them.
    fn get(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/v2/app/{path}", self.registry.port());
        let out = kiln_tests::run("curl", &["-fsS", &url]).ok();
        serde_json::from_str(&out.stdout).unwrap()
    }

    /// The bundles of an image, as files.
    fn bundles(&self, tag: &str) -> Vec<PathBuf> {
        let image = kiln_tests::digest(&self.name(tag));
        let referrers = self.get(&format!("referrers/{image}"));
        let all = referrers["manifests"].as_array().unwrap().iter();
        let bundles = all.filter(|one| {
            let kind = one["artifactType"].as_str().unwrap_or_default();
            kind.contains("sigstore.bundle")
        });
        let file = |(place, one): (usize, &Value)| {
            let digest = one["digest"].as_str().unwrap();
            let manifest = self.get(&format!("manifests/{digest}"));
            let layer = manifest["layers"][0]["digest"].as_str().unwrap();
            let path = self.space.path(format!("{tag}-{place}.json"));
            std::fs::write(&path, self.get(&format!("blobs/{layer}")).to_string()).unwrap();
            path
        };
        bundles.enumerate().map(file).collect()
    }

    fn judge(&self, identity: &str, bundles: &[PathBuf]) -> (bool, String) {
        let output = self.sigstore.judge(ISSUER, identity, bundles);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    }
}

#[test]
fn both_versions_of_the_log() {
    let Some(world) = World::new() else { return };
    let stamp = format!(",timestamp={}/api/v1/timestamp", world.sigstore.url(""));
    let cases = [
        ("one", String::new()),
        ("stamped", stamp.clone()),
        ("two", format!(",rekor-version=2{stamp}")),
    ];
    for (tag, more) in cases {
        _ = world.sign(tag, &more).ok();
        let verified = world.verify(tag).ok().stdout;
        for kind in ["cosign/sign/v1", "slsa.dev/provenance/v1"] {
            assert!(verified.contains(kind), "{tag}: {verified}");
        }
        let bundles = world.bundles(tag);
        assert_eq!(bundles.len(), 2);
        let (fits, said) = world.judge(WORKFLOW, &bundles);
        assert!(fits, "{tag}: {said}");
        let (fits, _) = world.judge("https://github.com/o/other", &bundles);
        assert!(!fits);
    }
}

#[test]
fn whoever_else_signed_is_refused() {
    let Some(world) = World::new() else { return };
    _ = world.sign("one", "").ok();
    let (identity, issuer) = ("--certificate-identity", "--certificate-oidc-issuer");
    let (identities, issuers) = (
        "--certificate-identity-regexp",
        "--certificate-oidc-issuer-regexp",
    );
    for flags in [
        [identity, "https://github.com/o/r/*", issuer, ISSUER],
        [
            identities,
            "^https://github.com/o/",
            issuers,
            "^https://token",
        ],
    ] {
        _ = world.verify_with("one", &flags).ok();
    }
    for flags in [
        [identity, "https://github.com/o/x/*", issuer, ISSUER],
        [identity, WORKFLOW, issuer, "https://accounts.example"],
        [identities, "^github", issuer, ISSUER],
        [identity, WORKFLOW, issuers, "^https://accounts"],
    ] {
        let run = world.verify_with("one", &flags);
        run.fails_with(&["it was signed by", WORKFLOW, ISSUER]);
    }
    // Services of somebody else, whom nobody believes.
    let stranger = Sigstore::start(&world.space.path("stranger")).unwrap();
    let verify = |flags: &[&str]| {
        let name = world.name("one");
        let who = [identity, WORKFLOW, issuer, ISSUER];
        world
            .space
            .kiln(&[&["verify", &name], &who[..], flags].concat())
    };
    let run = verify(&["--trusted-root", &stranger.file("trusted_root.json")]);
    run.fails_with(&["ignored: the transparency log doesn't vouch for the signature"]);
    let (own, other) = (world.sigstore.file("rekor.pub"), stranger.file("ca.pem"));
    let run = verify(&["--rekor-key", &own, "--ca-roots", &other]);
    run.fails_with(&["the certificate doesn't hold"]);
    let run = verify(&[
        "--rekor-key",
        &own,
        "--ca-roots",
        &world.sigstore.file("ca.pem"),
    ]);
    _ = run.ok();
}

#[test]
fn certificates_and_entries_that_do_not_hold() {
    let Some(world) = World::new() else { return };
    let token = format!(",token=file:{}", world.sigstore.file("token"));
    let cases = [
        // Its certificate had expired when the log saw the signature.
        ("late", ("/late", ""), "it had expired when it signed"),
        // No log of certificates has it.
        (
            "unlogged",
            ("/unlogged", ""),
            "no log of certificates vouches for it",
        ),
    ];
    for (tag, services, why) in cases {
        _ = world.sign_by(tag, services, &token, &[]).ok();
        world.verify(tag).fails_with(&[why]);
        let (fits, _) = world.judge(WORKFLOW, &world.bundles(tag));
        assert!(!fits, "{tag}");
    }
    // A log that answers with another entry is noticed before anything is pushed.
    let run = world.sign_by("replay", ("", "/replay"), &token, &[]);
    run.fails_with(&["cannot sign: Rekor", "its entry is of another signature"]);
    assert!(world.verify("replay").status != Some(0));
    // One that has the entry when its answer is lost is asked for it.
    _ = world
        .sign_by("again", ("", "/again"), &token, &["--provenance=false"])
        .ok();
    _ = world.verify("again").ok();
    let (fits, said) = world.judge(WORKFLOW, &world.bundles("again"));
    assert!(fits, "{said}");
    let run = world.sign_by("claims", ("", "/claims"), &token, &[]);
    run.fails_with(&["its entry is of another signature"]);
    let run = world.sign_by("conflict", ("", "/conflict"), &token, &[]);
    run.fails_with(&["it answered 409: there already"]);
    // One that is busy is asked again.
    _ = world.sign_by("busy", ("", "/busy"), &token, &[]).ok();
    _ = world.verify("busy").ok();
}

/// Attaches a bundle to an image by hand.
fn attach(world: &World, tag: &str, bundle: &Value) {
    let file = world.space.path("attached.json");
    std::fs::write(&file, bundle.to_string()).unwrap();
    attach_bundle(&world.name(tag), &file);
}

#[test]
fn bundles_that_were_changed_or_moved() {
    let Some(world) = World::new() else { return };
    _ = world.sign("one", "").ok();
    let text = std::fs::read_to_string(&world.bundles("one")[0]).unwrap();
    let good: Value = serde_json::from_str(&text).unwrap();
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 5] = [
        ("moved", |_| {}, "the statement is about another image"),
        (
            "unproven",
            |one| {
                let entry = &mut one["verificationMaterial"]["tlogEntries"][0];
                entry["inclusionProof"] = Value::Null;
                entry["inclusionPromise"] = Value::Null;
            },
            "neither a signed timestamp nor a proof",
        ),
        (
            "misproven",
            |one| {
                let entry = &mut one["verificationMaterial"]["tlogEntries"][0];
                entry["inclusionProof"]["logIndex"] = json!("1");
            },
            "its entry is not in the tree of the checkpoint",
        ),
        (
            "unlogged",
            |one| one["verificationMaterial"]["tlogEntries"] = json!([]),
            "there is no entry of a log",
        ),
        (
            "forged",
            |one| one["dsseEnvelope"]["payload"] = json!("e30="),
            "the signature was not made by this key",
        ),
    ];
    for (tag, change, why) in cases {
        let name = world.name(tag);
        world.space.write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\nRUN echo {tag} > /tag\n"),
        );
        _ = world
            .space
            .build(&["--push", "-t", &name, "--provenance=false"])
            .ok();
        let mut changed = good.clone();
        change(&mut changed);
        attach(&world, tag, &changed);
        world.verify(tag).fails_with(&[why]);
    }
}

#[test]
fn tokens_that_cannot_be_used() {
    let Some(world) = World::new() else { return };
    std::fs::write(world.space.path("garbage"), "no token").unwrap();
    let garbage = world.space.path("garbage").display().to_string();
    let old = world.sigstore.file("old-token");
    let services = ("", "");
    let wrong = [
        (format!(",token=file:{garbage}"), "it is no JSON Web Token"),
        (",token=file:/no/such/file".to_owned(), "cannot read"),
        (
            ",token=env:NO_SUCH_VARIABLE_HERE".to_owned(),
            "there is no variable",
        ),
        (String::new(), "nothing says who signs"),
        (",colour=red".to_owned(), "unknown key 'colour'"),
        (
            format!(",token={garbage},rekor-version=2"),
            "name a timestamp authority",
        ),
    ];
    for (more, why) in wrong {
        let run = world.sign_by("x", services, &more, &[]);
        assert_eq!(run.status, Some(2), "{more}: {}", run.stderr);
        assert!(run.stderr.contains(why), "{more}: {}", run.stderr);
    }
    let run = world.sign_by("x", services, &format!(",token={old}"), &[]);
    run.fails_with(&["the identity token can't be used: it expired"]);
    let token = world.sigstore.file("token");
    let run = world.sign_by("x", ("/broken", ""), "", &["--identity-token", &token]);
    run.fails_with(&["cannot sign: Fulcio (127.0.0.1", "it answered 400"]);
    let text = std::fs::read_to_string(&token).unwrap();
    assert!(!run.stderr.contains(&text) && !run.stderr.contains("\u{1b}[31m"));
    let run = world.space.build(&["--identity-token", &token]);
    assert_eq!(run.status, Some(2), "{}", run.stderr);
    let key = [
        "--push",
        "-t",
        &world.name("x"),
        "--sign",
        "key=k",
        "--identity-token",
        &token,
    ];
    assert_eq!(world.space.build(&key).status, Some(2));
}

/// Builds and signs with variables of a CI.
fn sign_in_ci(world: &World, variables: &[(&str, &str)]) -> Run {
    let (fulcio, name) = (world.sigstore.url(""), world.name("ci"));
    let file = format!("FROM {BUSYBOX}\nRUN echo ci > /signed\n");
    world.space.write("Dockerfile", file);
    let sign = format!("keyless,fulcio={fulcio},rekor={fulcio}");
    let mut command = world
        .space
        .command(&["build", "context", "--push", "-t", &name, "--sign", &sign]);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    Run::of(&output)
}

#[test]
fn identities_of_a_ci() {
    let Some(world) = World::new() else { return };
    let url = world.sigstore.url("/token?api-version=2");
    let github = ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str());
    _ = sign_in_ci(
        &world,
        &[github, ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "asks")],
    )
    .ok();
    _ = world.verify("ci").ok();
    let run = sign_in_ci(
        &world,
        &[github, ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "other")],
    );
    run.fails_with(&["cannot sign: GitHub's identity tokens", "it answered 403"]);
    let plain = ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://example.com/");
    let run = sign_in_ci(&world, &[plain, ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "asks")]);
    assert!(
        run.stderr.contains("is reached by https://"),
        "{}",
        run.stderr
    );
    let mail = std::fs::read_to_string(world.sigstore.file("mail-token")).unwrap();
    _ = sign_in_ci(&world, &[("SIGSTORE_ID_TOKEN", &mail)]).ok();
    let (identity, issuer) = ("--certificate-identity", "--certificate-oidc-issuer");
    let flags = [
        identity,
        "me@example.com",
        issuer,
        "https://accounts.example",
    ];
    _ = world.verify_with("ci", &flags).ok();
}

#[test]
fn base_images_by_their_signers() {
    let Some(world) = World::new() else { return };
    _ = world.sign("base", "").ok();
    let base = world.name("base");
    let root = std::fs::read_to_string(world.sigstore.file("trusted_root.json")).unwrap();
    world.space.write("root.json", &root);
    std::fs::remove_file(world.space.path("context/Dockerfile")).unwrap();
    std::fs::remove_dir_all(world.space.path("store")).unwrap();
    let build = |rule: &str| {
        world.space.write(
            "kiln.toml",
            format!("version = 1\n[sources.base]\nimage = '{base}'\nverify = {{ {rule} }}\n[steps.a]\nfrom = 'base'\nrun = 'cat /signed'\n[images.app]\nfrom = 'a'\n"),
        );
        world.space.build(&["--no-cache"])
    };
    let trust = format!("issuer = '{ISSUER}', trusted_root = 'root.json'");
    _ = build(&format!("identity = '{WORKFLOW}', {trust}")).ok();
    _ = build(&format!(
        "identity_regexp = '^https://github.com/o/r/', {trust}"
    ))
    .ok();
    build(&format!("identity = 'https://github.com/x/*', {trust}"))
        .fails_with(&["it must be signed by https://github.com/x/*"]);
    let twice = format!("identity = 'a', log = 'l', {trust}");
    let run = build(&twice);
    assert_eq!(run.status, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("trusted_root stands instead of"));
    // In a policy as well.
    std::fs::remove_file(world.space.path("context/kiln.toml")).unwrap();
    world
        .space
        .write("Dockerfile", format!("FROM {base}\nRUN cat /signed\n"));
    let policy = |identity: &str| {
        let file = world.space.path("context/policy.toml");
        let rule = format!(
            "[[sources]]\nmatch = 'docker-image://*'\nverify = {{ identity = '{identity}', issuer = '{ISSUER}', trusted-root = 'root.json' }}\n"
        );
        std::fs::write(&file, rule).unwrap();
        world
            .space
            .build(&["--policy", &file.display().to_string()])
    };
    _ = policy(WORKFLOW).ok();
    policy("me@example.com").fails_with(&["must be signed by me@example.com", "it was signed by"]);
}
