//! What a hostile build context, repository or download tries. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use kiln_tests::{BUSYBOX, Space, Web, run};

const SECRET: &str = "a-secret-of-the-host";

/// A file and a directory outside of the context.
fn with_secret() -> Space {
    let space = Space::new();
    std::fs::create_dir(space.path("outside")).unwrap();
    std::fs::write(space.path("outside/secret"), format!("{SECRET}\n")).unwrap();
    space
}

fn tells_nothing(space: &Space, args: &[&str]) {
    let output = format!("type=local,dest={}", space.path("out").display());
    let built = space.build(&[args, &["-o", &output]].concat());
    let told = format!("{}{}", built.stdout, built.stderr);
    assert!(!told.contains(SECRET), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    let found = std::process::Command::new("grep")
        .args(["-rl", SECRET])
        .arg(space.path("out"))
        .arg(space.path("store"))
        .output()
        .unwrap();
    assert!(
        !found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stdout)
    );
}

#[test]
fn links_out_of_a_context_are_only_links() {
    for (name, steps) in [
        ("link", "COPY link /out"),
        ("link", "COPY l* /out/"),
        ("link", "ADD link /out"),
        ("dir", "COPY dir/secret /out"),
        ("dir", "COPY dir/ /out/"),
        ("dir", "COPY --parents dir/* /out/"),
        (
            "dir",
            "RUN --mount=type=bind,source=dir,target=/m cp -r /m /out; true",
        ),
        (
            "link",
            "RUN --mount=type=bind,source=link,target=/m cp -r /m /out; true",
        ),
        (
            "dir",
            "RUN --mount=type=bind,target=/m cp -rL /m /out; true",
        ),
    ] {
        let space = with_secret();
        let target = if name == "dir" {
            "outside"
        } else {
            "outside/secret"
        };
        symlink(space.path(target), space.path("context").join(name)).unwrap();
        space.write("Dockerfile", format!("FROM {BUSYBOX}\n{steps}\n"));
        tells_nothing(&space, &[]);
    }
}

#[test]
fn build_files_are_read_inside_only() {
    for name in [
        "Dockerfile",
        "dockerfile",
        "kiln.toml",
        ".dockerignore",
        "Dockerfile.dockerignore",
    ] {
        let space = with_secret();
        if name.ends_with("ignore") {
            space.write("Dockerfile", "FROM scratch\nCOPY . /\n");
        }
        symlink(
            space.path("outside/secret"),
            space.path("context").join(name),
        )
        .unwrap();
        tells_nothing(&space, &[]);
        let tried = space.build(&["--check"]);
        assert_ne!(tried.status, Some(0), "{name}: {}", tried.stderr);
        assert!(!tried.stderr.contains(SECRET), "{name}: {}", tried.stderr);
    }
    for source in ["link", "../outside", "/etc"] {
        let space = with_secret();
        symlink(space.path("outside"), space.path("context/link")).unwrap();
        space.write("kiln.toml", format!("[sources.evil]\ncontext = \"{source}\"\n[sources.base]\nimage = \"{BUSYBOX}\"\n[steps.a]\nfrom = \"base\"\ncopy = [{{ from = \"evil\", src = \".\", dest = \"/out/\" }}]\n[image]\nfrom = \"a\"\n"));
        tells_nothing(&space, &[]);
        assert_ne!(space.build(&[]).status, Some(0));
    }
}

#[test]
fn what_is_no_file_does_not_stop_a_build() {
    let space = Space::new();
    let at = |name: &str| space.path("context").join(name);
    _ = run("mkfifo", &[at("pipe")]);
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink(".", at("self")).unwrap();
    for steps in [
        "COPY . /a/",
        "ADD . /a/",
        "ADD pipe /a",
        "COPY pipe /a",
        "COPY loop /a",
        "ADD loop /a",
        "COPY self/self/self/pipe /a",
        "RUN --mount=type=bind,source=pipe,target=/m ls /m",
    ] {
        space.write("Dockerfile", format!("FROM {BUSYBOX}\n{steps}\n"));
        let done = space.build(&[
            "-o",
            &format!("type=oci,dest={}", space.path("out.tar").display()),
        ]);
        assert!(
            !done.stderr.contains("panicked"),
            "{steps}: {}",
            done.stderr
        );
    }
    for name in ["Dockerfile", ".dockerignore", "kiln.toml"] {
        let space = Space::new();
        if name == ".dockerignore" {
            space.write("Dockerfile", "FROM scratch\nCOPY . /\n");
        }
        _ = run("mkfifo", &[space.path("context").join(name)]);
        space.build(&[]).fails_with(&["it is no file"]);
    }
}

#[test]
fn names_of_any_bytes_and_deep_directories() {
    let space = Space::new();
    let context = space.path("context");
    let long = "n".repeat(255);
    let names: [&[u8]; 6] = [
        b"\xff\xfe",
        b"a\nb",
        b"\x1b[31m",
        long.as_bytes(),
        b" ",
        b".wh.evil",
    ];
    for name in names {
        std::fs::write(context.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let deep = context.join(vec!["d"; 200].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), "deep").unwrap();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nCOPY . /c/\nRUN ls /c | wc -l > /count\n"),
    );
    let out = space.build_files(&[]);
    for name in names.iter().filter(|name| !name.starts_with(b".wh.")) {
        let read = std::fs::read(out.join("c").join(std::ffi::OsStr::from_bytes(name)));
        assert_eq!(read.unwrap(), *name, "{name:?}");
    }
    assert_eq!(
        std::fs::read_to_string(out.join("c").join(vec!["d"; 200].join("/")).join("file")).unwrap(),
        "deep"
    );
    let image = format!("type=oci,dest={}", space.path("out.tar").display());
    let done = space.build(&["-o", &image]);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

/// Holes are neither written out nor counted as memory.
#[test]
fn sparse_files_stay_small() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY sparse /\n");
    let file = std::fs::File::create(space.path("context/sparse")).unwrap();
    file.set_len(256 << 20).unwrap();
    _ = space.build(&["-t", "sparse"]).ok();
    let used = run(
        "du",
        &["-s", "-B1", &space.path("store").display().to_string()],
    )
    .stdout;
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    assert!(used < 16 << 20, "{used}");
}

#[test]
fn repositories_lead_nowhere_else() {
    let space = with_secret();
    let repository = space.path("evil.git");
    std::fs::create_dir(&repository).unwrap();
    let git = |args: &[&str]| {
        let directory = repository.display().to_string();
        let all = [
            &[
                "-C",
                &directory,
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
            ],
            args,
        ]
        .concat();
        _ = run("git", &all);
    };
    git(&["init", "-q", "-b", "main"]);
    symlink(space.path("outside"), repository.join("link")).unwrap();
    symlink(space.path("outside/secret"), repository.join("Dockerfile")).unwrap();
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "a"]);
    git(&["update-server-info"]);
    let web = Web::serve(&space.path(""));
    let url = web.url("evil.git/.git");
    for source in [
        format!("{url}#main:link"),
        format!("{url}#main:link/.."),
        format!("{url}#main:../../.."),
    ] {
        space.write("Dockerfile", format!("FROM {BUSYBOX}\nADD {source} /out\n"));
        tells_nothing(&space, &[]);
        assert!(space.path("outside/secret").exists());
    }
    let built = space.kiln(&["build", &url]);
    assert_ne!(built.status, Some(0));
    assert!(!built.stderr.contains(SECRET), "{}", built.stderr);
    let mark = space.path("mark");
    for source in [
        format!("git@x:a/--upload-pack=touch${{IFS}}{}", mark.display()),
        format!("{url}#--upload-pack=touch {}", mark.display()),
        format!("ssh://-oProxyCommand=touch%20{}/x.git", mark.display()),
    ] {
        space.write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\nADD [\"{source}\", \"/out\"]\n"),
        );
        let tried = space.build(&[]);
        assert_ne!(tried.status, Some(0), "{source}");
        assert!(!Path::new(&mark).exists(), "{source}");
    }
}

#[test]
fn output_does_not_drive_the_terminal() {
    let space = Space::new();
    let evil =
        r"\033]0;title\007\033]52;c;ZXZpbA==\007\033[2J\033[1;1H#1 DONE\033[6n\0338\033[31mred";
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nLABEL a=\"\u{1b}]0;label\u{7}\"\nRUN printf '{evil}\\n#9 real\\r#1 forged\\n'\nRUN echo '\u{1b}]0;name\u{7}'; false\n"),
    );
    let built = space.build(&[]);
    assert_ne!(built.status, Some(0));
    let rest = built
        .stderr
        .replace("\u{1b}[31m", "")
        .replace("\u{1b}[0m", "");
    assert!(!rest.contains(['\u{1b}', '\u{7}', '\r']), "{rest:?}");
    assert!(
        built.stderr.contains("\u{1b}[31mred\u{1b}[0m"),
        "colours stay: {:?}",
        built.stderr
    );
    assert!(!built.stderr.contains("\n#1 forged"), "{}", built.stderr);
}

#[test]
fn commands_write_and_read_in_the_directory_only() {
    let space = with_secret();
    let at = |name: &str| space.path("context").join(name);
    let refused = |args: &[&str]| {
        let run = space.kiln(args);
        assert_ne!(run.status, Some(0), "{args:?}: {}", run.stderr);
        let told = format!("{}{}", run.stdout, run.stderr);
        assert!(!told.contains(SECRET), "{args:?}: {told}");
        assert_eq!(std::fs::read_dir(space.path("outside")).unwrap().count(), 1);
    };
    space.write("Dockerfile", "FROM scratch\nCOPY x /\n");
    space.write("Cargo.toml", "{}");
    symlink(space.path("outside/new"), at("kiln.toml")).unwrap();
    refused(&["init", "context"]);
    refused(&["convert", "context/Dockerfile", "-o", "context/kiln.toml"]);
    std::fs::remove_file(at("kiln.toml")).unwrap();
    symlink(space.path("outside/secret"), at("kiln.toml")).unwrap();
    refused(&["fmt", "context/kiln.toml"]);
    refused(&["init", "context"]);
    for name in ["Cargo.toml", "kiln.toml"] {
        std::fs::remove_file(at(name)).unwrap();
        _ = run("mkfifo", &[at(name)]);
    }
    refused(&["fmt", "context/kiln.toml"]);
    // It ends.
    _ = space.kiln(&["init", "context", "--force"]);
    let text = std::fs::read_to_string(space.path("outside/secret")).unwrap();
    assert_eq!(text, format!("{SECRET}\n"));
}

/// A file that is written all the time is noticed, or comes as it was at one time.
#[test]
fn files_that_change_while_they_are_read_are_not_mixed() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY file /\n");
    let path = space.path("context/file");
    let letters = |letter: u8| vec![letter; 8 << 20];
    std::fs::write(&path, letters(b'a')).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for letter in (b'a'..=b'z').cycle() {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                std::io::Write::write_all(&mut file, &letters(letter)).unwrap();
            }
        });
        for _ in 0..10 {
            let output = format!("type=local,dest={}", space.path("out").display());
            let built = space.build(&["-o", &output]);
            if built.status != Some(0) {
                assert!(built.stderr.contains("change"), "{}", built.stderr);
                continue;
            }
            let bytes = std::fs::read(space.path("out/file")).unwrap();
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "mixed");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
