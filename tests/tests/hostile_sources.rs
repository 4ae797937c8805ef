//! What a hostile context tries that isn't a plain directory: a git repository, a tar from a web
//! server or from standard input, and a directory that changes while `--watch` looks on. Each test
//! is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_tests::{BUSYBOX, Run, Space, Web, run, shell, wait};

const SECRET: &str = "a-secret-of-the-host";
const LIMIT: Duration = Duration::from_secs(60);

fn host(space: &Space) -> PathBuf {
    let directory = space.path("host");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("secret"), format!("{SECRET}\n")).unwrap();
    directory
}

fn unharmed(host: &Path) {
    assert_eq!(std::fs::read_dir(host).unwrap().count(), 1);
    let text = std::fs::read_to_string(host.join("secret")).unwrap();
    assert_eq!(text, format!("{SECRET}\n"));
}

/// Nothing of the host is in what was said, written or stored.
fn tells_nothing(space: &Space, built: &Run, what: &str) {
    let told = format!("{}{}", built.stdout, built.stderr);
    assert!(!told.contains(SECRET), "{what}: {told}");
    assert!(!told.contains("panicked"), "{what}: {told}");
    let mut grep = Command::new("grep");
    grep.args(["-rl", SECRET]);
    let found = grep.args([space.path("out"), space.path("store")]).output();
    assert_eq!(Run::of(&found.unwrap()).stdout, "", "{what}");
}

/// Builds a context by its address, or from standard input.
fn build(space: &Space, context: &str, input: Option<&Path>) -> Run {
    _ = std::fs::remove_dir_all(space.path("out"));
    let output = format!("type=local,dest={}", space.path("out").display());
    let mut command = space.command(&["build", context, "-o", &output]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(match input {
        Some(file) => std::fs::File::open(file).unwrap().into(),
        None => Stdio::null(),
    });
    let mut child = command.spawn().unwrap();
    wait(&mut child);
    Run::of(&child.wait_with_output().unwrap())
}

/// Commits a directory and gives the address of the repository.
fn commit(space: &Space, web: &Web, directory: &Path) -> String {
    let script = "git init -q -b main . && git -c user.name=a -c user.email=a@b add -A -f . && git -c user.name=a -c user.email=a@b commit -qm a --allow-empty && git update-server-info";
    _ = shell(directory, script);
    let inside = directory.strip_prefix(space.path("")).unwrap();
    web.url(&format!("{}/.git", inside.display()))
}

/// Builds the directory `tree` as a git repository, as a tar of a web server, and as one on
/// standard input.
fn each_way(space: &Space, web: &Web, tree: &Path, see: impl Fn(&Run, &str)) {
    let tar = space.path("context.tar");
    _ = run(
        "tar",
        &[
            "-C",
            &tree.display().to_string(),
            "-cf",
            &tar.display().to_string(),
            ".",
        ],
    );
    see(&build(space, &web.url("context.tar"), None), "web");
    see(&build(space, "-", Some(&tar)), "stdin");
    let address = commit(space, web, tree);
    see(&build(space, &address, None), "git");
}

#[test]
fn fetched_contexts_lead_nowhere() {
    let space = Space::new();
    let host = host(&space);
    let web = Web::serve(&space.path(""));
    let steps = "COPY link /a\nCOPY d[i]r/ /b/\nCOPY dir/secret /c\nADD link /d\nCOPY up /e\nRUN --mount=type=bind,target=/m cp -rL /m /f; true";
    for (number, step) in steps.lines().enumerate() {
        let tree = space.path(format!("tree{number}"));
        std::fs::create_dir(&tree).unwrap();
        symlink(host.join("secret"), tree.join("link")).unwrap();
        symlink(&host, tree.join("dir")).unwrap();
        symlink(
            format!("../../../../..{}/secret", host.display()),
            tree.join("up"),
        )
        .unwrap();
        std::fs::write(tree.join("Dockerfile"), format!("FROM {BUSYBOX}\n{step}\n")).unwrap();
        each_way(&space, &web, &tree, |built, way| {
            tells_nothing(&space, built, &format!("{way}: {step}"));
            unharmed(&host);
        });
    }
}

#[test]
fn files_of_fetched_contexts_are_read_inside() {
    let names = [
        "Dockerfile",
        "kiln.toml",
        ".dockerignore",
        "Dockerfile.dockerignore",
        "include.toml",
    ];
    let space = Space::new();
    let host = host(&space);
    let web = Web::serve(&space.path(""));
    for name in names {
        let tree = space.path(format!("tree-{name}"));
        std::fs::create_dir(&tree).unwrap();
        symlink(host.join("secret"), tree.join(name)).unwrap();
        let (file, text) = match name {
            "include.toml" => ("kiln.toml", "version = 1\ninclude = ['include.toml']\n"),
            _ => ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        };
        if name != "Dockerfile" {
            std::fs::write(tree.join(file), text).unwrap();
        }
        each_way(&space, &web, &tree, |built, way| {
            tells_nothing(&space, built, &format!("{way}: {name}"));
            assert_ne!(built.status, Some(0), "{way}: {name}: {}", built.stderr);
        });
    }
}

/// Lines of Python that write a tar: see `Space::image`.
const TAR: &str = r#"
import io, sys, tarfile
host = sys.argv[2]
tar = tarfile.open(sys.argv[1], "w", format=tarfile.PAX_FORMAT)
def add(name, type, data=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = type, 0o755, len(data)
    for key, value in attributes.items(): setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))
def put(name, data): add(name, tarfile.REGTYPE, data)
DIR, LINK, HARD, FIFO, CHAR = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE
file = b"FROM scratch\nCOPY . /\n"
exec(sys.argv[3])
tar.close()
"#;

#[test]
fn archives_of_contexts_write_inside_only() {
    let space = Space::new();
    let host = host(&space);
    let web = Web::serve(&space.path(""));
    for lines in [
        "put('Dockerfile', file); add('hard', HARD, linkname=host + '/secret')",
        "put('Dockerfile', file); add('hard', HARD, linkname='../' * 9 + host + '/secret')",
        "put('Dockerfile', file); add('d', LINK, linkname=host); put('d/new', b'x')",
        "put('Dockerfile', file); add('d', LINK, linkname=host); add('hard', HARD, linkname='d/secret')",
        "put('Dockerfile', file); add('d', LINK, linkname=host); add('d/secret', DIR)",
        "put('Dockerfile', file); put('../' * 9 + host + '/new', b'x')",
        "put('Dockerfile', file); put(host + '/new', b'x')",
        "add('Dockerfile', HARD, linkname=host + '/secret')",
        "add('Dockerfile', LINK, linkname=host + '/secret')",
        "add('Dockerfile', FIFO)",
        "add('Dockerfile', CHAR, devmajor=1, devminor=5)",
        "put('Dockerfile', file); add('.dockerignore', FIFO)",
        "put('Dockerfile', file); add('null', CHAR, devmajor=1, devminor=5); add('pipe', FIFO)",
        "put('x/Dockerfile', file); add('x/link', LINK, linkname=host + '/secret')",
        "add('x', LINK, linkname=host); put('x/Dockerfile', file)",
        "put('Dockerfile', file); add('.wh..wh..opq', tarfile.REGTYPE); put('.wh.secret', b'')",
    ] {
        let tar = space.path("context.tar");
        let words = [tar.display().to_string(), host.display().to_string()];
        _ = run("python3", &["-c", TAR, &words[0], &words[1], lines]);
        for (context, input) in [
            (web.url("context.tar"), None),
            ("-".to_owned(), Some(&*tar)),
        ] {
            let built = build(&space, &context, input);
            tells_nothing(&space, &built, &format!("{context}: {lines}"));
            unharmed(&host);
        }
    }
}

/// Whether a file has the text, now or within [`LIMIT`].
fn becomes(file: &Path, text: &str) -> bool {
    let started = Instant::now();
    while std::fs::read_to_string(file).ok().as_deref() != Some(text) {
        if started.elapsed() > LIMIT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// How many files and directories a process watches.
fn watches_of(child: &Child) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fdinfo", child.id())).unwrap();
    let texts = open
        .flatten()
        .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
    texts.map(|text| text.matches("inotify wd:").count()).sum()
}

/// A context that is exchanged for pipes and links between two builds, and while one runs.
#[test]
fn watched_contexts_lead_nowhere() {
    let space = Space::new();
    let host = host(&space);
    let context = space.path("context");
    space
        .write("Dockerfile", "FROM scratch\nCOPY . /\n")
        .write("f", "one")
        .write("dir/secret", "own");
    // To be watched, it would have to be walked; what it leads to changes all the time.
    symlink("/", context.join("machine")).unwrap();
    let out = space.path("out");
    let output = format!("type=local,dest={}", out.display());
    let mut child = space
        .command(&["build", "context", "--watch", "-o", &output])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let becomes = |text: &str| becomes(&out.join("f"), text);
    let mut steps = vec![becomes("one")];
    let exchange = |name: &str| {
        _ = std::fs::remove_dir_all(context.join(name));
        _ = std::fs::remove_file(context.join(name));
    };
    // A link isn't written where a directory is.
    std::fs::remove_dir_all(&out).unwrap();
    exchange("dir");
    symlink(&host, context.join("dir")).unwrap();
    space.write("f", "two");
    steps.push(becomes("two"));
    _ = run("mkfifo", &[context.join("pipe"), context.join("dir.fifo")]);
    space.write("f", "three");
    steps.push(becomes("three"));
    // What can't be read stops one build and not the watching.
    for name in [".dockerignore", "Dockerfile"] {
        exchange(name);
        _ = run("mkfifo", &[context.join(name)]);
        std::thread::sleep(Duration::from_millis(600));
        exchange(name);
        symlink(host.join("secret"), context.join(name)).unwrap();
        std::thread::sleep(Duration::from_millis(600));
        exchange(name);
    }
    space
        .write("Dockerfile", "FROM scratch\nCOPY . /\n")
        .write("f", "four");
    steps.push(becomes("four"));
    let watches = watches_of(&child);
    _ = run("kill", &["-INT", &child.id().to_string()]);
    wait(&mut child);
    assert_eq!(steps, [true; 4]);
    assert!(
        (1..10).contains(&watches),
        "{watches} directories are watched"
    );
    tells_nothing(
        &space,
        &Run {
            status: None,
            stdout: String::new(),
            stderr: String::new(),
        },
        "watch",
    );
    unharmed(&host);
}
