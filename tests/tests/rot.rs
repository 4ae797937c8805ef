//! Bits flip on disks: a build notices before it ships them, makes again what they were in, and
//! `kiln fsck` finds them.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};

use kiln_tests::{BUSYBOX, Run, Space};

/// All files below a directory whose path ends as said.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && entry.path().to_str().unwrap().ends_with(end) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

/// A store in which an image was built.
fn built() -> (Space, Vec<u8>) {
    let space = Space::new();
    space.write("copied", "a file of the context\n");
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX} AS a\nRUN echo made by a step > /made\nFROM {BUSYBOX}\nCOPY --from=a /made /from-a\nCOPY copied /copied\nRUN echo another > /another\n"),
    );
    let whole = archive(&space, "gzip").0;
    _ = space.build(&["-t", "named"]).ok();
    (space, whole)
}

/// The image as an archive.
fn archive(space: &Space, compression: &str) -> (Vec<u8>, Run) {
    let path = space.path("image.tar");
    let output = format!("type=oci,dest={},compression={compression}", path.display());
    let run = space
        .build(&["--build-arg", "SOURCE_DATE_EPOCH=1", "-o", &output])
        .ok();
    (std::fs::read(path).unwrap(), run)
}

const KINDS: &[(&str, &str)] = &[
    ("trees", "/fs/another"),
    ("trees", "/fs/made"),
    ("trees", "/fs/from-a"),
    ("trees", "/fs/copied"),
    ("trees", "/fs/bin/busybox"),
    ("trees", "/manifest"),
    ("blobs", ""),
    ("records", ""),
    ("memo", ""),
    ("images", ""),
];

#[test]
fn fsck_finds_a_flipped_bit_in_each_kind_of_file() {
    for (part, end) in KINDS {
        let (space, _) = built();
        assert_eq!(space.kiln(&["fsck"]).status, Some(0));
        let found = files(&space.path("store").join(part), end);
        assert!(!found.is_empty(), "{part}{end}");
        flip(&found[0]);
        let checked = space.kiln(&["fsck"]);
        assert_eq!(checked.status, Some(1), "{part}{end}: {}", checked.stdout);
        _ = space.kiln(&["fsck", "--repair"]);
        assert_eq!(space.kiln(&["fsck"]).status, Some(0), "{part}{end}");
        _ = archive(&space, "gzip");
    }
}

#[test]
fn a_build_makes_again_what_is_damaged() {
    let (_, whole) = built();
    let zstd = archive(&built().0, "zstd").0;
    let extra = [("stat", ""), ("volumes", "")];
    for (part, end) in KINDS.iter().chain(&extra) {
        // The files are read when layers are compressed; the blobs when they are copied.
        for (compression, want) in [("zstd", &zstd), ("gzip", &whole)] {
            let (space, _) = built();
            for file in files(&space.path("store").join(part), end) {
                flip(&file);
            }
            let (found, run) = archive(&space, compression);
            assert!(found == *want, "{part}{end} {compression}: {}", run.stderr);
        }
        let (space, _) = built();
        for file in files(&space.path("store").join(part), end) {
            flip(&file);
        }
        let out = space.build_files(&[]);
        for (name, text) in [
            ("from-a", "made by a step\n"),
            ("another", "another\n"),
            ("copied", "a file of the context\n"),
        ] {
            assert_eq!(
                std::fs::read_to_string(out.join(name)).unwrap(),
                text,
                "{part}{end}"
            );
        }
        let name = format!("127.0.0.1:5000/rot-{}-{}:x", std::process::id(), part);
        let (space, _) = built();
        for file in files(&space.path("store").join(part), end) {
            flip(&file);
        }
        _ = space.build(&["-t", &name, "--push"]).ok();
    }
}

/// Files that fit beside their inodes, ends of larger ones, and what is in blocks.
#[test]
fn an_erofs_image_of_damaged_files_is_made_again() {
    let image = |space: &Space| {
        let flags = ["--build-arg", "SOURCE_DATE_EPOCH=1", "-o"];
        let output = ["type=erofs,dest=root.img"];
        _ = space.build(&[&flags[..], &output].concat()).ok();
        std::fs::read(space.path("root.img")).unwrap()
    };
    let made = || {
        let space = Space::new();
        let text = "RUN echo small > /small; head -c 9000 /bin/busybox > /large";
        space.write("Dockerfile", format!("FROM {BUSYBOX}\n{text}\n"));
        (image(&space), space)
    };
    let (whole, _) = made();
    for (end, from_end) in [("/fs/small", 2), ("/fs/large", 5000), ("/fs/large", 1)] {
        let (_, space) = made();
        for file in files(&space.path("store/trees"), end) {
            let mut bytes = std::fs::read(&file).unwrap();
            let at = bytes.len() - from_end;
            bytes[at] ^= 4;
            std::fs::write(file, bytes).unwrap();
        }
        assert!(image(&space) == whole, "{end} {from_end}");
    }
}

/// What an output holds from before doesn't lead it elsewhere.
#[test]
fn local_outputs_stay_in_their_directory() {
    let space = Space::new();
    let outside = space.path("outside");
    std::fs::create_dir(&outside).unwrap();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN ln -s {} /d\n", outside.display()),
    );
    let output = format!("type=local,dest={}", space.path("out").display());
    _ = space.build(&["-o", &output]).ok();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN mkdir /d && echo evil > /d/file\n"),
    );
    _ = space.build(&["-o", &output]).ok();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(space.path("out/d/file").exists());
}
