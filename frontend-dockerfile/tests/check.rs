//! What `docker build --check` says of a file: rules, lines, order, and the error that ends it.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use kiln_frontend_dockerfile::Options;

/// `RULE LINE…`, joined, and the error.
fn lines(text: &str, options: &Options) -> String {
    let checked = common::checked(text, options);
    let mut out: Vec<String> = Vec::new();
    for found in &checked.warnings {
        let (first, last) = (found.location.line, found.location.end_line);
        let lines = match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        out.push(format!("{} {lines}", found.rule.name()));
    }
    if let Some(error) = &checked.error {
        out.push(format!("error: {}", error.tool_message()));
    }
    out.join("; ")
}

/// A file, and what is said of it.
const CASES: &[(&str, &str)] = &[
    ("FROM scratch\nLABEL a=b\n", ""),
    // What the parser sees comes first, for all stages.
    (
        "FROM a as base\nENV a b\nFROM base as two\n",
        "FromAsCasing 1; FromAsCasing 3; LegacyKeyValueFormat 2",
    ),
    (
        "FROM a\nCMD [\"a\"]\nCMD [\"b\"]\nCMD c\n",
        "MultipleInstructionsDisallowed 2; MultipleInstructionsDisallowed 3; JSONArgsRecommended 4",
    ),
    ("FROM a\nRUN x \\\n\n  y\n", "NoEmptyContinuation 4"),
    ("FROM a\nWORKDIR x\nWORKDIR y\n", "WorkdirRelativePath 2"),
    ("FROM a\nWORKDIR /x\nWORKDIR y\n", ""),
    (
        "FROM a AS b\nWORKDIR x\nFROM b\nWORKDIR y\n",
        "WorkdirRelativePath 2",
    ),
    ("FROM a\nCOPY <<E /a\n$no\nE\n", "UndefinedVar 2-4"),
    ("FROM a\nRUN <<E\n$no\nE\n", ""),
    (
        "FROM a\nENV X=$no Y=$no Z=$BASE\n",
        "UndefinedVar 2; UndefinedVar 2",
    ),
    ("FROM a\nENV PATH=/x:$PATH\n", ""),
    ("FROM unknown\nENV X=$ANYTHING\n", ""),
    ("FROM unknown AS u\nFROM u\nENV X=$ANYTHING\n", ""),
    ("FROM scratch\nENV X=$BASE\n", "UndefinedVar 2"),
    ("FROM a AS b\nARG X\nFROM b\nENV Y=$X\n", ""),
    ("FROM a\nEXPOSE $no\n", ""),
    (
        "FROM a\nRUN --mount=type=cache,target=/x$no true\n",
        "UndefinedVar 2",
    ),
    (
        "FROM a\nARG SECRET\nENV MY_TOKEN=1 TOKEN_FILE=x\n",
        "SecretsUsedInArgOrEnv 2; SecretsUsedInArgOrEnv 3",
    ),
    (
        "FROM --platform=darwin/arm64 a\n",
        "FromPlatformFlagConstDisallowed 1",
    ),
    ("FROM --platform=linux/amd64 a AS x-amd64\n", ""),
    (
        "FROM --platform=$TARGETPLATFORM a\n",
        "RedundantTargetPlatform 1",
    ),
    ("FROM --platform=${TARGETOS}/arm64 a\n", ""),
    (
        "FROM $img\n",
        "InvalidDefaultArgInFrom 1; UndefinedArgInFrom 1; error: base name ($img) should not be blank",
    ),
    (
        "ARG V\nFROM r.example/n:${V}-x\n",
        "InvalidDefaultArgInFrom 2; error: failed to parse stage name \"r.example/n:-x\": invalid reference format",
    ),
    // Stages are in lower case, and FROM says it exactly.
    (
        "FROM a AS Up\nFROM Up\n",
        "StageNameCasing 1; InvalidDefaultArgInFrom 2; error: failed to parse stage name \"Up\": invalid reference format: repository name (library/Up) must be lowercase",
    ),
    ("FROM a AS scratch\n", "ReservedStageName 1"),
    (
        "FROM a AS x\nFROM a AS X\n",
        "StageNameCasing 2; DuplicateStageName 2",
    ),
    (
        "from a\nRUN x\nrun y\nRun z\n",
        "ConsistentInstructionCasing 2; ConsistentInstructionCasing 4",
    ),
    ("FROM a\nMAINTAINER x\n", "MaintainerDeprecated 2"),
    ("FROM a\nSHELL [\"x\"]\nCMD a\nENTRYPOINT b\n", ""),
    (
        "FROM a\nEXPOSE 80:80/TCP\n",
        "ExposeProtoCasing 2; ExposeInvalidFormat 2",
    ),
    // Warnings before a mistake are told; a mistake in the form of a line hides all.
    (
        "FROM a AS Up\nFOO\n",
        "StageNameCasing 1; error: dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)",
    ),
    (
        "FROM a AS Up\nENV x\n",
        "error: ENV must have two arguments",
    ),
    (
        "FROM a AS Up\nRUN x \\\n\ny\n\nCOPY x\n",
        "NoEmptyContinuation 4; StageNameCasing 1; error: dockerfile parse error on line 6: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
    ),
    // All stages are checked.
    ("FROM a AS other\nENV X=$no\nFROM a\n", "UndefinedVar 2"),
    (
        "FROM a\nSTOPSIGNAL NO\n",
        "error: invalid signal: NO (did you mean IO?)",
    ),
    (
        "# check=skip=StageNameCasing;error=true\nFROM a AS Up\nMAINTAINER x\n",
        "MaintainerDeprecated 3; error: lint violation found for rules: MaintainerDeprecated",
    ),
    ("#!/bin/x\n# check=skip=all\nFROM a AS Up\n", ""),
    (" # check=skip=all\nFROM a AS Up\n", "StageNameCasing 2"),
    ("FROM a AS b\nONBUILD ENV X=$no\nFROM b\n", "UndefinedVar 3"),
];

#[test]
fn rules_lines_and_order() {
    for (text, want) in CASES {
        assert_eq!(lines(text, &Options::default()), *want, "{text}");
    }
}

#[test]
fn a_target_is_checked_alone() {
    let options = Options {
        target: Some("a".to_owned()),
        ..Options::default()
    };
    let text = "FROM scratch AS a\nENV X=$no\nFROM scratch\nENV Y=$no\n";
    assert_eq!(lines(text, &options), "UndefinedVar 2");
}

#[test]
fn descriptions_and_hints() {
    let mut options = Options::default();
    let name = "BUILDKIT_DOCKERFILE_CHECK".to_owned();
    options
        .build_args
        .insert(name, "experimental=all".to_owned());
    let text = "# License\n\nFROM scratch AS b\n# b is it\n# X what\nARG X\n#\nARG Y\n# layer: c\nARG PATJ=$PATJ\n";
    let checked = common::checked(text, &options);
    let messages: Vec<&str> = checked
        .warnings
        .iter()
        .map(|found| found.message.as_str())
        .collect();
    assert_eq!(
        messages,
        [
            "Comment for FROM should follow the format: `# b <description>`",
            "Usage of undefined variable '$PATJ' (did you mean $PATH?)",
        ]
    );
}

#[test]
fn ignored_sources() {
    let mut options = Options::default();
    let check = |patterns: &[&str], line: &str, options: &mut Options| {
        let patterns = patterns.iter().map(ToString::to_string).collect();
        options.ignore.insert("context".to_owned(), patterns);
        lines(&format!("FROM scratch\n{line}\n"), options)
    };
    let cases: [(&[&str], &str, &str); 7] = [
        (&["a"], "COPY a /", "CopyIgnoredFile 2"),
        (&["a"], "ADD ./a/ /", "CopyIgnoredFile 2"),
        (&["a"], "COPY --from=b a /", ""),
        (&["*", "!a"], "COPY x /", ""),
        (&["*"], "COPY . /", "CopyIgnoredFile 2"),
        (&["a"], "COPY . /", ""),
        (&["d"], "COPY d/f x /", "CopyIgnoredFile 2"),
    ];
    for (patterns, line, want) in cases {
        assert_eq!(
            check(patterns, line, &mut options),
            want,
            "{patterns:?} {line}"
        );
    }
}
