//! Signatures of images that other tools made: `@sigstore/sign` and PyPI's `sigstore`, with their bundles attached as
//! cosign attaches its own.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;

use kiln_tests::{
    BUSYBOX, ISSUER, Run, Script, Sigstore, Space, WORKFLOW, attach_bundle, digest, run,
};
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
        let key = space.path("own.pem").display().to_string();
        let curve = "ec_paramgen_curve:P-256";
        let make = [
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            curve,
            "-out",
            &key,
        ];
        _ = run("openssl", &make).ok();
        let public = space.path("own.pub").display().to_string();
        _ = run(
            "openssl",
            &["pkey", "-in", &key, "-pubout", "-out", &public],
        )
        .ok();
        Some(Self {
            sigstore,
            registry: Script::referrers(""),
            space,
        })
    }

    /// An image of its own, and a statement about it.
    fn image(&self, tag: &str) -> (String, PathBuf) {
        let name = format!("127.0.0.1:{}/app:{tag}", self.registry.port());
        let file = format!("FROM {BUSYBOX}\nRUN echo {tag} > /signed\n");
        self.space.write("Dockerfile", file);
        _ = self
            .space
            .build(&["--push", "-t", &name, "--provenance=false"])
            .ok();
        let hash = digest(&name);
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "app", "digest": {"sha256": hash.trim_start_matches("sha256:")}}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {"buildDefinition": {"buildType": "https://x.example/é"}},
        });
        let path = self.space.path(format!("{tag}.statement"));
        std::fs::write(&path, statement.to_string()).unwrap();
        (name, path)
    }

    /// The bundle that a tool makes of a statement about a new image, which has none yet.
    fn signed(&self, kind: &str) -> (String, Value) {
        let (name, statement) = self.image(kind);
        let bundle = self.space.path("bundle.json");
        match kind.strip_prefix("python-") {
            Some(log) => self.sigstore.sign_in_python(log, &statement, &bundle),
            None => {
                let key = self.space.path("own.pem");
                self.sigstore.sign(kind, &statement, &key, &bundle);
            }
        }
        let text = std::fs::read_to_string(&bundle).unwrap();
        (name, serde_json::from_str(&text).unwrap())
    }

    fn attach(&self, name: &str, bundle: &Value) {
        let file = self.space.path("attached.json");
        std::fs::write(&file, bundle.to_string()).unwrap();
        attach_bundle(name, &file);
    }

    fn verify_as(&self, name: &str, identity: &str) -> Run {
        let root = self.sigstore.file("trusted_root.json");
        let trust = ["verify", name, "--trusted-root", &root];
        let who = [
            "--certificate-identity",
            identity,
            "--certificate-oidc-issuer",
            ISSUER,
        ];
        self.space.kiln(&[trust, who].concat())
    }

    fn verify_by_key(&self, name: &str) -> Run {
        let key = self.space.path("own.pub").display().to_string();
        self.space.kiln(&["verify", name, "--key", &key])
    }
}

const KEYLESS: [&str; 7] = [
    "dsse", "intoto", "chain", "stamped", "second", "python-1", "python-2",
];

#[test]
fn without_a_key() {
    let Some(world) = World::new() else { return };
    for kind in KEYLESS {
        let (name, bundle) = world.signed(kind);
        world.attach(&name, &bundle);
        let verified = world.verify_as(&name, WORKFLOW).ok().stdout;
        assert!(
            verified.contains("slsa.dev/provenance/v1"),
            "{kind}: {verified}"
        );
        let other = world.verify_as(&name, "https://github.com/o/other");
        other.fails_with(&["it was signed by", WORKFLOW]);
        assert_ne!(world.verify_by_key(&name).status, Some(0), "{kind}");
    }
}

#[test]
fn with_a_key() {
    let Some(world) = World::new() else { return };
    for kind in ["key", "logged-key"] {
        let (name, bundle) = world.signed(kind);
        world.attach(&name, &bundle);
        let verified = world.verify_by_key(&name).ok().stdout;
        assert!(
            verified.contains("slsa.dev/provenance/v1"),
            "{kind}: {verified}"
        );
        world
            .verify_as(&name, WORKFLOW)
            .fails_with(&["there is none"]);
    }
}

/// What is changed of a bundle.
type Change = fn(&mut Value);

const CHANGES: [(&str, Change); 6] = [
    ("payload", |one| {
        one["dsseEnvelope"]["payload"] = json!("e30=");
    }),
    ("signature", |one| {
        one["dsseEnvelope"]["signatures"][0]["sig"] = json!("MAYCAQECAQE=");
    }),
    ("type", |one| {
        one["dsseEnvelope"]["payloadType"] = json!("text/plain");
    }),
    ("no entry", |one| {
        one["verificationMaterial"]["tlogEntries"] = json!([]);
    }),
    ("index", |one| {
        one["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["logIndex"] = json!("1");
    }),
    ("body", |one| {
        let body = &mut one["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"];
        *body = json!("e30=");
    }),
];

#[test]
fn changed_ones_are_refused() {
    let Some(world) = World::new() else { return };
    for kind in ["dsse", "intoto", "second", "python-1", "python-2"] {
        let (name, good) = world.signed(kind);
        let (other, _) = world.image(&format!("{kind}-other"));
        world.attach(&other, &good);
        let moved = world.verify_as(&other, WORKFLOW);
        moved.fails_with(&["the statement is about another image"]);
        for (what, change) in CHANGES {
            let mut changed = good.clone();
            change(&mut changed);
            world.attach(&name, &changed);
            let run = world.verify_as(&name, WORKFLOW);
            assert_eq!(run.status, Some(1), "{kind}, {what}: {}", run.stdout);
        }
        // What is beside it doesn't keep the good one from being found.
        world.attach(&name, &good);
        _ = world.verify_as(&name, WORKFLOW).ok();
    }
}
