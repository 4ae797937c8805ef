//! Containers that clients of `kiln serve` make of results, with processes in them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "these are tests")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::google::protobuf::Any;
use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use bollard_buildkit_proto::pb;
use frontend::exec_message::Input;
use frontend::{
    ExecMessage, FdMessage, InitMessage, NewContainerRequest, NewContainerResponse,
    ReleaseContainerRequest, ReleaseContainerResponse, ResizeMessage, SignalMessage,
};
use kiln_tests::{BUSYBOX, Client, Server, Space, runs};
use prost::Message;
use tokio::sync::mpsc::UnboundedSender;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A definition of operations, each made from the one before; the result is the last one's.
fn definition(ops: Vec<pb::op::Op>) -> pb::Definition {
    let mut definition = pb::Definition::default();
    let mut last = Vec::new();
    for op in ops.into_iter().map(Some).chain([None]) {
        let inputs = std::mem::take(&mut last);
        let op = pb::Op {
            inputs,
            op,
            ..pb::Op::default()
        };
        let op = op.encode_to_vec();
        let digest = kiln_graph::BlobDigest::of(&op).to_string();
        last.push(pb::Input { digest, index: 0 });
        definition.def.push(op);
    }
    definition
}

/// An image.
fn image(name: &str) -> pb::op::Op {
    pb::op::Op::Source(pb::SourceOp {
        identifier: format!("docker-image://{name}"),
        ..pb::SourceOp::default()
    })
}

/// A command.
fn command(script: &str) -> pb::op::Op {
    let meta = pb::Meta {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: "/".to_owned(),
        ..pb::Meta::default()
    };
    pb::op::Op::Exec(pb::ExecOp {
        meta: Some(meta),
        mounts: vec![pb::Mount {
            dest: "/".to_owned(),
            ..pb::Mount::default()
        }],
        ..pb::ExecOp::default()
    })
}

/// A build with a container of busybox.
struct Box<'a> {
    client: &'a Client,
    build: &'a str,
    /// The name of its root.
    root: String,
}

impl<'a> Box<'a> {
    fn open(client: &'a Client, build: &'a str) -> Self {
        client.begin(build);
        let solve = frontend::SolveRequest {
            definition: Some(definition(vec![image(BUSYBOX)])),
            allow_result_return: true,
            ..frontend::SolveRequest::default()
        };
        let solved: frontend::SolveResponse = client.bridge("Solve", build, solve).unwrap();
        let Some(frontend::result::Result::Ref(root)) = solved.result.unwrap().result else {
            panic!("one result");
        };
        let made = Self {
            client,
            build,
            root: root.id,
        };
        made.container("c").unwrap();
        made
    }

    fn container(&self, name: &str) -> Result<NewContainerResponse, Status> {
        let mount = |dest: &str, result: &str, kind: pb::MountType| pb::Mount {
            dest: dest.to_owned(),
            result_id: result.to_owned(),
            mount_type: kind.into(),
            ..pb::Mount::default()
        };
        let request = NewContainerRequest {
            container_id: name.to_owned(),
            mounts: vec![
                mount("/", &self.root, pb::MountType::Bind),
                mount("/other", &self.root, pb::MountType::Bind),
                mount("/tmp", "", pb::MountType::Tmpfs),
            ],
            hostname: "inside".to_owned(),
            extra_hosts: vec![pb::HostIp {
                host: "some.example".to_owned(),
                ip: "10.1.2.3".to_owned(),
            }],
            ..NewContainerRequest::default()
        };
        self.client.bridge("NewContainer", self.build, request)
    }

    fn release(&self, name: &str) -> Result<ReleaseContainerResponse, Status> {
        let container_id = name.to_owned();
        let request = ReleaseContainerRequest { container_id };
        self.client.bridge("ReleaseContainer", self.build, request)
    }

    /// A stream of messages about processes.
    fn stream(&self) -> Talk<'a> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let messages = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let next: ExecMessage = receiver.recv().await?;
            Some((next, receiver))
        });
        let mut request = Request::new(messages);
        let id = self.build.parse().unwrap();
        _ = request
            .metadata_mut()
            .insert("buildkit-controlapi-buildid", id);
        let mut grpc = self.client.grpc();
        let path = PathAndQuery::from_static("/moby.buildkit.v1.frontend.LLBBridge/ExecProcess");
        let answers = self.client.runtime.block_on(async {
            grpc.ready().await.unwrap();
            let codec = ProstCodec::<_, ExecMessage>::default();
            grpc.streaming(request, path, codec).await.unwrap()
        });
        Talk {
            client: self.client,
            sender,
            answers: answers.into_inner(),
            heard: HashMap::new(),
        }
    }
}

/// What a process has said.
#[derive(Debug, Default)]
struct Heard {
    started: bool,
    output: String,
    errors: String,
    exit: Option<u32>,
    message: String,
    done: bool,
}

/// One stream of messages.
struct Talk<'a> {
    client: &'a Client,
    sender: UnboundedSender<ExecMessage>,
    answers: Streaming<ExecMessage>,
    heard: HashMap<String, Heard>,
}

impl Talk<'_> {
    fn say(&self, process: &str, input: Input) {
        let message = ExecMessage {
            process_id: process.to_owned(),
            input: Some(input),
        };
        self.sender.send(message).unwrap();
    }

    fn start(
        &self,
        process: &str,
        container: &str,
        script: &str,
        change: impl FnOnce(&mut InitMessage),
    ) {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let meta = pb::Meta {
            args,
            cwd: "/".to_owned(),
            env: vec!["GIVEN=1".to_owned()],
            ..pb::Meta::default()
        };
        let mut init = InitMessage {
            container_id: container.to_owned(),
            meta: Some(meta),
            fds: vec![0, 1, 2],
            ..InitMessage::default()
        };
        change(&mut init);
        self.say(process, Input::Init(init));
    }

    fn write(&self, process: &str, text: &str) {
        let data = text.as_bytes().to_vec();
        let eof = data.is_empty();
        self.say(process, Input::File(FdMessage { fd: 0, eof, data }));
    }

    fn signal(&self, process: &str, name: &str) {
        let name = name.to_owned();
        self.say(process, Input::Signal(SignalMessage { name }));
    }

    /// Listens until something has been heard of a process.
    fn until(&mut self, process: &str, is_it: impl Fn(&Heard) -> bool) -> Result<&Heard, Status> {
        while !self.heard.get(process).is_some_and(&is_it) {
            let limit = Duration::from_secs(30);
            let next = async { tokio::time::timeout(limit, self.answers.message()).await };
            let message = self
                .client
                .runtime
                .block_on(next)
                .expect("something is said")?;
            let message = message.expect("the stream goes on");
            let heard = self.heard.entry(message.process_id).or_default();
            match message.input.unwrap() {
                Input::Started(_) => heard.started = true,
                Input::File(data) => {
                    assert!(heard.started && !heard.done);
                    let text = String::from_utf8(data.data).unwrap();
                    let stream = if data.fd == 1 {
                        &mut heard.output
                    } else {
                        &mut heard.errors
                    };
                    stream.push_str(&text);
                }
                Input::Exit(exit) => {
                    heard.exit = Some(exit.code);
                    heard.message = exit.error.map(|error| error.message).unwrap_or_default();
                }
                Input::Done(_) => heard.done = true,
                other => panic!("{other:?}"),
            }
        }
        Ok(&self.heard[process])
    }

    fn end(&mut self, process: &str) -> &Heard {
        self.until(process, |heard| heard.done).unwrap()
    }
}

#[test]
fn a_process_reads_and_writes_and_ends() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    let made = Box::open(&client, "reads-and-writes");
    let mut talk = made.stream();
    let script = "read line; echo \"got $line $GIVEN $(hostname)\"; grep some.example /etc/hosts >&2; ls /other/bin/sh; cat; exit 9";
    talk.start("a", "c", script, |_| {});
    _ = talk.until("a", |heard| heard.started).unwrap();
    talk.write("a", "one\n");
    _ = talk
        .until("a", |heard| heard.output.contains("got"))
        .unwrap();
    talk.write("a", "two");
    talk.write("a", "");
    let heard = talk.end("a");
    assert_eq!(heard.output, "got one 1 inside\n/other/bin/sh\ntwo");
    assert_eq!(heard.errors, "10.1.2.3\tsome.example\n");
    assert_eq!((heard.exit, &*heard.message), (Some(9), "exit code: 9"));
    // With its first process the container has ended.
    talk.start("b", "c", "true", |_| {});
    let late = talk.end("b");
    assert!(late.message.contains("first process has ended"), "{late:?}");
}

#[test]
fn processes_share_a_container_and_end_with_its_first() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    let made = Box::open(&client, "processes-share");
    let mut talk = made.stream();
    talk.start(
        "first",
        "c",
        "echo 1 > /made; trap 'exit 4' TERM; echo up; sleep 600 & wait",
        |_| {},
    );
    _ = talk.until("first", |heard| heard.output == "up\n").unwrap();
    talk.start(
        "second",
        "c",
        "cat /made; cat; tr '\\0' ' ' < /proc/1/cmdline | grep -c made; touch /seen",
        |_| {},
    );
    talk.write("second", "piped\n");
    talk.write("second", "");
    let heard = talk.end("second");
    assert_eq!(heard.output, "1\npiped\n1\n", "{heard:?}");
    assert_eq!(heard.exit, Some(0));
    talk.start("third", "c", "test -e /seen && exec sleep 600", |_| {});
    _ = talk.until("third", |heard| heard.started).unwrap();
    talk.signal("third", "SIGKILL");
    assert_eq!(talk.end("third").exit, Some(137));
    talk.start("none", "c", "", |init| {
        init.meta.as_mut().unwrap().args = vec!["nothing".to_owned()];
    });
    let heard = talk.end("none");
    assert_eq!(heard.exit, Some(127));
    assert!(
        heard.message.contains("executable file not found"),
        "{heard:?}"
    );
    talk.start("last", "c", "sleep 600", |init| {
        init.meta.as_mut().unwrap().user = "65534".to_owned();
    });
    _ = talk.until("last", |heard| heard.started).unwrap();
    talk.signal("first", "TERM");
    assert_eq!(talk.end("last").exit, Some(137));
    assert_eq!(talk.end("first").exit, Some(4));
}

#[test]
fn a_terminal_has_the_clients_size() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    let made = Box::open(&client, "a-terminal");
    let mut talk = made.stream();
    let terminal = |init: &mut InitMessage| init.tty = true;
    talk.start(
        "first",
        "c",
        "trap 'exit 5' INT; read go; stty size; test -t 0 && test -t 2 && echo yes; sleep 600 & wait",
        terminal,
    );
    _ = talk.until("first", |heard| heard.started).unwrap();
    talk.say("first", Input::Resize(ResizeMessage { rows: 33, cols: 44 }));
    talk.write("first", "\n");
    _ = talk
        .until("first", |heard| heard.output.contains("33 44\r\nyes"))
        .unwrap();
    talk.start("second", "c", "test -t 0 && test -t 1 && exit 3", terminal);
    let heard = talk.end("second");
    assert_eq!(heard.exit, Some(3), "{heard:?}");
    // As a terminal's user would.
    talk.write("first", "\u{3}");
    assert_eq!(talk.end("first").exit, Some(5));
}

#[test]
fn containers_go_with_their_client() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    let made = Box::open(&client, "go-with-their-client");
    let step = |digit: u32| format!("sleep {digit}{}", std::process::id());
    let mut talk = made.stream();
    talk.start("a", "c", &format!("exec {}", step(6)), |_| {});
    _ = talk.until("a", |heard| heard.started).unwrap();
    assert_eq!(made.container("c").unwrap_err().code(), Code::AlreadyExists);
    _ = made.release("c").unwrap();
    assert_eq!(talk.end("a").exit, Some(137));
    assert_eq!(made.release("c").unwrap_err().code(), Code::NotFound);
    made.container("d").unwrap();
    talk.start("b", "d", &format!("exec {}", step(7)), |_| {});
    _ = talk.until("b", |heard| heard.started).unwrap();
    let running = format!("^{}", step(7));
    let waited = Instant::now();
    while !runs(&running) && waited.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(runs(&running));
    drop(talk);
    drop(client);
    let waited = Instant::now();
    while runs(&running) && waited.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!runs(&running));
}

#[test]
fn what_a_build_may_not_have_its_containers_may_not() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    let made = Box::open(&client, "may-not");
    let mut talk = made.stream();
    talk.start("a", "c", "true", |init| {
        init.security = pb::SecurityMode::Insecure.into();
    });
    let refused = talk.until("a", |heard| heard.done).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut talk = made.stream();
    talk.start("a", "nowhere", "true", |_| {});
    let refused = talk.until("a", |heard| heard.done).unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let host = NewContainerRequest {
        container_id: "h".to_owned(),
        mounts: vec![pb::Mount {
            dest: "/".to_owned(),
            ..pb::Mount::default()
        }],
        network: pb::NetMode::Host.into(),
        ..NewContainerRequest::default()
    };
    let refused: Result<NewContainerResponse, _> = client.bridge("NewContainer", "may-not", host);
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("network.host"), "{refused}");
}

/// What a build that fails tells: for each place, what `/made` of its first result holds.
fn made_where_it_failed(ops: Vec<pb::op::Op>, expected: &[(&str, &str)]) {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    client.begin("that-failed");
    let solve = frontend::SolveRequest {
        definition: Some(definition(ops)),
        allow_result_return: true,
        ..frontend::SolveRequest::default()
    };
    let solved: Result<frontend::SolveResponse, _> = client.bridge("Solve", "that-failed", solve);
    let status = rpc::Status::decode(solved.unwrap_err().details()).unwrap();
    let is_it = |detail: &&Any| detail.type_url == "github.com/moby/buildkit/errdefs.Solve+json";
    let told = status.details.iter().find(is_it).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.value).unwrap();
    assert_eq!(told["op"]["exec"]["meta"]["args"][0], "sh");
    for (place, says) in expected {
        let made = Box {
            client: &client,
            build: "that-failed",
            root: told[place][0].as_str().unwrap().to_owned(),
        };
        made.container(place).unwrap();
        let mut talk = made.stream();
        talk.start("a", place, "cat /made", |_| {});
        assert_eq!(talk.end("a").output, *says);
    }
}

#[test]
fn what_a_step_that_failed_left_behind_can_be_looked_at() {
    let ops = vec![image(BUSYBOX), command("echo half > /made; exit 3")];
    made_where_it_failed(ops, &[("mountIDs", "half\n"), ("inputIDs", "")]);
}

#[test]
fn a_step_that_failed_is_told_from_another_of_its_name() {
    let script = "if [ -e /made ]; then echo again > /made; exit 3; fi; echo once > /made";
    let ops = vec![image(BUSYBOX), command(script), command(script)];
    made_where_it_failed(ops, &[("mountIDs", "again\n"), ("inputIDs", "once\n")]);
}

/// Clients marshal a definition anew, and then look into what they are answered.
#[test]
fn a_result_that_is_solved_again_has_a_whole_definition() {
    let space = Space::new();
    let server = Server::start(&space, &[]);
    let client = Client::of(&server);
    client.begin("solved-again");
    let solve = |definition: pb::Definition| {
        let solve = frontend::SolveRequest {
            definition: Some(definition),
            allow_result_return: true,
            ..frontend::SolveRequest::default()
        };
        let solved: frontend::SolveResponse =
            client.bridge("Solve", "solved-again", solve).unwrap();
        match solved.result.unwrap().result {
            Some(frontend::result::Result::Ref(one)) => one,
            other => panic!("{other:?}"),
        }
    };
    let first = solve(definition(vec![image(BUSYBOX)]));
    let anew = pb::Definition {
        source: None,
        ..first.def.clone().unwrap()
    };
    let again = solve(anew);
    assert_eq!(again.id, first.id);
    assert!(again.def.unwrap().source.is_some());
}
