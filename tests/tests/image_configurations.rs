//! Base images whose configurations no honest program would write. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{Run, Space, run};

/// In the environment of the builder, and nowhere else.
const MARK: &str = "c4nary-of-the-builder";

fn update(lines: &str) -> String {
    format!("config.setdefault('config', {{}}).update({lines})")
}

fn build(space: &Space, args: &[&str]) -> Run {
    let mut command = space.command(&[&["build", "context", "--progress", "plain"], args].concat());
    command.env("KILN_MARK", MARK).env("FOO", MARK);
    Run::of(&command.output().unwrap())
}

/// podman's CVE-2026-57231, and its neighbours.
#[test]
fn the_builders_environment_is_never_read() {
    for env in [
        "['KILN_MARK', 'FOO']",
        "['*']",
        "['KILN_*', '*=*', '', '=', '=x']",
        "['A=$KILN_MARK', 'B=${FOO}', 'C=%KILN_MARK%']",
        "['KILN_MARK\\u0000=x', 'A=b\\u0000KILN_MARK']",
        "['N%d' % n for n in range(5000)]",
    ] {
        let space = Space::new();
        let image = space.image(&update(&format!("{{'Env': {env}}}")));
        let script = "RUN env; cat /proc/self/environ; cat /proc/1/environ; ls /proc/*/environ; echo \"$KILN_MARK$FOO\"";
        space.write(
            "Dockerfile",
            format!("FROM {image}\n{script}\nENV D=$KILN_MARK E=$FOO\n"),
        );
        let archive = space.path("out.tar").display().to_string();
        let built = build(&space, &["-o", &format!("type=oci,dest={archive}")]);
        assert!(!built.stderr.contains(MARK), "{env}: {}", built.stderr);
        assert_eq!(built.status, Some(0), "{env}: {}", built.stderr);
        let config = run(
            "skopeo",
            &["inspect", "--config", &format!("oci-archive:{archive}")],
        )
        .stdout;
        assert!(!config.contains(MARK), "{env}: {config}");
        for entry in ["\"*\"", "\"KILN_MARK\"", "\"FOO\"", "\"N1\"", "KILN_*"] {
            assert!(!config.contains(entry), "{env}: {config}");
        }
    }
}

#[test]
fn configurations_without_end_are_refused() {
    for (lines, want) in [
        (
            "{'Env': ['N%d=1' % n for n in range(20000)]}",
            "20000 entries in Env",
        ),
        (
            "{'OnBuild': ['RUN true'] * 20000}",
            "20000 entries in OnBuild",
        ),
        (
            "{'Labels': {str(n): '' for n in range(20000)}}",
            "20000 entries in Labels",
        ),
        ("{'User': 'a\\u0000b'}", "NUL byte in User"),
        ("{'Entrypoint': ['a\\u0000']}", "NUL byte in Entrypoint"),
        ("{'Volumes': {'/a\\u0000': {}}}", "NUL byte in Volumes"),
    ] {
        let space = Space::new();
        let image = space.image(&update(lines));
        space.write("Dockerfile", format!("FROM {image}\nRUN true\n"));
        build(&space, &[]).fails_with(&[want, "Dockerfile:1"]);
    }
    for (lines, want) in [
        (
            "config['history'] = [{'created_by': 'x', 'empty_layer': True}] * 20000",
            "entries in history",
        ),
        (
            "config['architecture'] = '../../../etc/passwd'",
            "no image for",
        ),
        ("config['variant'] = 'v' * 100", "variant"),
    ] {
        let space = Space::new();
        let image = space.image(lines);
        space.write("Dockerfile", format!("FROM {image}\nRUN true\n"));
        let failed = build(&space, &[]);
        assert_eq!(failed.status, Some(1), "{lines}: {}", failed.stderr);
        assert!(
            failed.stderr.contains(want) || failed.stderr.contains("no such name"),
            "{lines}: {}",
            failed.stderr
        );
    }
}

/// Five thousand of everything is no more than slow to write down.
#[test]
fn long_configurations_are_read_in_time() {
    let space = Space::new();
    let lines = "config.setdefault('config', {}).update({'Env': ['N%d=%d' % (n, n) for n in range(5000)], 'Labels': {str(n): 'x' * 50 for n in range(5000)}}); config['history'] = [{'created_by': 'x' * 100, 'empty_layer': n > 0} for n in range(5000)]; config['history'][0]['empty_layer'] = False; config['history'][1]['empty_layer'] = False";
    let image = space.image(lines);
    let envs: String = (0..200).map(|n| format!("ENV M{n}=$N{n}\n")).collect();
    space.write(
        "Dockerfile",
        format!("FROM {image}\n{envs}RUN test \"$M7\" = 7\n"),
    );
    let built = build(&space, &["-t", "long"]);
    assert_eq!(built.status, Some(0), "{}", built.stderr);
}
