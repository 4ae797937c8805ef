//! What is said about images: lists of packages, provenance, signatures; where it lies, and what
//! other tools make of it.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::process::Command;

use kiln_tests::{BUSYBOX, Registry, Run, Script, Space, digest, run, unpack};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn raw(name: &str) -> Value {
    let inspect = ["inspect", "--raw", "--tls-verify=false"];
    json(
        &run(
            "skopeo",
            &[&inspect[..], &[&format!("docker://{name}")]].concat(),
        )
        .stdout,
    )
}

fn tags(host: &str, repository: &str) -> String {
    let list = ["list-tags", "--tls-verify=false"];
    run(
        "skopeo",
        &[&list[..], &[&format!("docker://{host}/{repository}")]].concat(),
    )
    .stdout
}

/// A key pair made by OpenSSL.
fn keys(space: &Space, name: &str) -> (String, String) {
    let (key, public) = (
        space.path(format!("{name}.key")),
        space.path(format!("{name}.pub")),
    );
    let (key, public) = (key.display().to_string(), public.display().to_string());
    let make = [
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        &key,
    ];
    _ = run("openssl", &make);
    _ = run(
        "openssl",
        &["pkey", "-in", &key, "-pubout", "-out", &public],
    );
    (key, public)
}

/// A context whose second layer installs a Python package and whose third breaks a database.
fn context(space: &Space) {
    space.write(
        "x.dist-info/METADATA",
        "Name: Some_X\nVersion: 1.5\nLicense: MIT\n",
    );
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\nCOPY x.dist-info /usr/lib/python3/site-packages/x.dist-info\nRUN mkdir -p /lib/apk/db && printf 'P:musl\\nV:1.2\\nL:MIT\\n\\nF:x\\n' > /lib/apk/db/installed\n"
        ),
    );
}

#[test]
fn packages_with_the_steps_that_brought_them() {
    let space = Space::new();
    context(&space);
    let list = space.path("sbom.json");
    let build = space
        .build(&[
            "-t",
            "127.0.0.1/a:1",
            "-o",
            &format!("type=sbom,dest={}", list.display()),
        ])
        .ok();
    assert!(
        build
            .stderr
            .contains("/lib/apk/db/installed: the paragraph 'F:x' has no P:"),
        "{}",
        build.stderr
    );
    let list = json(&std::fs::read_to_string(list).unwrap());
    let packages = list["packages"].as_array().unwrap();
    let find = |name: &str| packages.iter().find(|one| one["name"] == name).unwrap();
    let said = |name: &str| {
        find(name)["annotations"][0]["comment"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(
        said("Some_X").contains("COPY x.dist-info") && said("Some_X").contains("at: Dockerfile:2"),
        "{}",
        said("Some_X")
    );
    assert!(
        said("musl").contains("at: Dockerfile:3"),
        "{}",
        said("musl")
    );
    assert_eq!(
        find("Some_X")["externalRefs"][0]["referenceLocator"],
        "pkg:pypi/some-x@1.5"
    );
    let stored = space
        .kiln(&["image", "sbom", "127.0.0.1/a:1", "--format", "cyclonedx"])
        .ok();
    let stored = json(&stored.stdout);
    let urls: Vec<&str> = stored["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["purl"].as_str().unwrap())
        .collect();
    assert_eq!(urls, ["pkg:apk/musl@1.2", "pkg:pypi/some-x@1.5"]);
    let again = space
        .kiln(&["image", "sbom", "127.0.0.1/a:1", "--format", "cyclonedx"])
        .ok();
    assert_eq!(json(&again.stdout), stored);
    let diff = space
        .kiln(&["image", "sbom", "127.0.0.1/a:1", "--diff", BUSYBOX])
        .ok();
    assert_eq!(
        diff.stdout,
        "added    apk musl 1.2\nadded    pypi Some_X 1.5\n"
    );
}

#[test]
fn provenance_tells_no_secrets() {
    let space = Space::new();
    std::fs::write(space.path("token"), "very-secret-value").unwrap();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nARG A\nRUN --mount=type=secret,id=tok echo https://u:pass1234@h/ > /f\n"),
    );
    let secret = format!("id=tok,src={}", space.path("token").display());
    let out = |mode: &str| {
        let dest = space.path(mode);
        let output = format!("type=local,dest={}", dest.display());
        let flag = format!("--provenance=mode={mode}");
        let _done = space
            .build(&[
                "--secret",
                &secret,
                "--build-arg",
                "A=own-value",
                &flag,
                "-o",
                &output,
            ])
            .ok();
        std::fs::read_to_string(dest.join("provenance.json")).unwrap()
    };
    let (min, max) = (out("min"), out("max"));
    for text in [&min, &max] {
        assert!(
            !text.contains("very-secret-value") && !text.contains("pass1234"),
            "{text}"
        );
    }
    assert!(!min.contains("own-value") && !min.contains("\"tok\""));
    let max = json(&max);
    let request = &max["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:A"], "own-value");
    assert_eq!(request["secrets"][0]["id"], "tok");
    let base = &max["buildDefinition"]["resolvedDependencies"][0];
    assert!(
        base["uri"]
            .as_str()
            .unwrap()
            .starts_with("pkg:docker/127.0.0.1:5000/busybox@latest?platform=")
    );
    assert_eq!(base["digest"]["sha256"].as_str().unwrap().len(), 64);
    let metadata = &max["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_hermetic"], false);
    assert_eq!(
        metadata["buildkit_completeness"]["resolvedDependencies"],
        false
    );
    let steps = max["buildDefinition"]["internalParameters"]["buildConfig"]["kiln_steps"]
        .as_array()
        .unwrap();
    assert!(
        steps
            .iter()
            .any(|step| step["key"].is_string() && step["outcome"] == "cached")
    );
}

#[test]
fn hermetic_is_what_was_seen_to_be() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN --network=none echo a > /f\nRUN echo b > /g\n"),
    );
    let hermetic = |args: &[&str]| {
        let dest = space.path("out");
        let output = format!("type=local,dest={}", dest.display());
        let _done = space
            .build(&[args, &["--provenance", "-o", &output]].concat())
            .ok();
        let text = std::fs::read_to_string(dest.join("provenance.json")).unwrap();
        json(&text)["runDetails"]["metadata"]["buildkit_hermetic"] == true
    };
    assert!(!hermetic(&[]));
    // One step's result is stored: it wasn't seen to run.
    assert!(!hermetic(&["--network", "none"]));
    assert!(hermetic(&["--network", "none", "--no-cache"]));
}

/// The name is an index of the image and its attestations, in BuildKit's form.
fn lists_attestations(name: &str, image: &str) {
    let index = raw(name);
    assert_eq!(index["manifests"][0]["digest"], image);
    let entry = &index["manifests"][1];
    assert_eq!(entry["platform"]["os"], "unknown");
    assert_eq!(
        entry["annotations"]["vnd.docker.reference.digest"],
        index["manifests"][0]["digest"]
    );
    let attestation = raw(&format!(
        "{}@{}",
        name.rsplit_once(':').unwrap().0,
        entry["digest"].as_str().unwrap()
    ));
    let types: Vec<&str> = attestation["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| {
            layer["annotations"]["in-toto.io/predicate-type"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(
        types,
        [
            "https://slsa.dev/provenance/v1",
            "https://spdx.dev/Document"
        ]
    );
}

#[test]
fn the_image_stays_what_it_is() {
    let space = Space::new();
    context(&space);
    let registry = Script::referrers("");
    let name = |tag: &str| format!("127.0.0.1:{}/a:{tag}", registry.port());
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let push = |tag: &str, args: &[&str]| {
        space
            .build(&[&epoch[..], &["--push", "-t", &name(tag)], args].concat())
            .ok()
    };
    let _plain = push("plain", &["--provenance=false"]);
    let without = space.kiln(&["verify", &name("plain"), "--key", &keys(&space, "k").1]);
    without.fails_with(&["no valid signature of ", " for it"]);
    let _said = push("said", &["--sbom"]);
    assert_eq!(digest(&name("plain")), digest(&name("said")));
    let metadata = space.path("metadata");
    let _indexed = push(
        "indexed",
        &[
            "--attest",
            "type=sbom,storage=index",
            "--metadata-file",
            &metadata.display().to_string(),
        ],
    );
    lists_attestations(&name("indexed"), &digest(&name("plain")));
    let metadata = json(&std::fs::read_to_string(metadata).unwrap());
    assert!(metadata["buildx.build.provenance"]["buildDefinition"].is_object());
    for tag in ["said", "indexed"] {
        let image = format!("docker://{}", name(tag));
        let files = unpack(&image, &space.path(format!("bundle-{tag}")));
        assert!(files.join("lib/apk/db/installed").exists());
    }
}

#[test]
fn registries_that_list_no_referrers() {
    let space = Space::new();
    context(&space);
    let registry = Registry::start(&space.path("registry"), false);
    let host = registry.name("");
    let host = host.trim_end_matches('/');
    let name = registry.name("a:1");
    let push = |args: &[&str]| space.build(&[&["--push", "-t", &name], args].concat()).ok();
    let quiet = push(&[]);
    assert!(!quiet.stderr.contains("WARNING: 127"), "{}", quiet.stderr);
    assert!(!tags(host, "a").contains("sha256-"));
    let _asked = push(&["--provenance"]);
    assert!(tags(host, "a").contains("sha256-"));
    let _index = push(&["--provenance=mode=max,storage=index-legacy"]);
    assert_eq!(
        raw(&name)["manifests"][1]["platform"]["architecture"],
        "unknown"
    );
}

#[test]
fn a_registry_that_wants_the_image_first() {
    let space = Space::new();
    context(&space);
    let registry = Script::referrers("late");
    let name = format!("127.0.0.1:{}/a:1", registry.port());
    let pushed = space
        .build(&["--push", "-t", &name, "--provenance=storage=index"])
        .ok();
    assert!(
        !pushed.stderr.contains("without its attestations"),
        "{}",
        pushed.stderr
    );
    assert_eq!(raw(&name)["manifests"].as_array().unwrap().len(), 2);
}

fn signed(space: &Space, registry: &Script, key: &str) -> (String, Run) {
    context(space);
    let name = format!("127.0.0.1:{}/signed:1", registry.port());
    let sign = format!("key={key}");
    let pushed = space
        .build(&["--push", "-t", &name, "--sbom", "--sign", &sign])
        .ok();
    (name, pushed)
}

#[test]
fn signatures() {
    let space = Space::new();
    let registry = Script::referrers("");
    let ((key, public), (_, other)) = (keys(&space, "mine"), keys(&space, "other"));
    let (name, _) = signed(&space, &registry, &key);
    let verified = space.kiln(&["verify", &name, "--key", &public]).ok().stdout;
    for part in [
        "cosign/sign/v1",
        "slsa.dev/provenance/v1",
        "spdx.dev/Document",
    ] {
        assert!(verified.contains(part), "{verified}");
    }
    let one = space
        .kiln(&[
            "verify",
            &name,
            "--key",
            &public,
            "--attestation",
            "sbom",
            "--json",
        ])
        .ok();
    assert_eq!(json(&one.stdout)[0]["predicate"]["spdxVersion"], "SPDX-2.3");
    let inspected = Space::new().kiln(&["image", "inspect", &name]).ok();
    let listed = json(&inspected.stdout)["attestations"].clone();
    let kinds: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "signature").count(),
        3,
        "{listed}"
    );
    assert!(
        kinds.contains(&"attestation") && listed.to_string().contains("https://spdx.dev/Document"),
        "{listed}"
    );
    let wrong = space.kiln(&["verify", &name, "--key", &other]);
    wrong.fails_with(&[
        "the signature was not made by this key",
        &format!("no valid signature of {other} for it"),
    ]);
    let missing = space.kiln(&[
        "verify",
        &name,
        "--key",
        &public,
        "--attestation",
        "cyclonedx",
    ]);
    missing.fails_with(&[&format!("no valid signature of {public} for cyclonedx")]);
    // A program instead of a key: OpenSSL itself signs.
    let program = format!("exec:openssl dgst -sha256 -sign {key} | base64 -w0");
    let (name, _) = signed(&space, &registry, &program);
    let _verified = space.kiln(&["verify", &name, "--key", &public]).ok();
    let broken = space.build(&["--push", "-t", &name, "--sign", "key=exec:false"]);
    assert_ne!(broken.status, Some(0));
    assert!(
        broken.stderr.contains("--sign key=exec:false: it failed"),
        "{}",
        broken.stderr
    );
}

#[test]
fn openssl_verifies_the_raw_signature() {
    let space = Space::new();
    let registry = Script::referrers("");
    let (key, public) = keys(&space, "mine");
    let (name, _) = signed(&space, &registry, &key);
    let image = digest(&name);
    let list = Command::new("python3")
        .args(["-c", "import base64,json,sys,urllib.request as u\nhost,digest,out=sys.argv[1:]\nget=lambda p: u.urlopen(f'http://{host}/v2/signed/{p}').read()\nindex=json.loads(get('referrers/'+digest))\nentry=[m for m in index['manifests'] if (m['artifactType'] or '').startswith('application/vnd.dev.sigstore')][0]\nmanifest=json.loads(get('manifests/'+entry['digest']))\nbundle=json.loads(get('blobs/'+manifest['layers'][0]['digest']))\nassert bundle['mediaType']=='application/vnd.dev.sigstore.bundle.v0.3+json'\ne=bundle['dsseEnvelope']\np=base64.b64decode(e['payload']); t=e['payloadType'].encode()\nopen(out+'/pae','wb').write(b'DSSEv1 %d %s %d %s'%(len(t),t,len(p),p))\nopen(out+'/sig','wb').write(base64.b64decode(e['signatures'][0]['sig']))\n"])
        .args([&format!("127.0.0.1:{}", registry.port()), &image, &space.path("").display().to_string()])
        .output()
        .unwrap();
    assert!(
        list.status.success(),
        "{}",
        String::from_utf8_lossy(&list.stderr)
    );
    let path = |name: &str| space.path(name).display().to_string();
    _ = run(
        "openssl",
        &[
            "dgst",
            "-sha256",
            "-verify",
            &public,
            "-signature",
            &path("sig"),
            &path("pae"),
        ],
    );
}

#[test]
fn mistakes_before_the_build() {
    let space = Space::new();
    context(&space);
    let cases: [(&[&str], &str); 5] = [
        (&["--sbom=xml"], "unknown kind of SBOM 'xml'"),
        (&["--provenance=mode=all"], "unknown mode 'all'"),
        (
            &["--attest", "mode=min"],
            "write type=sbom or type=provenance",
        ),
        (
            &["--push", "-t", "127.0.0.1/a", "--sign", "key=nowhere"],
            "cannot read the key nowhere",
        ),
        (&["--sign", "key=env:X"], "--sign"),
    ];
    for (args, part) in cases {
        let run = space.build(args);
        assert_ne!(run.status, Some(0));
        assert!(run.stderr.contains(part), "{}", run.stderr);
        assert!(!run.stderr.contains("RUN mkdir"), "{}", run.stderr);
    }
}

#[test]
fn packages_and_licences_that_are_forbidden() {
    let space = Space::new();
    space.write(
        "x.dist-info/METADATA",
        "Name: Some_X\nVersion: 1.5\nLicense: MIT\n",
    );
    let copy = "COPY x.dist-info /usr/lib/python3/site-packages/x.dist-info";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{copy}\n"));
    let policy = space.path("policy.toml");
    let held_to = |text: &str| {
        std::fs::write(&policy, text).unwrap();
        space.build(&[
            "-t",
            "127.0.0.1/a:1",
            "--policy",
            &policy.display().to_string(),
        ])
    };
    held_to("forbid-packages = [\"pkg:pypi/some-*\"]").fails_with(&[
        "pkg:pypi/some-x@1.5 is forbidden (pkg:pypi/some-*): it comes from",
        "Dockerfile:2",
    ]);
    held_to("forbid-licenses = [\"MIT\"]").fails_with(&["is forbidden (licence MIT)"]);
    let _allowed =
        held_to("forbid-licenses = [\"AGPL-*\"]\nforbid-packages = [\"pkg:npm/*\"]").ok();
    space.write("x.dist-info/METADATA", "broken");
    held_to("forbid-licenses = [\"AGPL-*\"]").fails_with(&["packages can't be checked"]);
}

#[test]
fn policies_hold_sources_to_rules() {
    let space = Space::new();
    let policy = space.path("policy.toml");
    let held_to = |file: &str, rules: &str| {
        space.write("Dockerfile", file);
        std::fs::write(&policy, rules).unwrap();
        space.build(&["--policy", &policy.display().to_string()])
    };
    let base = format!("FROM {BUSYBOX}\n");
    let deny = "[[sources]]\nmatch = \"docker-image://127.0.0.1:5000/*\"\naction = \"deny\"\nreason = \"ask us\"\n";
    held_to(&base, deny).fails_with(&[
        "the policy denies docker-image://127.0.0.1:5000/busybox:latest",
        "rule 1",
        "ask us",
        "Dockerfile:1",
    ]);
    let _warned = held_to(&base, &format!("warn = true\n{deny}")).ok();
    held_to(&base, "unmatched-sources = \"deny\"\n").fails_with(&["no rule allows it"]);
    let pin = "[[sources]]\nmatch = \"*\"\npin = true\n";
    held_to(&base, pin).fails_with(&["wants a digest"]);
    let pinned = format!("FROM {BUSYBOX}@{}\n", digest(BUSYBOX));
    let _allowed = held_to(&pinned, pin).ok();
    // Nothing answers at this address: the rule speaks first.
    let file = format!("{pinned}ADD http://u:p@127.0.0.1:1/x /x\n");
    let denied = held_to(&file, pin);
    denied.fails_with(&["the policy denies http://127.0.0.1:1/x", "Dockerfile:2"]);
    let file = format!("{pinned}ADD https://127.0.0.1:1/x.git#main /x\n");
    held_to(&file, pin).fails_with(&["the policy denies git://127.0.0.1:1/x.git#main"]);
    let wrong = held_to(&base, "[[sources]]\nmatch = \"*\"\nsigned = \"k\"\n");
    assert_eq!(wrong.status, Some(2));
    assert!(wrong.stderr.contains("unknown field"), "{}", wrong.stderr);
}

#[test]
fn base_images_must_be_signed_where_the_policy_says() {
    let space = Space::new();
    let registry = Script::referrers("");
    let ((key, public), (_, other)) = (keys(&space, "mine"), keys(&space, "other"));
    let (base, _) = signed(&space, &registry, &key);
    let plain = format!("127.0.0.1:{}/plain:2", registry.port());
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo plain > /plain\n"),
    );
    let _pushed = space.build(&["--push", "-t", &plain]).ok();
    let policy = space.path("policy.toml");
    let build = |base: &str, key: &str, kind: &str| {
        space.write("Dockerfile", format!("FROM {base}\nRUN echo 1 > /one\n"));
        let rule = format!(
            "[[sources]]\nmatch = \"docker-image://*\"\nsigned-by = \"{key}\"\nattestations = [\"{kind}\"]\n"
        );
        std::fs::write(&policy, rule).unwrap();
        space.build(&["--policy", &policy.display().to_string()])
    };
    let _first = build(&base, &public, "sbom").ok();
    let _again = build(&base, &public, "sbom").ok();
    build(&base, &public, "cyclonedx").fails_with(&["its cyclonedx must be signed by"]);
    build(&base, &other, "sbom").fails_with(&[
        "must be signed by",
        "not made by this key",
        "Dockerfile:1",
    ]);
    build(&plain, &public, "sbom").fails_with(&["it must be signed by"]);
    build(BUSYBOX, &public, "sbom").fails_with(&["the policy denies"]);
}

#[test]
fn policies_try_themselves() {
    let space = Space::new();
    let policy = space.path("policy.toml");
    let rules = "unmatched-sources = \"deny\"\n[[sources]]\nmatch = \"docker-image://docker.io/library/*\"\n";
    let test = |more: &str, args: &[&str]| {
        std::fs::write(&policy, format!("{rules}{more}")).unwrap();
        let policy = policy.display().to_string();
        space.kiln(&[&["policy", "test", &policy], args].concat())
    };
    let said = test("", &["busybox", "https://example.com/x"]);
    said.fails_with(&["the policy denies 1 source"]);
    assert_eq!(
        said.stdout,
        "allowed  docker-image://docker.io/library/busybox:latest\ndenied   https://example.com/x: no rule allows it\n"
    );
    let good = "[[tests]]\nsource = \"busybox\"\nexpect = \"allow\"\n";
    assert_eq!(test(good, &[]).ok().stdout, "1 of 1 tests passed\n");
    let bad = "[[tests]]\nsource = \"docker-image://quay.io/x\"\nexpect = \"allow\"\n";
    let failed = test(&format!("{good}{bad}"), &[]);
    failed.fails_with(&["1 test of the policy failed"]);
    assert!(
        failed.stdout.contains("1 of 2 tests passed"),
        "{}",
        failed.stdout
    );
}

#[test]
fn pushes_do_not_depend_on_attestations_that_nobody_asked_for() {
    let space = Space::new();
    context(&space);
    for (mode, warns) in [("odd", false), ("down", true)] {
        let registry = Script::referrers(mode);
        let name = format!("127.0.0.1:{}/a:1", registry.port());
        let pushed = space.build(&["--push", "-t", &name]).ok();
        let warned = pushed
            .stderr
            .contains("was pushed, but its attestations were not");
        assert_eq!(warned, warns, "{mode}: {}", pushed.stderr);
    }
}
