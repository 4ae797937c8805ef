//! The binary that is shipped needs nothing of the machine but its kernel: it works in a root with
//! nothing else in it. Other binaries are skipped, unless `KILN_STATIC` demands one.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests")]

use std::path::Path;
use std::process::Command;

use kiln_tests::{Run, Space, kiln_binary};

/// Whether the binary under test names no program that loads libraries for it (an ELF file's
/// `PT_INTERP`).
fn is_static(binary: &Path) -> bool {
    let bytes = std::fs::read(binary).unwrap();
    let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    let at = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    let (size, count) = (usize::from(half(54)), usize::from(half(56)));
    let start = usize::try_from(at).unwrap();
    let kind = |number: usize| {
        let at = start + number * size;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    };
    !(0..count).any(|number| kind(number) == 3)
}

/// A root with the binary and a build context in it; `None` when the binary isn't static.
fn root() -> Option<Space> {
    let binary = kiln_binary();
    if !is_static(&binary) {
        assert!(std::env::var_os("KILN_STATIC").is_none(), "it is dynamic");
        eprintln!("skipped: {} is dynamic", binary.display());
        return None;
    }
    let space = Space::new();
    let root = space.path("root");
    std::fs::create_dir_all(root.join("context")).unwrap();
    _ = std::fs::copy(binary, root.join("kiln")).unwrap();
    std::fs::write(root.join("context/f"), "f").unwrap();
    Some(space)
}

fn run(space: &Space, args: &[&str]) -> Run {
    // Without PATH only /bin and /usr/bin are searched.
    let output = Command::new("/usr/sbin/chroot")
        .arg(space.path("root"))
        .arg("/kiln")
        .args(args)
        .env_clear()
        .env("KILN_ROOT", "/store")
        .output();
    Run::of(&output.unwrap())
}

fn write(space: &Space, dockerfile: &str) {
    std::fs::write(space.path("root/context/Dockerfile"), dockerfile).unwrap();
}

/// The registry by a name that no file and no name server tells.
const BUSYBOX: &str = "localhost:5000/busybox:latest";

#[test]
fn a_root_with_nothing_else_is_enough() {
    let Some(space) = root() else { return };
    let version = run(&space, &["--version"]).ok().stdout;
    assert!(version.starts_with("kiln "), "{version}");
    let doctor = run(&space, &["doctor"]);
    assert!(doctor.stdout.contains("isolation"), "{}", doctor.stderr);
    write(
        &space,
        &format!("FROM {BUSYBOX}\nCOPY --chown=7:8 f /f\nENV A=b\n"),
    );
    let _built = run(
        &space,
        &["build", "/context", "-o", "type=oci,dest=/out.tar"],
    )
    .ok();
    assert!(space.path("root/out.tar").exists());
    // Authorities are compiled in: a host that can't be found is all that is missing.
    write(&space, "FROM registry.invalid/image\n");
    let built = run(&space, &["build", "/context"]);
    built.fails_with(&["registry.invalid"]);
    assert!(!built.stderr.contains("certificate"), "{}", built.stderr);
}

#[test]
fn steps_need_proc_and_say_so() {
    let Some(space) = root() else { return };
    write(&space, &format!("FROM {BUSYBOX}\nRUN echo said\n"));
    run(&space, &["build", "/context", "--progress", "plain"]).fails_with(&["/proc"]);
    let proc = space.path("root/proc");
    std::fs::create_dir(&proc).unwrap();
    let script = format!(
        "mount -t proc proc '{}' && exec chroot '{}' /kiln build /context --progress plain",
        proc.display(),
        space.path("root").display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-euc", &script])
        .env("KILN_ROOT", "/store")
        .output();
    let built = Run::of(&output.unwrap()).ok();
    assert!(built.stderr.contains("said"), "{}", built.stderr);
}
