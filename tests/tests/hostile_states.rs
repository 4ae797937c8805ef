//! What a hostile step leaves behind for `kiln shell`, for `--export` of failed steps, and for whoever
//! holds a descriptor of it. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kiln_tests::{BUSYBOX, Run, Space, volume_of, wait};

const SECRET: &str = "a-secret-of-the-host";

/// A directory of the host beside the context, with a file.
fn host(space: &Space) -> PathBuf {
    let directory = space.path("host");
    std::fs::create_dir_all(directory.join("d")).unwrap();
    std::fs::write(directory.join("secret"), format!("{SECRET}\n")).unwrap();
    std::fs::write(directory.join("d/file"), format!("{SECRET}\n")).unwrap();
    directory
}

fn unharmed(host: &Path) {
    let mut names: Vec<_> = std::fs::read_dir(host)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["d", "secret"]);
    assert_eq!(std::fs::read_dir(host.join("d")).unwrap().count(), 1);
    for name in ["secret", "d/file"] {
        let text = std::fs::read_to_string(host.join(name)).unwrap();
        assert_eq!(text, format!("{SECRET}\n"), "{name}");
    }
}

/// Types into `kiln shell`; panics when that takes more than a minute.
fn shell(space: &Space, args: &[&str], input: &str) -> Run {
    let mut command = space.command(&[&["shell", "context"], args].concat());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(input.as_bytes()).unwrap();
    drop(keys);
    wait(&mut child);
    Run::of(&child.wait_with_output().unwrap())
}

/// Links and pipes wherever the builder puts or looks for something.
fn traps(host: &Path) -> String {
    let host = host.display();
    format!(
        "rm -rf /etc/resolv.conf /etc/hosts /etc/hostname /root /tmp /etc/passwd /etc/group; \
         ln -s {host}/secret /etc/resolv.conf; ln -s {host}/new /etc/hosts; mkfifo /etc/hostname; \
         ln -s {host} /root; ln -s {host}/d /tmp; ln -s {host}/secret /etc/passwd; ln -s {host}/secret /etc/group; \
         ln -s {host} /hostdir; ln -s /proc/1/root{host} /magic; ln -s /proc/self/cwd/../../..{host} /up"
    )
}

#[test]
fn a_shell_reaches_nothing_of_the_host() {
    let space = Space::new();
    let host = host(&space);
    let traps = traps(&host);
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nENV HOME=/root\nRUN {traps}\nRUN touch /more; false\n"),
    );
    assert_eq!(space.build(&[]).status, Some(1));
    let typed = format!(
        "cd /; cat /etc/resolv.conf /etc/hosts /etc/group /hostdir/secret /magic/secret /up/secret {0}/secret\n\
         for at in /etc/resolv.conf /etc/hosts /root/new /tmp/new /hostdir/new /magic/new /up/new; do echo changed > $at; done\n\
         rm -rf /hostdir/* /root/* /tmp/* /magic/*\necho \"<$((6 * 7))>\"\nexit\n",
        host.display()
    );
    for args in [
        &[][..],
        &["--step", "2"],
        &["--step", "2", "--before"],
        &["--step", "1"],
    ] {
        let run = shell(&space, args, &typed);
        let seen = format!("{}{}", run.stdout, run.stderr);
        assert!(
            !seen.contains(&format!("{SECRET}\r")) && !seen.contains(&format!("{SECRET}\n")),
            "{args:?}: {seen}"
        );
        assert!(run.stdout.contains("<42>"), "{args:?}: {seen}");
        unharmed(&host);
    }
}

const TOML: &str = "version = 1\n[steps.a]\nfrom = 'IMAGE'\nrun = \"\"\"\nRUN\n\"\"\"\nexports = [{ name = 'd', path = '/x' }, { name = 'link', path = '/link/secret' }, { name = 'host', path = '/hostdir' }, { name = 'up', path = '/x/../x/up' }]\n[images.i]\nfrom = 'a'\n";

/// Writes a kiln.toml with a step that makes `/x`, a directory of traps, and then does `more`.
fn with_exports(space: &Space, host: &Path, more: &str) {
    let shown = host.display();
    let run = format!(
        "mkdir -p /x/d /x/deep; echo own > /x/f; echo own > /x/d/file; ln -s {shown}/secret /x/link; ln -s {shown} /hostdir; ln -s {shown} /link; ln -s ../../../..{shown} /x/up; mkfifo /x/pipe; mknod /x/null c 1 3 || true; ln /x/f /x/deep/hard; {more}"
    );
    space.write(
        "kiln.toml",
        TOML.replace("IMAGE", BUSYBOX).replace("RUN", &run),
    );
}

fn tells_nothing(out: &Path, built: &Run) {
    assert!(!built.stderr.contains(SECRET), "{}", built.stderr);
    // Links are exported as links: only what is no link counts.
    let script = format!(
        "find {} -type f -exec grep -l {SECRET} {{}} +",
        out.display()
    );
    let found = Run::of(&Command::new("sh").args(["-c", &script]).output().unwrap());
    assert_eq!(found.stdout, "", "{}", built.stderr);
}

#[test]
fn exports_of_failed_steps_are_their_own_files() {
    let space = Space::new();
    let host = host(&space);
    with_exports(&space, &host, "exit 1");
    let out = space.path("out");
    // Links that an earlier export might have left, where this one writes.
    std::fs::create_dir_all(out.join("d")).unwrap();
    for (name, to) in [("d/d", host.join("d")), ("d/f", host.join("secret"))] {
        std::os::unix::fs::symlink(to, out.join(name)).unwrap();
    }
    let mut command = space.command(&["build", "context", "--export", "out"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait(&mut child);
    let built = Run::of(&child.wait_with_output().unwrap());
    assert_eq!(built.status, Some(1), "{}", built.stderr);
    tells_nothing(&out, &built);
    unharmed(&host);
    for name in ["d/f", "d/d/file", "d/deep/hard"] {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(text, "own\n", "{name}");
        assert!(!out.join(name).is_symlink(), "{name}");
    }
    assert!(out.join("d/link").is_symlink());
}

/// A process of the machine that is given a descriptor of a step's root, and changes what it can
/// when told to, after the step has ended. Each success is a line of `done`.
struct Holder {
    child: Child,
    space: PathBuf,
}

const CHANGES: &str = "for try in 'echo no > x/f' 'echo no > x/new' 'mkdir x/d2' 'mv x/d x/e' 'ln -s HOST x/d' 'rm x/f' 'ln -s HOST/secret x/f' 'ln x/f x/hard' 'chmod 777 x/f' 'chmod 777 x' 'chown 5 x/f' 'touch -d 2001-01-01 x/f' 'touch x' 'mknod x/p p' 'truncate -s 0 x/f' 'setfattr -n user.a -v b x/f' 'mv x y'; do (eval $try) 2>/dev/null && echo $try; done";

impl Holder {
    /// `path` is what the step gives, `/` or a directory below it.
    fn start(space: &Space, host: &Path) -> Self {
        let attack = space.attack();
        // The volume in which the socket lies.
        space.write(
            "Dockerfile.volume",
            format!("FROM {BUSYBOX}\nRUN --mount=type=cache,id=s,target=/c true\n"),
        );
        let made = ["build", "context", "-f", "context/Dockerfile.volume"];
        _ = space.kiln(&made).ok();
        let socket = volume_of(&space.path("store")).unwrap().join("s");
        let (go, told) = (space.path("go"), space.path("done"));
        let script = format!(
            "cd /proc/self/fd/9; while ! test -e {}; do sleep 0.05; done; ({}) > {}",
            go.display(),
            CHANGES.replace("HOST", &host.display().to_string()),
            told.display()
        );
        let child = Command::new(&attack)
            .arg("take")
            .arg(&socket)
            .args(["sh", "-c", &script])
            .spawn()
            .unwrap();
        while !socket.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            child,
            space: space.path(""),
        }
    }

    /// What it could change.
    fn changes(mut self) -> String {
        std::fs::write(self.space.join("go"), "").unwrap();
        wait(&mut self.child);
        std::fs::read_to_string(self.space.join("done")).unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The state of a step that ended, well or not, is what it was then, whoever holds a descriptor.
#[test]
fn who_holds_an_ended_step_changes_nothing() {
    for (ending, status) in [("exit 1", 1), ("true", 0)] {
        let space = Space::new();
        let host = host(&space);
        let holder = Holder::start(&space, &host);
        with_exports(&space, &host, &format!("/attack give /c/s /; {ending}"));
        let text = std::fs::read_to_string(space.path("context/kiln.toml")).unwrap();
        let text = text.replace(
            &format!("[steps.a]\nfrom = '{BUSYBOX}'"),
            &format!("[sources.here]\ncontext = '.'\n[steps.base]\nfrom = '{BUSYBOX}'\ncopy = [{{ from = 'here', paths = ['attack'], to = '/' }}]\n[steps.a]\nfrom = 'base'\ncaches = [{{ target = '/c', id = 's' }}]"),
        );
        space.write("kiln.toml", text);
        let built = space.build(&["-f", "context/kiln.toml"]);
        assert_eq!(built.status, Some(status), "{}", built.stderr);
        assert_eq!(holder.changes(), "", "{ending}");
        let built = space.build(&["-f", "context/kiln.toml", "--export", "out"]);
        let out = space.path("out");
        tells_nothing(&out, &built);
        unharmed(&host);
        assert_eq!(std::fs::read_to_string(out.join("d/f")).unwrap(), "own\n");
        let checked = space.kiln(&["fsck"]);
        assert_eq!(
            checked.status,
            Some(0),
            "{}{}",
            checked.stdout,
            checked.stderr
        );
    }
}
