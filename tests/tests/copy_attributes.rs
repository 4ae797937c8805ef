//! What files keep when they are copied: links, attributes, special bits, owners.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use kiln_tests::{BUSYBOX, Space, run};

fn inode(path: impl AsRef<Path>) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Who owns a path of the image: a directory of the user's has no other owners.
fn owner(space: &Space, path: &str) -> (u32, u32) {
    let tar = space.path("owners.tar").display().to_string();
    _ = space.build(&["-o", &format!("type=tar,dest={tar}")]).ok();
    let script = format!(
        "import tarfile; m = tarfile.open({tar:?}).getmember({path:?}); print(m.uid, m.gid)"
    );
    let said = run("python3", &["-c", &script]).stdout;
    let (uid, gid) = said.trim().split_once(' ').unwrap();
    (uid.parse().unwrap(), gid.parse().unwrap())
}

fn python(space: &Space, script: &str) {
    let directory = space.path("context").display().to_string();
    _ = run(
        "python3",
        &[
            "-c",
            &format!("import os; os.chdir({directory:?})\n{script}"),
        ],
    );
}

#[test]
fn names_of_one_file_stay_that() {
    let space = Space::new();
    space
        .write("d/a", "1")
        .write("d/sub/z", "2")
        .write("d/other", "1");
    let at = |name: &str| space.path("context/d").join(name);
    std::fs::hard_link(at("a"), at("b")).unwrap();
    std::fs::hard_link(at("a"), at("sub/c")).unwrap();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS s\nRUN mkdir -p /s/sub && echo 1 > /s/a && ln /s/a /s/b && ln /s/a /s/sub/c\n\
             FROM scratch\nCOPY --from=s /s /stage/\nCOPY --from=s --chown=1:1 --chmod=4711 /s /owned/\n\
             COPY d /context/\nCOPY --link d /linked/\nCOPY --exclude=a d /without/\nCOPY d/a d/b /single/\n\
             COPY d /replaced/\nCOPY d/other /replaced/a\nCOPY d /again/\nCOPY d /again/\n"
        ),
    );
    let out = space.build_files(&[]);
    for top in ["stage", "owned", "context", "linked", "replaced", "again"] {
        let at = |name: &str| inode(out.join(top).join(name));
        assert_eq!(at("b"), at("sub/c"), "{top}");
        assert_eq!(at("a") == at("b"), top != "replaced", "{top}");
    }
    let without = |name: &str| inode(out.join("without").join(name));
    assert_eq!(without("b"), without("sub/c"));
    assert_ne!(inode(out.join("single/a")), inode(out.join("single/b")));
    assert_eq!(mode(out.join("owned/sub/c")), 0o4711);
    assert_ne!(inode(out.join("context/a")), inode(out.join("stage/a")));
}

#[test]
fn becoming_one_file_is_a_change() {
    let space = Space::new();
    space.write("d/a", "1").write("d/b", "1").write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nCOPY d /d\nRUN stat -c %i /d/a /d/b | uniq | wc -l > /links\n"),
    );
    let links =
        |space: &Space| std::fs::read_to_string(space.build_files(&[]).join("links")).unwrap();
    assert_eq!(links(&space), "2\n", "two files");
    let at = |name: &str| space.path("context/d").join(name);
    std::fs::remove_file(at("b")).unwrap();
    std::fs::hard_link(at("a"), at("b")).unwrap();
    assert_eq!(links(&space), "1\n", "one file");
    std::fs::write(at("a"), "another").unwrap();
    let out = space.build_files(&[]);
    assert_eq!(std::fs::read_to_string(out.join("d/b")).unwrap(), "another");
}

#[test]
fn hard_links_are_there_where_a_context_is_mounted() {
    let space = Space::new();
    space.write("d/a", "1").write("Dockerfile", format!(
        "FROM {BUSYBOX}\nRUN --mount=type=bind,source=d,target=/m stat -c '%h %i' /m/a /m/b > /all; cat /m/b >> /all\n\
         RUN --mount=type=bind,source=d/b,target=/f cat /f > /one\n"
    ));
    let at = |name: &str| space.path("context/d").join(name);
    std::fs::hard_link(at("a"), at("b")).unwrap();
    let out = space.build_files(&[]);
    let all = std::fs::read_to_string(out.join("all")).unwrap();
    let lines: Vec<&str> = all.lines().collect();
    assert!(
        lines[0] == lines[1] && lines[0].starts_with("2 ") && lines[2] == "1",
        "{all}"
    );
    assert_eq!(std::fs::read_to_string(out.join("one")).unwrap(), "1");
}

#[test]
fn attributes_of_context_files_are_kept_and_count() {
    let space = Space::new();
    space
        .write("f", "x")
        .write("d/g", "y")
        .write("Dockerfile", "FROM scratch\nCOPY f /f\nCOPY . /all/\n");
    python(
        &space,
        "import struct\ncap = struct.pack('<IIIII', 0x02000001, 1 << 13, 0, 0, 0)\n\
         os.setxattr('f', 'user.note', b'a\\nb'); os.setxattr('d', 'user.dir', b'1')\n\
         os.setxattr('f', 'security.capability', cap); os.setxattr('f', 'user.overlay.opaque', b'y')",
    );
    let tar = space.path("o.tar").display().to_string();
    let headers = |wanted: &str| {
        _ = space.build(&["-o", &format!("type=tar,dest={tar}")]).ok();
        let script = format!(
            "import tarfile, sys\nfor m in tarfile.open({tar:?}, errors='surrogateescape'):\n  \
             for k, v in sorted(m.pax_headers.items()):\n    if 'xattr' in k: print(m.name, k[13:], repr(v) if {wanted:?} in k else '')"
        );
        run("python3", &["-c", &script]).stdout
    };
    let said = headers("user.note");
    for line in [
        "f security.capability",
        "f user.note 'a\\nb'",
        "all/f security.capability",
        "all/f user.note",
        "all/d user.dir",
    ] {
        assert!(said.contains(line), "'{line}' is not in:\n{said}");
    }
    assert!(!said.contains("overlay"), "{said}");
    python(&space, "os.setxattr('f', 'user.note', b'new')");
    assert!(headers("user.note").contains("f user.note 'new'"));
    python(&space, "os.removexattr('f', 'security.capability')");
    assert!(!headers("user.note").contains("capability"));
}

#[test]
fn sockets_of_a_context_are_empty_files() {
    let space = Space::new();
    space.write("d/f", "1").write("Dockerfile", format!(
        "FROM {BUSYBOX}\nCOPY d /o\nRUN --mount=type=bind,source=d,target=/m test -f /m/s && test ! -s /m/s\n"
    ));
    python(
        &space,
        "import socket\ns = socket.socket(socket.AF_UNIX); os.chdir('d'); s.bind('s'); os.chmod('s', 0o751)",
    );
    for round in ["first", "from the cache of digests"] {
        let out = space.build_files(&["--no-cache"]);
        let about = std::fs::symlink_metadata(out.join("o/s")).unwrap();
        assert!(about.is_file() && about.len() == 0, "{round}");
        assert_eq!(about.permissions().mode() & 0o7777, 0o751);
    }
}

#[test]
fn special_bits_are_for_what_is_copied() {
    let space = Space::new();
    space.write("a", "1").write("d/s/y", "1").write(
        "Dockerfile",
        "FROM scratch\nCOPY --chmod=1777 d /d\nCOPY --chmod=2750 a /new/a\nCOPY --chmod=u+s a /clause/a\n\
         COPY --chmod=g+s,o-rx d /clauses\nCOPY --chmod=4755 <<a /here/\nx\na\n",
    );
    let out = space.build_files(&[]);
    for (path, want) in [
        ("d", 0o777),
        ("d/s", 0o1777),
        ("d/s/y", 0o1777),
        ("new", 0o750),
        ("new/a", 0o2750),
        ("clause", 0o755),
        ("clause/a", 0o4644),
        ("clauses", 0o755),
        ("clauses/s", 0o2750),
        ("clauses/s/y", 0o2640),
        ("here", 0o755),
        ("here/a", 0o4755),
    ] {
        assert_eq!(
            mode(out.join(path)),
            want,
            "{path}: {:o}",
            mode(out.join(path))
        );
    }
}

#[test]
fn owners_that_no_file_knows() {
    let space = Space::new();
    space.write("a", "1").write(
        "Dockerfile",
        format!(
            "FROM scratch AS empty\nCOPY --chown=root:root a /a\nCOPY --chown=5:root a /b\nCOPY --chown=5: a /c\n\
             COPY --chown=app:staff a /d\n\
             FROM {BUSYBOX}\nCOPY --from=empty / /e/\nCOPY --chown=nobody:nogroup a /f\nCOPY --chown=7:nogroup a /g\n"
        ),
    );
    let want = [("a", (0, 0)), ("b", (5, 0)), ("c", (5, 0)), ("d", (0, 0))];
    for (name, ids) in want {
        assert_eq!(owner(&space, &format!("e/{name}")), ids, "{name}");
    }
    assert_eq!(owner(&space, "f"), (0, 0));
    assert_eq!(owner(&space, "g"), (7, 7));
    for file in [
        "FROM scratch\nCOPY --chown=app a /a\n".to_owned(),
        format!("FROM {BUSYBOX}\nCOPY --link --chown=app a /a\n"),
    ] {
        space.write("Dockerfile", file);
        space.build(&[]).fails_with(&["app", "Dockerfile:2"]);
    }
}

#[test]
fn archives_that_are_no_layers() {
    let space = Space::new();
    python(
        &space,
        "import io, tarfile\nt = tarfile.open('a.tar', 'w')\n\
         def add(name, **more):\n  i = tarfile.TarInfo(name); i.size = 1; i.mode = 0o640\n  \
         for k, v in more.items(): setattr(i, k, v)\n  t.addfile(i, io.BytesIO(b'x'))\n\
         add('.wh.keep'); add('d/.wh..wh..opq'); add('d/n', uid=8, gid=9); t.close()",
    );
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\nRUN mkdir /d && touch /keep /d/old\nADD a.tar /\nADD --chmod=777 a.tar /moded/\n\
             ADD --chown=0:0 a.tar /roots/\nADD --chown=root a.tar /named/\nADD --chown=5:6 a.tar /owned/\n\
             RUN find / -xdev -name '*wh*' > /list; ls /keep /d/old\n"
        ),
    );
    let out = space.build_files(&[]);
    let list = std::fs::read_to_string(out.join("list")).unwrap();
    for path in ["/.wh.keep", "/d/.wh..wh..opq", "/moded/.wh.keep"] {
        assert!(list.lines().any(|line| line == path), "{path}: {list}");
    }
    assert_eq!(
        mode(out.join("moded/d/n")),
        0o640,
        "archives keep their modes"
    );
    let owners = [
        ("d/n", (8, 9)),
        ("roots/d/n", (0, 0)),
        ("named/d/n", (0, 0)),
        ("owned/d/n", (5, 6)),
    ];
    for (path, ids) in owners {
        assert_eq!(owner(&space, path), ids, "{path}");
    }
}

#[test]
fn two_stars_beside_a_name() {
    let space = Space::new();
    for file in [
        "README.md",
        "foo/README.md",
        "src/l/b.js",
        "sb.js",
        "tmpfoo/x",
        "a/.env",
        "f\nx/z.md",
    ] {
        space.write(file, file);
    }
    space.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    let kept = |pattern: &str| {
        space.write(".dockerignore", format!("{pattern}\n"));
        let out = space.build_files(&[]);
        let there = |name: &str| out.join(name).exists();
        [
            there("README.md"),
            there("foo/README.md"),
            there("src/l/b.js"),
            there("sb.js"),
            there("tmpfoo/x"),
            there("a/.env"),
            there("f\nx/z.md"),
        ]
    };
    assert_eq!(kept("**.md"), [false, false, true, true, true, true, false]);
    assert_eq!(
        kept("s**/b.js"),
        [true, true, false, false, true, true, true]
    );
    assert_eq!(kept("**foo"), [true, false, true, true, false, true, true]);
    assert_eq!(kept("foo**"), [true, false, true, true, true, true, true]);
    assert_eq!(kept("**.env"), [true, true, true, true, true, false, true]);
    space.write(".dockerignore", "").write(
        "Dockerfile",
        "FROM scratch\nCOPY --exclude=**.md *.md foo /\n",
    );
    let out = space.build_files(&[]);
    assert!(
        out.join("README.md").exists(),
        "a file that a source names itself"
    );
    space.write("Dockerfile", "FROM scratch\nCOPY --exclude=**.md . /\n");
    assert!(!space.build_files(&[]).join("foo/README.md").exists());
}

#[test]
fn a_file_takes_no_directories_place() {
    let space = Space::new();
    space.write("d/x/y", "1").write("x", "2");
    for source in ["x", "d/x/y"] {
        let name = source.rsplit('/').next().unwrap();
        space.write(
            "Dockerfile",
            format!("FROM {BUSYBOX}\nRUN mkdir -p /o/{name}/sub\nCOPY {source} /o/\n"),
        );
        space
            .build(&[])
            .fails_with(&["it is a directory", "Dockerfile:3"]);
    }
}

#[test]
fn a_directory_of_content_has_the_sources_time() {
    let space = Space::new();
    space.write("d/x", "1").write(
        "Dockerfile",
        "FROM scratch\nCOPY d /made/\nCOPY d /made/sub/\n",
    );
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    std::fs::File::open(space.path("context/d"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    let out = space.build_files(&[]);
    let about = std::fs::symlink_metadata(out.join("made/sub")).unwrap();
    assert_eq!(about.mtime(), 1_234_567_890);
}

#[test]
fn the_directory_before_a_wildcard_must_be_there() {
    let space = Space::new();
    space
        .write("d/x", "1")
        .write("Dockerfile", "FROM scratch\nCOPY dd/* /o/\n");
    space.build(&[]).fails_with(&["dd/*", "Dockerfile:2"]);
    space.write("Dockerfile", "FROM scratch\nCOPY d/*.md /o/\nCOPY d /d\n");
    assert!(space.build_files(&[]).join("d/x").exists());
}

/// A directory that the ignore list leaves out is there for what it takes back, as it is in the context.
#[test]
fn directories_of_what_is_taken_back_are_as_they_were() {
    let space = Space::new();
    space
        .write("d/e/taken", "1")
        .write("d/out", "2")
        .write(".dockerignore", "d\n!d/e/taken\n")
        .write("Dockerfile", "FROM scratch\nCOPY d /x\nCOPY . /y\n");
    let script = "for name in 'd/e/taken', 'd/e', 'd': os.utime(name, (1, 1600000000))\n\
                  os.chmod('d', 0o2750)\nos.chmod('d/e', 0o711)\n\
                  os.setxattr('d/e', 'user.kiln', b'kept')";
    python(&space, script);
    let out = space.build_files(&[]);
    for (path, want) in [("y/d", 0o2750), ("x/e", 0o711), ("y/d/e", 0o711)] {
        assert_eq!(mode(out.join(path)), want, "{path}");
        let time = std::fs::metadata(out.join(path)).unwrap().mtime();
        assert_eq!(time, 1_600_000_000, "{path}");
    }
    let tar = space.path("out.tar").display().to_string();
    _ = space.build(&["-o", &format!("type=tar,dest={tar}")]).ok();
    let script = format!(
        "import tarfile; print(tarfile.open({tar:?}).getmember('x/e').pax_headers['SCHILY.xattr.user.kiln'])"
    );
    assert_eq!(run("python3", &["-c", &script]).ok().stdout, "kept\n");
    assert!(!out.join("y/d/out").exists());
}

/// Archives of GNU tar leave out the holes of files, in each of its forms.
#[test]
fn files_with_holes_are_unpacked() {
    let space = Space::new();
    let script = "f = open('holes', 'wb'); f.seek(1 << 20); f.write(b'middle'); f.truncate(3 << 20); f.close()";
    python(&space, script);
    let context = space.path("context").display().to_string();
    let mut lines = "FROM scratch\n".to_owned();
    for form in ["gnu", "posix 0.0", "posix 0.1", "posix 1.0"] {
        let (format, version) = form.split_once(' ').unwrap_or((form, "1.0"));
        let name = form.replace(' ', "-");
        let made = run(
            "tar",
            &[
                &format!("--directory={context}"),
                "--create",
                "--sparse",
                &format!("--format={format}"),
                &format!("--sparse-version={version}"),
                &format!("--file={context}/{name}.tar"),
                "holes",
            ],
        );
        _ = made.ok();
        lines += &format!("ADD {name}.tar /{name}/\n");
    }
    space.write("Dockerfile", lines);
    let out = space.build_files(&[]);
    let want = std::fs::read(space.path("context/holes")).unwrap();
    for name in ["gnu", "posix-0.0", "posix-0.1", "posix-1.0"] {
        let found = std::fs::read(out.join(name).join("holes")).unwrap();
        assert!(found == want, "{name}: {} bytes", found.len());
    }
}
