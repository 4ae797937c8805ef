//! The developer's loop: from a step, up to a step, why, and a shell inside.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kiln_tests::{BUSYBOX, Run, Space, read};

const FILE: &str = "FROM BASE AS base
ENV A=1
RUN cat /proc/sys/kernel/random/uuid > /one
FROM base
WORKDIR /w
COPY f /w/f
RUN cat /proc/sys/kernel/random/uuid > /two
RUN echo partial > /partial; grep -q good f
RUN echo end > /end
";

fn space() -> Space {
    let space = Space::new();
    space
        .write("Dockerfile", FILE.replace("BASE", BUSYBOX))
        .write("f", "good");
    space
}

#[test]
fn disk_space_by_build() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN head -c 3000000 /dev/urandom > /big\n"),
    );
    _ = space.build(&[]).ok();
    space.write(
        "Other",
        format!("FROM {BUSYBOX}\nRUN head -c 1000000 /dev/urandom > /small\n"),
    );
    _ = space.build(&["-f", "context/Other"]).ok();
    let shown = space.kiln(&["du", "--builds"]).ok().stdout;
    let alone = |name: &str| {
        let line = shown.lines().find(|line| line.ends_with(name)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[2].parse::<f64>().unwrap(), words[3].to_owned())
    };
    let (big, small) = (alone("context/Dockerfile"), alone("context/Other"));
    assert!(big.1 == "MiB" && (2.8..3.1).contains(&big.0), "{shown}");
    assert!(small.0 < 1100.0 && small.1 != "GiB", "{shown}");
}

#[test]
fn from_and_until_a_step() {
    let space = space();
    let ids = |args: &[&str]| {
        let out = space.build_files(args);
        (read(out.join("one")), read(out.join("two")))
    };
    let first = ids(&[]);
    assert_eq!(ids(&[]), first);
    for selector in ["4", "1:4", "@7"] {
        let again = ids(&["--from", selector]);
        assert_eq!(again.0, first.0, "{selector}");
        assert_ne!(again.1, first.1, "{selector}");
    }
    let all = ids(&["--from", "base"]);
    assert_ne!(all.0, first.0);
    let only = ids(&["--no-cache-filter", "base:3"]);
    assert_ne!(only.0, all.0);
    let out = space.path("part");
    let output = format!("type=local,dest={}", out.display());
    _ = space.build(&["--until", "@7", "-o", &output]).ok();
    assert!(out.join("two").exists() && !out.join("end").exists());
    let wrong = space.build(&["--from", "bse"]);
    assert_eq!(wrong.status, Some(2));
    assert!(
        wrong.stderr.contains("use a stage (base, stage-1)"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn why_steps_ran() {
    let space = space();
    let explain = |args: &[&str]| space.kiln(&[&["explain"], args].concat()).ok().stdout;
    _ = space.build(&[]).ok();
    assert!(explain(&[]).contains("no earlier build has this step"));
    _ = space.write("f", "still good").build(&[]).ok();
    let text = explain(&["stage-1[4]"]);
    assert!(
        text.contains("its root, by stage-1[3] COPY f /w/f"),
        "{text}"
    );
    let text = explain(&["stage-1[3]"]);
    assert!(text.contains("content    /w/f"), "{text}");
    space.write(
        "Dockerfile",
        FILE.replace("BASE", BUSYBOX).replace("A=1", "A=2"),
    );
    _ = space.build(&[]).ok();
    let text = explain(&["base[3]"]);
    assert!(
        text.contains("variable A changed:\n      - 1\n      + 2\n"),
        "{text}"
    );
    _ = space.build(&["--from", "1:5"]).ok();
    let text = explain(&["stage-1[6]"]);
    assert!(
        text.contains("spared") || text.contains("asked to run"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    assert_eq!(json["steps"].as_array().unwrap().len(), 6);
    _ = space.build(&[]).ok();
    let text = explain(&[]);
    assert!(
        text.contains("cached") && !text.contains("spared"),
        "{text}"
    );
}

#[test]
fn what_an_edit_would_run() {
    let space = space();
    space
        .write("unused/x", "x")
        .write(".dockerignore", "ignored\n");
    _ = space.build(&["--build-arg", "X=1", "--no-cache"]).ok();
    let fates = |file: &str| {
        let args = ["explain", "--json", "--what-if", file];
        let json = space.kiln(&args).ok().stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let steps = json.as_array().unwrap().iter();
        let fate = |step: &serde_json::Value| step["fate"].as_str().unwrap().to_owned();
        steps.map(fate).collect::<Vec<_>>()
    };
    let kept = ["kept", "kept", "kept", "kept", "kept", "kept"];
    assert_eq!(fates("context/unused/x"), kept);
    assert_eq!(fates("context/ignored"), kept);
    let some = ["kept", "kept", "edited", "after", "after", "after"];
    assert_eq!(fates("context/f"), some);
    let text = space
        .kiln(&["explain", "--what-if", "context/f"])
        .ok()
        .stdout;
    assert!(text.contains("4 of 6 steps would run"), "{text}");
    assert!(
        text.contains("stage-1[3] COPY f /w/f\n    it reads what is edited"),
        "{text}"
    );
    let outside = space.kiln(&["explain", "--what-if", "elsewhere"]);
    assert_eq!(outside.status, Some(2));
    assert!(
        outside
            .stderr
            .contains("it is in none of the build's contexts"),
        "{}",
        outside.stderr
    );
    _ = space
        .write("f", "still good")
        .build(&["--build-arg", "X=1"])
        .ok();
    assert_eq!(
        fates("context/unused/x"),
        kept,
        "nothing was run, and now it is built"
    );
    space.write("f", "also good");
    assert_eq!(
        fates("context/unused/x"),
        ["kept", "kept", "new", "new", "new", "new"]
    );
}

fn shell(space: &Space, args: &[&str], input: &str) -> Run {
    typed(space, &[&["shell", "context"], args].concat(), input)
}

/// Runs kiln with something typed.
fn typed(space: &Space, args: &[&str], input: &str) -> Run {
    let mut command = space.command(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    Run::of(&child.wait_with_output().unwrap())
}

/// The shell has the build file that the build had: its own standard input is what is typed.
#[test]
fn a_build_file_on_standard_input_is_kept_for_a_shell() {
    let space = Space::new();
    let text = format!("FROM {BUSYBOX}\nRUN echo partial > /partial; exit 3\n");
    for (words, again) in [
        (
            &["build", "--progress", "plain", "-"][..],
            "kiln build --progress plain - --from @2 < Dockerfile",
        ),
        (
            &["build", "--progress", "plain", "-f", "-", "--", "context"],
            "kiln build --progress plain -f - --from @2 -- context < Dockerfile",
        ),
    ] {
        let failed = typed(&space, words, &text);
        failed.fails_with(&["exit code: 3", "kiln shell", again]);
        let run = typed(&space, &["shell"], "echo \"<$(cat /partial)>\"; exit\n").ok();
        assert!(run.stdout.contains("<partial>"), "{}", run.stdout);
    }
}

#[test]
fn a_shell_where_a_target_of_a_bake_file_failed() {
    let space = Space::new();
    let file = format!(
        "target \"app\" {{
  context = \"context\"
  dockerfile-inline = \"FROM {BUSYBOX}\\nRUN echo partial > /partial; exit 3\\n\"
}}
"
    );
    std::fs::write(space.path("docker-bake.hcl"), file).unwrap();
    let failed = space.kiln(&["bake", "app", "--no-cache", "--progress", "plain"]);
    failed.fails_with(&[
        "app (dockerfile-inline):2",
        "kiln shell",
        "kiln bake --progress plain app",
    ]);
    assert!(!failed.stderr.contains("kiln build"), "{}", failed.stderr);
    let run = typed(&space, &["shell"], "echo \"<$(cat /partial)>\"; exit\n").ok();
    assert!(run.stdout.contains("<partial>"), "{}", run.stdout);
}

#[test]
fn a_shell_where_it_failed_and_on_from_there() {
    let space = space();
    space.write("f", "bad");
    let failed = space.build(&[]);
    failed.fails_with(&[
        "exit code: 1",
        "kiln shell",
        " --from @8",
        "It had changed /partial\n",
    ]);
    let run = shell(
        &space,
        &[],
        "echo \"<$(cat /partial) $PWD $A>\"; touch /w/mine\nexit\n",
    )
    .ok();
    assert!(run.stdout.contains("<partial /w 1>"), "{}", run.stdout);
    let run = shell(
        &space,
        &["--step", "1:5", "--before"],
        "ls /partial && echo yes-there\nexit 3\n",
    );
    assert_eq!(run.status, Some(3), "{}", run.stderr);
    assert!(!run.stdout.contains("\nyes-there"), "{}", run.stdout);
    let run = shell(&space, &["--step", "base"], "echo \"<$(ls /)>\"; exit\n").ok();
    assert!(run.stdout.contains("one"), "{}", run.stdout);
    space.write("f", "good");
    _ = space.build(&["--from", "@8"]).ok();
    let why = space.kiln(&["explain", "stage-1[5]"]).ok().stdout;
    assert!(why.contains("it failed in the build before"), "{why}");
    let run = shell(&space, &["--step", "1:6"], "ls /w\nexit\n").ok();
    assert!(
        !run.stdout.contains("mine"),
        "what a shell changes is thrown away"
    );
}

#[test]
fn a_shell_needs_no_flags_said_again() {
    let space = Space::new();
    let file = format!("FROM {BUSYBOX} AS a\nARG X=0\nRUN test $X = 1\nFROM a\nRUN true\n");
    space.write("other", file);
    let flags = ["-f", "context/other", "--target", "a", "--build-arg", "X=2"];
    space.build(&flags).fails_with(&["exit code: 1"]);
    let run = typed(&space, &["shell"], "echo \"<$X>\"\nexit\n").ok();
    assert!(run.stdout.contains("<2>"), "{}", run.stdout);
}

#[test]
fn builds_and_their_logs_are_remembered() {
    let space = space();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done\nRUN echo last\n"),
    );
    _ = space
        .kiln(&["build", "context", "--progress", "quiet"])
        .ok();
    let log = space.kiln(&["logs", "stage-0[2]"]).ok().stdout;
    assert_eq!(
        log.lines().filter(|line| line.starts_with("line-")).count(),
        20_000
    );
    for verb in ["logs", "explain"] {
        let failed = space.kiln(&[verb, "stage-1[2]"]);
        failed.is_refused_with(&["no step of build", "stage-1[2]"]);
    }
    _ = space.build(&[]).ok();
    let history = space.kiln(&["history", "--json"]).ok().stdout;
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!(history[0]["steps"][2]["outcome"], "cached");
    let steps = space.kiln(&["steps", "context"]).ok().stdout;
    assert!(
        steps.contains("0:3") && steps.contains("RUN echo last"),
        "{steps}"
    );
    _ = space.kiln(&["timeline", "-o", "t.html"]).ok();
    assert!(read(space.path("t.html")).contains("RUN echo last"));
}

#[test]
fn steps_that_stages_share_have_the_instructions_of_each() {
    let space = Space::new();
    let file = format!("FROM {BUSYBOX} AS b\nRUN echo 1 > /a\nFROM b\nRUN echo 2 > /b\n");
    space.write("Dockerfile", &file);
    let steps = space.kiln(&["steps", "context"]).ok().stdout;
    for (line, text) in steps.lines().skip(1).zip(file.lines()) {
        assert!(line.ends_with(text), "{text} is not in\n{steps}");
    }
    assert_eq!(steps.lines().count(), 5, "{steps}");
}

#[test]
fn a_step_that_fails_is_explained_by_what_changed_in_it() {
    let space = Space::new();
    let write = |source: &str| {
        let file = format!("FROM {BUSYBOX}\nRUN echo 1 > /one\nCOPY {source} /x\nRUN true\n");
        _ = space.write("Dockerfile", file);
    };
    write("Dockerfile");
    _ = space.build(&[]).ok();
    write("missing");
    space.build(&[]).fails_with(&["/missing"]);
    let why = space.kiln(&["explain"]).ok().stdout;
    let change = "- COPY Dockerfile /x\n      + COPY missing /x\n";
    assert!(why.contains(change), "{why}");
    assert!(!why.contains("nothing changed"), "{why}");
}

#[test]
fn all_failures_when_asked_to_keep_going() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS a\nRUN echo first >&2; exit 3\nFROM {BUSYBOX} AS b\nRUN sleep 0.3; exit 4\nFROM {BUSYBOX} AS c\nRUN sleep 0.5; echo done-c\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\nCOPY --from=c / /\n"
        ),
    );
    let run = space.build(&["--keep-going"]);
    assert!(run.stderr.contains("done-c"), "{}", run.stderr);
    run.fails_with(&["exit code: 3", "exit code: 4", "2 steps failed"]);
}

#[test]
fn a_program_gets_nothing_but_events() {
    let space = Space::new();
    space.write("Dockerfile", "from scratch\nCOPY Dockerfile /\n");
    let file =
        "target \"a\" {\n context = \"context\"\n}\ntarget \"b\" {\n context = \"nope\"\n}\n";
    std::fs::write(space.path("docker-bake.hcl"), file).unwrap();
    for (words, status) in [
        (&["build", "--bogus"][..], 2),
        (&["build", "--volume", "x", "context"], 2),
        (&["build", "-D", "--rm", "context"], 0),
        (&["build", "--check", "context"], 1),
        (&["bake", "a"], 0),
        (&["bake", "c"], 2),
    ] {
        let run = space.kiln(&[words, &["--progress", "rawjson"]].concat());
        assert_eq!(run.status, Some(status), "{words:?}: {}", run.stderr);
        let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let events: Vec<serde_json::Value> = run.stderr.lines().map(read).collect();
        let versions = events.iter().filter(|event| event["event"] == "version");
        assert_eq!(versions.count(), 1, "{}", run.stderr);
        assert_eq!(events[0]["event"], "version", "{}", run.stderr);
        let last = &events[events.len() - 1]["event"];
        assert_eq!(last == "error", status != 0, "{}", run.stderr);
    }
}

#[test]
fn events_as_json_have_a_version() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo said\n"));
    let run = space
        .kiln(&["build", "context", "--progress", "rawjson"])
        .ok();
    let lines = run
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<serde_json::Value> = lines.collect();
    assert_eq!(
        events[0],
        serde_json::json!({ "event": "version", "version": 1 })
    );
    let said =
        |event: &&serde_json::Value| event["event"] == "output" && event["bytes"] == "said\n";
    assert_eq!(events.iter().filter(said).count(), 1);
    assert!(events.iter().any(|event| event["event"] == "used"));
}

#[test]
fn shells_complete_step_names() {
    let space = space();
    let script = space.kiln(&["completions", "bash"]).ok().stdout;
    let complete = |line: &str| {
        let ask = format!(
            "{script}\nCOMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}} COMP_WORDS=($COMP_LINE) COMP_CWORD=3\n\
             _kiln_or_steps kiln\necho ${{COMPREPLY[*]}}"
        );
        // In a file: the script is longer than one argument may be.
        space.write("complete.sh", ask);
        let mut command = std::process::Command::new("bash");
        let directory = kiln_tests::kiln_binary().parent().unwrap().to_owned();
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        command.arg("complete.sh").env("PATH", path);
        command.current_dir(space.path("context"));
        Run::of(&command.output().unwrap()).ok().stdout
    };
    let stages = complete("kiln build --from ");
    assert!(
        stages.starts_with("base base:1 base:3 stage-1 stage-1:1"),
        "{stages}"
    );
    assert_eq!(complete("kiln build --until base:"), "1 3\n");
}

#[test]
fn ci_services_fold_what_steps_wrote() {
    let space = Space::new();
    let file = format!("FROM {BUSYBOX} as x\nRUN echo ::error::no\nRUN exit 3\n");
    space.write("Dockerfile", file);
    let run = |variable: &str| {
        let mut command = space.command(&["build", "context"]);
        command.env(variable, "true");
        command.env("GITHUB_WORKSPACE", space.path("."));
        Run::of(&command.output().unwrap()).stderr
    };
    let hub = run("GITHUB_ACTIONS");
    let parts = [
        "::warning file=context/Dockerfile,line=1::",
        "::group::#1 x[2] RUN echo ::error::no\n",
        " : :error::no\n::endgroup::\n#1 DONE",
        "::error file=context/Dockerfile,line=3::x[3] RUN exit 3: exit code: 3",
    ];
    for part in parts {
        assert!(hub.contains(part), "{part} is not in {hub}");
    }
    assert!(!hub.contains("\n::error::no"), "{hub}");
    let lab = run("GITLAB_CI");
    assert!(lab.contains("[collapsed=true]\r\x1b[0K#"), "{lab}");
}

#[test]
fn watching_builds_again() {
    let space = Space::new();
    space
        .write("Dockerfile", "FROM scratch\nCOPY f /f\n")
        .write("f", "one");
    let out = space.path("out");
    let output = format!("type=local,dest={}", out.display());
    let mut child = space
        .command(&["build", "context", "--watch", "-o", &output])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let becomes = |text: &str| {
        let started = Instant::now();
        while std::fs::read_to_string(out.join("f")).ok().as_deref() != Some(text) {
            assert!(started.elapsed() < Duration::from_secs(20), "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    becomes("one");
    std::thread::sleep(Duration::from_millis(300));
    space.write("f", "two");
    becomes("two");
    let stopped = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(stopped.unwrap().success());
    assert!(child.wait().unwrap().success());
}
