//! What files are compiled to.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_frontend_toml::{
    BuildFile, Compiled, ImageRequest, ImageTable, NamedContext, Options, Outcome, ResolvedImage,
    ValueRequest, compile, parse,
};
use kiln_graph::{
    BlobDigest, Format, ImageConfig, ImageSource, LayerOrigin, MountKind, Op, Platform, StepId,
};

fn platform(architecture: &str) -> Platform {
    Platform::new("linux", architecture, "")
}

fn options() -> Options {
    Options {
        platforms: vec![platform("amd64")],
        build_platform: platform("amd64"),
        ignore: vec!["ignored".to_owned()],
        ..Options::default()
    }
}

fn read(text: &str) -> BuildFile {
    let none = |_: &kiln_frontend_toml::Included<'_>| Err("there are no other files".to_owned());
    parse("kiln.toml", &format!("version = 1\n{text}"), &none).unwrap()
}

fn image(request: &ImageRequest) -> ResolvedImage {
    let mut config = ImageConfig::scratch(&request.platform);
    config.config.env = vec!["BASE=1".to_owned()];
    config.config.working_dir = "/base".to_owned();
    config.config.user = "7".to_owned();
    config.config.cmd = Some(vec!["sh".to_owned()]);
    let digest = format!("sha256:{}", "0".repeat(64));
    ResolvedImage {
        source: ImageSource {
            name: request.name.clone(),
            manifest: digest.parse::<BlobDigest>().unwrap(),
            layers: Vec::new(),
        },
        config,
        is_known: true,
    }
}

/// Compiles, with whatever images are asked for; and how often some were.
fn rounds(text: &str, options: &Options) -> (Compiled, Vec<Vec<String>>) {
    let file = read(text);
    let mut images = ImageTable::new();
    let mut asked = Vec::new();
    loop {
        match compile(&file, options, &images).unwrap() {
            Outcome::Done(compiled) => return (*compiled, asked),
            Outcome::Values(steps) => panic!("{:?}", steps.wanted),
            Outcome::Needs(needs) => {
                let shown =
                    |request: &ImageRequest| format!("{} {}", request.name, request.platform);
                asked.push(needs.iter().map(|(request, _)| shown(request)).collect());
                for (request, location) in needs {
                    assert!(location.is_some(), "{request:?}");
                    images.insert(request.clone(), image(&request));
                }
            }
        }
    }
}

fn build(text: &str) -> Compiled {
    rounds(text, &options()).0
}

fn ids(compiled: &Compiled) -> Vec<StepId> {
    let roots: Vec<StepId> = compiled
        .build
        .targets
        .iter()
        .map(|target| target.root)
        .collect();
    compiled.build.graph.needed_for(&roots)
}

fn names(compiled: &Compiled) -> Vec<String> {
    let graph = &compiled.build.graph;
    let name = |id: StepId| graph.step(id).name.to_string();
    ids(compiled).into_iter().map(name).collect()
}

fn ops(compiled: &Compiled) -> Vec<Op> {
    let graph = &compiled.build.graph;
    ids(compiled)
        .into_iter()
        .map(|id| graph.step(id).op.clone())
        .collect()
}

const WHOLE: &str = r#"
[params.profile]
default = "release"
choices = ["debug", "release"]

[sources.code]
context = "."
include = ["/src/", "Cargo.*"]
exclude = ["./src/tmp/"]

[sources.notes]
git = "https://git.example/notes"
ref = "main"
subdir = "docs"

[sources.tool]
http = "https://example.com/tool"
checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
file = "tool"

[steps.lint]
from = "rust:1"
run = ["cargo", "clippy"]

[steps.build]
from = "rust:1"
needs = ["lint"]
workdir = "work"
copy = [
  { from = "code", to = "in/" },
  { from = "notes", paths = ["a", "b"], to = "/notes", owner = "me:us", mode = "u+x", exclude = ["/x/"] },
  { text = "{{ matrix.flavour }}\n", to = "flavour", owner = "3" },
]
run = "cargo build --profile {{ params.profile }} # {{ '{{' }}"
env = { FLAVOUR = "{{ matrix.flavour }}" }
caches = [{ target = "target", sharing = "locked" }]
binds = [{ from = "tool", path = "tool", target = "/tool" }]
secrets = [{ id = "token" }, { id = "key", env = "KEY", required = false, owner = "5:6" }]
ssh = ["default"]
retry = 2
timeout = "10m"
network = "none"
matrix = { flavour = ["small", "large"] }

[steps.final]
from = "scratch"
copy = [{ from = "build@small", paths = ["/out"], to = "/" }]

[tests.smoke]
from = "final"
cache = "never"
script = { interpreter = ["/bin/sh", "-e"], text = "true {{ matrix.n }}" }
matrix = { n = [1, 2] }

[images.app]
from = "final"
entrypoint = ["/out"]
labels = { profile = "{{ params.profile }}" }
expose = [80, "53/udp"]
healthcheck = { run = "true", interval = "30s", retries = 3 }
"#;

#[test]
fn the_whole_language() {
    let compiled = build(WHOLE);
    let graph = &compiled.build.graph;
    insta::assert_snapshot!(graph.render(&ids(&compiled), Format::Text));
    let stages: Vec<&str> = compiled
        .build
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    insta::assert_json_snapshot!(
        "ops",
        (stages, ops(&compiled), &compiled.build.targets[0].config)
    );
}

#[test]
fn the_same_file_makes_the_same_graph() {
    let shown = || {
        let compiled = build(WHOLE);
        let steps = ids(&compiled);
        compiled.build.graph.render(&steps, Format::Json)
    };
    assert_eq!(shown(), shown());
}

#[test]
fn images_are_asked_for_all_at_once() {
    let mut wanted = options();
    wanted.platforms = vec![platform("amd64"), platform("arm64")];
    let text = "[steps.a]\nfrom = 'a:1'\n[steps.b]\nfrom = 'b:1'\ncopy = [{ from = 'a', to = '/' }]\n[steps.unused]\nfrom = 'c:1'\n[images.i]\nfrom = 'b'\n";
    let (compiled, asked) = rounds(text, &wanted);
    let want = [
        "a:1 linux/amd64",
        "a:1 linux/arm64",
        "b:1 linux/amd64",
        "b:1 linux/arm64",
    ];
    assert_eq!(asked, [want]);
    assert_eq!(compiled.build.targets.len(), 2);
}

#[test]
fn platforms_of_steps() {
    let mut wanted = options();
    wanted.platforms = vec![platform("arm64")];
    let text = "[steps.cross]\nfrom = 'rust:1'\nplatform = 'build'\nrun = 'build for {{ platform.arch }} on {{ build.arch }}'\n[steps.more]\nfrom = 'cross'\nrun = 'more'\n[steps.final]\nfrom = 'run:1'\ncopy = [{ from = 'more', to = '/' }]\n[images.i]\nfrom = 'final'\n";
    let (compiled, asked) = rounds(text, &wanted);
    assert_eq!(asked, [["run:1 linux/arm64", "rust:1 linux/amd64"]]);
    let graph = &compiled.build.graph;
    let shown = |id: StepId| format!("{} {}", graph.step(id).platform, graph.step(id).name);
    let shown: Vec<String> = ids(&compiled).into_iter().map(shown).collect();
    assert_eq!(
        shown,
        [
            "linux/amd64 image rust:1",
            "linux/amd64 cross[1] build for arm64 on amd64",
            "linux/amd64 more[1] more",
            "linux/arm64 image run:1",
            "linux/arm64 final[1] copy to /",
        ]
    );
}

#[test]
fn the_base_image_counts_unless_something_else_is_said() {
    let steps = [
        ("", "/base", Some("7"), 7),
        ("workdir = 'x'\nuser = 'me'\n", "/base/x", Some("me"), 0),
        ("workdir = '/x'\nuser = '8:9'\n", "/x", Some("8:9"), 8),
    ];
    for (keys, cwd, user, owner) in steps {
        let text = format!(
            "[steps.a]\nfrom = 'x:1'\nrun = 'x'\nenv = {{ A = 'b' }}\nsecrets = [{{ id = 's' }}]\n{keys}[images.i]\nfrom = 'a'\n"
        );
        let compiled = build(&text);
        let Some(Op::Exec(exec)) = ops(&compiled).pop() else {
            panic!("{keys}: the last step is the command");
        };
        assert_eq!(exec.cwd.to_string(), cwd, "{keys}");
        assert_eq!(exec.user.as_deref(), user, "{keys}");
        let MountKind::Secret(secret) = &exec.mounts[0].kind else {
            panic!("{keys}: a secret");
        };
        assert_eq!(secret.uid.get(), owner, "{keys}");
        let vars: Vec<&str> = exec.env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(vars, ["BASE", "A", "PATH"], "{keys}");
    }
}

#[test]
fn conditions_and_parameters() {
    let text = "[params.loud]\ndefault = false\n[params.level]\ntype = 'integer'\ndefault = 1\n[steps.a]\nfrom = 'scratch'\nrun = 'a'\n[steps.b]\nfrom = 'a'\nif = 'params.loud && params.level == 7'\nrun = 'b'\n[images.i]\nfrom = 'b'\n";
    let cases: [(&[(&str, &str)], usize); 3] = [
        (&[], 2),
        (&[("loud", "true")], 2),
        (&[("loud", "true"), ("level", "007")], 3),
    ];
    for (given, count) in cases {
        let mut wanted = options();
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        wanted.params = given.iter().map(pair).collect();
        let (compiled, _) = rounds(text, &wanted);
        assert_eq!(names(&compiled).len(), count, "{given:?}");
    }
}

#[test]
fn a_matrix_needed_without_a_variant_is_needed_whole() {
    let text = "[steps.a]\nfrom = 'scratch'\nrun = 'a{{ matrix.v }}'\nmatrix = { v = [1, 2] }\n[steps.b]\nfrom = 'scratch'\nneeds = ['a']\nrun = 'b'\n[tests.t]\nfrom = 'b'\nrun = 't'\nmatrix = { v = [3, 4] }\n[images.i]\nfrom = 'b'\n";
    let want = [
        "scratch",
        "a@1[1] a1",
        "a@2[1] a2",
        "b[1] b",
        "t@3[1] t",
        "t@4[1] t",
        "i: tests passed",
    ];
    assert_eq!(names(&build(text)), want);
    let one = text.replace("[images.i]\n", "[images.i]\ntests = ['t@4']\n");
    let want: Vec<&str> = want
        .into_iter()
        .filter(|name| !name.starts_with("t@3"))
        .collect();
    assert_eq!(names(&build(&one)), want);
}

#[test]
fn targets() {
    let text = "[steps.a]\nfrom = 'scratch'\nrun = 'a'\nmatrix = { v = [1, 2] }\n[tests.t]\nfrom = 'a@2'\nrun = 't'\n[images.i]\nfrom = 'a@1'\n[images.j]\nfrom = 'a@2'\ntests = []\n";
    let cases: [(&str, &[&str]); 4] = [
        (
            "i",
            &[
                "scratch",
                "a@1[1] a",
                "a@2[1] a",
                "t[1] t",
                "i: tests passed",
            ],
        ),
        ("j", &["scratch", "a@2[1] a"]),
        ("a@1", &["scratch", "a@1[1] a"]),
        ("t", &["scratch", "a@2[1] a", "t[1] t"]),
    ];
    for (target, want) in cases {
        let mut wanted = options();
        wanted.target = Some(target.to_owned());
        wanted.labels = [("l".to_owned(), "v".to_owned())].into();
        let (compiled, _) = rounds(text, &wanted);
        assert_eq!(names(&compiled), want, "{target}");
        let config = &compiled.build.targets[0].config.config;
        assert_eq!(config.labels["l"], "v", "{target}");
    }
}

#[test]
fn layers() {
    let steps = "[steps.a]\nfrom = 'scratch'\ncopy = [{ text = '', to = 'x' }]\nrun = 'a'\n[steps.b]\nfrom = 'a'\nrun = 'b'\n[steps.c]\nfrom = 'b'\nif = 'false'\nrun = 'c'\n[images.i]\nfrom = 'c'\n";
    let by_step = "[[images.i.layers]]\nname = 'one'\nsteps = ['a']\n[[images.i.layers]]\nname = 'two'\nsteps = ['b', 'c']\n";
    let compiled = build(&format!("{steps}{by_step}"));
    assert!(compiled.layers.is_empty());
    let lines = compiled.build.targets[0].history.iter();
    let own = lines.filter(|line| matches!(line.layer, LayerOrigin::Step(_)));
    let own: Vec<Option<&str>> = own.map(|line| line.layer_name.as_deref()).collect();
    assert_eq!(own, [Some("one"), Some("one"), Some("two")]);
    let by_path = "[[images.i.layers]]\nname = 'p'\npaths = ['/usr/lib/', '**/*.so']\n";
    let compiled = build(&format!("{steps}{by_path}"));
    assert_eq!(compiled.layers.len(), 1);
    assert_eq!(compiled.layers[0].paths, ["usr/lib", "**/*.so"]);
}

#[test]
fn included_files_keep_their_places() {
    let include = |path: &kiln_frontend_toml::Included<'_>| match path.to_string().as_str() {
        "lib.toml" => Ok("version = 1\n\n[steps.a]\nfrom = 'scratch'\nrun = 'a'\n".to_owned()),
        _ => Err("No such file".to_owned()),
    };
    let text = "version = 1\ninclude = ['lib.toml']\n[steps.b]\nfrom = 'a'\nrun = 'b'\n[images.i]\nfrom = 'b'\n";
    let file = parse("kiln.toml", text, &include).unwrap();
    let Outcome::Done(compiled) = compile(&file, &options(), &ImageTable::new()).unwrap() else {
        panic!("no images are needed");
    };
    let graph = &compiled.build.graph;
    let places: Vec<String> = ids(&compiled)
        .into_iter()
        .filter_map(|id| graph.step(id).location.as_ref().map(ToString::to_string))
        .collect();
    assert_eq!(places, ["lib.toml:4:8", "lib.toml:5:7", "kiln.toml:5:7"]);
}

#[test]
fn the_schema_is_as_strict_as_the_parser() {
    let schema: serde_json::Value = serde_json::from_str(kiln_frontend_toml::schema()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["version"]));
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, definition) in definitions {
        let strict = definition["additionalProperties"] == false;
        assert!(strict || definition["type"] != "object", "{name}");
    }
    let step = &definitions["Step"]["properties"];
    assert_eq!(step["matrix"]["additionalProperties"]["type"], "array");
    assert_eq!(step["if"]["type"], serde_json::json!(["string", "null"]));
}

#[test]
fn the_example_of_the_readme() {
    let readme = include_str!("../README.md");
    let example = readme.split("```toml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let compiled = build(example.trim_start_matches("version = 1\n"));
    assert!(names(&compiled).contains(&"app: tests passed".to_owned()));
}

#[test]
fn long_chains() {
    const LENGTH: usize = 3000;
    let mut text = format!("[images.i]\nfrom = 's0000'\n[steps.s{LENGTH:04}]\nfrom = 'scratch'\n");
    for number in 0..LENGTH {
        let next = number + 1;
        text += &format!("[steps.s{number:04}]\nfrom = 's{next:04}'\nrun = 'x'\n");
    }
    assert_eq!(names(&build(&text)).len(), LENGTH + 1);
}

#[test]
fn broken_files_are_errors_with_a_place_and_never_panics() {
    let whole = format!("version = 1\n{WHOLE}");
    let none = |_: &kiln_frontend_toml::Included<'_>| Err("there are no other files".to_owned());
    let lines: Vec<&str> = whole.lines().collect();
    let without = |number: usize| {
        let others = lines.iter().enumerate().filter(|(at, _)| *at != number);
        others.map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
    };
    let cut = (0..whole.len()).filter_map(|end| whole.get(..end).map(str::to_owned));
    for text in cut.chain((0..lines.len()).map(without)) {
        let parsed = parse("kiln.toml", &text, &none);
        let result = parsed.and_then(|file| compile(&file, &options(), &ImageTable::new()));
        if let Err(error) = result {
            assert!(error.location.is_some(), "{error}\n{text}");
            assert!(error.line.is_some(), "{error}\n{text}");
        }
    }
}

#[test]
fn limits_hosts_and_memory() {
    let text = "[steps.a]\nfrom = 'scratch'\nrun = 'x'\nlimits = { nofile = '64:unlimited', nproc = 9 }\nhosts = { db = '10.0.0.1' }\nshm_size = '128MiB'\ntmpfs = [{ target = '/t', size = '1MB' }]\nnetwork = 'sandbox'\ncache = '7d'\n[images.i]\nfrom = 'a'\npolicy = { max_size = '10MB', forbid = ['/tmp/**'] }\n";
    let options = Options {
        extra_hosts: vec![("web".to_owned(), "10.0.0.2".to_owned())],
        ulimits: [("nproc", (1, 1)), ("core", (0, 0))]
            .map(|(name, limit)| (name.to_owned(), limit))
            .into(),
        params: [("HTTP_PROXY".to_owned(), "http://proxy".to_owned())].into(),
        ..options()
    };
    let compiled = rounds(text, &options).0;
    let graph = &compiled.build.graph;
    let step = graph.step(compiled.build.targets[0].root);
    let Op::Exec(exec) = &step.op else {
        panic!("{step:?}");
    };
    let limits: Vec<_> = exec
        .ulimits
        .iter()
        .map(|(name, (soft, hard))| (name.as_str(), *soft, *hard))
        .collect();
    assert_eq!(
        limits,
        [("core", 0, 0), ("nofile", 64, u64::MAX), ("nproc", 9, 9)]
    );
    let hosts: Vec<&str> = exec
        .extra_hosts
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(hosts, ["web", "db"]);
    assert_eq!(exec.shm_size, Some(128 << 20));
    assert_eq!(exec.network, kiln_graph::Network::Sandbox);
    assert_eq!(
        exec.mounts[0].kind,
        MountKind::Tmpfs {
            size: Some(1_000_000)
        }
    );
    assert_eq!(exec.proxy["HTTP_PROXY"], "http://proxy");
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    assert_eq!(step.reuse, kiln_graph::Reuse::Within(week));
    let policy = compiled.policy.unwrap();
    assert_eq!(
        (policy.max_size, policy.forbid),
        (Some(10_000_000), vec!["tmp/**".to_owned()])
    );
}

#[test]
fn named_contexts_stand_for_sources_and_images() {
    let text = "[sources.code]\ncontext = 'src'\n[steps.a]\nfrom = 'example.org/base:1'\ncopy = [{ from = 'code', to = '/' }]\n[steps.b]\nfrom = 'a'\nrun = 'x'\n[images.i]\nfrom = 'b'\n";
    let contexts = [
        ("code", NamedContext::Directory(vec!["*.o".to_owned()])),
        (
            "example.org/base:1",
            NamedContext::Image("example.org/other:2".to_owned()),
        ),
    ];
    let options = Options {
        contexts: contexts
            .map(|(name, context)| (name.to_owned(), context))
            .into(),
        no_cache_filter: vec!["b".to_owned()],
        ..options()
    };
    let (compiled, asked) = rounds(text, &options);
    assert_eq!(asked, [["example.org/other:2 linux/amd64"]]);
    let context = ops(&compiled).into_iter().find_map(|op| match op {
        Op::Context(context) => Some(context),
        _ => None,
    });
    assert_eq!(context.unwrap().ignore, ["*.o"]);
    assert!(compiled.directories.is_empty());
    let root = compiled.build.targets[0].root;
    assert_eq!(
        compiled.build.graph.step(root).reuse,
        kiln_graph::Reuse::Never
    );
    let slip = Options {
        contexts: [("cod".to_owned(), NamedContext::Step("b".to_owned()))].into(),
        ..options
    };
    let error = compile(&read(text), &slip, &ImageTable::new()).unwrap_err();
    assert!(error.message.contains("did you mean 'code'"), "{error}");
}

#[test]
fn named_contexts_of_one_platform_come_first() {
    let text = "[steps.a]\nfrom = 'example.org/base:1'\n[images.i]\nfrom = 'a'\n";
    let image = |name: &str| NamedContext::Image(name.to_owned());
    let contexts = [
        ("example.org/base:1", image("example.org/any:1")),
        (
            "example.org/base:1::linux/amd64",
            image("example.org/one:1"),
        ),
        (
            "example.org/base:1::linux/s390x",
            image("example.org/unbuilt:1"),
        ),
    ];
    let options = Options {
        contexts: contexts
            .map(|(name, context)| (name.to_owned(), context))
            .into(),
        platforms: vec![platform("amd64"), platform("arm64")],
        ..options()
    };
    let (_, asked) = rounds(text, &options);
    let mut asked = asked.concat();
    asked.sort();
    assert_eq!(
        asked,
        [
            "example.org/any:1 linux/arm64",
            "example.org/one:1 linux/amd64"
        ]
    );
}

#[test]
fn outputs_are_asked_for_in_rounds_and_all_at_once() {
    let text = "[steps.version]\nfrom = 'example.org/base:1'\nrun = 'git describe'\n[steps.count]\nfrom = 'scratch'\nrun = 'count'\noutput = 'integer'\n[steps.name]\nfrom = 'scratch'\nrun = 'name {{ steps.version.stdout }}'\n[steps.a]\nfrom = 'scratch'\nif = \"steps.name.stdout == 'v1-name'\"\nrun = 'x {{ steps.count.stdout }} {{ steps.version.stdout }}'\n[steps.b]\nfrom = 'a'\nrun = 'y'\n[images.i]\nfrom = 'b'\nlabels = { version = '{{ steps.version.stdout }}' }\n";
    let file = read(text);
    let mut options = options();
    let mut images = ImageTable::new();
    let mut rounds = Vec::new();
    let compiled = loop {
        match compile(&file, &options, &images).unwrap() {
            Outcome::Done(compiled) => break compiled,
            Outcome::Needs(needs) => {
                rounds.push("images".to_owned());
                images.extend(
                    needs
                        .into_iter()
                        .map(|(request, _)| (request.clone(), image(&request))),
                );
            }
            Outcome::Values(steps) => {
                let names: Vec<&str> = steps
                    .wanted
                    .iter()
                    .map(|(wanted, _)| wanted.step.as_str())
                    .collect();
                rounds.push(names.join(" "));
                assert_eq!(steps.build.targets.len(), names.len());
                for (wanted, step) in &steps.wanted {
                    assert!(matches!(steps.build.graph.step(*step).op, Op::Exec(_)));
                    let written = match wanted.step.as_str() {
                        "version" => "v1\n",
                        "count" => "+03\n\n",
                        _ => "v1-name",
                    };
                    options.values.insert(wanted.clone(), written.to_owned());
                }
            }
        }
    };
    assert_eq!(rounds, ["images", "version", "name", "count"]);
    let root = compiled.build.targets[0].root;
    let graph = &compiled.build.graph;
    let a = graph.inputs(root)[0];
    assert_eq!(graph.step(a).name.text, "x 3 v1");
    assert_eq!(
        compiled.build.targets[0].config.config.labels["version"],
        "v1"
    );
    let count = ValueRequest {
        step: "count".to_owned(),
        platform: platform("amd64"),
    };
    options.values.insert(count, "many".to_owned());
    let error = compile(&file, &options, &images).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kiln.toml:15:7: the output of the step 'count' must be an integer, but is 'many'"
    );
}

const SHARED: &str = r#"
[params.tag]
default = "1"

[groups]
default = ["app", "more"]
more = ["worker", "check", "app"]

[defaults.step]
user = "5"
env = { A = "default", B = "default" }
network = "none"

[defaults.image]
tags = ["r.example/{{ image.name }}:{{ params.tag }}"]
labels = { all = "1" }

[steps.base]
template = true
from = "scratch"
workdir = "/w"
env = { B = "base", C = "base" }
script = { interpreter = ["sh"], text = "x" }
caches = [{ target = "/c" }]

[steps.build]
extends = ["base"]
run = "{{ params.tag }}"
env = { C = "own" }

[steps.lint]
extends = ["base", "build"]
env = { D = "own" }
caches = []

[steps.files]
from = "build"
copy = [{ text = "x", to = "/x" }]

[tests.check]
extends = ["lint"]
from = "files"

[images.app]
from = "files"
labels = { own = "1" }
platforms = ["linux/amd64", "linux/arm64", "linux/amd64"]
user = "9"

[images.worker]
extends = ["app"]
platforms = []
cmd = ["worker"]
outputs = ["type=oci,dest={{ image.name }}.tar"]

[images.app.policy]
max-size = "1GB"
"#;

fn exec_of(compiled: &Compiled, stage: &str) -> kiln_graph::Exec {
    let steps = compiled.build.graph.steps();
    let found = steps.filter_map(|(_, step)| match &step.op {
        Op::Exec(exec) if step.name.stage == stage => Some((**exec).clone()),
        _ => None,
    });
    found.last().unwrap()
}

#[test]
fn keys_are_shared() {
    let options = Options {
        target: Some("app".to_owned()),
        ..options()
    };
    let (compiled, _) = rounds(SHARED, &options);
    let env = |stage: &str| {
        let exec = exec_of(&compiled, stage);
        let mut own: Vec<(String, String)> = exec.env;
        own.retain(|(name, _)| name.len() == 1);
        own.sort();
        own.into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(env("build"), "A=default B=base C=own");
    assert_eq!(env("check"), "A=default B=base C=own D=own");
    let (build, check) = (exec_of(&compiled, "build"), exec_of(&compiled, "check"));
    // `run` takes the place of the script, an empty list that of the caches.
    assert_eq!(build.args, ["/bin/sh", "-c", "1"]);
    assert_eq!((build.mounts.len(), check.mounts.len()), (1, 0));
    assert_eq!(build.user.as_deref(), Some("5"));
    assert_eq!(build.cwd, kiln_graph::ImagePath::new("/w"));
    let config = &compiled.build.targets[0].config.config;
    assert_eq!(config.user, "9");
    assert_eq!(config.labels.len(), 2);
}

#[test]
fn images_say_where_they_go() {
    let file = read(SHARED);
    let targets = |target| file.targets(target).unwrap();
    assert_eq!(targets(None), ["app", "worker", "check"]);
    assert_eq!(targets(Some("more")), ["worker", "check", "app"]);
    assert_eq!(targets(Some("lint")), ["lint"]);
    let of = |name: &str| Options {
        target: Some(name.to_owned()),
        params: [("tag".to_owned(), "2".to_owned())].into(),
        ..options()
    };
    let platforms = |name: &str| kiln_frontend_toml::platforms(&file, &of(name)).unwrap();
    assert_eq!(platforms("app"), [platform("amd64"), platform("arm64")]);
    assert_eq!(platforms("worker"), [platform("amd64")]);
    assert_eq!(platforms("build"), [platform("amd64")]);
    let (compiled, _) = rounds(SHARED, &of("worker"));
    assert_eq!(compiled.settings.image, "worker");
    assert_eq!(compiled.settings.tags, ["r.example/worker:2"]);
    assert_eq!(compiled.settings.outputs, ["type=oci,dest=worker.tar"]);
    assert!(compiled.policy.is_some());
    let (step, _) = rounds(SHARED, &of("build"));
    assert_eq!(step.settings, kiln_frontend_toml::Settings::default());
}

/// Each of a chain has all of the one before: its bytes are counted.
#[test]
fn what_is_inherited_has_bounds() {
    let none = |_: &kiln_frontend_toml::Included<'_>| Err("there are no other files".to_owned());
    let refused = |text: &str| match parse("kiln.toml", text, &none) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    };
    let step = |number: usize| {
        let extends = number
            .checked_sub(1)
            .map(|before| format!("extends = ['s{before}']"));
        format!(
            "[steps.s{number}]\nfrom = 'scratch'\n{}\n",
            extends.unwrap_or_default()
        )
    };
    let chain = |length: usize| -> String { (0..length).map(step).collect() };
    assert_eq!(refused(&format!("version = 1\n{}", chain(32))), "no error");
    let error = refused(&format!("version = 1\n{}", chain(40)));
    assert!(error.contains("more than 32 extend each other"), "{error}");
    let large = format!(
        "[steps.l]\nfrom = 'scratch'\nrun = '{}'\n",
        "x".repeat(1 << 20)
    );
    let many: String = (0..100)
        .map(|number| format!("[steps.m{number}]\nextends = ['l']\n"))
        .collect();
    let error = refused(&format!("version = 1\n{large}{many}"));
    assert!(error.contains("bytes are inherited"), "{error}");
    // Without memory of what was done, this would take 2^30 steps.
    let diamond: String = (1..30)
        .map(|n| format!("[steps.d{n}]\nextends = ['d{0}', 'd{0}']\n", n - 1))
        .collect();
    let text = format!("version = 1\n[steps.d0]\nfrom = 'scratch'\n{diamond}");
    assert_eq!(refused(&text), "no error");
}

/// Defaults are of the file that they stand in.
#[test]
fn included_files_have_their_own_defaults() {
    let text = "version = 1\ninclude = ['lib.toml']\n[defaults.step]\nenv = { W = 'main' }\n\
        [steps.b]\nfrom = 'scratch'\nextends = ['a']\n[images.i]\nfrom = 'b'\n";
    let lib = "version = 1\n[defaults.step]\nenv = { W = 'lib', L = 'lib' }\n\
        [steps.a]\nfrom = 'scratch'\nrun = 'x'\n[images.l]\nfrom = 'a'\n";
    let include = |_: &kiln_frontend_toml::Included<'_>| Ok(lib.to_owned());
    let file = parse("kiln.toml", text, &include).unwrap();
    let of = |target: &str| {
        let options = Options {
            target: Some(target.to_owned()),
            ..options()
        };
        let Outcome::Done(compiled) = compile(&file, &options, &ImageTable::new()).unwrap() else {
            panic!("no images are needed");
        };
        *compiled
    };
    let env = |compiled: &Compiled, stage: &str| {
        let mut env = exec_of(compiled, stage).env;
        env.retain(|(name, _)| name.len() == 1);
        env
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(env(&of("i"), "b"), [pair("W", "main")]);
    assert_eq!(env(&of("l"), "a"), [pair("W", "lib"), pair("L", "lib")]);
}
