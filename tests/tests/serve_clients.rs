//! Clients of one `kiln serve` beside each other: what one builds, another has no part in.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::HashMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use bollard_buildkit_proto::pb;
use bollard_buildkit_proto::pb::file_action::Action;
use kiln_tests::{
    BUSYBOX, Client, Registry, Server, Space, Web, definition_of, file_definition, run, runs,
    shell, wait,
};
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// What nothing else on this machine runs.
fn endless(digit: u32) -> String {
    format!("sleep {digit}{}", std::process::id())
}

/// Another client's build, whose step runs.
fn begin(server: &Server, space: &Space, step: &str) -> Child {
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN {step}\n"));
    let mut command = server.buildx(&["build", "--progress", "plain", "context"]);
    let client = command.stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !runs(&format!("^{step}")) {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    client
}

fn end(mut client: Child) {
    _ = run("kill", &["-INT", &client.id().to_string()]);
    wait(&mut client);
}

/// The client's main directory, as a definition.
fn directory() -> pb::Definition {
    definition_of(pb::op::Op::Source(pb::SourceOp {
        identifier: "local://context".to_owned(),
        ..pb::SourceOp::default()
    }))
}

#[test]
fn a_bridge_is_its_own_clients() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let step = endless(5);
    let victim = begin(&server, &space, &step);
    let attacker = Client::of(&server);
    let [build] = &attacker.history(true)[..] else {
        panic!("one build is running");
    };
    let reference = &build.r#ref;
    let solve = frontend::SolveRequest {
        definition: Some(directory()),
        ..frontend::SolveRequest::default()
    };
    let pong: Result<frontend::PongResponse, _> =
        attacker.bridge("Ping", reference, frontend::PingRequest::default());
    let solved: Result<frontend::SolveResponse, _> = attacker.bridge("Solve", reference, solve);
    let returned: Result<frontend::ReturnResponse, _> =
        attacker.bridge("Return", reference, frontend::ReturnRequest::default());
    for status in [pong.err(), solved.err(), returned.err()] {
        let message = status.as_ref().map(Status::message);
        assert_eq!(message, Some(&*format!("no such job {reference}")));
    }
    drop(attacker);
    assert!(runs(&format!("^{step}")), "the other build goes on");
    end(victim);
}

/// What a frontend adds to a build's rules about sources is read as those are, and never ignored.
#[test]
fn rules_of_frontends_are_read() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    const REF: &str = "rules-of-frontends";
    let build = control::SolveRequest {
        r#ref: REF.to_owned(),
        internal: true,
        ..control::SolveRequest::default()
    };
    let mut grpc = tonic::client::Grpc::new(client.channel.clone());
    let running = client.runtime.spawn(async move {
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Solve");
        let codec = ProstCodec::<_, control::SolveResponse>::default();
        _ = grpc.unary(Request::new(build), path, codec).await;
    });
    let policies = || {
        vec![control::sourcepolicy::Policy {
            version: 1,
            // A rule about nothing.
            rules: vec![control::sourcepolicy::Rule::default()],
        }]
    };
    let solve = frontend::SolveRequest {
        definition: Some(directory()),
        source_policies: policies(),
        ..frontend::SolveRequest::default()
    };
    let solved: Result<frontend::SolveResponse, _> = client.bridge("Solve", REF, solve);
    let resolve = frontend::ResolveImageConfigRequest {
        r#ref: BUSYBOX.to_owned(),
        source_policies: policies(),
        ..frontend::ResolveImageConfigRequest::default()
    };
    let resolved: Result<frontend::ResolveImageConfigResponse, _> =
        client.bridge("ResolveImageConfig", REF, resolve);
    for status in [solved.err(), resolved.err()] {
        let message = status.as_ref().map(Status::message);
        assert_eq!(message, Some("invalid nil selector in policy"));
    }
    running.abort();
}

#[test]
fn what_sources_are_can_be_asked() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let web = Web::serve(&space.path("context"));
    space.write("a.tar", "content");
    let client = Client::of(&server);
    const REF: &str = "what-sources-are";
    client.begin(REF);
    let ask = |request: frontend::ResolveSourceMetaRequest| {
        let answer: Result<frontend::ResolveSourceMetaResponse, _> =
            client.bridge("ResolveSourceMeta", REF, request);
        answer
    };
    let about = |identifier: &str| frontend::ResolveSourceMetaRequest {
        source: Some(pb::SourceOp {
            identifier: identifier.to_owned(),
            ..pb::SourceOp::default()
        }),
        ..frontend::ResolveSourceMetaRequest::default()
    };
    let url = web.url("a.tar");
    let file = ask(about(&url)).unwrap();
    let http = file.http.unwrap();
    assert_eq!(
        http.checksum,
        kiln_graph::BlobDigest::of(b"content").to_string()
    );
    assert_eq!(
        (http.filename.as_str(), file.source.unwrap().identifier),
        ("a.tar", url.clone())
    );
    let name = format!("docker-image://{BUSYBOX}");
    let image = ask(about(&name)).unwrap();
    assert_eq!(image.source.unwrap().identifier, name);
    let known = image.image.unwrap();
    assert!(known.digest.starts_with("sha256:") && known.config.starts_with(b"{"));
    let code = |request| ask(request).unwrap_err().code();
    assert_eq!(code(about("git://a.example/b")), tonic::Code::Unimplemented);
    assert_eq!(
        code(frontend::ResolveSourceMetaRequest::default()),
        tonic::Code::InvalidArgument
    );
    let mut attested = about(&name);
    attested.image = Some(frontend::ResolveSourceImageRequest {
        attestation_chain: true,
        ..frontend::ResolveSourceImageRequest::default()
    });
    assert_eq!(code(attested), tonic::Code::Unimplemented);
    // What may not be used isn't fetched to be looked at.
    let mut denied = about(&url);
    denied.source_policies = vec![control::sourcepolicy::Policy {
        version: 1,
        rules: vec![control::sourcepolicy::Rule {
            action: control::sourcepolicy::PolicyAction::Deny.into(),
            selector: Some(control::sourcepolicy::Selector {
                identifier: "http://*".to_owned(),
                ..control::sourcepolicy::Selector::default()
            }),
            updates: None,
        }],
    }];
    assert!(
        ask(denied)
            .unwrap_err()
            .message()
            .contains("denied by policy")
    );
    let missing = ask(about(&web.url("none"))).unwrap_err();
    assert!(
        missing.message().contains("invalid response status 404"),
        "{missing}"
    );
}

/// An archive on a web server as buildx looks into it, for a policy file or a bake file.
#[test]
fn an_archive_on_a_web_server_is_unpacked() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write("policy/a.rego", "package docker");
    let context = space.path("context");
    _ = shell(&context, "tar cf a.tar policy/a.rego");
    let web = Web::serve(&context);
    let mut definition = Definition::default();
    let source = definition.add(
        &[],
        pb::op::Op::Source(pb::SourceOp {
            identifier: web.url("a.tar"),
            attrs: [("http.filename".to_owned(), "context".to_owned())].into(),
        }),
    );
    let unpacked_into_root = copy("/context", "/", {
        pb::FileActionCopy {
            attempt_unpack_docker_compatibility: true,
            ..pb::FileActionCopy::default()
        }
    });
    let unpacked = definition.add(&[source], files(1, vec![unpacked_into_root]));
    let client = Client::of(&server);
    const REF: &str = "an-archive";
    client.begin(REF);
    let result = client.solved(REF, definition.of(unpacked));
    let file = client.file(REF, &result, "policy/a.rego");
    assert_eq!(file.unwrap(), b"package docker");
}

/// A graph as clients write it.
#[derive(Default)]
struct Definition(pb::Definition);

impl Definition {
    fn add(&mut self, inputs: &[pb::Input], op: pb::op::Op) -> pb::Input {
        let op = pb::Op {
            inputs: inputs.to_vec(),
            op: Some(op),
            ..pb::Op::default()
        };
        let op = op.encode_to_vec();
        let digest = kiln_graph::BlobDigest::of(&op).to_string();
        self.0.def.push(op);
        pb::Input { digest, index: 0 }
    }

    /// The whole, whose result this is.
    fn of(mut self, result: pb::Input) -> pb::Definition {
        let last = pb::Op {
            inputs: vec![result],
            ..pb::Op::default()
        };
        self.0.def.push(last.encode_to_vec());
        self.0
    }
}

/// Actions on an empty tree, each on what the one before made, with one input to copy from if there are any.
fn files(inputs: i64, actions: Vec<Action>) -> pb::op::Op {
    let count = actions.len() as i64;
    let actions = (0..).zip(actions).map(|(number, action)| pb::FileAction {
        input: if number == 0 { -1 } else { inputs + number - 1 },
        secondary_input: inputs - 1,
        output: if number + 1 == count { 0 } else { -1 },
        action: Some(action),
    });
    pb::op::Op::File(pb::FileOp {
        actions: actions.collect(),
    })
}

fn copy(src: &str, dest: &str, how: pb::FileActionCopy) -> Action {
    Action::Copy(pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: -1,
        ..how
    })
}

fn mkdir(path: &str) -> Action {
    Action::Mkdir(pb::FileActionMkDir {
        path: path.to_owned(),
        mode: 0o700,
        timestamp: -1,
        ..pb::FileActionMkDir::default()
    })
}

fn mkfile(path: &str) -> Action {
    Action::Mkfile(pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o644,
        data: b"text".to_vec(),
        timestamp: -1,
        ..pb::FileActionMkFile::default()
    })
}

#[test]
fn directories_keep_their_names_in_directories_that_are_there() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let mut definition = Definition::default();
    let made = vec![mkdir("/d"), mkfile("/d/a"), mkfile("/d/b")];
    let made = definition.add(&[], files(0, made));
    let plain = pb::FileActionCopy::default;
    let copies = vec![
        copy("/d", "/unpacked/", {
            pb::FileActionCopy {
                attempt_unpack_docker_compatibility: true,
                ..plain()
            }
        }),
        copy("/d", "/some/", {
            pb::FileActionCopy {
                include_patterns: vec!["a".to_owned()],
                ..plain()
            }
        }),
        mkdir("/there"),
        copy("/d", "/there", plain()),
        copy("/d", "/absent", plain()),
        copy("/d", "/content/", {
            pb::FileActionCopy {
                dir_copy_contents: true,
                ..plain()
            }
        }),
    ];
    let copied = definition.add(&[made], files(1, copies));
    let client = Client::of(&server);
    const REF: &str = "directories";
    client.begin(REF);
    let result = client.solved(REF, definition.of(copied));
    for path in [
        "unpacked/d/a",
        "some/d/a",
        "there/d/b",
        "absent/b",
        "content/b",
    ] {
        assert!(client.file(REF, &result, path).is_ok(), "{path}");
    }
    for path in ["unpacked/a", "some/d/b", "some/a", "there/a", "absent/d/a"] {
        assert!(client.file(REF, &result, path).is_err(), "{path}");
    }
    for path in ["unpacked/d", "there/d", "absent"] {
        let stat = frontend::StatFileRequest {
            r#ref: result.clone(),
            path: path.to_owned(),
            ..frontend::StatFileRequest::default()
        };
        let about: frontend::StatFileResponse = client.bridge("StatFile", REF, stat).unwrap();
        assert_eq!(about.stat.unwrap().mode & 0o777, 0o700, "{path}");
    }
}

#[test]
fn the_history_names_no_session() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space
        .write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        .write(
            "docker-bake.hcl",
            "target \"a\" { context = \"context\" }\ntarget \"b\" { context = \"context\" }\n",
        );
    _ = server.build(&[]).ok();
    let file = space.path("context/docker-bake.hcl");
    let bake = ["bake", "-f", file.to_str().unwrap(), "a", "b"];
    let baked = server.buildx(&bake).stderr(Stdio::null()).status().unwrap();
    assert!(baked.success());
    let records = Client::of(&server).history(false);
    assert_eq!(records.len(), 3);
    for record in records {
        let shown = format!("{record:?}").to_ascii_lowercase();
        assert!(!shown.contains("session"), "{shown}");
    }
}

#[test]
fn a_parent_group_is_below_the_servers_own() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN true\n"));
    for parent in ["../../..", "/..", "a/../../b"] {
        let built = server.build(&["--cgroup-parent", parent]);
        built.fails_with(&["cgroup-parent", "without '..'"]);
    }
    // One that isn't there holds no step.
    let absent = server.build(&["--cgroup-parent", "none-of-that-name"]);
    absent.fails_with(&["can't be limited here"]);
    let own = space.build(&["--cgroup-parent", "../x", "--memory", "64m"]);
    assert_eq!(own.status, Some(2), "{}", own.stderr);
    assert!(own.stderr.contains("without '..'"), "{}", own.stderr);
}

/// The time of a build is its exporters' as well, where no frontend has read it.
#[test]
fn a_definition_is_exported_with_the_builds_time() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let registry = Registry::start(&space.path("registry"), false);
    let client = Client::of(&server);
    client.session("its-session");
    let created = |reference: &str, more: &[(&str, &str)]| {
        let name = registry.name(&format!("{reference}:1"));
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let usual = [("name", name.as_str()), ("push", "true")];
        let build = control::SolveRequest {
            r#ref: reference.to_owned(),
            session: "its-session".to_owned(),
            definition: Some(file_definition("/file", "text")),
            frontend_attrs: [owned(&("build-arg:SOURCE_DATE_EPOCH", "1445412480"))].into(),
            exporters: vec![control::Exporter {
                r#type: "image".to_owned(),
                attrs: usual.iter().chain(more).map(owned).collect(),
            }],
            ..control::SolveRequest::default()
        };
        let path = "/moby.buildkit.v1.Control/Solve";
        let _: control::SolveResponse = client.call(path, Request::new(build)).unwrap();
        let address = format!("docker://{name}");
        let config = ["inspect", "--tls-verify=false", "--config", &address];
        serde_json::from_str::<serde_json::Value>(&run("skopeo", &config).stdout).unwrap()
    };
    let config = created("with-a-time", &[]);
    assert_eq!(config["created"], "2015-10-21T07:28:00Z");
    assert_eq!(config["history"][0]["created"], "2015-10-21T07:28:00Z");
    let own = created("without", &[("source-date-epoch", "")]);
    assert_ne!(own["created"], "2015-10-21T07:28:00Z");
    let said = r#"{"os":"linux","architecture":"amd64","config":{"Cmd":["said"]}}"#;
    let said = created("with-words", &[("containerimage.config", said)]);
    assert_eq!(said["config"]["Cmd"][0], "said");
}

/// The results of a build for two platforms, by these. Each has one file, which has the platform's name.
fn of_two_platforms(client: &Client, reference: &str) -> HashMap<String, frontend::Ref> {
    let text = "FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\n";
    let attributes = [
        ("filename", "file"),
        ("platform", "linux/amd64,linux/arm64"),
    ];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let inputs =
        ["context", "dockerfile"].map(|name| (name.to_owned(), file_definition("/file", text)));
    let solve = frontend::SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_opt: attributes.into(),
        frontend_inputs: inputs.into(),
        ..frontend::SolveRequest::default()
    };
    let solved: frontend::SolveResponse = client.bridge("Solve", reference, solve).unwrap();
    match solved.result.unwrap().result {
        Some(frontend::result::Result::Refs(map)) => map.refs,
        other => panic!("there are two results: {other:?}"),
    }
}

/// One platform's result is that platform's wherever it is used.
#[test]
fn a_result_of_one_platform_is_a_source() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    client.begin("platforms");
    for (platform, made) in of_two_platforms(&client, "platforms") {
        let name = platform.split('/').nth(1).unwrap();
        let mut definition = Definition::default();
        let source = pb::op::Op::Source(pb::SourceOp {
            identifier: format!("kiln-ref://{}", made.id),
            ..pb::SourceOp::default()
        });
        let source = definition.add(&[], source);
        let how = pb::FileActionCopy::default();
        let action = copy(&format!("/{name}"), "/copied", how);
        let copied = definition.add(&[source], files(1, vec![action]));
        let of_source = client.solved("platforms", definition.of(copied));
        assert!(client.file("platforms", &of_source, "/copied").is_ok());
        let text = format!("FROM scratch\nCOPY {name} /copied\n");
        let inputs = [
            ("context", made.def.unwrap()),
            ("dockerfile", file_definition("/file", &text)),
        ];
        let inputs = inputs.map(|(name, input)| (name.to_owned(), input));
        let solve = frontend::SolveRequest {
            frontend: "dockerfile.v0".to_owned(),
            frontend_opt: [("filename".to_owned(), "file".to_owned())].into(),
            frontend_inputs: inputs.into(),
            ..frontend::SolveRequest::default()
        };
        let solved: frontend::SolveResponse = client.bridge("Solve", "platforms", solve).unwrap();
        assert!(solved.result.is_some(), "{platform} is a context");
    }
}

#[test]
fn one_result_of_two_is_exported_alone() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let registry = Registry::start(&space.path("registry"), false);
    let client = Client::of(&server);
    const REF: &str = "one-of-two";
    client.session(REF);
    let name = registry.name("one:1");
    let attributes = [("name", name.as_str()), ("push", "true")];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let build = control::SolveRequest {
        r#ref: REF.to_owned(),
        session: REF.to_owned(),
        exporters: vec![control::Exporter {
            r#type: "image".to_owned(),
            attrs: attributes.into(),
        }],
        ..control::SolveRequest::default()
    };
    let mut grpc = client.grpc();
    let running = client.runtime.spawn(async move {
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Solve");
        let codec = ProstCodec::<_, control::SolveResponse>::default();
        grpc.unary(Request::new(build), path, codec).await.map(drop)
    });
    let mut both = of_two_platforms(&client, REF);
    let one = both.remove("linux/arm64").unwrap();
    let returned = frontend::ReturnRequest {
        result: Some(frontend::Result {
            result: Some(frontend::result::Result::Ref(one)),
            ..frontend::Result::default()
        }),
        ..frontend::ReturnRequest::default()
    };
    let _: frontend::ReturnResponse = client.bridge("Return", REF, returned).unwrap();
    client.runtime.block_on(running).unwrap().unwrap();
    let address = format!("docker://{name}");
    let raw = run(
        "skopeo",
        &["inspect", "--tls-verify=false", "--raw", &address],
    )
    .stdout;
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert!(manifest["config"].is_object(), "{raw}");
    let config = ["inspect", "--tls-verify=false", "--config", &address];
    let config = run("skopeo", &config).stdout;
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["architecture"], "arm64");
}
