//! The library in a program of one's own, with an async runtime.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::sync::{Arc, Mutex};

use kiln::{
    AttestOptions, BlobDigest, BuildRequest, CacheMode, CacheSource, CacheTarget, CacheTrust,
    ContextFrom, CredentialSource, DirectoryRemote, DockerfileRequest, EngineError, Error, Event,
    Fault, GraphBuilder, Kiln, Needed, Output, Platform, ProvenanceOptions, Remote, SbomFormat,
};
use kiln_engine::{Request, StepFailure, write_directory};
use kiln_graph::ImagePath;
use kiln_tests::{BUSYBOX, Space, Web, kiln_binary, shell};

fn open(space: &Space) -> Kiln {
    let builder = Kiln::builder().store(space.path("store"));
    builder.helper(kiln_binary()).open().unwrap()
}

/// A step that runs a command on an image, beside one that writes a file; both in one image.
fn request(kiln: &Kiln) -> BuildRequest {
    let base = kiln.image(BUSYBOX, &Platform::host()).unwrap();
    let mut graph = GraphBuilder::new(Platform::host());
    let root = graph.image(&base).unwrap();
    let ran = graph.run(root, ["sh", "-c", "echo $PATH >/path"]).unwrap();
    let written = graph.write(root, "/etc/motd", "hello\n").unwrap();
    let copied = graph.copy(ran, written, "/etc/motd", "/copied/").unwrap();
    let empty = graph.scratch().unwrap();
    let aside = graph.write(empty, "/aside", "x").unwrap();
    let merged = graph.merge([copied, aside]).unwrap();
    BuildRequest::graph(graph.build(merged))
}

/// What a command changed in one tree is laid over another.
#[test]
fn differences_of_trees() {
    let space = Space::new();
    let kiln = open(&space);
    let base = kiln.image(BUSYBOX, &Platform::host()).unwrap();
    let mut graph = GraphBuilder::new(Platform::host());
    let root = graph.image(&base).unwrap();
    let shell = |words: &'static str| ["sh", "-c", words];
    let before =
        "mkdir /d; cd /d; echo 1 >gone; echo 1 >kept; echo 1 >changed; mkdir dir; ln -s x link";
    let lower = graph.run(root, shell(before)).unwrap();
    let after = "cd /d; rm -r gone dir; echo 22 >changed; echo 3 >new; chmod 700 .; echo f >dir; rm link; mkdir link";
    let upper = graph.run(lower, shell(after)).unwrap();
    let difference = graph.difference(lower, upper).unwrap();
    let aside = "mkdir /d; cd /d; echo other >gone; echo own >own; mkdir dir; echo x >dir/x";
    let other = graph.run(root, shell(aside)).unwrap();
    let merged = graph.merge([other, difference]).unwrap();
    let out = space.path("out");
    let build = BuildRequest::graph(graph.build(merged)).output(Output::directory(&out));
    _ = kiln.build(build).unwrap();
    let read = |name: &str| std::fs::read_to_string(out.join("d").join(name)).ok();
    let text = |text: &str| Some(text.to_owned());
    for (name, want) in [
        ("gone", None),
        ("kept", None),
        ("changed", text("22\n")),
        ("new", text("3\n")),
        ("own", text("own\n")),
        ("dir", text("f\n")),
    ] {
        assert_eq!(read(name), want, "{name}");
    }
    assert!(out.join("d/link").is_dir());
    let mode = std::fs::metadata(out.join("d")).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o700
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_in_an_async_program() {
    let space = Space::new();
    let kiln = open(&space);
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = events.clone();
    let build = request(&kiln)
        .tag("app:1")
        .output(Output::directory(space.path("out")))
        .output(Output::oci(space.path("app.tar")))
        .progress(move |event| sink.lock().unwrap().push(event));
    let outcome = kiln.build_async(build).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(space.path("out").join(name)).unwrap();
    assert!(read("path").contains("/bin"));
    assert_eq!(read("copied/motd"), "hello\n");
    assert_eq!(read("aside"), "x");
    assert_eq!(outcome.stored.len(), 1);
    assert_eq!(outcome.files.len(), 2);
    let is_end = |event: &Event| matches!(event, Event::Finished { .. });
    assert!(events.lock().unwrap().iter().any(is_end));
    // The same from a thread of the runtime, which waits for it.
    let again = kiln.build(request(&kiln)).unwrap();
    assert_eq!(again.digest, outcome.digest);
    drop(kiln);
}

#[test]
fn builds_are_attested() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo 1 > /1\n"));
    let kiln = open(&space);
    let attest = || AttestOptions {
        sbom: Some(SbomFormat::Spdx),
        provenance: Some(ProvenanceOptions::default()),
        is_asked: true,
        ..AttestOptions::default()
    };
    let of_file = BuildRequest::dockerfile(space.path("context"));
    for (name, build) in [("file", of_file), ("graph", request(&kiln))] {
        let archive = space.path(format!("{name}.tar"));
        let build = build.attest(attest()).output(Output::oci(&archive));
        let outcome = kiln.build(build).unwrap();
        assert_eq!(outcome.provenance.len(), 1);
        let provenance = outcome.provenance[0].1.to_string();
        assert!(provenance.contains("pkg:docker"), "{provenance}");
        let inspect = [
            "image",
            "inspect",
            &format!("oci-archive:{}", archive.display()),
        ];
        let shown = space.kiln(&inspect).ok().stdout;
        for part in [
            "https://spdx.dev/Document",
            "https://slsa.dev/provenance/v1",
        ] {
            assert!(shown.contains(part), "{name}: {shown}");
        }
    }
}

/// What one store has built, another takes from a shared cache.
#[test]
fn results_are_shared() {
    let (space, other) = (Space::new(), Space::new());
    let remote: Arc<dyn Remote> = Arc::new(DirectoryRemote::new(space.path("cache")));
    let text = format!("FROM {BUSYBOX}\nRUN cat /proc/sys/kernel/random/uuid > /id\n");
    let build = |space: &Space| {
        space.write("Dockerfile", &text);
        let build = BuildRequest::dockerfile(space.path("context"))
            .cache_from(CacheSource::new(remote.clone(), CacheTrust::default()))
            .cache_to(CacheTarget {
                remote: remote.clone(),
                mode: CacheMode::Max,
                signer: None,
            });
        open(space).build(build).unwrap().digest
    };
    assert_eq!(build(&space), build(&other));
}

/// A program can tell what is missing, without reading words.
#[test]
fn what_was_not_given_is_named() {
    let space = Space::new();
    for (mount, needed) in [
        (
            "secret,id=token,required",
            Needed::Secret("token".to_owned()),
        ),
        ("ssh,id=key,required", Needed::Agent("key".to_owned())),
    ] {
        let text = format!("FROM {BUSYBOX}\nRUN --mount=type={mount} true\n");
        space.write("Dockerfile", text);
        let build = BuildRequest::dockerfile(space.path("context"));
        let error = open(&space).build(build).unwrap_err();
        let Error::Engine(EngineError::NotGiven { what, .. }) = &error else {
            panic!("{error:?}");
        };
        assert_eq!((what, error.fault()), (&needed, Fault::User));
    }
    let said = space.build(&[]);
    said.fails_with(&["the step needs the SSH agent 'key'", "give --ssh key"]);
}

#[test]
fn errors_say_whose_fault_they_are() {
    let space = Space::new();
    let kiln = open(&space);
    let error = Kiln::builder().open().unwrap_err();
    assert!(matches!(error, Error::NoStore), "{error}");
    let error = kiln.build(BuildRequest::dockerfile(space.path("context")));
    assert_eq!(error.unwrap_err().fault(), Fault::User);
    space.write("Dockerfile", "FROM scratch\nCOPY nothing /\n");
    let error = kiln.build(BuildRequest::dockerfile(space.path("context")));
    let error = error.unwrap_err();
    assert_eq!(error.location().map(|at| at.line), Some(2), "{error}");
    let push = BuildRequest::dockerfile(space.path("context")).output(Output::registry());
    assert!(matches!(kiln.build(push), Err(Error::NoName)));
}

#[test]
fn build_files_take_arguments_and_contexts() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        "FROM scratch AS one\nARG V\nCOPY --from=other $V /v\nFROM scratch\n",
    );
    space.write("given/file", "given");
    let kiln = Kiln::builder()
        .store(space.path("store"))
        .credentials(CredentialSource::None)
        .helper(kiln_binary())
        .open()
        .unwrap();
    let request = BuildRequest::dockerfile(space.path("context"))
        .context("other", space.path("context/given"))
        .build_arg("V", "file")
        .target("one")
        .output(Output::directory(space.path("out")));
    let outcome = kiln.build(request).unwrap();
    assert_eq!(outcome.layers, 1);
    assert_eq!(std::fs::read(space.path("out/v")).unwrap(), b"given");
}

#[test]
fn a_context_at_an_address_is_what_it_was_said_to_be() {
    let space = Space::new();
    let kiln = open(&space);
    space
        .write("Dockerfile", "FROM scratch\nCOPY f /\n")
        .write("f", "f");
    _ = shell(
        &space.path("context"),
        "tar cf ../context.tar . && sha256sum ../context.tar",
    );
    let tar = std::fs::read(space.path("context.tar")).unwrap();
    let web = Web::serve(&space.path("context/.."));
    let address = web.url("context.tar");
    let build = |digest: BlobDigest| {
        let mut request = DockerfileRequest {
            context: ContextFrom::Remote(address.clone()),
            ..DockerfileRequest::default()
        };
        _ = request.context_pins.http.insert(address.clone(), digest);
        kiln.build(BuildRequest::of_file(request))
    };
    let other = BlobDigest::of(b"other");
    let wrong = build(other).unwrap_err().to_string();
    assert!(wrong.contains(&other.to_string()), "{wrong}");
    _ = build(BlobDigest::of(&tar)).unwrap();
    // It changes between two looks at it.
    std::fs::write(space.path("context.tar"), "changed").unwrap();
    _ = build(BlobDigest::of(&tar)).unwrap();
}

/// The same definition may fail in two builds and leave different files.
#[test]
fn what_failed_is_of_its_own_build() {
    let space = Space::new();
    let kiln = open(&space);
    let engine = kiln.engine();
    let base = kiln.image(BUSYBOX, &Platform::host()).unwrap();
    let mut graph = GraphBuilder::new(Platform::host());
    let root = graph.image(&base).unwrap();
    let words = "cat /proc/sys/kernel/random/uuid > /made; cat /made; exit 3";
    let fails = graph.run(root, ["sh", "-c", words]).unwrap();
    let request = Request::new(graph.build(fails));
    let failure = || -> Box<StepFailure> {
        match engine.solve(request.clone()) {
            Err(EngineError::Step(failure)) => failure,
            other => panic!("the step fails: {other:?}"),
        }
    };
    let events = |_: Event| {};
    for (number, failed) in [failure(), failure()].iter().enumerate() {
        let left = failed.left.unwrap();
        let solved = engine.failed(&request, &left).unwrap();
        let files = solved.files_at(left.step, &ImagePath::new("/made"), &events);
        let out = space.path(format!("left-{number}"));
        _ = write_directory(&files.unwrap().unwrap(), &out, &|_| Ok(())).unwrap();
        let made = std::fs::read_to_string(out.join("made")).unwrap();
        assert_eq!(made.trim(), failed.last_output.trim());
    }
}
