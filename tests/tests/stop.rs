//! One signal ends any phase of a build, and nothing stays behind.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_tests::{BUSYBOX, Space, kiln_binary};

/// A server that takes connections and says nothing.
struct Silent {
    port: u16,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for connection in listener.incoming() {
                held.push(connection);
            }
        });
        Self { port }
    }
}

fn start(space: &Space, args: &[&str]) -> Child {
    begin(
        space,
        &[&["build", "context", "--progress", "plain"], args].concat(),
    )
}

fn begin(space: &Space, args: &[&str]) -> Child {
    let mut command = space.command(args);
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    _ = kiln_tests::run("kill", &[&format!("-{name}"), &child.id().to_string()]);
}

/// The status and the text of a process that ends within `limit`.
fn ended(mut child: Child, limit: Duration) -> (Option<i32>, String) {
    let started = Instant::now();
    let mut stderr = child.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        _ = stderr.read_to_string(&mut text);
        text
    });
    while started.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            let code = status.code().or(status.signal().map(|signal| -signal));
            return (code, reading.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    panic!("still there after {limit:?}");
}

/// Processes that name `mark` in their arguments.
fn processes(mark: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark))
        .collect()
}

fn gone(mark: &str) {
    for _ in 0..150 {
        if processes(mark).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("left behind: {:?}", processes(mark));
}

fn until(mark: &str) {
    for _ in 0..500 {
        if !processes(mark).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nothing runs {mark}");
}

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_signal_ends_what_waits_for_the_network() {
    for (name, status) in [("TERM", 143), ("INT", 130)] {
        let server = Silent::start();
        let port = server.port;
        for file in [
            format!("FROM 127.0.0.1:{port}/x\n"),
            format!("FROM {BUSYBOX}\nADD http://127.0.0.1:{port}/x /x\n"),
            format!("FROM {BUSYBOX}\nADD git://127.0.0.1:{port}/x.git /x\n"),
        ] {
            let space = Space::new();
            space.write("Dockerfile", &file);
            let mut build = start(&space, &[]);
            std::thread::sleep(Duration::from_millis(1000));
            assert!(build.try_wait().unwrap().is_none(), "{file}");
            signal(&build, name);
            let (code, text) = ended(build, LIMIT);
            assert_eq!(code, Some(status), "{file}{text}");
            assert!(text.contains("cancelling"), "{text}");
            gone(&format!(":{port}/"));
        }
    }
}

#[test]
fn a_signal_ends_the_transfers_of_images() {
    let server = Silent::start();
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let name = format!("127.0.0.1:{}/x:1", server.port);
    _ = space.build(&["-t", &name]).ok();
    for verb in ["pull", "push"] {
        let mut child = begin(&space, &["image", verb, &name]);
        std::thread::sleep(Duration::from_millis(1000));
        assert!(child.try_wait().unwrap().is_none(), "{verb}");
        signal(&child, "INT");
        let (code, text) = ended(child, LIMIT);
        assert_eq!(code, Some(130), "{verb}: {text}");
        assert!(text.contains("cancelling"), "{verb}: {text}");
    }
}

#[test]
fn a_signal_ends_a_running_step() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN trap '' TERM INT; sleep 98761 & sleep 98761\n"),
    );
    let build = start(&space, &[]);
    until("sleep 98761");
    signal(&build, "TERM");
    let (code, text) = ended(build, LIMIT);
    assert_eq!(code, Some(143), "{text}");
    assert!(!text.contains("bug in kiln"), "{text}");
    gone("sleep 98761");
}

/// Sooner than what doesn't end by itself is ended.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Starts another build of the same store, which waits for this one, and ends it.
fn ends_while_it_waits(steps: [&str; 2], mark: &str) {
    let space = Space::new();
    let write = |step: &str| space.write("Dockerfile", format!("FROM {BUSYBOX}\n{step}\n"));
    write(steps[0]);
    let mut first = start(&space, &[]);
    until(mark);
    write(steps[1]);
    let mut second = start(&space, &[]);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(second.try_wait().unwrap().is_none(), "it doesn't wait");
    signal(&second, "TERM");
    let (code, text) = ended(second, AT_ONCE);
    assert_eq!(code, Some(143), "{text}");
    assert!(
        first.try_wait().unwrap().is_none(),
        "the other build ended, too"
    );
    first.kill().unwrap();
    _ = first.wait().unwrap();
    gone(mark);
}

#[test]
fn a_signal_ends_what_waits_for_an_equal_step() {
    ends_while_it_waits(["RUN sleep 98765", "RUN sleep 98765"], "sleep 98765");
}

#[test]
fn a_signal_ends_what_waits_for_a_volume() {
    let step = "RUN --mount=type=cache,id=v,target=/v,sharing=locked";
    let (first, second) = (format!("{step} sleep 98766"), format!("{step} true"));
    ends_while_it_waits([&first, &second], "sleep 98766");
}

/// A collection of garbage, or a check of the store, may hold it for long.
#[test]
fn a_signal_ends_what_waits_for_the_store() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo 1 > /x\n"));
    _ = space.build(&["--target", "none"]);
    let lock = space.path("store/locks/gc");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let mut held = Command::new("flock")
        .arg(&lock)
        .args(["sleep", "98767"])
        .spawn()
        .unwrap();
    until("sleep 98767");
    let mut build = start(&space, &[]);
    std::thread::sleep(Duration::from_millis(1500));
    let waits = build.try_wait().unwrap().is_none();
    signal(&build, "TERM");
    let (code, text) = ended(build, AT_ONCE);
    held.kill().unwrap();
    _ = held.wait().unwrap();
    _ = kiln_tests::run("sh", &["-c", "kill $(pgrep -f '^sleep 98767')"]);
    assert!(waits, "{text}");
    assert_eq!(code, Some(143), "{text}");
}

#[test]
fn a_signal_ends_an_export_and_leaves_no_half_file() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN dd if=/dev/zero of=/big bs=1M count=400\n"),
    );
    _ = space.build(&[]).ok();
    for (form, aside) in [("tar", "out.kiln-PID"), ("local", "out/.kiln-PID")] {
        let output = format!("type={form},dest={}", space.path("out").display());
        let build = start(&space, &["-o", &output]);
        let aside = space.path(aside.replace("PID", &build.id().to_string()));
        for _ in 0..3000 {
            if aside.metadata().is_ok_and(|about| about.len() > 0) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(aside.exists(), "{form}: nothing was exported");
        signal(&build, "TERM");
        let (code, text) = ended(build, AT_ONCE);
        assert_eq!(code, Some(143), "{form}: {text}");
        assert!(!aside.exists(), "{form}");
        assert!(!space.path("out/big").exists() && !space.path("out").is_file());
        _ = std::fs::remove_dir_all(space.path("out"));
    }
}

/// A build that is killed takes everything with it: steps, and programs of the machine.
#[test]
fn nothing_outlives_a_killed_build() {
    let server = Silent::start();
    let port = server.port;
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS a\nRUN sleep 98762 & sleep 98762\nFROM {BUSYBOX}\nUSER 77\nRUN sleep 98763\nADD git://127.0.0.1:{port}/x.git /x\nCOPY --from=a / /a\n"
        ),
    );
    let mut build = start(&space, &[]);
    for mark in ["sleep 98762", "sleep 98763", &format!(":{port}/")] {
        until(mark);
    }
    build.kill().unwrap();
    _ = build.wait().unwrap();
    for mark in ["sleep 98762", "sleep 98763", &format!(":{port}/")] {
        gone(mark);
    }
}

/// The sandbox opens nothing that an image can choose.
#[test]
fn a_pipe_for_dev_null_is_not_waited_for() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS e\nRUN mkfifo /evil\nFROM {BUSYBOX}\nRUN --mount=type=bind,from=e,source=/evil,target=/dev/null echo ran; cat; head -c 1 /proc/kcore; test -p /dev/null && echo pipe\n"
        ),
    );
    let (code, text) = ended(start(&space, &[]), Duration::from_secs(20));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ran") && text.contains("pipe"), "{text}");
}

/// Ctrl-C reaches every process of a terminal's foreground.
#[test]
fn ctrl_c_in_a_terminal() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN sleep 98764 & sleep 98764\n"),
    );
    const TYPE: &str = r#"
import os, pty, sys, time, select
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
started, text, sent = time.time(), b"", False
while time.time() - started < 30:
    if select.select([terminal], [], [], 0.1)[0]:
        try: some = os.read(terminal, 65536)
        except OSError: break
        if not some: break
        text += some
    if not sent and time.time() - started > 2:
        os.write(terminal, b"\x03"); sent = True
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
sys.stdout.buffer.write(text)
"#;
    let output = Command::new("python3")
        .args(["-c", TYPE])
        .arg(kiln_binary())
        .args(["build", "context"])
        .env("KILN_ROOT", space.path("store"))
        .current_dir(space.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("130\n"), "{text}");
    assert!(text.contains("cancelling"), "{text}");
    assert!(!text.contains("bug in kiln"), "{text}");
    gone("sleep 98764");
}
