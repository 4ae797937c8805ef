//! kiln.toml files, built.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Run, Space};

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn space(text: &str) -> Space {
    let space = Space::new();
    space.write("kiln.toml", text.replace("BUSYBOX", BUSYBOX));
    space
}

const WHOLE: &str = r#"
version = 1
include = ["common.toml"]

[params.greeting]
default = "hello"
choices = ["hello", "hi"]

[params.loud]
default = false

[sources.code]
context = "."
exclude = ["secret.txt"]

[steps.build]
from = "base"
workdir = "/src"
copy = [
  { from = "code", to = "/src/" },
  { text = "{{ params.greeting }} {{ matrix.who }}\n", to = "/src/greeting", mode = "640", owner = "1:2" },
]
run = "cat greeting /prepared > /out; ls /src > /listing; echo $WHO >> /out"
env = { WHO = "{{ matrix.who }}" }
caches = [{ target = "/cache", id = "toml-test", sharing = "locked" }]
matrix = { who = ["world", "you"] }

[steps.shout]
from = "build@world"
if = "params.loud && params.greeting == 'hi'"
run = ["/bin/sh", "-c", "tr a-z A-Z < /out > /shouted"]

[steps.scripted]
from = "shout"
script = { interpreter = ["/bin/sh", "-e"], text = """
test "$(cat /run/secrets/token)" = hunter2
echo scripted > /scripted
""" }
secrets = [{ id = "token" }]
binds = [{ from = "build@you", path = "/out", target = "/other" }]

[tests.smoke]
from = "scripted"
run = "grep -q world /out; echo trace > /trace"

[images.app]
from = "scripted"
env = { MODE = "{{ params.greeting }}" }
cmd = ["/bin/cat", "/out"]
labels = { "org.example.kind" = "test" }
user = "1"
expose = ["8080"]

[[images.app.layers]]
name = "src"
paths = ["src"]
"#;

const COMMON: &str =
    "version = 1\n[steps.base]\nfrom = \"BUSYBOX\"\nrun = \"echo prepared > /prepared\"\n";

fn whole() -> Space {
    let space = space(WHOLE);
    space
        .write("common.toml", COMMON.replace("BUSYBOX", BUSYBOX))
        .write("code.txt", "code")
        .write("secret.txt", "secret");
    std::fs::write(space.path("token"), "hunter2").unwrap();
    space
}

#[test]
fn the_whole_language() {
    let space = whole();
    let secret = ["--secret", "id=token,src=token"];
    let out = space.build_files(&secret);
    assert_eq!(read(out.join("out")), "hello world\nprepared\nworld\n");
    assert_eq!(read(out.join("scripted")), "scripted\n");
    let listing = read(out.join("listing"));
    assert!(
        listing.contains("code.txt") && !listing.contains("secret.txt"),
        "{listing}"
    );
    assert!(!out.join("trace").exists(), "tests leave nothing");
    assert!(!out.join("shouted").exists(), "the condition doesn't hold");
    let args = ["--build-arg", "greeting=hi", "--build-arg", "loud=true"];
    let out = space.build_files(&[&secret[..], &args[..]].concat());
    assert_eq!(read(out.join("shouted")), "HI WORLD\nPREPARED\nWORLD\n");
    _ = space.build(&[&secret[..], &["-t", "toml"]].concat()).ok();
    let shown = space.kiln(&["image", "inspect", "toml"]).ok().stdout;
    for part in ["MODE=hello", "8080/tcp", "org.example.kind", "\"/bin/cat\""] {
        assert!(shown.contains(part), "{shown}");
    }
    let layers = space.kiln(&["image", "layers", "toml"]).ok().stdout;
    assert!(layers.contains("kiln: layer src"), "{layers}");
    let steps = space.kiln(&["steps", "context"]).ok().stdout;
    assert!(steps.contains("build@world:1"), "{steps}");
    let again = space.build(&secret).ok();
    assert!(!again.stderr.contains("DONE 0.1"), "{}", again.stderr);
}

#[test]
fn a_failing_test_fails_the_image_and_a_step_can_be_built_by_itself() {
    let space = space(
        "version = 1\n[steps.a]\nfrom = 'BUSYBOX'\nrun = 'echo a > /a'\n[tests.bad]\nfrom = 'a'\nrun = 'echo broken >&2; exit 5'\n[images.i]\nfrom = 'a'\n",
    );
    space
        .build(&[])
        .fails_with(&["broken", "exit code: 5", "kiln.toml:7"]);
    let out = space.build_files(&["--target", "a"]);
    assert_eq!(read(out.join("a")), "a\n");
}

#[test]
fn retries_and_timeouts() {
    let space = space(
        "version = 1\n[steps.a]\nfrom = 'BUSYBOX'\nretry = 3\ncaches = [{ target = '/c' }]\nrun = 'echo x >> /c/n; test $(wc -l < /c/n) -ge 3 && echo done > /done'\n[images.i]\nfrom = 'a'\n",
    );
    let run = space.build(&[]).ok();
    assert!(run.stderr.contains("retry 2 of 3"), "{}", run.stderr);
    let late = "version = 1\n[steps.a]\nfrom = 'BUSYBOX'\ntimeout = '1s'\nrun = 'sleep 30'\n[images.i]\nfrom = 'a'\n";
    space.write("kiln.toml", late.replace("BUSYBOX", BUSYBOX));
    space
        .build(&[])
        .fails_with(&["timeout of 1 s", "kiln.toml:5"]);
}

#[test]
fn init_writes_a_file_that_says_what_it_will_do() {
    let space = Space::new();
    space
        .write("package.json", "{}")
        .write("package-lock.json", "{}");
    _ = space.kiln(&["init", "context"]).ok();
    let graph = space.kiln(&["graph", "--offline", "context"]).ok().stdout;
    assert!(graph.contains("npm ci"), "{graph}");
    let again = space.kiln(&["init", "context"]);
    assert_eq!(again.status, Some(2), "{}", again.stderr);
    let schema: serde_json::Value =
        serde_json::from_str(&space.kiln(&["schema"]).ok().stdout).unwrap();
    assert!(schema["properties"]["steps"].is_object());
    let nothing = Space::new();
    let failed: Run = nothing.kiln(&["init", "context"]);
    assert_eq!(failed.status, Some(2));
}

#[test]
fn a_volume_is_tied_to_a_lock_file() {
    let space = space(
        r#"
version = 1
[steps.count]
from = "BUSYBOX"
caches = [{ target = "/v", id = "counted", key = "lock" }]
run = "echo x >> /v/n; wc -l < /v/n > /out"
[images.app]
from = "count"
"#,
    );
    let seen = |lock: &str| {
        space.write("lock", lock);
        read(space.build_files(&["--no-cache"]).join("out"))
    };
    assert_eq!(
        [seen("1"), seen("1"), seen("2"), seen("1")],
        ["1\n", "2\n", "3\n", "3\n"]
    );
}
