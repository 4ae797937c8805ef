//! `kiln bake`: what it makes of bake files is what `docker buildx bake --print` makes of them; targets
//! are built, also as contexts of others.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::process::Command;

use kiln_tests::{BUSYBOX, GIT, Registry, Run, Space, Web, buildx, digest, shell};
use serde_json::Value;

/// A case: files, arguments and variables, and what Debian trixie's buildx (0.13.1) printed; null where
/// it refused.
#[derive(serde::Deserialize)]
struct Case {
    name: String,
    files: BTreeMap<String, String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    printed: Value,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../fixtures/bake.json")).unwrap()
}

impl Case {
    fn space(&self) -> Space {
        let space = Space::new();
        for (name, text) in &self.files {
            std::fs::write(space.path(name), text).unwrap();
        }
        space
    }

    fn run(&self, mut command: Command) -> Run {
        command.args(&self.args).envs(&self.env);
        Run::of(&command.output().unwrap())
    }
}

/// Attributes that came after buildx 0.13.
const NEWER: [&str; 5] = [
    "network",
    "call",
    "description",
    "entitlements",
    "extra-hosts",
];

/// What was printed, without the order of what has none, and without newer attributes.
fn comparable(mut printed: Value) -> Value {
    for group in objects(&mut printed["group"]) {
        // A list without anything in it is null there.
        if group["targets"].is_null() {
            group["targets"] = Value::Array(Vec::new());
        }
        if let Some(targets) = group["targets"].as_array_mut() {
            targets.sort_by_key(ToString::to_string);
        }
    }
    for target in objects(&mut printed["target"]) {
        let fields = target.as_object_mut().unwrap();
        fields.retain(|name, _| !NEWER.contains(&name.as_str()));
    }
    printed
}

fn objects(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    let fields = value.as_object_mut();
    fields.into_iter().flat_map(|fields| fields.values_mut())
}

#[test]
fn targets_are_those_of_buildx() {
    for case in cases() {
        let space = case.space();
        let run = case.run(space.command(&["bake", "--print"]));
        let name = &case.name;
        if case.printed.is_null() {
            assert_ne!(run.status, Some(0), "{name}: {}", run.stdout);
            assert!(run.stderr.contains("ERROR"), "{name}: {}", run.stderr);
            continue;
        }
        let printed = serde_json::from_str(&run.ok().stdout).unwrap();
        assert_eq!(comparable(printed), comparable(case.printed), "{name}");
    }
}

#[test]
fn what_the_cases_say_of_buildx_is_so() {
    let Some(buildx) = buildx() else {
        eprintln!("skipped: scripts/setup-tests could not fetch docker-buildx");
        return;
    };
    for case in cases().into_iter().step_by(4) {
        let space = case.space();
        let mut command = Command::new(&buildx);
        command
            .args(["bake", "--print"])
            .current_dir(space.path(""))
            .env("HOME", space.path("home"));
        let run = case.run(command);
        let printed = match run.status {
            Some(0) => serde_json::from_str(&run.stdout).unwrap(),
            _ => Value::Null,
        };
        assert_eq!(
            comparable(printed),
            comparable(case.printed),
            "{}",
            case.name
        );
    }
}

/// A matrix of applications and the tool that is a context of them, with the names to push to; and a
/// target by itself.
fn bake_file(app: &str, tool: &str) -> String {
    format!(
        r#"
group "default" {{ targets = ["app", "odd"] }}
target "app" {{
  name = "app-${{v}}"
  matrix = {{ v = ["1", "2"] }}
  context = "context"
  contexts = {{ tool = "target:tool" }}
  args = {{ V = v }}
  tags = ["{app}:${{v}}"]
}}
target "tool" {{
  dockerfile-inline = <<EOT
FROM {BUSYBOX}
RUN echo made by tool > /made
EOT
  tags = ["{tool}:1"]
  output = ["type=registry"]
}}
target "odd" {{
  context = "context"
  dockerfile = "Odd"
  no-cache = true
  output = ["type=local,dest=odd"]
}}
"#
    )
}

#[test]
fn targets_are_built_and_pushed_those_before_that_others_need() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let (app, tool) = (registry.name("app"), registry.name("tool"));
    std::fs::write(space.path("docker-bake.hcl"), bake_file(&app, &tool)).unwrap();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nARG V\nCOPY --from=tool /made /made\nRUN echo $V >> /made\n"),
    );
    space.write(
        "Odd",
        format!("FROM {BUSYBOX} AS x\nRUN echo odd > /odd\nFROM scratch\nCOPY --from=x /odd /\n"),
    );
    let baked = space.kiln(&[
        "bake",
        "--set",
        "app-*.push=true",
        "--progress",
        "plain",
        "--metadata-file",
        "m.json",
    ]);
    let baked = baked.ok();
    let metadata: Value =
        serde_json::from_slice(&std::fs::read(space.path("m.json")).unwrap()).unwrap();
    for tag in ["1", "2"] {
        let built = &metadata[format!("app-{tag}")]["containerimage.digest"];
        assert_eq!(*built, digest(&format!("{app}:{tag}")), "{}", baked.stderr);
    }
    assert_ne!(digest(&format!("{app}:1")), digest(&format!("{app}:2")));
    let odd = std::fs::read_to_string(space.path("odd/odd")).unwrap();
    assert_eq!(odd, "odd\n");
    // What is only a context goes nowhere, and its name doesn't stay.
    assert_eq!(metadata.get("tool"), None);
    let listed = space.kiln(&["image", "ls"]).ok().stdout;
    assert!(!listed.contains(".invalid"), "{listed}");
    // Asked for by name, it is an image like any.
    let _baked = space.kiln(&["bake", "tool"]).ok();
    assert!(digest(&format!("{tool}:1")).starts_with("sha256:"));
    // Base images may be asked for again, made ones can't.
    let _baked = space.kiln(&["bake", "--pull", "app-1"]).ok();
}

#[test]
fn a_target_without_steps_is_a_base_of_others() {
    let space = Space::new();
    let file = format!(
        r#"
target "base" {{
  dockerfile-inline = <<EOT
FROM {BUSYBOX}
ENV A=1
EOT
}}
target "app" {{
  contexts = {{ base = "target:base" }}
  dockerfile-inline = <<EOT
FROM base
RUN echo $A > /top
EOT
  output = ["type=local,dest=out"]
}}
"#
    );
    std::fs::write(space.path("docker-bake.hcl"), file).unwrap();
    let _baked = space.kiln(&["bake", "app", "--progress", "plain"]).ok();
    assert_eq!(
        std::fs::read_to_string(space.path("out/top")).unwrap(),
        "1\n"
    );
}

#[test]
fn compose_files_are_built() {
    let space = Space::new();
    let compose = "
services:
  web:
    build:
      context: context
      args: {WHAT: \"${WHAT:-nothing}\"}
      x-bake: {output: \"type=local,dest=out\"}
  db: {image: postgres}
";
    std::fs::write(space.path("compose.yaml"), compose).unwrap();
    std::fs::write(space.path(".env"), "WHAT=from-env-file\n").unwrap();
    let lines = "ARG WHAT\nRUN echo $WHAT > /what\n";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{lines}"));
    let _baked = space.kiln(&["bake"]).ok();
    let what = std::fs::read_to_string(space.path("out/what")).unwrap();
    assert_eq!(what, "from-env-file\n");
    let _as_docker = space.kiln(&["compose", "build", "web"]).ok();
}

/// A compose file may be a stranger's, and what it reads ends in build arguments.
#[test]
fn a_compose_file_reads_variables_from_files_that_it_may_read() {
    let space = Space::new();
    let compose = "
services:
  a:
    env_file: ../outside.env
    image: \"i:${NOPE}\"
    build: {args: [X]}
";
    std::fs::write(space.path("outside.env"), "X=hostsecret\n").unwrap();
    space.write("compose.yaml", compose);
    let print = |flags: &[&str]| {
        let mut command = space.command(&[&["bake", "--print"], flags].concat());
        command.current_dir(space.path("context"));
        Run::of(&command.output().unwrap())
    };
    print(&[]).is_refused_with(&["--allow fs.read="]);
    let allowed = print(&["--allow", "fs.read=.."]).ok();
    assert!(allowed.stdout.contains("hostsecret"), "{}", allowed.stdout);
    let warning = "The \"NOPE\" variable is not set";
    assert!(allowed.stderr.contains(warning), "{}", allowed.stderr);
}

#[test]
fn a_target_that_fails_ends_the_bake() {
    let space = Space::new();
    let file = "group \"default\" { targets = [\"a\", \"b\"] }
target \"a\" {\n context = \"context\"\n args = { CODE = 7 }\n}
target \"b\" { context = \"context\" }\n";
    std::fs::write(space.path("docker-bake.hcl"), file).unwrap();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nARG CODE=0\nRUN exit $CODE\n"),
    );
    let baked = space.kiln(&["bake", "--progress", "plain"]);
    baked.fails_with(&["exit code: 7", "the target a was not built"]);
    assert!(!baked.stderr.contains("==> b"), "{}", baked.stderr);
    let remote = space.kiln(&["bake", "https://u:hunter2@127.0.0.1:1/x.git"]);
    remote.is_refused_with(&["clone the repository"]);
    assert!(!remote.stderr.contains("hunter2"), "{}", remote.stderr);
    let nothing = Space::new().kiln(&["bake"]);
    assert_eq!(nothing.status, Some(2));
    assert!(
        nothing.stderr.contains("docker-bake.hcl"),
        "{}",
        nothing.stderr
    );
}

#[test]
fn mistakes_are_found_before_the_first_target_is_built() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    for (attribute, says) in [
        ("tags = [\"a b:1\"]", "a b:1"),
        ("dockerfile = \"Nope\"", "Nope"),
        ("cache-to = [\"type=nope\"]", "nope"),
        ("output = [\"type=registry\"]", "-t NAME"),
        ("shm-size = \"much\"", "much"),
    ] {
        let file = format!(
            "group \"default\" {{ targets = [\"good\", \"bad\"] }}
target \"good\" {{\n context = \"context\"\n output = [\"type=local,dest=out\"]\n}}
target \"bad\" {{\n context = \"context\"\n {attribute}\n}}\n"
        );
        std::fs::write(space.path("docker-bake.hcl"), file).unwrap();
        let baked = space.kiln(&["bake", "--progress", "plain"]);
        assert_ne!(baked.status, Some(0), "{attribute}");
        for part in [says, "the target bad can't be built"] {
            assert!(baked.stderr.contains(part), "{attribute}: {}", baked.stderr);
        }
        assert!(!space.path("out/Dockerfile").exists(), "{attribute}");
    }
}

#[test]
fn targets_may_be_made_from_what_others_write() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /Made\n");
    let file = "group \"default\" { targets = [\"first\", \"second\"] }
target \"first\" {\n context = \"context\"\n output = [\"type=local,dest=out\"]\n}
target \"second\" {\n context = \"context\"\n dockerfile = \"../out/Made\"\n}\n";
    std::fs::write(space.path("docker-bake.hcl"), file).unwrap();
    _ = space.kiln(&["bake", "--progress", "plain"]).ok();
}

#[test]
fn what_a_failed_bake_leaves_for_a_shell_is_pruned() {
    let space = Space::new();
    let file = "target \"base\" { context = \"context\" }
target \"app\" {\n context = \"context\"\n dockerfile-inline = \"FROM base\\nRUN false\"\n contexts = { base = \"target:base\" }\n}\n";
    std::fs::write(space.path("docker-bake.hcl"), file).unwrap();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN echo 1 > /x\n"));
    let failed = space.kiln(&[
        "bake",
        "app",
        "--metadata-file",
        "m.json",
        "--progress",
        "plain",
    ]);
    failed.fails_with(&["kiln shell", "kiln bake --metadata-file m.json"]);
    assert_eq!(space.kiln(&["image", "ls"]).ok().stdout, "");
    _ = space.kiln(&["prune", "--force"]).ok();
    let kept = std::fs::read_dir(space.path("store/images")).map_or(0, Iterator::count);
    assert_eq!(kept, 0);
}

/// What a target may not have unless the user allows it, and the words that allow it.
#[test]
fn a_bake_file_has_what_the_user_allows() {
    let space = Space::new();
    let outside = space.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("key"), "hostsecret").unwrap();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    std::os::unix::fs::symlink(outside.join("key"), space.path("context/link")).unwrap();
    std::os::unix::fs::symlink(&outside, space.path("context/layout")).unwrap();
    let at = outside.display();
    let cases = [
        (
            "entitlements = [\"security.insecure\"]".to_owned(),
            "--allow security.insecure",
        ),
        ("network = \"host\"".to_owned(), "--allow network.host"),
        ("ssh = [\"default\"]".to_owned(), "--allow ssh"),
        (format!("contexts = {{ h = \"{at}\" }}"), "--allow fs.read="),
        (
            format!("contexts = {{ h = \"oci-layout://{at}\" }}"),
            "--allow fs.read=",
        ),
        (
            "contexts = { h = \"oci:layout:tag\" }".to_owned(),
            "--allow fs.read=",
        ),
        (format!("context = \"{at}\""), "--allow fs.read="),
        ("context = \"..\"".to_owned(), "--allow fs.read="),
        (format!("dockerfile = \"{at}/key\""), "--allow fs.read="),
        ("dockerfile = \"link\"".to_owned(), "--allow fs.read="),
        (
            format!("secret = [\"id=k,src={at}/key\"]"),
            "--allow fs.read=",
        ),
        (
            "secret = [\"type=file,id=../outside/key\"]".to_owned(),
            "--allow fs.read=",
        ),
        (
            format!("cache-from = [\"type=local,src={at}\"]"),
            "--allow fs.read=",
        ),
        (
            format!("cache-to = [\"type=local,dest={at}\"]"),
            "--allow fs.write=",
        ),
        (
            format!("output = [\"type=local,dest={at}\"]"),
            "--allow fs.write=",
        ),
        (format!("output = [\"{at}/new\"]"), "--allow fs.write="),
        (
            format!("secret = [\"id=k,src=exec:touch {at}/ran\"]"),
            "kiln build",
        ),
        (
            "cache-from = [\"type=reapi,url=grpcs://x.example,credential_helper=/bin/true\"]"
                .to_owned(),
            "kiln build",
        ),
    ];
    let bake = |attribute: &str, flags: &[&str]| {
        let text = format!("target \"default\" {{\n{attribute}\n}}\n");
        std::fs::write(space.path("context/docker-bake.hcl"), text).unwrap();
        let mut command = space.command(&[&["bake", "--progress", "plain"], flags].concat());
        command.current_dir(space.path("context"));
        Run::of(&command.output().unwrap())
    };
    for (attribute, word) in &cases {
        let run = bake(attribute, &[]);
        assert_ne!(run.status, Some(0), "{attribute}");
        let asks = run.stderr.contains("the target default") && run.stderr.contains(word);
        assert!(
            asks && !run.stderr.contains("hostsecret"),
            "{attribute}: {}",
            run.stderr
        );
    }
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        1,
        "nothing was written"
    );
    let output = format!("output = [\"type=local,dest={at}/new\"]");
    let allowed = format!("fs={}", outside.parent().unwrap().display());
    _ = bake(&output, &["--allow", &allowed]).ok();
    assert!(outside.join("new/Dockerfile").is_file());
    _ = bake("output = [\"type=local,dest=out\"]", &[]).ok();
}

/// The user's configuration leads an address, which nothing answers, to a repository.
#[test]
fn a_bake_file_has_no_git_of_the_users() {
    let space = Space::new();
    space.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let made = format!(
        "{GIT} init -q && {GIT} add . && {GIT} commit -qm x && git clone -q --bare . ../private.git && git --git-dir=../private.git update-server-info"
    );
    _ = shell(&space.path("context"), &made);
    let web = Web::serve(&space.path("context/.."));
    let (address, home) = ("https://private.invalid/private.git", space.path("home"));
    std::fs::create_dir(&home).unwrap();
    let config = format!(
        "[url \"{}\"]\n insteadOf = https://private.invalid/\n",
        web.url("")
    );
    std::fs::write(home.join(".gitconfig"), config).unwrap();
    let file = format!(
        "target \"main\" {{ context = \"{address}\" }}\ntarget \"named\" {{\n context = \"context\"\n contexts = {{ p = \"{address}\" }}\n}}\n"
    );
    std::fs::write(space.path("docker-bake.hcl"), file).unwrap();
    let run = |words: &[&str]| {
        let mut command = space.command(words);
        Run::of(&command.env("HOME", &home).output().unwrap())
    };
    _ = run(&["build", address]).ok();
    for target in ["main", "named"] {
        let baked = run(&["bake", target, "--progress", "plain"]);
        baked.fails_with(&["private.invalid", "was not built"]);
        assert!(!baked.stderr.contains("127.0.0.1"), "{}", baked.stderr);
    }
}
