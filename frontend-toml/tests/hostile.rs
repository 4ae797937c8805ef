//! Files that no honest author writes: errors with a place, never a panic. `PROPTEST_CASES` makes
//! this a fuzzer that runs as long as one likes.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_frontend_toml::{Options, compile, parse};
use kiln_graph::{ImageTable, Platform};
use proptest::prelude::*;

const PIECES: &[&str] = &[
    "[sources.a]\n",
    "context = \".\"\n",
    "context = \"../..\"\n",
    "image = \"x:1\"\n",
    "git = \"-x\"\n",
    "[steps.a]\n",
    "[steps.b]\n",
    "from = \"a\"\n",
    "from = \"b\"\n",
    "run = \"x\"\n",
    "run = [\"a\", \"b\"]\n",
    "copy = [{ from = \"a\", src = \"../x\", dest = \"/\" }]\n",
    "[params]\n",
    "p = \"${p}\"\n",
    "[image]\n",
    "[[image.layers]]\n",
    "name = \"l\"\n",
    "steps = [\"a\"]\n",
    "[steps.a.matrix]\n",
    "x = [\"1\", \"2\"]\n",
    "when = \"a && (b || !c)\"\n",
    "when = \"((((\"\n",
    "mounts = [{ type = \"cache\", target = \"/\" }]\n",
    "include = [\"other\"]\n",
    "\"",
    "'",
    "\"\"\"",
    "{",
    "}",
    "[",
    "]",
    "=",
    "\u{0}",
    "\u{feff}",
    "é",
    "${",
    "}",
    "env = { A = \"${A}${B}\" }\n",
    "timeout = \"-1s\"\n",
    "mode = \"9999\"\n",
    "\n",
    "x.y.z = 1\n",
];

fn soup() -> impl Strategy<Value = String> {
    // The README shows the whole language, a line a key.
    let lines: Vec<&str> = include_str!("../README.md").lines().collect();
    let piece = prop_oneof![
        9 => prop::sample::select(lines).prop_map(|line| format!("{line}\n")),
        3 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn options() -> Options {
    Options {
        params: std::collections::BTreeMap::new(),
        target: None,
        platforms: Vec::new(),
        build_platform: Platform::host(),
        ignore: Vec::new(),
        ..Options::default()
    }
}

fn try_out(text: &str, other: &str) {
    let include = |_: &kiln_frontend_toml::Included<'_>| Ok(other.to_owned());
    if let Ok(file) = parse("kiln.toml", text, &include) {
        _ = compile(&file, &options(), &ImageTable::new());
    }
}

fn cases() -> u32 {
    let given = std::env::var("PROPTEST_CASES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(text in soup(), other in soup()) {
        try_out(&text, &other);
    }

    #[test]
    fn changed_files_do_not_panic(at: prop::sample::Index, byte in "\\PC", end: prop::sample::Index) {
        let text = include_str!("../../builder/cli/src/command/init/node.toml");
        let cut = |index: usize| text.floor_char_boundary(index);
        let at = cut(at.index(text.len()));
        let end = cut(end.index(text.len()));
        try_out(&format!("{}{byte}{}", &text[..at], &text[at..]), "");
        try_out(&text[..end], "");
    }
}

/// What is nested without end is an error, not the end of the stack.
#[test]
fn deep_nesting_is_an_error() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let deep = format!("x = {}1{}\n", open.repeat(100_000), close.repeat(100_000));
        try_out(&deep, "");
    }
    let deep = format!(
        "[steps.a]\nfrom = \"x:1\"\nrun = \"x\"\nwhen = \"{}a{}\"\n",
        "(".repeat(100_000),
        ")".repeat(100_000)
    );
    try_out(&deep, "");
    let deep = format!(
        "[steps.a]\nfrom = \"x:1\"\nrun = \"x\"\nwhen = \"{}a\"\n",
        "!".repeat(100_000)
    );
    try_out(&deep, "");
}

#[test]
fn files_have_bounds() {
    let include = |_: &kiln_frontend_toml::Included<'_>| Ok("version = 1\n".to_owned());
    let refused = |text: &str| match parse("kiln.toml", text, &include) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let names: Vec<String> = (0..=100).map(|n| format!("'{n}.toml'")).collect();
    let values: Vec<String> = (0..=1000).map(|n| format!("'v{n}'")).collect();
    let step = |number: usize, matrix: &str| {
        format!("[steps.s{number}]\nfrom = 'scratch'\nrun = 'x'\n{matrix}")
    };
    let many: String = (0..=10_000).map(|number| step(number, "")).collect();
    let one = step(0, &format!("matrix = {{ x = [{}] }}\n", values.join(", ")));
    let image = "[images.i]\nfrom = 's0'\n";
    for (text, want) in [
        (
            format!("include = [{}]\n", names.join(", ")),
            "more than 100 files",
        ),
        (format!("{one}{image}"), "more than 1000 steps"),
        (format!("{many}{image}"), "more than 10000 steps"),
        (format!("# {}\n", "x".repeat(16 << 20)), "larger than"),
    ] {
        let error = refused(&format!("version = 1\n{text}"));
        assert!(error.contains(want), "{want}: {error:.300}");
    }
}
