//! Steps that run on other machines with kiln (`kiln serve --remote-execution`).
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use bazel_remote_apis::google::{bytestream, rpc};
use kiln_tests::{BUSYBOX, Node, Run, Space};
use prost::Message as _;
use reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use reapi::execution_client::ExecutionClient;

fn build(space: &Space, store: &str, more: &[&str]) -> Run {
    let args = [&["build", "context", "--progress", "plain"], more].concat();
    let mut command = space.command(&args);
    _ = command
        .env("KILN_ROOT", space.path(store))
        .env("SOURCE_DATE_EPOCH", "1000000000");
    Run::of(&command.output().unwrap())
}

fn image(space: &Space, store: &str, more: &[&str]) -> (Run, Vec<u8>) {
    let file = format!("{store}.tar");
    let output = format!("type=oci,dest={file}");
    let run = build(space, store, &[&["-o", &output], more].concat()).ok();
    let image = std::fs::read(space.path(&file)).unwrap();
    (run, image)
}

fn dockerfile(space: &Space, text: &str) {
    space.write("f", "one\n").write("d/g", "two\n");
    space.write("Dockerfile", text.replace("BUSYBOX", BUSYBOX));
}

/// All that a change set has to carry, and steps of one stage that others need.
const CHANGES: &str = "\
FROM BUSYBOX AS one
ENV A=1
WORKDIR /w
RUN echo x > /x; rm /etc/group; mkdir -p /d/e; ln -s /x /d/l; ln /x /d/h; mkfifo /p; chmod 4755 /x
RUN rm -r /root; mkdir /root; touch -d @1000 /d/old; : > /empty
RUN chown 7:8 /d/e; mknod /dev-null c 1 3
COPY f d /c/
RUN cat /c/f /c/g > /g; echo $A > a; pwd > b
FROM BUSYBOX
COPY --from=one /d /d2
COPY --from=one /g /
RUN --mount=type=bind,from=one,target=/mnt ls /mnt > /list; echo 1 > /one
RUN --network=none rm /one; mv /list /list2
";

#[test]
fn another_machine_gives_the_same_image() {
    let space = Space::new();
    dockerfile(&space, CHANGES);
    let (_, want) = image(&space, "here", &[]);
    let node = Node::start(&space, &[]);
    let executor = node.executor();
    let strict = ["--executor", &executor, "--executor-required"];
    let (run, there) = image(&space, "there", &strict);
    assert!(there == want, "another image: {}", run.stderr);
    assert!(
        run.stderr.contains(&format!("on {executor} (")),
        "{}",
        run.stderr
    );
    // The node has the same program, and is not sent it.
    let used = kiln_tests::run("du", &["-sm", node.root().to_str().unwrap()])
        .ok()
        .stdout;
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    assert!(used < 40, "{used} MiB");
    // A third machine sends it nothing but what is to be done.
    let (run, again) = image(&space, "third", &strict);
    assert!(again == want, "another image");
    assert!(!run.stderr.contains("push to"), "{}", run.stderr);
}

#[test]
fn failures_outputs_and_live_output_come_back() {
    let space = Space::new();
    let text = "\
FROM BUSYBOX
RUN echo 1 > /one; echo early
RUN echo to stdout; echo to stderr >&2; echo 2 > /two; exit 3
";
    dockerfile(&space, text);
    let node = Node::start(&space, &[]);
    let executor = node.executor();
    let failed = build(&space, "there", &["--executor", &executor]);
    failed.fails_with(&[
        "exit code: 3",
        "early",
        "to stdout",
        "to stderr",
        "It had changed /two",
    ]);
    let text = r#"
version = 1
[steps.version]
from = "BUSYBOX"
run = "printf 1.2.3"
[steps.app]
from = "BUSYBOX"
run = "echo '{{ steps.version.stdout }}' > /v"
[images.i]
from = "app"
"#;
    space.write("kiln.toml", text.replace("BUSYBOX", BUSYBOX));
    let args = [
        "--executor",
        &executor,
        "--executor-required",
        "-o",
        "type=local,dest=out",
    ];
    _ = build(&space, "there", &args).ok();
    assert_eq!(kiln_tests::read(space.path("out/v")), "1.2.3\n");
}

/// What the steps of a node see is what they see of any machine with kiln: neither its files, nor its
/// processes, nor more capabilities.
#[test]
fn steps_are_in_the_sandbox_of_steps() {
    let space = Space::new();
    let text = "\
FROM BUSYBOX
RUN ls -d /* > /seen; tr '\\0' ' ' < /proc/1/cmdline > /first; grep Cap /proc/self/status > /capabilities; \
  grep Seccomp: /proc/self/status >> /capabilities; hostname > /name; ls /proc/self/fd | wc -l > /descriptors; \
  env | sort > /variables
";
    dockerfile(&space, text);
    let (_, want) = image(&space, "here", &[]);
    let node = Node::start(&space, &[]);
    let executor = node.executor();
    let (_, there) = image(
        &space,
        "there",
        &["--executor", &executor, "--executor-required"],
    );
    assert!(there == want, "another sandbox");
}

/// Begins a build with a node; what it tells comes line by line.
fn begin(space: &Space, node: &Node) -> (Child, impl Iterator<Item = String> + use<>) {
    let executor = node.executor();
    let args = [
        "build",
        "context",
        "--progress",
        "plain",
        "--executor",
        &executor,
    ];
    let mut command = space.command(&args);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr.lines().map(Result::unwrap))
}

#[test]
fn a_node_that_dies_costs_the_step_not_the_build() {
    let space = Space::new();
    dockerfile(
        &space,
        "FROM BUSYBOX\nRUN echo begun; sleep 3; echo 1 > /one\n",
    );
    let mut node = Node::start(&space, &[]);
    let (mut child, mut lines) = begin(&space, &node);
    let mut told = String::new();
    for line in lines.by_ref() {
        told.push_str(&line);
        // It is shown while it runs.
        if line.ends_with(" begun") {
            node.kill();
            break;
        }
    }
    told.extend(lines.map(|line| line + "\n"));
    assert!(child.wait().unwrap().success(), "{told}");
    assert!(told.contains("the step runs on this machine"), "{told}");
}

#[test]
fn cancelling_a_build_ends_its_steps_on_the_node() {
    let space = Space::new();
    dockerfile(&space, "FROM BUSYBOX\nRUN echo begun; sleep 98765\n");
    let node = Node::start(&space, &[]);
    let (mut child, mut lines) = begin(&space, &node);
    let begun = lines.find(|line| line.ends_with(" begun"));
    assert!(begun.is_some());
    _ = kiln_tests::run("kill", &["-TERM", &child.id().to_string()]).ok();
    _ = child.wait().unwrap();
    let began = Instant::now();
    while kiln_tests::runs("^sleep 98765") {
        assert!(began.elapsed() < Duration::from_secs(20), "it runs on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_a_node_has_not_is_said_and_the_step_runs_here() {
    let space = Space::new();
    dockerfile(&space, "FROM BUSYBOX\nRUN echo 1 > /one\n");
    let node = Node::start(&space, &[]);
    for (more, reason) in [
        (
            ",property.pool=large",
            "this node's properties are OSFamily=linux",
        ),
        (",instance=main", "main"),
    ] {
        let executor = format!("{}{more}", node.executor());
        let args = ["--no-cache", "--executor", &executor];
        build(
            &space,
            "there",
            &[&args[..], &["--executor-required"]].concat(),
        )
        .fails_with(&[reason]);
        let run = build(&space, "there", &args).ok();
        assert!(run.stderr.contains("on this machine"), "{}", run.stderr);
    }
}

/// Nobody but clients with a certificate comes from outside, and without TCP nobody at all.
#[test]
fn nodes_are_reached_as_servers_are() {
    let space = Space::new();
    let serve = |more: &[&str]| {
        let root = space.path("refused").display().to_string();
        let args = [&["serve", "--remote-execution", "--root", &root], more].concat();
        space.kiln(&args)
    };
    let open = serve(&["--addr", "tcp://0.0.0.0:0"]);
    assert_eq!(open.status, Some(2), "{}", open.stderr);
    assert!(open.stderr.contains("have clients show a certificate"));
    let socket = format!("unix://{}", space.path("socket").display());
    let local = serve(&["--addr", &socket]);
    assert_eq!(local.status, Some(2), "{}", local.stderr);
    assert!(local.stderr.contains("give --addr tcp://"));
}

#[test]
fn a_node_is_a_shared_cache_as_well() {
    let space = Space::new();
    dockerfile(
        &space,
        "FROM BUSYBOX\nCOPY f /f\nRUN head -c 3000000 /dev/urandom > /big\n",
    );
    let node = Node::start(&space, &[]);
    let spec = format!("type=reapi,url={},mode=max", node.executor());
    let (first, want) = image(&space, "one", &["--cache-to", &spec]);
    assert!(!first.stderr.contains("WARNING"), "{}", first.stderr);
    let (again, image) = image(&space, "two", &["--cache-from", &spec]);
    assert_eq!(
        again.stderr.matches(" CACHED").count(),
        2,
        "{}",
        again.stderr
    );
    assert!(image == want);
}

/// Two nodes and this machine share the steps of a build among them; what is sent to one is sent once.
#[test]
fn independent_steps_are_sent_at_once_and_their_inputs_once() {
    let space = Space::new();
    let stages = (0..8).map(|at| format!("FROM BUSYBOX AS s{at}\nRUN echo {at} > /o{at}\n"));
    let copies = (0..8).map(|at| format!("COPY --from=s{at} /o{at} /\n"));
    let text: String = stages
        .chain(["FROM BUSYBOX\n".to_owned()])
        .chain(copies)
        .collect();
    dockerfile(&space, &text);
    let node = Node::start(&space, &[]);
    let executor = node.executor();
    let (run, _) = image(
        &space,
        "there",
        &["--executor", &executor, "--executor-required"],
    );
    let sent = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("push to"));
    assert!(sent.count() <= 1, "{}", run.stderr);
}

/// A client that says what it likes.
struct Stranger {
    runtime: tokio::runtime::Runtime,
    channel: tonic::transport::Channel,
}

fn digest(bytes: &[u8]) -> reapi::Digest {
    reapi::Digest {
        hash: kiln_graph::BlobDigest::of(bytes).hex(),
        size_bytes: i64::try_from(bytes.len()).unwrap(),
    }
}

impl Stranger {
    fn new(node: &Node) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let channel = tonic::transport::Channel::from_shared(format!("http://{}", node.address()));
        let channel = runtime.block_on(channel.unwrap().connect()).unwrap();
        Self { runtime, channel }
    }

    /// Puts a blob into the storage.
    fn put(&self, bytes: &[u8]) -> reapi::Digest {
        let digest = digest(bytes);
        let status = self.update(&digest, bytes);
        assert_eq!(status.code, 0, "{}", status.message);
        digest
    }

    fn update(&self, digest: &reapi::Digest, bytes: &[u8]) -> rpc::Status {
        let one = reapi::batch_update_blobs_request::Request {
            digest: Some(digest.clone()),
            data: bytes.to_vec(),
            ..Default::default()
        };
        let request = reapi::BatchUpdateBlobsRequest {
            requests: vec![one],
            ..Default::default()
        };
        let mut client = ContentAddressableStorageClient::new(self.channel.clone());
        let answer = self
            .runtime
            .block_on(client.batch_update_blobs(request))
            .unwrap();
        answer.into_inner().responses.remove(0).status.unwrap()
    }

    fn is_missing(&self, digest: &reapi::Digest) -> bool {
        let request = reapi::FindMissingBlobsRequest {
            blob_digests: vec![digest.clone()],
            ..Default::default()
        };
        let mut client = ContentAddressableStorageClient::new(self.channel.clone());
        let answer = self
            .runtime
            .block_on(client.find_missing_blobs(request))
            .unwrap();
        !answer.into_inner().missing_blob_digests.is_empty()
    }

    fn write(&self, name: &str, parts: &[(i64, &[u8], bool)]) -> Result<i64, tonic::Status> {
        let message = |(at, data, last): &(i64, &[u8], bool)| bytestream::WriteRequest {
            resource_name: name.to_owned(),
            write_offset: *at,
            finish_write: *last,
            data: data.to_vec(),
        };
        let messages: Vec<_> = parts.iter().map(message).collect();
        let mut client = ByteStreamClient::new(self.channel.clone());
        let answer = client.write(futures_util::stream::iter(messages));
        let answer = self.runtime.block_on(answer)?;
        Ok(answer.into_inner().committed_size)
    }

    /// Sends an action of a command with some inputs; how it is refused.
    fn refusal(&self, arguments: &[&str], files: &[(&str, reapi::Digest)]) -> tonic::Status {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let command = reapi::Command {
            arguments,
            ..Default::default()
        };
        let file = |(name, digest): &(&str, reapi::Digest)| reapi::FileNode {
            name: (*name).to_owned(),
            digest: Some(digest.clone()),
            is_executable: true,
            ..Default::default()
        };
        let root = reapi::Directory {
            files: files.iter().map(file).collect(),
            ..Default::default()
        };
        let action = reapi::Action {
            command_digest: Some(self.put(&command.encode_to_vec())),
            input_root_digest: Some(self.put(&root.encode_to_vec())),
            ..Default::default()
        };
        let request = reapi::ExecuteRequest {
            action_digest: Some(self.put(&action.encode_to_vec())),
            ..Default::default()
        };
        let mut client = ExecutionClient::new(self.channel.clone());
        self.runtime.block_on(client.execute(request)).unwrap_err()
    }
}

#[test]
fn actions_that_are_no_steps_are_refused() {
    let space = Space::new();
    let node = Node::start(&space, &[]);
    let stranger = Stranger::new(&node);
    let mark = space.path("mark");
    let script = format!("#!/bin/sh\ntouch {}\n", mark.display());
    let program = stranger.put(script.as_bytes());
    let refused = |arguments: &[&str], files: &[(&str, reapi::Digest)], reason: &str| {
        let status = stranger.refusal(arguments, files);
        assert!(status.message().contains(reason), "{status}");
    };
    let touch = ["touch", mark.to_str().unwrap()];
    refused(&touch, &[], "steps of kiln's builds and nothing else");
    refused(&["./kiln-step", "more"], &[], "nothing else");
    let helper = ("kiln-step", program);
    refused(
        &["./kiln-step"],
        std::slice::from_ref(&helper),
        "order.json is missing",
    );
    for (order, reason) in [
        ("{}", "can't be understood"),
        ("[[[[", "can't be understood"),
        (
            r#"{"version":1,"ids":"same","network":"worker","trees":[],"steps":[]}"#,
            "from 1 to",
        ),
        (
            r#"{"version":99,"ids":"same","network":"worker","trees":[],"steps":[]}"#,
            "version 99",
        ),
    ] {
        let order = ("order.json", stranger.put(order.as_bytes()));
        refused(&["./kiln-step"], &[helper.clone(), order], reason);
    }
    let gone = ("order.json", digest(b"never sent"));
    let status = stranger.refusal(&["./kiln-step"], &[gone]);
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    assert!(!mark.exists(), "a client's program was executed");
}

#[test]
fn uploads_are_what_they_say() {
    let space = Space::new();
    let node = Node::start(&space, &[]);
    let stranger = Stranger::new(&node);
    let blob = digest(b"abcdef");
    let name = format!("uploads/u/blobs/{}/6", blob.hash);
    for (parts, reason) in [
        (vec![(0, &b"abcdeX"[..], true)], "was said to be"),
        (vec![(0, b"abc", true)], "shorter"),
        (vec![(0, b"abc", false)], "shorter"),
        (vec![(0, b"abcdefg", true)], "longer"),
        (vec![(0, b"abc", false), (3, b"defg", true)], "longer"),
        (vec![(0, b"abc", false), (0, b"def", true)], "a write at 0"),
        (vec![(3, b"def", true)], "a write at 3"),
        (vec![(-1, b"abcdef", true)], "a write at -1"),
    ] {
        let refused = stranger.write(&name, &parts).unwrap_err();
        assert!(refused.message().contains(reason), "{parts:?}: {refused}");
        assert!(stranger.is_missing(&blob), "{parts:?}");
    }
    for name in [
        "uploads/u/blobs/../../etc/passwd/6".to_owned(),
        format!("uploads/u/blobs/{}/99999999999999999", blob.hash),
        format!("blobs/{}/6", blob.hash),
        String::new(),
    ] {
        assert!(
            stranger.write(&name, &[(0, b"abcdef", true)]).is_err(),
            "{name}"
        );
    }
    let status = stranger.update(&blob, b"abcdeX");
    assert_eq!(status.code, tonic::Code::InvalidArgument as i32);
    assert!(stranger.is_missing(&blob));
    let parts: [(i64, &[u8], bool); 2] = [(0, b"abc", false), (3, b"def", true)];
    assert_eq!(stranger.write(&name, &parts).unwrap(), 6);
    assert!(!stranger.is_missing(&blob));
    // One that is there is not taken again.
    assert_eq!(stranger.write(&name, &[(0, b"x", true)]).unwrap(), 6);
}

/// A proxy before an address that cuts each connection after some time; where it listens, and how often it cut.
fn cutting(address: &str, after: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let (address, cuts) = (address.to_owned(), Arc::new(AtomicUsize::new(0)));
    let counted = cuts.clone();
    _ = std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(&address).unwrap();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                _ = std::thread::spawn(move || _ = std::io::copy(&mut from, &mut to));
            }
            let cuts = counted.clone();
            _ = std::thread::spawn(move || {
                std::thread::sleep(after);
                _ = cuts.fetch_add(1, Ordering::SeqCst);
                _ = client.shutdown(std::net::Shutdown::Both);
                _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (place, cuts)
}

#[test]
fn a_proxy_that_cuts_streams_is_not_noticed() {
    let space = Space::new();
    dockerfile(
        &space,
        "FROM BUSYBOX\nRUN echo 1; sleep 2; echo 2\nRUN sleep 2; echo 3 > /three\n",
    );
    let (_, want) = image(&space, "here", &[]);
    let node = Node::start(&space, &[]);
    let (place, cuts) = cutting(node.address(), Duration::from_millis(1500));
    let executor = format!("grpc://{place}");
    let strict = ["--executor", &executor, "--executor-required"];
    let (run, there) = image(&space, "there", &strict);
    assert!(cuts.load(Ordering::SeqCst) >= 2, "nothing was cut");
    assert!(there == want, "another image");
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    // What a step wrote comes once, whatever broke.
    for word in ["1", "2"] {
        let lines = run
            .stderr
            .lines()
            .filter(|line| line.ends_with(&format!(" {word}")));
        let shown = lines.filter(|line| line.split(' ').count() == 3).count();
        assert_eq!(shown, 1, "{word}: {}", run.stderr);
    }
}
