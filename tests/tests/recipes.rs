//! The recipes of `docs/ci` do what they say: each is read from its file and run, against a registry.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_tests::{BUSYBOX, Bundle, Pod, Registry, Run, Space, digest, kiln_binary};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn recipe(name: &str) -> String {
    std::fs::read_to_string(repository().join("docs/ci").join(name)).unwrap()
}

fn dockerfile() -> String {
    format!("FROM {BUSYBOX}\nRUN echo x > /x\n")
}

/// The lines below a line that ends with `head`, as far as they are indented more.
fn block<'a>(text: &'a str, head: &str) -> Vec<&'a str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text
        .lines()
        .skip_while(|line| !line.trim_end().ends_with(head));
    let own = indent(lines.next().unwrap());
    lines.take_while(|line| indent(line) > own).collect()
}

/// The items of a list of a block, those that go on over several lines as one.
fn items(block: &[&str]) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in block.iter().map(|line| line.trim()) {
        match (line.strip_prefix("- "), items.last_mut()) {
            (Some(">-"), _) => items.push(String::new()),
            (Some(item), _) => items.push(item.to_owned()),
            (None, Some(last)) => *last = format!("{last} {line}"),
            (None, None) => {}
        }
    }
    items
}

/// A place to build in, with a registry to push to.
struct Site {
    space: Space,
    _registry: Registry,
    image: String,
}

impl Site {
    fn new() -> Self {
        let space = Space::new();
        space.write("Dockerfile", dockerfile());
        let registry = Registry::start(&space.path("registry"), false);
        let image = registry.name("app");
        Self {
            space,
            _registry: registry,
            image,
        }
    }

    /// Runs a program in the context, kiln in its path.
    fn run(&self, program: &str, args: &[&str], env: &[(&str, &str)]) -> Run {
        let directory = kiln_binary().parent().unwrap().to_owned();
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        let output = Command::new(program)
            .args(args)
            .current_dir(self.space.path("context"))
            .env("PATH", path)
            .env("HOME", self.space.path("home"))
            .env("KILN_ROOT", self.space.path("store"))
            .env("IMAGE", &self.image)
            .envs(env.iter().copied())
            .output();
        Run::of(&output.unwrap()).ok()
    }

    fn script(&self, script: &str, env: &[(&str, &str)]) {
        let _ran = self.run("sh", &["-euc", script], env);
    }

    fn has(&self, tag: &str) -> String {
        digest(&format!("{}:{tag}", self.image))
    }
}

#[test]
fn a_shell() {
    let site = Site::new();
    let path: PathBuf = repository().join("docs/ci/build.sh");
    let _ran = site.run("sh", &[&path.display().to_string()], &[("TAG", "1")]);
    assert!(site.has("1").starts_with("sha256:"));
}

#[test]
fn circle_ci() {
    let site = Site::new();
    let text = recipe("circleci.yml");
    site.script(
        &block(&text, "command: |").join("\n"),
        &[("CIRCLE_SHA1", "abc")],
    );
    assert!(site.has("abc").starts_with("sha256:"));
}

#[test]
fn jenkins() {
    let site = Site::new();
    let text = recipe("Jenkinsfile");
    let script = text.split("sh '''").nth(1).unwrap().split("'''").next();
    site.script(script.unwrap(), &[("BUILD_NUMBER", "7")]);
    assert!(site.has("7").starts_with("sha256:"));
}

#[test]
fn gitlab() {
    let site = Site::new();
    let text = recipe("gitlab-ci.yml");
    let script = items(&block(&text, "script:")).join("\n");
    let project = site.space.path("context").display().to_string();
    let host = site.image.split('/').next().unwrap().to_owned();
    site.script(
        &script,
        &[
            ("CI_PROJECT_DIR", &project),
            ("CI_REGISTRY", &host),
            ("CI_REGISTRY_USER", "user"),
            ("CI_REGISTRY_PASSWORD", "password"),
            ("CI_REGISTRY_IMAGE", &site.image),
            ("CI_COMMIT_SHORT_SHA", "abc"),
        ],
    );
    assert!(site.has("abc").starts_with("sha256:"));
}

#[test]
fn the_action_of_github() {
    let site = Site::new();
    let script = repository().join("packaging/action/build");
    let name = format!("{}:1", site.image);
    let inputs = serde_json::json!({
        "context": ".",
        "push": "true",
        "tags": format!("{name},{}:2", site.image),
        "labels": "a=b\nc=d, e",
        "secrets": "token=value",
        "load": "false",
    });
    let out = site.space.path("out").display().to_string();
    let env = [("INPUTS", &*inputs.to_string()), ("GITHUB_OUTPUT", &*out)];
    let _ran = site.run(&script.display().to_string(), &[], &env);
    let written = std::fs::read_to_string(out).unwrap();
    let digest = format!("digest={}\n", site.has("1"));
    assert!(written.contains(&digest), "{written}\n{digest}");
    assert!(written.contains("imageid=sha256:") && written.contains("metadata<<"));
    assert_eq!(site.has("1"), site.has("2"));
    let text = std::fs::read_to_string(repository().join("packaging/action/action.yml")).unwrap();
    for input in [
        "add-hosts",
        "build-args",
        "cache-from",
        "secret-files",
        "tags",
    ] {
        assert!(text.contains(&format!("  {input}: {{")), "{input}");
    }
}

#[test]
fn a_job_of_kubernetes() {
    let site = Site::new();
    let text = recipe("kubernetes-job.yml");
    let bundle = Bundle::new();
    bundle.write("/workspace/Dockerfile", dockerfile());
    let args = items(&block(&text, "args:")).join(" ");
    let args = args
        .replace("$(IMAGE)", &format!("{}:1", site.image))
        .replace("$(CACHE)", &format!("{}/cache", site.image));
    for setting in [
        "runAsUser: 0",
        "readOnlyRootFilesystem: true",
        "RuntimeDefault",
    ] {
        assert!(text.contains(setting), "{setting}");
    }
    let pod = Pod {
        read_only: true,
        ..Pod::ROOT_DEFAULT
    };
    let script = format!("TMPDIR=/volume HOME=/volume kiln {args}");
    let _ran = bundle.run(pod, &script).ok();
    assert!(site.has("1").starts_with("sha256:"));
}

#[test]
fn a_task_of_tekton() {
    let site = Site::new();
    let text = recipe("tekton-task.yml");
    let bundle = Bundle::new();
    bundle.write("/workspace/Dockerfile", dockerfile());
    let args = items(&block(&text, "args:")).join(" ");
    let args = args
        .replace("$(params.DOCKERFILE)", "./Dockerfile")
        .replace("$(workspaces.source.path)", "/workspace")
        .replace("$(params.CONTEXT)", "./")
        .replace("$(params.IMAGE)", &format!("{}:1", site.image))
        .replace("$(results.IMAGE_DIGEST.path)", "/volume/digest")
        .replace("$(params.EXTRA_ARGS[*])", "");
    let script =
        format!("cd /workspace && ln -s /usr/bin/kiln /tmp/executor && /tmp/executor {args}");
    let _ran = bundle.run(Pod::ROOT_DEFAULT, &script).ok();
    let digest = std::fs::read_to_string(bundle.volume().join("digest")).unwrap();
    assert_eq!(digest, site.has("1"));
}
