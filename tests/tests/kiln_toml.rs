//! kiln.toml files, built.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Run, Space, read};

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

#[test]
fn what_a_step_writes_is_a_value() {
    let space = space(
        r#"
version = 1
[sources.code]
context = "."
include = ["VERSION"]
[steps.version]
from = "BUSYBOX"
copy = [{ from = "code", to = "/src/" }]
run = "echo looked >&2; cat /src/VERSION; cat /run/secrets/token"
secrets = [{ id = "token" }]
[steps.app]
from = "BUSYBOX"
run = "echo '{{ steps.version.stdout }}' > /version"
[images.i]
from = "app"
labels = { version = "{{ steps.version.stdout }}" }
"#,
    );
    space.write("VERSION", "1.2");
    std::fs::write(space.path("token"), "hunter2").unwrap();
    let secret = ["--secret", "id=token,src=token"];
    let out = space.build_files(&secret);
    assert_eq!(read(out.join("version")), "1.2***\n", "secrets stay hidden");
    let first = space.build(&[&secret[..], &["-t", "valued"]].concat()).ok();
    assert!(!first.stderr.contains("looked\n"), "{}", first.stderr);
    let shown = space.kiln(&["image", "inspect", "valued"]).ok().stdout;
    assert!(shown.contains("\"version\": \"1.2***\""), "{shown}");
    space.write("VERSION", "1.3");
    let out = space.build_files(&secret);
    assert_eq!(read(out.join("version")), "1.3***\n");
    let graph = space.kiln(&["graph", "--offline", "context"]).ok().stdout;
    assert!(graph.contains("{{ steps.version.stdout }}"), "{graph}");
}

#[test]
fn a_result_may_be_too_old() {
    let text = "version = 1\n[steps.a]\nfrom = 'BUSYBOX'\nrun = 'echo ran >&2'\ncache = 'AGE'\n[images.i]\nfrom = 'a'\n";
    let space = space(&text.replace("AGE", "1h"));
    let ran = |run: Run| run.ok().stderr.contains("ran\n");
    assert!(ran(space.build(&[])));
    assert!(!ran(space.build(&[])), "an hour hasn't passed");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    space.write(
        "kiln.toml",
        text.replace("AGE", "1s").replace("BUSYBOX", BUSYBOX),
    );
    assert!(ran(space.build(&[])), "it is older than a second");
}

#[test]
fn limits_hosts_memory_and_budgets_count() {
    let text = "version = 1\n[steps.a]\nfrom = 'BUSYBOX'\nrun = 'ulimit -n; cat /etc/hosts; df -k /dev/shm /t | tail -2; false'\nlimits = { nofile = 123 }\nhosts = { db = '10.0.0.1' }\nshm_size = '2MiB'\ntmpfs = [{ target = '/t', size = '1MiB' }]\n[images.i]\nfrom = 'a'\n";
    let space = space(text);
    space.build(&["--add-host", "web:10.0.0.2"]).fails_with(&[
        "123",
        "10.0.0.1\tdb",
        "10.0.0.2\tweb",
        " 2048 ",
        " 1024 ",
    ]);
    let text = "version = 1\n[steps.a]\nfrom = 'BUSYBOX'\nrun = 'echo x > /junk'\n[images.i]\nfrom = 'a'\npolicy = { forbid = ['/junk'] }\n";
    space.write("kiln.toml", text.replace("BUSYBOX", BUSYBOX));
    space.build(&[]).fails_with(&["/junk is forbidden"]);
}

#[test]
fn mistakes_in_included_files_are_shown_there() {
    let space = space("version = 1\ninclude = ['more.toml']\n[images.i]\nfrom = 'a'\n");
    let text = "version = 1\n\n\n[steps.a]\nfrom = 'BUSYBOX'\nrun = 'exit 3'\n";
    space.write("more.toml", text.replace("BUSYBOX", BUSYBOX));
    space
        .build(&[])
        .fails_with(&["more.toml:6", "run = 'exit 3'", " --from a:1"]);
    space.write("more.toml", text.replace("run", "runs"));
    space
        .build(&[])
        .fails_with(&["more.toml:6", "runs = 'exit 3'"]);
}

const EXPORTS: &str = r#"
version = 1
[steps.app]
from = "BUSYBOX"
run = "echo app > /app"
[tests.unit]
from = "app"
cache = "never"
workdir = "/work"
run = "mkdir -p reports/deep; echo unit > reports/deep/unit.xml; ln reports/deep/unit.xml reports/same; echo x >> /runs/all; cp /runs/all reports/runs; echo ran-unit >&2"
caches = [{ target = "/runs" }]
exports = [{ name = "unit", path = "reports" }]
[tests.e2e]
from = "app"
needs = ["unit"]
run = "echo log > /log; echo e2e > /e2e.xml; exit STATUS"
exports = [{ name = "log", path = "/log" }, { name = "missing", path = "/none" }]
[images.i]
from = "app"
"#;

#[test]
fn files_are_taken_out_of_steps_also_when_they_fail() {
    let space = space(&EXPORTS.replace("STATUS", "1"));
    let failed = space.build(&[]);
    failed.fails_with(&["kiln build --export DIR  takes out of it: log, missing"]);
    let failed = space.build(&["--export", "out", "--export", "log=logs"]);
    failed.fails_with(&[
        "nothing to export as missing: there is no /none",
        "exit code: 1",
    ]);
    let runs = failed.stderr.matches("ran-unit\n").count();
    assert_eq!(runs, 1, "what passed isn't run again: {}", failed.stderr);
    let forced = space.build(&["--no-cache", "--export", "forced"]);
    let runs = forced.stderr.matches("ran-unit\n").count();
    assert_eq!(runs, 1, "{}", forced.stderr);
    let runs = |directory: &str| {
        read(space.path(directory).join("unit/runs"))
            .lines()
            .count()
    };
    assert_eq!(runs("out"), 2, "one in each build, none for its export");
    assert_eq!(runs("forced"), 3, "nor with --no-cache");
    assert_eq!(read(space.path("out/unit/deep/unit.xml")), "unit\n");
    assert_eq!(read(space.path("out/unit/same")), "unit\n");
    assert_eq!(read(space.path("logs/log")), "log\n");
    assert!(!space.path("out/e2e.xml").exists() && !space.path("out/missing").exists());
    space.write(
        "kiln.toml",
        EXPORTS.replace("STATUS", "0").replace("BUSYBOX", BUSYBOX),
    );
    _ = space.build(&["--export", "log=passed"]).ok();
    assert_eq!(read(space.path("passed/log")), "log\n");
    let slip = space.build(&["--export", "logs=out"]);
    assert_eq!(slip.status, Some(2));
    assert!(
        slip.stderr.contains("there are unit, log, missing"),
        "{}",
        slip.stderr
    );
}

#[test]
fn the_examples_are_files_of_this_language() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let toolchain = tempfile::tempdir().unwrap();
    let toolchain = format!("toolchain={}", toolchain.path().display());
    let cases: [(&str, &[&str], &str); 5] = [
        ("node-app", &[], "tests passed"),
        ("python-app", &[], "tests passed"),
        ("rust-app", &["--build-context", &toolchain], "cargo build"),
        ("variants", &["--target", "plain"], "app@plain"),
        (
            "variants",
            &["--target", "debug"],
            "install -qy --no-install-recommends strace",
        ),
    ];
    let space = Space::new();
    for (name, args, part) in cases {
        let directory = examples.join(name);
        let directory = directory.to_str().unwrap();
        let graph = space
            .kiln(&[&["graph", "--offline", directory], args].concat())
            .ok();
        assert!(graph.stdout.contains(part), "{name}: {}", graph.stdout);
        let file = format!("{directory}/kiln.toml");
        _ = space.kiln(&["fmt", "--check", &file]).ok();
    }
}

#[test]
fn exports_stay_in_their_directory() {
    let space = space(
        "version = 1\n[steps.a]\nfrom = 'BUSYBOX'\nrun = 'ln -s /etc /evil; mkdir /r /r/deep; ln -s ../victim /r/link; echo x > /r/file; echo x > /r/deep/file'\nexports = [{ name = 'r', path = '/r' }, { name = 'etc', path = '/evil/passwd' }]\n[images.i]\nfrom = 'a'\n",
    );
    std::fs::write(space.path("victim"), "unharmed").unwrap();
    std::fs::create_dir_all(space.path("elsewhere")).unwrap();
    std::fs::create_dir_all(space.path("out/r")).unwrap();
    std::os::unix::fs::symlink("../../victim", space.path("out/r/file")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", space.path("out/r/deep")).unwrap();
    _ = space.build(&["--export", "out"]).ok();
    assert_eq!(read(space.path("victim")), "unharmed");
    assert!(!space.path("elsewhere/file").exists());
    assert_eq!(read(space.path("out/r/file")), "x\n");
    assert_eq!(read(space.path("out/r/deep/file")), "x\n");
    let passwd = read(space.path("out/etc/passwd"));
    assert_eq!(passwd, "root:x:0:0:root:/root:/bin/sh\n", "the image's own");
}
