//! Stores of each format that there was are opened, newer ones are refused. The fixtures hold what
//! `FROM scratch`, `COPY file /file` with a file `kept from format N` left behind, named `kept:1`.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{Space, is_root, run};

const FORMATS: &[u32] = &[1];

#[test]
fn older_stores_are_opened_with_all_they_hold() {
    // Who owns what is in a store, and how overlayfs marks it, is not the same for others.
    if !is_root() {
        return;
    }
    for format in FORMATS {
        let space = Space::new();
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/store-{format}.tar.gz"));
        let (fixture, into) = (
            fixture.display().to_string(),
            space.path("").display().to_string(),
        );
        _ = run("tar", &["-xzf", &fixture, "-C", &into]);
        space.write("file", format!("kept from format {format}\n"));
        space.write("Dockerfile", "FROM scratch\nCOPY file /file\n");
        assert_eq!(space.kiln(&["fsck"]).status, Some(0));
        let listed = space.kiln(&["image", "ls"]).ok().stdout;
        assert!(listed.contains("kept"), "{listed}");
        let out = space.path("out").display().to_string();
        let built = space.build(&["-o", &format!("type=local,dest={out}")]).ok();
        assert!(built.stderr.contains("CACHED"), "{}", built.stderr);
        let text = std::fs::read_to_string(space.path("out/file")).unwrap();
        assert_eq!(text, format!("kept from format {format}\n"));
    }
}

#[test]
fn newer_stores_are_refused_and_left_alone() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    std::fs::create_dir(space.path("store")).unwrap();
    std::fs::write(space.path("store/version"), "kiln-store 2\n").unwrap();
    space.build(&[]).fails_with(&["format 2", "newer kiln"]);
    let left = std::fs::read_dir(space.path("store")).unwrap();
    assert_eq!(left.count(), 1, "nothing was made in it");
    std::fs::write(space.path("store/version"), "of something else\n").unwrap();
    space.build(&[]).fails_with(&["store"]);
}
