//! Text of steps, files and images on its way to the logs of CI services: none of it is a command to
//! the service. Each test is named in SECURITY.md.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::process::Command;

use kiln_tests::{BUSYBOX, Run, Space};

/// Commands of GitHub, Azure, TeamCity and GitLab, each on a line.
const COMMANDS: &[&str] = &[
    "::set-output name=digest::attacker",
    "  ::add-mask::e",
    "\u{a0}::stop-commands::x",
    "a ##[error]legacy",
    "##[group]x",
    "##vso[task.setvariable variable=PATH]/evil",
    "x##vso[task.complete result=Succeeded;]DONE",
    "##teamcity[publishArtifacts x]",
    "section_start:1560896352:my_first_section",
    "section_end:1560896352:my_first_section",
];

/// The lines that a service would obey, but for those that kiln itself writes.
fn obeyed(log: &str) -> Vec<String> {
    let own = [
        "::group::#",
        "::endgroup::",
        "::error file=",
        "::warning file=",
    ];
    let lines = log.split(['\n', '\r']).filter(|line| {
        let text = line.trim_start();
        let github = text.starts_with("::") && !own.iter().any(|start| line.starts_with(start));
        let anywhere = ["##[", "##vso[", "##teamcity["];
        github || anywhere.iter().any(|mark| line.contains(mark))
    });
    let mut found: Vec<String> = lines.map(str::to_owned).collect();
    // Kiln's own sections are of steps: kiln_N.
    for mark in ["section_start:", "section_end:"] {
        let others = log.match_indices(mark).filter(|(at, _)| {
            let rest = &log[at + mark.len()..];
            let (time, name) = rest.split_once(':').unwrap_or((rest, ""));
            time.parse::<u64>().is_ok() && !name.starts_with("kiln_")
        });
        found.extend(others.map(|(at, _)| log[at..].chars().take(60).collect()));
    }
    found
}

fn check(what: &str, run: &Run) {
    for log in [&run.stdout, &run.stderr] {
        assert_eq!(obeyed(log), [""; 0], "{what}:\n{log}");
    }
}

/// Runs kiln as each service does.
fn under_each_service(space: &Space, args: &[&str]) -> Vec<Run> {
    let services = [
        ("GITHUB_ACTIONS", "true"),
        ("GITLAB_CI", "true"),
        ("TF_BUILD", "True"),
        ("TEAMCITY_VERSION", "2026.1"),
    ];
    let run = |(name, value): (&str, &str)| {
        let mut command: Command = space.command(args);
        Run::of(&command.env(name, value).output().unwrap())
    };
    // Only the display that is chosen by the service differs from one to the other.
    let count = if args.contains(&"auto") { 4 } else { 1 };
    services.into_iter().take(count).map(run).collect()
}

fn check_all(space: &Space, what: &str, args: &[&str]) -> Vec<Run> {
    let runs = under_each_service(space, args);
    runs.iter().for_each(|run| check(what, run));
    runs
}

#[test]
fn what_a_step_writes() {
    let space = Space::new();
    let echo: String = COMMANDS
        .iter()
        .map(|line| format!("echo \"{line}\"; "))
        .collect();
    let split = "printf '#'; sleep 0.1; printf '#[error]x\\n'; printf ':'; sleep 0.1; printf ':error::x\\n'; printf '\\033[2J::error::x\\n#\\033[1;1H#[error]x\\na\\r::error::x\\r##[x]y\\n'; printf '::error::no end'";
    for end in ["true", "exit 3"] {
        let file = format!("FROM {BUSYBOX}\nRUN {echo} {split}; ({echo}) >&2; {end}\n");
        space.write("Dockerfile", file);
        for progress in [
            "auto", "plain", "github", "gitlab", "rawjson", "tty", "quiet",
        ] {
            let args = [
                "build",
                "context",
                "--no-cache",
                "--explain",
                "--progress",
                progress,
            ];
            let runs = check_all(&space, progress, &args);
            assert!(
                runs.iter()
                    .all(|run| run.status == Some(i32::from(end != "true")))
            );
        }
        let logs = check_all(&space, "logs", &["logs"]);
        assert!(
            logs[0].stdout.contains("set-output name=digest"),
            "{}",
            logs[0].stdout
        );
    }
}

#[test]
fn what_files_names_and_images_say() {
    let space = Space::new();
    let all = COMMANDS.join("\n");
    let mut file = format!("FROM {BUSYBOX} AS base\nWORKDIR /w\n");
    for (number, command) in COMMANDS.iter().enumerate() {
        let quoted = command.replace('\u{a0}', " ");
        file += &format!("# {command}\nLABEL l{number}=\"{quoted}\"\nENV e{number}=\"{quoted}\"\n");
        file += &format!("COPY [\"{command}\", \"/files/{command}\"]\n");
        space.write(command, "x");
    }
    file += &format!("RUN <<EOF\n{all}\nEOF\n");
    let odd: String = COMMANDS.iter().map(|line| format!("{line}\\\n")).collect();
    for (what, file) in [
        ("a script", file.clone()),
        ("an instruction", format!("FROM {BUSYBOX}\n{all}\n")),
        ("a stage", format!("FROM {BUSYBOX} AS x##[error]y\n")),
        (
            "an image",
            format!("FROM ##vso[task.complete]\nRUN {odd}\n"),
        ),
        (
            "an unknown flag",
            format!("FROM {BUSYBOX}\nRUN --##[error]x=y true\n"),
        ),
        (
            "a user",
            format!("FROM {BUSYBOX}\nUSER ##[error]x\nRUN true\n"),
        ),
        (
            "a missing file",
            format!("FROM {BUSYBOX}\nCOPY [\"##[error]x\", \"::error::y\", \"/\"]\n"),
        ),
        (
            "an address",
            "FROM scratch\nADD http://127.0.0.1:9/##[error]x /\n".to_owned(),
        ),
        (
            "a repository",
            "FROM scratch\nADD git@127.0.0.1:##[error]x.git /\n".to_owned(),
        ),
        (
            "a secret",
            format!("FROM {BUSYBOX}\nRUN --mount=type=secret,id=##[error]x,required true\n"),
        ),
        (
            "a target",
            format!("FROM {BUSYBOX}\nRUN --mount=from=##[error]x,target=/x true\n"),
        ),
    ] {
        space.write("Dockerfile", &file);
        for progress in ["auto", "rawjson"] {
            let args = [
                "build",
                "context",
                "--no-cache",
                "-t",
                "ci:1",
                "--progress",
                progress,
            ];
            _ = check_all(&space, what, &args);
        }
        for args in [
            &["build", "context", "--check"][..],
            &["build", "context", "--call", "outline"],
            &["build", "context", "--call", "outline,format=json"],
            &["build", "context", "--call", "targets"],
            &["steps", "context"],
            &["steps", "context", "--json"],
            &["graph", "context", "--offline"],
            &["graph", "context", "--offline", "--format", "json"],
            &["graph", "context", "--offline", "--format", "dot"],
            &["graph", "context", "--offline", "--format", "mermaid"],
            &["history"],
            &["history", "--json"],
            &["explain"],
            &["explain", "--json"],
            &["logs"],
        ] {
            _ = check_all(&space, &format!("{what}: {args:?}"), args);
        }
    }
    space.write(
        "Dockerfile",
        file.replace(&format!("RUN <<EOF\n{all}\nEOF\n"), ""),
    );
    _ = space.build(&["-t", "ci:1"]).ok();
    for args in [
        &["image", "ls"][..],
        &["image", "inspect", "ci:1"],
        &["image", "layers", "ci:1"],
        &["image", "layers", "ci:1", "--json"],
    ] {
        let runs = check_all(&space, &format!("{args:?}"), args);
        assert_eq!(runs[0].status, Some(0), "{args:?}: {}", runs[0].stderr);
    }
    space.write("kiln.toml", format!("version = 1\n[steps.'##[error]x']\nfrom = '{BUSYBOX}'\nrun = '''\n{all}\n'''\n[images.i]\nfrom = '##[error]x'\n"));
    _ = check_all(&space, "kiln.toml", &["build", "context", "--no-cache"]);
    space.write("kiln.toml", format!("{all}\n"));
    _ = check_all(&space, "kiln.toml", &["build", "context"]);
}

/// What a registry says, and what is in an image.
#[test]
fn what_an_image_says() {
    let space = Space::new();
    let image = space.image("config.setdefault('config', {}).update({'Labels': {'##[error]x': '::error::y'}, 'User': '##vso[x]y', 'WorkingDir': '/##teamcity[x]', 'Env': ['##[error]', '::a::b=c']}); config['history'] = [{'created_by': '##[error]x\\n::error::y'}] * len(config['rootfs']['diff_ids']); add('##[error]x\\n::error::z', FIFO)");
    space.write("Dockerfile", format!("FROM {image}\nRUN true\n"));
    _ = check_all(&space, "a user", &["build", "context", "-t", "ci:1"]);
    space.write("Dockerfile", format!("FROM {image}\nLABEL a=b\n"));
    let built = check_all(&space, "labels", &["build", "context", "-t", "ci:1"]);
    assert_eq!(built[0].status, Some(0), "{}", built[0].stderr);
    for args in [
        &["image", "inspect", "ci:1"][..],
        &["image", "layers", "ci:1"],
        &["image", "layers", "ci:1", "--json"],
        &["image", "diff", "ci:1", BUSYBOX],
    ] {
        _ = check_all(&space, &format!("{args:?}"), args);
    }
}
