//! The author controls the layers: plans, splitting, rebasing, budgets, looking inside.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, Space, read, read_json, run, unpack};

const FILE: &str = "FROM BASE AS one
RUN mkdir -p /opt/lib /app && echo lib > /opt/lib/a && chmod 4755 /opt/lib/a && ln /opt/lib/a /opt/lib/b && echo x > /app/x
RUN rm /app/x && echo y > /app/y && rm -r /root && mkdir -p /root/new
FROM one
# layer: data
RUN echo 1 > /one
RUN echo 2 > /two && rm /one
# layer: top
RUN echo 3 > /three
LABEL a=b
";

fn space() -> Space {
    let space = Space::new();
    space.write("Dockerfile", FILE.replace("BASE", BUSYBOX));
    space
}

/// Builds an OCI archive and unpacks it with `umoci`; the number of layers, and the files.
fn unpacked(space: &Space, name: &str, args: &[&str]) -> (usize, String) {
    let archive = space.path(format!("{name}.tar"));
    let output = format!("type=oci,dest={}", archive.display());
    let built = space.build(&[args, &["-o", &output]].concat()).ok();
    if !args.contains(&"--no-cache") && name != "named" {
        assert!(
            !built.stderr.contains("DONE 0.1s"),
            "no step runs again for another plan"
        );
    }
    let (layout, bundle) = (space.path(format!("{name}.oci")), space.path(name));
    std::fs::create_dir(&layout).unwrap();
    let text = |path: &Path| path.display().to_string();
    _ = run("tar", &["xf", &text(&archive), "-C", &text(&layout)]);
    let index = read_json(layout.join("index.json"));
    let blob = |digest: &serde_json::Value| -> serde_json::Value {
        let name = digest.as_str().unwrap().replace(':', "/");
        read_json(layout.join("blobs").join(name))
    };
    let manifest = blob(&index["manifests"][0]["digest"]);
    let layers = manifest["layers"].as_array().unwrap().len();
    let config = blob(&manifest["config"]["digest"]);
    let lines = config["history"].as_array().unwrap().iter();
    let with_layer = lines.filter(|line| line["empty_layer"] != true).count();
    assert_eq!(with_layer, layers, "history fits: {config:#}");
    let files = unpack(&format!("oci-archive:{}", text(&archive)), &bundle);
    let script = "cd \"$1\" && find . -printf '%P %y %m %U %G %n %l\\n' | sort; find . -type f | sort | xargs sha256sum";
    (
        layers,
        run("sh", &["-ec", script, "sh", &text(&files)]).stdout,
    )
}

#[test]
fn every_plan_shows_the_same_files() {
    let space = space();
    let rules = "[[layer]]\nname = 'opt'\npaths = ['opt/**']\n[[layer]]\nname = 'root files'\npaths = ['two', 'three']\n";
    std::fs::write(space.path("plan.toml"), rules).unwrap();
    let plan = space.path("plan.toml").display().to_string();
    let (named, files) = unpacked(&space, "named", &[]);
    assert_eq!(named, 1 + 2 + 2);
    assert!(files.contains("opt/lib/a f 4755 0 0 2 "), "{files}");
    assert!(!files.contains("app/x"), "{files}");
    let plans = [
        ("per-step", 1 + 5),
        ("per-stage", 1 + 2),
        ("squash", 2),
        ("flat", 1),
        ("auto:4", 2),
        (plan.as_str(), 1 + 3),
    ];
    for (number, (plan, count)) in plans.into_iter().enumerate() {
        let (layers, other) = unpacked(&space, &format!("p{number}"), &["--layers", plan]);
        assert_eq!(layers, count, "{plan}");
        assert_eq!(other, files, "{plan}");
    }
    let wrong = space.build(&["--layers", "sqash"]);
    assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let space = space();
    let digest = |threads: &str, store: &str| {
        let mut command =
            space.command(&["build", "context", "--quiet", "-t", "x", "--metadata-file"]);
        command
            .arg(space.path("meta"))
            .env("RAYON_NUM_THREADS", threads)
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("KILN_ROOT", space.path(store));
        assert!(command.status().unwrap().success());
        let meta = read_json(space.path("meta"));
        meta["containerimage.digest"].as_str().unwrap().to_owned()
    };
    let first = digest("1", "store-a");
    assert_eq!(digest("7", "store-b"), first);
}

#[test]
fn looking_inside() {
    let space = Space::new();
    let big = "head -c 100000 /dev/zero | tr '\\0' a";
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN {big} > /one; {big} > /same\nRUN rm /one; echo b > /b\n"),
    );
    _ = space.build(&["-t", "x"]).ok();
    let json = space.kiln(&["image", "layers", "x", "--json"]).ok().stdout;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["layers"][1]["plain"], 200_000);
    assert_eq!(report["layers"][1]["shadowed"], 100_000);
    assert_eq!(report["layers"][1]["duplicated"], 100_000);
    assert_eq!(report["wasted"], 200_000);
    let text = space.kiln(&["image", "layers", "x"]).ok().stdout;
    assert!(
        text.contains("/same") && text.contains("% efficient"),
        "{text}"
    );
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo c > /b; chmod 700 /root\n"),
    );
    _ = space.build(&["-t", "y"]).ok();
    let diff = space.kiln(&["image", "diff", "x", "y"]).ok().stdout;
    for line in ["content     /b", "removed     /same", "mode        /root"] {
        assert!(diff.contains(line), "{diff}");
    }
}

#[test]
fn another_base_without_running_anything() {
    let space = Space::new();
    let build = |name: &str, file: &str| {
        space.write("Dockerfile", file);
        _ = space.build(&["-t", name]).ok();
    };
    build(
        "base:1",
        &format!("FROM {BUSYBOX}\nRUN echo old > /version; echo db-old > /db\n"),
    );
    build(
        "base:2",
        &format!("FROM {BUSYBOX}\nRUN echo new > /version; echo db-new > /db\n"),
    );
    build("app", "FROM base:1\nRUN echo app > /app\n");
    let rebase = |image: &str, extra: &[&str]| {
        let args = [
            "image", "rebase", image, "--from", "base:1", "--onto", "base:2", "-t", "moved",
        ];
        space.kiln(&[&args[..], extra].concat())
    };
    _ = rebase("app", &[]).ok();
    space.write("Dockerfile", "FROM moved\n");
    let out = space.build_files(&[]);
    assert_eq!(read(out.join("version")), "new\n");
    assert_eq!(read(out.join("app")), "app\n");
    build("unsafe", "FROM base:1\nRUN echo more >> /db\n");
    rebase("unsafe", &[]).fails_with(&["isn't safe", "/db", "--force"]);
    _ = rebase("unsafe", &["--force"]).ok();
    rebase("base:2", &[]).fails_with(&["is not built on base:1"]);
}

#[test]
fn budgets_and_rules() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN mkdir -p /root/.cache/x && echo 1 > /root/.cache/x/f\n"),
    );
    let policy = |text: &str| {
        std::fs::write(space.path("policy.toml"), text).unwrap();
        space.build(&["--policy", &space.path("policy.toml").display().to_string()])
    };
    policy("forbid = ['root/.cache/**']\nmax-size = '1kB'\n").fails_with(&[
        "over the limit of 1.00 kB",
        "/root/.cache/x",
        "forbidden",
    ]);
    let warned = policy("warn = true\nmax-layer-size = '1kB'\n").ok();
    assert!(
        warned.stderr.contains("WARNING: policy: a layer"),
        "{}",
        warned.stderr
    );
    _ = policy("max-size = '100MB'\n").ok();
    assert_eq!(policy("max-sise = '1kB'\n").status, Some(2));
}

#[test]
fn steps_that_differ_when_run_again_are_named() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo same > /same\n"),
    );
    _ = space.build(&["--verify-reproducible"]).ok();
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}\nRUN echo same > /same\nRUN cat /proc/sys/kernel/random/uuid > /id\n"
        ),
    );
    let failed = space.build(&["--verify-reproducible"]);
    failed.fails_with(&["stage-0[3] RUN cat", "content     /id"]);
}

#[test]
fn times_are_rewritten_unless_they_are_to_be_kept() {
    let space = space();
    let time = |args: &[&str]| {
        let out = space.path("t.tar").display().to_string();
        let mut command = space.command(&["build", "context"]);
        let rest = args
            .last()
            .map_or("", |last| last.strip_prefix("-o ").unwrap_or(""));
        let flags = args.iter().filter(|flag| !flag.starts_with("-o "));
        command
            .args(flags)
            .arg("-o")
            .arg(format!("type=tar,dest={out}{rest}"));
        command.env("SOURCE_DATE_EPOCH", "1000000000");
        assert!(command.status().unwrap().success());
        run("tar", &["tvf", &out, "--utc", "three"]).ok().stdout
    };
    assert!(time(&[]).contains("2001-09-09 01:46"));
    assert!(!time(&["--rewrite-timestamp=false"]).contains("2001-"));
    assert!(!time(&["-o ,rewrite-timestamp=false"]).contains("2001-"));
    let both = ["--rewrite-timestamp=false", "-o ,rewrite-timestamp=true"];
    assert!(time(&both).contains("2001-09-09 01:46"));
}

/// The names in each layer above the base's, as `tar` lists them.
fn names_by_layer(space: &Space, args: &[&str]) -> Vec<String> {
    let archive = space.path("names.tar").display().to_string();
    let output = format!("type=oci,dest={archive},compression=uncompressed");
    _ = space
        .build(&[args, &["--no-cache", "-o", &output]].concat())
        .ok();
    let layout = space.path("names").display().to_string();
    let script = "rm -rf \"$2\"; mkdir \"$2\"; cd \"$2\"; tar xf \"$1\"; digest() { sed 's/.*sha256://;s/\".*//'; }
        manifest=blobs/sha256/$(grep -o '\"digest\":\"[^\"]*' index.json | head -1 | digest)
        for layer in $(sed 's/.*\"layers\"//' \"$manifest\" | grep -o '\"digest\":\"[^\"]*' | digest | tail -n +2); do
            echo $(tar tf blobs/sha256/$layer); done";
    let listed = run("sh", &["-ec", script, "sh", &archive, &layout]).stdout;
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn what_a_step_does_not_change_is_in_no_layer() {
    let space = Space::new();
    space.write("d/a", "1").write("d/b", "1");
    space.write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX}
COPY d /w/
COPY d /w/
RUN chown -R 0:0 /w && chmod 755 /w && touch /w/new && rm /w/new
RUN mv /w/a /w/c && mv /w/c /w/a
RUN chown 5 /w/b
COPY --link d /w/
"
        ),
    );
    let expected = ["w/ w/a w/b", "", "", "", "w/ w/b", "w/ w/a w/b"];
    for isolation in ["namespaces", "chroot"] {
        let names = names_by_layer(&space, &["--isolation", isolation]);
        assert_eq!(names, expected, "{isolation}");
    }
}
