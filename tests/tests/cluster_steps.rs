//! Steps that run on workers of a cluster (`--executor`).
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::time::{Duration, Instant};

use kiln_tests::{BUSYBOX, CasdWorker, Cluster, Fault, Run, Space};

/// Builds with a store of its own; times don't count.
fn build(space: &Space, store: &str, more: &[&str]) -> Run {
    let args = [&["build", "context", "--progress", "plain"], more].concat();
    let mut command = space.command(&args);
    _ = command
        .env("KILN_ROOT", space.path(store))
        .env("SOURCE_DATE_EPOCH", "1000000000");
    Run::of(&command.output().unwrap())
}

/// The image as it is built here.
fn here(space: &Space) -> Vec<u8> {
    _ = build(space, "here", &["-o", "type=oci,dest=here.tar"]).ok();
    std::fs::read(space.path("here.tar")).unwrap()
}

/// The image as it is built on a cluster, which must be able to run every step.
fn there(space: &Space, executor: &str) -> (Run, Vec<u8>) {
    let output = "type=oci,dest=there.tar";
    let args = ["--executor", executor, "--executor-required", "-o", output];
    let run = build(space, "there", &args).ok();
    (run, std::fs::read(space.path("there.tar")).unwrap())
}

fn dockerfile(space: &Space, text: &str) {
    space.write("f", "one\n").write("d/g", "two\n");
    space.write("Dockerfile", text.replace("BUSYBOX", BUSYBOX));
}

/// All that a change set has to carry, but owners.
const CHANGES: &str = "\
FROM BUSYBOX AS one
ENV A=1
WORKDIR /w
RUN echo x > /x; rm /etc/group; mkdir -p /d/e; ln -s /x /d/l; ln /x /d/h; mkfifo /p; chmod 4755 /x
RUN rm -r /root; mkdir /root; touch -d @1000 /d/old; : > /empty
COPY f d /c/
RUN cat /c/f /c/g > /g; echo $A > a; pwd > b
RUN <<EOF
set -e
echo here > /here
EOF
FROM BUSYBOX
COPY --from=one /d /d2
COPY --from=one /g /here /
RUN --mount=type=bind,from=one,target=/mnt ls /mnt > /list; echo 1 > /one
RUN --network=none rm /one; mv /list /list2
";

#[test]
fn a_real_worker_gives_the_same_image() {
    let Some(worker) = CasdWorker::start() else {
        return;
    };
    let space = Space::new();
    dockerfile(&space, CHANGES);
    let executor = worker.executor();
    let (run, image) = there(&space, &executor);
    assert!(run.stderr.contains("on grpc://127.0.0.1"), "{}", run.stderr);
    assert!(image == here(&space), "another image");
    let again = build(&space, "there", &["--executor", &executor]).ok();
    assert!(
        again.stderr.contains("10 of 10 steps were cached"),
        "{}",
        again.stderr
    );
}

/// Workers with all ids: the machine's root, and an ordinary user with subordinate ids.
#[test]
fn owners_attributes_and_devices_come_back() {
    let space = Space::new();
    let steps = "\
FROM BUSYBOX
RUN echo bob:x:7:8:bob:/home/bob:/bin/sh >> /etc/passwd; mkdir -p /home/bob; chown 7:8 /home/bob
RUN chown 1:2 /bin/busybox; echo a > /a; chown 3:4 /a; chmod 2750 /a
USER bob
WORKDIR /home/bob
RUN id > id; echo $HOME > home; touch file
COPY --chown=5:6 f /f
";
    dockerfile(&space, steps);
    let want = here(&space);
    for user in [None, Some("kiln-test")] {
        let cluster = Cluster::start(user, Fault::None);
        _ = std::fs::remove_dir_all(space.path("there"));
        let (run, image) = there(&space, &cluster.executor());
        assert!(image == want, "{user:?}: another image\n{}", run.stderr);
    }
}

#[test]
fn steps_that_follow_each_other_are_one_action() {
    let space = Space::new();
    dockerfile(&space, CHANGES);
    let cluster = Cluster::start(None, Fault::None);
    let (run, _) = there(&space, &cluster.executor());
    assert_eq!(cluster.actions(), 2, "{}", run.stderr);
    let sent = cluster.uploaded();
    _ = std::fs::remove_dir_all(space.path("there"));
    _ = there(&space, &cluster.executor());
    assert!(
        cluster.uploaded() - sent < 1 << 20,
        "layers were sent again"
    );
}

#[test]
fn a_command_that_fails_there_fails_with_its_log_and_leaves_its_files() {
    let space = Space::new();
    let text = "FROM BUSYBOX\nRUN echo 1 > /one\nRUN echo to stdout; echo to stderr >&2; echo 2 > /two; exit 3\n";
    dockerfile(&space, text);
    let cluster = Cluster::start(None, Fault::None);
    let failed = build(&space, "there", &["--executor", &cluster.executor()]);
    failed.fails_with(&[
        "exit code: 3",
        "to stdout",
        "to stderr",
        "It had changed /two",
    ]);
    assert_eq!(cluster.actions(), 1, "it ran once, with the step before it");
    // What ran before it is kept there.
    dockerfile(&space, "FROM BUSYBOX\nRUN echo 1 > /one\n");
    let again = build(&space, "there", &["--executor", &cluster.executor()]).ok();
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);
}

#[test]
fn what_is_on_this_machine_runs_here_and_is_shown() {
    let space = Space::new();
    let text = "\
FROM BUSYBOX
RUN --mount=type=secret,id=s,env=S echo ${#S} > /length
RUN --mount=type=cache,target=/cache echo 1 > /cache/x
RUN echo 2 > /two
";
    dockerfile(&space, text);
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    let secret = "id=s,env=SECRET";
    let args = [
        "build",
        "context",
        "--progress",
        "plain",
        "--executor",
        &executor,
        "--secret",
        secret,
    ];
    let mut command = space.command(&args);
    _ = command.env("SECRET", "hunter2");
    let run = Run::of(&command.output().unwrap()).ok();
    for reason in ["a step uses a secret", "a step uses a cache volume"] {
        assert_eq!(
            run.stderr.matches(&format!("machine: {reason}")).count(),
            2,
            "{}",
            run.stderr
        );
    }
    assert_eq!(cluster.actions(), 1);
    let steps = space.kiln(&["steps", "context"]).ok().stdout;
    assert!(
        steps.contains("[on this machine: a step uses a secret"),
        "{steps}"
    );
    assert!(
        steps.contains(&format!("[on {} (worker-1)]", cluster.url())),
        "{steps}"
    );
}

#[test]
fn a_cluster_that_fails_costs_time_but_not_the_build() {
    for (fault, reason) in [
        (Fault::Fails, "out of order"),
        (Fault::DoesNothing, "gave no result (exit code 1)"),
        (Fault::Lies, "gave a wrong result"),
        (Fault::LosesOutputs, "gave a wrong result"),
        (Fault::SaysNothing, "sent without bytes"),
        (Fault::Drips, "tired"),
        (Fault::OnlyQueues, "no worker took the step within 3 s"),
        (Fault::KnowsNoPool, "properties are: OSFamily, ISA"),
        (Fault::Refuses, "who are you?"),
        (Fault::OnlyStores, "executes nothing"),
    ] {
        let space = Space::new();
        dockerfile(&space, "FROM BUSYBOX\nRUN echo 1 > /one\n");
        let cluster = Cluster::start(None, fault);
        let executor = format!("{},property.pool=large,queue=3s", cluster.executor());
        let strict = ["--executor", &executor, "--executor-required"];
        build(&space, "there", &strict).fails_with(&[reason, &cluster.url()]);
        let run = build(&space, "there", &strict[..2]).ok();
        assert!(run.stderr.contains(reason), "{fault:?}: {}", run.stderr);
        assert!(run.stderr.contains("[on this machine: "), "{}", run.stderr);
    }
}

#[test]
fn failures_that_pass_are_not_seen() {
    for fault in [Fault::LosesAnInput, Fault::BreaksStreams, Fault::IsAwayOnce] {
        let space = Space::new();
        dockerfile(&space, "FROM BUSYBOX\nRUN echo 1 > /one\n");
        let cluster = Cluster::start(None, fault);
        let (run, image) = there(&space, &cluster.executor());
        assert!(!run.stderr.contains("WARNING"), "{fault:?}: {}", run.stderr);
        assert!(image == here(&space), "{fault:?}");
    }
}

#[test]
fn no_server_and_bad_words() {
    let space = Space::new();
    dockerfile(&space, "FROM BUSYBOX\nRUN echo 1 > /one\n");
    let away = "grpc://127.0.0.1:1";
    let run = build(&space, "there", &["--executor", away]).ok();
    assert!(run.stderr.contains("refused"), "{}", run.stderr);
    let strict = ["--no-cache", "--executor", away, "--executor-required"];
    build(&space, "there", &strict).fails_with(&[away, "refused"]);
    for (spec, reason) in [
        ("h:1", "grpc://HOST:PORT"),
        ("grpc://h:1,pool=a", "unknown key 'pool'"),
    ] {
        let wrong = build(&space, "there", &["--executor", spec]);
        assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
        assert!(wrong.stderr.contains(reason), "{}", wrong.stderr);
    }
    // A file names the executor as well; the command line has the last word.
    std::fs::write(
        space.path("kiln.conf"),
        "executor = 'grpc://127.0.0.1:1'\nexecutor-required = true\n",
    )
    .unwrap();
    let configured = |more: &[&str]| {
        let args = [&["build", "context", "--no-cache"], more].concat();
        let mut command = space.command(&args);
        _ = command.env("KILN_CONFIG", space.path("kiln.conf"));
        Run::of(&command.output().unwrap())
    };
    configured(&[]).fails_with(&[away, "refused"]);
    _ = configured(&["--executor", "local"]).ok();
}

/// A worker with one id runs what needs no other, and what does runs here: the image is the same.
#[test]
fn steps_that_need_other_ids_than_a_worker_has_run_here() {
    let space = Space::new();
    let text = "\
FROM BUSYBOX
RUN chown 0:0 /bin/busybox; echo 1 > /one
RUN echo 2 > /two; chown 1:2 /two
RUN cp /two /copy
RUN echo 3 > /three
USER 7
RUN id
";
    dockerfile(&space, text);
    let want = here(&space);
    let cluster = Cluster::start(Some("kiln-single"), Fault::None);
    let executor = cluster.executor();
    let output = ["-o", "type=oci,dest=there.tar"];
    let args = [&["--executor", &executor], &output[..]].concat();
    let run = build(&space, "there", &args).ok();
    assert!(
        std::fs::read(space.path("there.tar")).unwrap() == want,
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("(worker-1)]"), "{}", run.stderr);
    for reason in [
        "it gives files to other users",
        "it copies or makes files",
        "it runs as another user",
    ] {
        assert!(run.stderr.contains(reason), "{reason}: {}", run.stderr);
    }
    let all = format!("{executor},ids=all");
    let strict = ["--no-cache", "--executor", &all, "--executor-required"];
    build(&space, "there", &strict).fails_with(&["it has one user id", "subordinate ids"]);
    let one = format!("{executor},ids=one");
    let strict = ["--no-cache", "--executor", &one, "--executor-required"];
    _ = build(&space, "there", &strict).ok();
}

/// A worker that dies in the middle of a step, with its server.
#[test]
fn a_server_that_dies_costs_the_step_not_the_build() {
    let space = Space::new();
    dockerfile(&space, "FROM BUSYBOX\nRUN sleep 3; echo 1 > /one\n");
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    let mut command = space.command(&[
        "build",
        "context",
        "--progress",
        "plain",
        "--executor",
        &executor,
    ]);
    let child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(|| cluster.actions() == 1);
    std::thread::sleep(Duration::from_millis(300));
    drop(cluster);
    let run = Run::of(&child.wait_with_output().unwrap()).ok();
    assert!(
        run.stderr.contains("the step runs on this machine"),
        "{}",
        run.stderr
    );
}

#[test]
fn cancelling_a_build_cancels_its_action() {
    let space = Space::new();
    dockerfile(&space, "FROM BUSYBOX\nRUN sleep 60\n");
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    let mut command = space.command(&["build", "context", "--executor", &executor]);
    let mut child = command.spawn().unwrap();
    wait_for(|| cluster.actions() == 1);
    std::thread::sleep(Duration::from_millis(300));
    _ = kiln_tests::run("kill", &["-TERM", &child.id().to_string()]).ok();
    let began = Instant::now();
    _ = child.wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(cluster.cancelled(), 1);
}

#[test]
fn outputs_that_are_values_come_back() {
    let space = Space::new();
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
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    let args = ["--executor", &executor, "--executor-required"];
    let run = build(
        &space,
        "there",
        &[&args[..], &["-o", "type=local,dest=out"]].concat(),
    )
    .ok();
    assert_eq!(
        kiln_tests::read(space.path("out/v")),
        "1.2.3\n",
        "{}",
        run.stderr
    );
}

fn wait_for(done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "it takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What steps write is shown while they run, once, and each step's under its own name.
#[test]
fn output_is_shown_while_steps_run() {
    let space = Space::new();
    let steps = "\
FROM BUSYBOX
RUN echo one; sleep 3; echo two >&2
RUN echo three; sleep 3; echo four
";
    dockerfile(&space, steps);
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    let args = ["build", "context", "--progress", "plain"];
    let mut command = space.command(&[&args[..], &["--executor", &executor]].concat());
    let mut child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    for line in std::io::BufRead::lines(stderr) {
        lines.push((Instant::now(), line.unwrap()));
    }
    assert!(child.wait().unwrap().success());
    let ended = Instant::now();
    let at = |word: &str| {
        let is = |(_, line): &&(Instant, String)| {
            let words: Vec<_> = line.split(' ').collect();
            words.len() == 3 && words[2] == word
        };
        let found: Vec<_> = lines.iter().filter(is).collect();
        assert_eq!(found.len(), 1, "{word}: {lines:#?}");
        (found[0].0, found[0].1.split(' ').next().unwrap().to_owned())
    };
    let [one, two, three, four] = ["one", "two", "three", "four"].map(at);
    for (word, early) in [(&one, 5), (&two, 2), (&three, 2)] {
        assert!(ended - word.0 >= Duration::from_secs(early), "{lines:#?}");
    }
    assert!(one.1 == two.1 && three.1 == four.1 && one.1 != three.1);
    assert_eq!(cluster.actions(), 1);
}

/// What steps ask of workers parts chains, and changes no key.
#[test]
fn steps_say_which_workers_they_want() {
    let space = Space::new();
    let steps = "\
FROM BUSYBOX
RUN echo 1 > /one
# remote: pool=large gpu=1
RUN echo 2 > /two
COPY f /f
# remote: the rest runs anywhere
RUN echo 3 > /three
";
    dockerfile(&space, steps);
    let cluster = Cluster::start(None, Fault::None);
    let executor = format!("{},property.pool=small", cluster.executor());
    let (_, image) = there(&space, &executor);
    assert!(image == here(&space), "another image");
    let pool = |asked: &[String]| -> Vec<String> {
        let own = asked.iter().filter(|one| !one.starts_with("OSFamily"));
        own.cloned().collect()
    };
    let asked: Vec<_> = cluster.asked().iter().map(|one| pool(one)).collect();
    let isa = asked[0][0].clone();
    let small = vec![isa.clone(), "pool=small".to_owned()];
    let large = vec![isa, "gpu=1".to_owned(), "pool=large".to_owned()];
    assert_eq!(asked, [small.clone(), large, small]);
    // The same steps without their wishes are the same steps.
    dockerfile(&space, &steps.replace("# remote", "# about"));
    let again = build(&space, "there", &["--executor", &executor]).ok();
    assert_eq!(
        again.stderr.matches("CACHED").count(),
        4,
        "{}",
        again.stderr
    );
    dockerfile(&space, "FROM BUSYBOX\n# remote: pool=a large\nRUN true\n");
    build(&space, "there", &[]).fails_with(&["Dockerfile:3", "'large' is no property"]);
}

#[test]
fn steps_of_a_kiln_toml_say_which_workers_they_want() {
    let space = Space::new();
    let text = "\
version = 1
[steps.app]
from = 'BUSYBOX'
run = 'echo 1 > /one'
[steps.app.remote]
properties = { pool = 'large' }
[images.i]
from = 'app'
";
    space.write("kiln.toml", text.replace("BUSYBOX", BUSYBOX));
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    let args = ["--executor", &executor, "--executor-required"];
    _ = build(&space, "there", &args).ok();
    assert!(cluster.asked()[0].contains(&"pool=large".to_owned()));
}

/// A file that nothing makes smaller is made, copied and read by an action each.
const LARGE: &str = "\
FROM BUSYBOX AS made
RUN seq 500000 | gzip > /large
FROM BUSYBOX AS one
COPY --from=made /large /one/
RUN wc -c < /one/large > /size
FROM BUSYBOX
RUN --mount=type=bind,from=made,target=/made --mount=type=bind,from=one,target=/copy \
  cmp /made/large /copy/one/large && cat /copy/size > /size
";

#[test]
fn results_stay_in_the_cluster_until_somebody_needs_them() {
    let space = Space::new();
    dockerfile(&space, LARGE);
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    let strict = ["--executor", &executor, "--executor-required"];
    _ = build(&space, "there", &strict).ok();
    assert_eq!(cluster.actions(), 3);
    assert!(cluster.downloaded() < 300_000, "{}", cluster.downloaded());
    let sent = cluster.uploaded();
    // A later build knows what is there, and the image has it.
    let (run, image) = there(&space, &executor);
    assert!(
        run.stderr.contains("4 of 4 steps were cached"),
        "{}",
        run.stderr
    );
    assert!(cluster.uploaded() - sent < 10_000);
    assert!(image == here(&space), "another image");
    assert_eq!(cluster.actions(), 3);
}

#[test]
fn results_that_are_gone_are_made_again() {
    let space = Space::new();
    dockerfile(&space, LARGE);
    let want = here(&space);
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    _ = build(&space, "there", &["--executor", &executor]).ok();
    cluster.forget_outputs();
    let (_, image) = there(&space, &executor);
    assert!(image == want, "gone between builds: another image");
    let cluster = Cluster::start(None, Fault::LosesResults);
    let executor = cluster.executor();
    let output = "type=oci,dest=late.tar";
    let run = build(&space, "late", &["--executor", &executor, "-o", output]).ok();
    assert!(run.stderr.contains("building without it"), "{}", run.stderr);
    let image = std::fs::read(space.path("late.tar")).unwrap();
    assert!(image == want, "gone while it is needed: another image");
}

#[test]
fn clusters_are_spoken_to_in_tls_with_certificates_on_both_sides() {
    let space = Space::new();
    dockerfile(&space, "FROM BUSYBOX\nRUN echo 1 > /one\n");
    kiln_tests::certificates(&space.path(""));
    let cluster = Cluster::start_encrypted(&space.path(""));
    let file = |name: &str| space.path(name).display().to_string();
    let with = |ca: &str, name: &str| {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let own = format!("cert={},key={}", file(&certificate), file(&key));
        format!("{},ca={},{own}", cluster.executor(), file(ca))
    };
    let (run, image) = there(&space, &with("ca.pem", "client"));
    assert!(
        run.stderr.contains("on grpcs://127.0.0.1"),
        "{}",
        run.stderr
    );
    assert!(image == here(&space), "another image");
    let refused = |executor: &str, reason: &str| {
        let strict = ["--no-cache", "--executor", executor, "--executor-required"];
        build(&space, "there", &strict).fails_with(&["127.0.0.1", reason]);
    };
    let url = cluster.executor();
    refused(&with("ca.pem", "other"), "this client's certificate");
    refused(&with("other.pem", "client"), "name that by ca=FILE");
    let known = format!("{url},ca={}", file("ca.pem"));
    refused(&known, "this client's certificate");
    refused(&url.replace("grpcs://", "grpc://"), "grpcs://");
    refused(&url, "name that by ca=FILE");
    assert_eq!(cluster.actions(), 1);
}

/// Lines of `kiln steps` that hold a text.
fn steps_with(space: &Space, store: &str, text: &str) -> Vec<String> {
    let mut command = space.command(&["steps", "context"]);
    _ = command.env("KILN_ROOT", space.path(store));
    let run = Run::of(&command.output().unwrap()).ok();
    let lines = run.stdout.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

#[test]
fn steps_run_where_their_inputs_are() {
    let space = Space::new();
    let steps = "\
FROM BUSYBOX AS large
COPY large /large
RUN wc -c < /large > /size
FROM BUSYBOX AS made
RUN echo 1 > /one
RUN echo 2 > /two
FROM BUSYBOX
COPY --from=large /size /
COPY --from=made /one /two /
";
    dockerfile(&space, steps);
    space.write("large", "x".repeat(40 << 20));
    let want = here(&space);
    let cluster = Cluster::start(None, Fault::None);
    let output = ["-o", "type=oci,dest=there.tar"];
    let executor = cluster.executor();
    let args = [&["--executor", &executor], &output[..]].concat();
    _ = build(&space, "there", &args).ok();
    assert!(
        std::fs::read(space.path("there.tar")).unwrap() == want,
        "another image"
    );
    let kept = steps_with(&space, "there", "[on this machine: what it needs is here]");
    assert_eq!(kept.len(), 1, "{kept:#?}");
    assert!(kept[0].contains("wc -c"), "{kept:#?}");
    assert_eq!(commands_on(&space, "there", "(worker-1)]"), 2);
    // The user may want all of them there.
    let all = format!("{},place=cluster", cluster.executor());
    _ = build(&space, "all", &["--executor", &all]).ok();
    assert_eq!(commands_on(&space, "all", "(worker-1)]"), 3);
}

/// How many commands ran in a place.
fn commands_on(space: &Space, store: &str, place: &str) -> usize {
    let steps = steps_with(space, store, place);
    steps.iter().filter(|step| step.contains("RUN ")).count()
}

/// Eight independent steps of a second each.
fn independent() -> String {
    let stages =
        (0..8).map(|at| format!("FROM BUSYBOX AS s{at}\nRUN sleep 1; echo {at} > /o{at}\n"));
    let copies = (0..8).map(|at| format!("COPY --from=s{at} /o{at} /\n"));
    stages
        .chain(["FROM BUSYBOX\n".to_owned()])
        .chain(copies)
        .collect()
}

#[test]
fn steps_run_here_and_there_at_once() {
    let Some(worker) = CasdWorker::start() else {
        return;
    };
    let space = Space::new();
    dockerfile(&space, &independent());
    let want = here(&space);
    let executor = format!("{},jobs=1", worker.executor());
    let args = [
        "--jobs",
        "1",
        "--executor",
        &executor,
        "-o",
        "type=oci,dest=both.tar",
    ];
    let run = build(&space, "both", &args).ok();
    assert!(
        std::fs::read(space.path("both.tar")).unwrap() == want,
        "{}",
        run.stderr
    );
    let there = commands_on(&space, "both", "[on grpc://");
    let here = commands_on(&space, "both", "[on this machine: other machines are busy]");
    assert!(there > 0 && here > 0, "{}", run.stderr);
    assert_eq!(there + here, 8, "{}", run.stderr);
}

#[test]
fn steps_that_wait_too_long_for_a_worker_are_done_here() {
    let space = Space::new();
    dockerfile(&space, &independent());
    let cluster = Cluster::start(None, Fault::OnlyQueues);
    let executor = format!("{},race=500ms", cluster.executor());
    let args = ["--executor", &executor, "-o", "type=oci,dest=raced.tar"];
    let began = Instant::now();
    let run = build(&space, "raced", &args).ok();
    assert!(began.elapsed() < Duration::from_secs(60), "{}", run.stderr);
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    assert!(std::fs::read(space.path("raced.tar")).unwrap() == here(&space));
    assert_eq!(cluster.cancelled(), cluster.actions(), "{}", run.stderr);
    assert!(!steps_with(&space, "raced", "[on this machine: it was done here first]").is_empty());
}
