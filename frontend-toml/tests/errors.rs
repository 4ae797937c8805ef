//! A golden error for every kind of mistake.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_frontend_toml::{ImageTable, Included, Options, Outcome, TomlError, compile, parse};
use kiln_graph::Platform;

const GOOD: &str = "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\n[images.i]\nfrom = 'a'\n";

/// An error with its line.
fn shown(error: &TomlError) -> String {
    match &error.line {
        Some(line) => format!("{error}\n| {line}"),
        None => error.to_string(),
    }
}

/// The error of a file, as it is shown.
fn error(text: &str, target: Option<&str>) -> String {
    let include = |file: &Included<'_>| match file.to_string().as_str() {
        "steps.toml" => Ok("version = 1\n[steps.a]\nfrom = 'scratch'\n".to_owned()),
        "nested.toml" => Ok("version = 1\ninclude = ['x']\n".to_owned()),
        "typo.toml" => Ok("version = 1\n\n[steps.b]\nform = 'scratch'\n".to_owned()),
        "image.toml" => Ok("version = 1\n\n[images.i]\nfrom = 'scratc'\n".to_owned()),
        "source.toml" => Ok("version = 1\n\n[sources.s]\ngit = '{{ params.x }}'\n".to_owned()),
        _ => Err("No such file".to_owned()),
    };
    let file = match parse("kiln.toml", text, &include) {
        Ok(file) => file,
        Err(error) => return shown(&error),
    };
    let options = Options {
        params: [("given".to_owned(), "1".to_owned())]
            .into_iter()
            .filter(|_| text.contains("params.given") || text.contains("# give"))
            .collect(),
        target: target.map(str::to_owned),
        platforms: vec![Platform::new("linux", "amd64", "")],
        build_platform: Platform::new("linux", "amd64", ""),
        ..Options::default()
    };
    match compile(&file, &options, &ImageTable::new()) {
        Err(error) => shown(&error),
        Ok(Outcome::Done(_)) => "no error".to_owned(),
        Ok(Outcome::Values(steps)) => format!("runs {}", steps.wanted[0].0.step),
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
    (
        "several images",
        "version = 1\n[images.a]\nfrom = 'scratch'\n[images.b]\nfrom = 'scratch'\n",
    ),
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
    ("a text for a list", "version = 1\n[steps.a]\nneeds = 'b'\n"),
    ("a number for a text", "version = 1\n[steps.a]\nfrom = 1\n"),
    ("a text for a table", "version = 1\n[steps]\na = 'x'\n"),
    (
        "a text for a truth",
        "version = 1\n[steps.a]\nsecrets = [{ id = 'x', required = 'no' }]\n",
    ),
    (
        "a number for a command",
        "version = 1\n[steps.a]\nrun = 1\n",
    ),
    (
        "a list for a value",
        "version = 1\n[params.p]\ndefault = []\n",
    ),
    (
        "a key that is missing",
        "version = 1\n[steps.a]\nfrom = 'scratch'\ncopy = [{ from = 'b' }]\n",
    ),
    (
        "a key that is there twice",
        "version = 1\n[steps.a]\nfrom = 'b'\nfrom = 'c'\n",
    ),
    (
        "a name that is none",
        "version = 1\n[steps.\"a b\"]\nfrom = 'scratch'\n",
    ),
    (
        "a name of two things",
        "version = 1\n[steps.a]\nfrom = 'scratch'\n[sources.a]\ncontext = '.'\n",
    ),
    (
        "a reserved name",
        "version = 1\n[steps.scratch]\nfrom = 'x'\n",
    ),
    (
        "a variable that is none",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\nenv = { 'A=B' = 'c' }\n",
    ),
    (
        "a matrix without values",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nmatrix = { v = [] }\n",
    ),
    (
        "a matrix that makes too much",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nmatrix = { a = [1,2,3,4], b = [1,2,3,4], c = [1,2,3,4], d = [1,2,3,4], e = [1,2,3,4] }\n",
    ),
    (
        "a matrix with a value twice",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nmatrix = { v = [1, '1'] }\n",
    ),
    (
        "a matrix's step without a value",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nmatrix = { v = [1, 2] }\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a matrix's name elsewhere",
        "version = 1\n[steps.a]\nfrom = 'b'\nmatrix = { v = [1] }\n[steps.b]\nfrom = 'scratch'\nrun = '{{ matrix.v }}'\n",
    ),
    (
        "a mistake in what isn't wanted",
        "version = 1\n[steps.a]\nfrom = 'bb'\n[steps.b]\nfrom = 'scratch'\n[images.i]\nfrom = 'b'\n",
    ),
    (
        "a step that needs itself",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nneeds = ['a']\nrun = 'x'\n",
    ),
    (
        "a command's key without one",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nuser = 'me'\n",
    ),
    (
        "braces of another language",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = \"docker inspect -f '{{.Id}}'\"\n",
    ),
    (
        "a condition of another language",
        "version = 1\n[params.n]\ndefault = 1\n[steps.a]\nfrom = 'scratch'\nif = 'params.n > 3'\n",
    ),
    (
        "a platform that is none",
        "version = 1\n[steps.a]\nfrom = 'x:1'\nplatform = 'arm64?'\n",
    ),
    (
        "two platforms",
        "version = 1\n[steps.a]\nfrom = 'x:1'\n[steps.b]\nfrom = 'a'\nplatform = 'linux/arm64'\n",
    ),
    (
        "a default of another type",
        "version = 1\n[params.p]\ntype = 'integer'\ndefault = 'x'\n",
    ),
    (
        "a default that is no choice",
        "version = 1\n[params.p]\ndefault = 'x'\nchoices = ['y', 'z']\n",
    ),
    (
        "a choice of another type",
        "version = 1\n[params.p]\ndefault = 'x'\nchoices = ['x', 1]\n",
    ),
    (
        "a value of another type",
        "version = 1\n[params.given]\ntype = 'boolean'\n# give\n",
    ),
    (
        "a key of another source",
        "version = 1\n[sources.s]\ngit = 'https://x.example'\nexclude = ['x']\n",
    ),
    (
        "a directory outside",
        "version = 1\n[sources.s]\ncontext = '../other'\n",
    ),
    (
        "an include outside",
        "version = 1\ninclude = ['/etc/passwd']\n",
    ),
    (
        "a broken pattern",
        "version = 1\n[sources.s]\ncontext = '.'\nexclude = ['a', '[b']\n",
    ),
    (
        "a text in a directory",
        "version = 1\n[steps.a]\nfrom = 'scratch'\ncopy = [{ text = 'x', to = '/x/' }]\n",
    ),
    (
        "paths of a text",
        "version = 1\n[steps.a]\nfrom = 'scratch'\ncopy = [{ text = 'x', paths = ['y'], to = '/x' }]\n",
    ),
    (
        "an owner that is none",
        "version = 1\n[steps.a]\nfrom = 'scratch'\ncopy = [{ text = 'x', to = '/x', owner = 'a:' }]\n",
    ),
    (
        "a mount's owner by name",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\ncaches = [{ target = '/c', owner = 'me' }]\n",
    ),
    (
        "a script without interpreter",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nscript = { interpreter = [], text = 'x' }\n",
    ),
    (
        "a port that is none",
        "version = 1\n[images.i]\nfrom = 'scratch'\nexpose = ['http']\n",
    ),
    (
        "a layer of nothing",
        "version = 1\n[images.i]\nfrom = 'scratch'\n[[images.i.layers]]\nname = 'x'\n",
    ),
    (
        "a layer that is there twice",
        "version = 1\n[images.i]\nfrom = 'scratch'\n[[images.i.layers]]\nname = 'x'\npaths = ['a']\n[[images.i.layers]]\nname = 'x'\npaths = ['b']\n",
    ),
    (
        "layers of both kinds",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\n[images.i]\nfrom = 'a'\n[[images.i.layers]]\nname = 'x'\nsteps = ['a']\n[[images.i.layers]]\nname = 'y'\npaths = ['b']\n",
    ),
    (
        "a layer of another step",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\n[steps.b]\nfrom = 'scratch'\n[images.i]\nfrom = 'a'\n[[images.i.layers]]\nname = 'x'\nsteps = ['b']\n",
    ),
    (
        "a layer with a gap",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\n[steps.b]\nfrom = 'a'\nrun = 'x'\n[steps.c]\nfrom = 'b'\nrun = 'x'\n[images.i]\nfrom = 'c'\n[[images.i.layers]]\nname = 'x'\nsteps = ['a', 'c']\n",
    ),
    (
        "a value of an unknown step",
        "version = 1\n[steps.version]\nfrom = 'scratch'\nrun = 'x'\n[steps.a]\nfrom = 'scratch'\nrun = '{{ steps.versoin.stdout }}'\n",
    ),
    (
        "a value that no step has",
        "version = 1\n[steps.v]\nfrom = 'scratch'\nrun = 'x'\n[steps.a]\nfrom = 'scratch'\nrun = '{{ steps.v.stderr }}'\n",
    ),
    (
        "a value of a step that runs nothing",
        "version = 1\n[steps.v]\nfrom = 'scratch'\n[steps.a]\nfrom = 'scratch'\nrun = '{{ steps.v.stdout }}'\n",
    ),
    (
        "a value of a matrix as a whole",
        "version = 1\n[steps.v]\nfrom = 'scratch'\nrun = 'x'\nmatrix = { n = [1, 2] }\n[steps.a]\nfrom = 'scratch'\nrun = '{{ steps.v.stdout }}'\n",
    ),
    (
        "a value that needs itself",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = '{{ steps.b.stdout }}'\n[steps.b]\nfrom = 'scratch'\nrun = '{{ steps.a.stdout }}'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a value of a step that is left out",
        "version = 1\n[steps.v]\nfrom = 'scratch'\nif = 'false'\nrun = 'x'\n[steps.a]\nfrom = 'scratch'\nrun = '{{ steps.v.stdout }}'\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "an output of a step that runs nothing",
        "version = 1\n[steps.v]\nfrom = 'scratch'\noutput = 'integer'\n",
    ),
    (
        "an export that is there twice",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nexports = [{ name = 'x', path = '/' }]\n[tests.b]\nfrom = 'a'\nexports = [{ name = 'x', path = '/' }]\n",
    ),
    (
        "an included branch",
        "version = 1\ninclude = [{ git = 'https://git.example/steps', commit = 'main', path = 'a.toml' }]\n",
    ),
    (
        "an included path outside of the repository",
        "version = 1\ninclude = [{ git = 'https://git.example/steps', commit = '0123456789012345678901234567890123456789', path = '../a.toml' }]\n",
    ),
    (
        "an included repository with an unknown key",
        "version = 1\ninclude = [{ git = 'https://git.example/steps', ref = 'main' }]\n",
    ),
    ("an include of another type", "version = 1\ninclude = [5]\n"),
    (
        "an included file that isn't there",
        "version = 1\ninclude = [{ git = 'https://git.example/steps', commit = '0123456789012345678901234567890123456789', path = 'a.toml' }]\n",
    ),
    (
        "an unknown limit",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\nlimits = { nofiles = 5 }\n",
    ),
    (
        "a limit that is none",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\nlimits = { nofile = 'many' }\n",
    ),
    (
        "a limit of another type",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\nlimits = { nofile = [5] }\n",
    ),
    (
        "a soft limit over the hard one",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\nlimits = { nofile = '5:4' }\n",
    ),
    (
        "a host without an address",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\nhosts = { db = 'localhost' }\n",
    ),
    (
        "a size that is none",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\nshm_size = 'big'\n",
    ),
    (
        "a use of the cache that is none",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\ncache = 'sometimes'\n",
    ),
    (
        "a budget that is none",
        "version = 1\n[images.i]\nfrom = 'scratch'\npolicy = { max_size = '1 furlong' }\n",
    ),
    (
        "an unknown budget",
        "version = 1\n[images.i]\nfrom = 'scratch'\npolicy = { max-sise = '1GB' }\n",
    ),
    (
        "a mistake in an included file",
        "version = 1\ninclude = ['typo.toml']\n",
    ),
    (
        "an included image of nothing",
        "version = 1\ninclude = ['image.toml']\n",
    ),
    (
        "an included source with an unknown name",
        "version = 1\ninclude = ['source.toml']\n",
    ),
    (
        "extending what isn't there",
        "version = 1\n[steps.build]\nfrom = 'scratch'\n[steps.b]\nextends = ['biuld']\n",
    ),
    (
        "extending another kind",
        "version = 1\n[steps.a]\nfrom = 'scratch'\n[images.i]\nextends = ['a']\n",
    ),
    (
        "extending itself",
        "version = 1\n[steps.a]\nextends = ['b']\n[steps.b]\nextends = ['c']\n[steps.c]\nextends = ['b']\n",
    ),
    (
        "extending without a list",
        "version = 1\n[steps.a]\nfrom = 'scratch'\n[steps.b]\nextends = 'a'\n",
    ),
    (
        "a step from a template",
        "version = 1\n[steps.t]\ntemplate = true\n[images.i]\nfrom = 't'\n",
    ),
    (
        "an export of a template",
        "version = 1\n[steps.t]\ntemplate = true\nexports = [{ name = 'x', path = '/x' }]\n",
    ),
    (
        "defaults that extend",
        "version = 1\n[steps.a]\nfrom = 'scratch'\n[defaults.step]\nextends = ['a']\n",
    ),
    (
        "defaults as templates",
        "version = 1\n[defaults.image]\ntemplate = true\n",
    ),
    (
        "an unknown default",
        "version = 1\n[defaults.steps]\nfrom = 'scratch'\n",
    ),
    (
        "a mistake in what is extended",
        "version = 1\n[steps.t]\ntemplate = true\nfrom = 'scratch'\nrun = '{{ params.x }}'\n[steps.a]\nextends = ['t']\n[images.i]\nfrom = 'a'\n",
    ),
    (
        "a group of nothing",
        "version = 1\n[groups]\nall = []\n[images.i]\nfrom = 'scratch'\n",
    ),
    (
        "a group of what isn't there",
        "version = 1\n[groups]\nall = ['j']\n[images.i]\nfrom = 'scratch'\n",
    ),
    (
        "a group in itself",
        "version = 1\n[groups]\na = ['b']\nb = ['a']\n[images.i]\nfrom = 'scratch'\n",
    ),
    (
        "a group named as an image",
        "version = 1\n[groups]\ni = ['i']\n[images.i]\nfrom = 'scratch'\n",
    ),
    (
        "a group of a template",
        "version = 1\n[groups]\na = ['i']\n[images.i]\ntemplate = true\n",
    ),
    (
        "a platform that no machine has",
        "version = 1\n[images.i]\nfrom = 'scratch'\nplatforms = ['linux/arm65']\n",
    ),
    (
        "a platform of platforms",
        "version = 1\n[images.i]\nfrom = 'scratch'\nplatforms = ['linux/{{ platform.arch }}']\n",
    ),
    (
        "a platform that a step writes",
        "version = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'x'\n[images.i]\nfrom = 'scratch'\nplatforms = ['{{ steps.a.stdout }}']\n",
    ),
    (
        "the image's name elsewhere",
        "version = 1\n[images.i]\nfrom = 'scratch'\nuser = '{{ image.name }}'\n",
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
