//! Questions about a build file, and how its mistakes are shown.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::Space;

const FILE: &str = "# VERSION is what is built
ARG VERSION=1
FROM nowhere.invalid/base:${VERSION} AS Build
ARG UNUSED
RUN --mount=type=secret,id=token,required --mount=type=cache,id=c,target=/c make
COPY left-out /x
FROM build
CMD echo hi
";

fn space() -> Space {
    let space = Space::new();
    space
        .write("Dockerfile", FILE)
        .write(".dockerignore", "left-out\n");
    space
}

fn json(space: &Space, call: &str) -> serde_json::Value {
    let run = space.kiln(&["build", "context", "--call", call]);
    assert!(
        run.status.is_some_and(|status| status < 2),
        "{}",
        run.stderr
    );
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn outline_and_targets() {
    let space = space();
    let outline = json(&space, "outline,format=json");
    assert_eq!(outline["args"][0]["name"], "VERSION");
    assert_eq!(outline["args"][0]["description"], "is what is built");
    assert_eq!(
        outline["args"][0]["location"]["ranges"][0]["start"]["line"],
        2
    );
    assert_eq!(outline["secrets"][0]["name"], "token");
    assert_eq!(outline.get("cache"), None, "BuildKit lists none");
    let targets = json(&space, "targets,format=json");
    assert_eq!(targets["targets"][0]["name"], "build");
    assert_eq!(targets["targets"][1]["default"], true);
    let text = space
        .kiln(&["build", "context", "--call", "targets"])
        .ok()
        .stdout;
    assert!(
        text.contains("(default)") && text.contains("build"),
        "{text}"
    );
}

#[test]
fn warnings_that_are_errors_are_no_outline() {
    let space = space();
    space.write("Dockerfile", format!("# check=error=true\n{FILE}"));
    let ask = |call: &str| space.kiln(&["build", "context", "--call", call]);
    ask("outline").fails_with(&["lint violation found for rules: ", "JSONArgsRecommended"]);
    assert_eq!(ask("outline").stdout, "");
    _ = ask("targets").ok();
    space.write("Dockerfile", format!("# check=skip=all;error=true\n{FILE}"));
    _ = ask("outline").ok();
}

#[test]
fn checks_need_no_registry() {
    let space = space();
    let checked = json(&space, "check,format=json");
    let warnings = checked["warnings"].as_array().unwrap();
    let rules: Vec<&str> = warnings
        .iter()
        .map(|w| w["ruleName"].as_str().unwrap())
        .collect();
    assert_eq!(
        rules,
        ["StageNameCasing", "CopyIgnoredFile", "JSONArgsRecommended"]
    );
    assert_eq!(checked["sources"][0]["filename"], "Dockerfile");
    let text = space.kiln(&["build", "context", "--check"]);
    assert_eq!(text.status, Some(1));
    assert!(
        text.stdout.contains("WARNING: CopyIgnoredFile - https://"),
        "{}",
        text.stdout
    );
    space.write("Dockerfile", format!("# check=skip=all\n{FILE}"));
    let clean = space.kiln(&["build", "context", "--check"]).ok();
    assert_eq!(clean.stdout, "Check complete, no warnings found.\n");
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let cases = [
        (
            "FORM a\n",
            "Dockerfile:1:1: unknown instruction: FORM (did you mean FROM?)",
        ),
        (
            "FROM scratch\nCOPY --form=x \\\n  --chwon=a b c\n",
            "Dockerfile:2:6: unknown flag: --form (did you mean from?)",
        ),
        (
            "FROM scratch\nRUN --mount=type=cash,target=/x a\n",
            "Dockerfile:2:5:",
        ),
        ("FROM nowhere.invalid/x\n", "nowhere.invalid"),
    ];
    for (text, want) in cases {
        let space = Space::new();
        space.write("Dockerfile", text);
        let failed = space.build(&[]);
        assert!(failed.stderr.contains(">>>"), "{}", failed.stderr);
        failed.fails_with(&[want]);
    }
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch AS release\nCOPY Dockerfile /\n");
    space
        .build(&["--target", "relaese"])
        .fails_with(&["did you mean release?"]);
}
