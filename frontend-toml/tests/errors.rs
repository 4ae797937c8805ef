//! A golden error for every kind of mistake.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_frontend_toml::{ImageTable, Options, Outcome, compile, parse};
use kiln_graph::Platform;

const GOOD: &str = "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\n[images.i]\nfrom = 'a'\n";

/// The error of a file, as it is shown.
fn error(text: &str, target: Option<&str>) -> String {
    let include = |path: &str| match path {
        "steps.toml" => Ok("version = 1\n[steps.a]\nfrom = 'scratch'\n".to_owned()),
        "nested.toml" => Ok("version = 1\ninclude = ['x']\n".to_owned()),
        _ => Err("No such file".to_owned()),
    };
    let file = match parse("kiln.toml", text, &include) {
        Ok(file) => file,
        Err(error) => return error.to_string(),
    };
    let options = Options {
        params: [("given".to_owned(), "1".to_owned())]
            .into_iter()
            .filter(|_| text.contains("params.given") || text.contains("# give"))
            .collect(),
        target: target.map(str::to_owned),
        platforms: vec![Platform::new("linux", "amd64", "")],
        build_platform: Platform::new("linux", "amd64", ""),
        ignore: Vec::new(),
        labels: std::collections::BTreeMap::new(),
    };
    match compile(&file, &options, &ImageTable::new()) {
        Err(error) => error.to_string(),
        Ok(Outcome::Done(_)) => "no error".to_owned(),
        Ok(Outcome::Needs(needs)) => format!("needs {}", needs[0].0.name),
    }
}

const CASES: &[(&str, &str)] = &[
    ("not toml", "version = \n"),
    ("an unknown table", "version = 1\n[step.a]\n"),
    (
        "an unknown key",
        "version = 1\n[steps.a]\nform = 'scratch'\n",
    ),
    ("a wrong type", "version = 1\n[steps.a]\nretry = 'often'\n"),
    (
        "a wrong choice",
        "version = 1\n[steps.a]\nnetwork = 'hosts'\n",
    ),
    ("another version", "version = 2\n"),
    ("no version", "[steps.a]\n"),
    ("no images", "version = 1\n"),
    ("several images", "version = 1\n[images.a]\n[images.b]\n"),
    ("an image of nothing", "version = 1\n[images.a]\n"),
    (
        "an unknown step",
        "version = 1\n[steps.build]\nfrom = 'scratch'\n[images.i]\nfrom = 'biuld'\n",
    ),
    (
        "a step from nothing",
        "version = 1\n[steps.a]\nrun = 'x'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a cycle",
        "version = 1\n[steps.a]\nfrom = 'b'\n[steps.b]\nfrom = 'a'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "run and script",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\nscript = { interpreter = ['sh'], text = '' }\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "an empty command",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = []\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "an unknown name",
        "version = 1\n[params.profile]\ndefault = 'x'\n[steps.a]\nfrom = 'scratch'\nrun = 'make {{ params.profil }}'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "an open template",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'make {{ params.x'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a condition that is none",
        "version = 1\n[params.p]\ndefault = 'x'\n[steps.a]\nfrom = 'scratch'\nif = 'params.p'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a parameter without a value",
        "version = 1\n[params.must]\n[images.i]\nfrom = 'scratch'\n",
    ),
    (
        "a value that is no choice",
        "version = 1\n[params.given]\nchoices = [2, 3]\n[images.i]\nfrom = 'scratch'\n",
    ),
    (
        "an unknown parameter",
        "version = 1 # give\n[params.givn]\ndefault = 1\n[images.i]\nfrom = 'scratch'\n",
    ),
    (
        "two kinds of source",
        "version = 1\n[sources.s]\ncontext = '.'\ngit = 'x'\n[steps.a]\nfrom = 's'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a broken checksum",
        "version = 1\n[sources.s]\nhttp = 'https://x.example'\nchecksum = 'md5:1'\n[steps.a]\nfrom = 's'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a copy of nothing",
        "version = 1\n[steps.a]\nfrom = 'scratch'\ncopy = [{ to = '/x' }]\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a broken mode",
        "version = 1\n[steps.a]\nfrom = 'scratch'\ncopy = [{ text = '', to = '/x', mode = 'rwx' }]\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a broken timeout",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\ntimeout = 'soon'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "an unknown test",
        "version = 1\n[tests.smoke]\nfrom = 'scratch'\n[images.i]\nfrom = 'scratch'\ntests = ['smke']\n",
    ),
    (
        "an include that is missing",
        "version = 1\ninclude = ['none.toml']\n",
    ),
    (
        "an include that includes",
        "version = 1\ninclude = ['nested.toml']\n",
    ),
    (
        "a step that is there twice",
        "version = 1\ninclude = ['steps.toml']\n[steps.a]\n",
    ),
    (
        "an unknown variant",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nmatrix = { v = [1, 2] }\n[images.i]\nfrom = 'a@3'\n",
    ),
];

#[test]
fn mistakes() {
    assert_eq!(error(GOOD, None), "no error");
    let mut all = String::new();
    for (what, text) in CASES {
        all += &format!(
            "{what}\n    {}\n",
            error(text, None).replace('\n', "\n    ")
        );
    }
    all += &format!("an unknown target\n    {}\n", error(GOOD, Some("ii")));
    insta::assert_snapshot!(all);
}
