//! Layers that runtimes fetch file by file, as containers/storage reads them (Debian's buildah).
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::process::Command;

use kiln_tests::{BUSYBOX, Run, Space, is_root, run};

/// Every file's mode, link and content, but for what eStargz adds. Debian 12's buildah gives files
/// that it fetches one by one to root, whoever has made the layer, so owners are not compared.
const LIST: &str = "cd \"$1\" && find . -mindepth 1 ! -name stargz.index.json ! -name .no.prefetch.landmark \
    \\( -type d -printf '%P d %m\\n' -o -printf '%P %y %m %n %l\\n' \\) | sort && find . -type f ! -name stargz.index.json ! -name .no.prefetch.landmark \
    | sort | xargs sha256sum";

fn buildah(space: &Space, args: &[&str]) -> Run {
    let mut command = Command::new("buildah");
    command.args(args);
    command.env("CONTAINERS_STORAGE_CONF", space.path("storage.conf"));
    Run::of(&command.output().unwrap())
}

/// The files of an image that buildah fetched in parts.
fn pulled(space: &Space, image: &str) -> String {
    let pull = ["--log-level", "debug", "pull", "--tls-verify=false", image];
    let log = buildah(space, &pull).ok().stderr;
    let parts = log.matches("Retrieved partial blob").count();
    assert!(parts >= 2, "both layers are fetched in parts: {log}");
    let container = buildah(space, &["from", "--pull-never", image]).ok().stdout;
    let mounted = buildah(space, &["mount", container.trim()]).ok().stdout;
    let files = run("sh", &["-ec", LIST, "sh", mounted.trim()]).ok().stdout;
    _ = buildah(space, &["rm", container.trim()]).ok();
    files
}

#[test]
fn runtimes_that_fetch_single_files_can() {
    if !is_root() {
        return;
    }
    let space = Space::new();
    let steps = "RUN mkdir -p /opt/x /opt/e && head -c 9000000 /dev/urandom > /opt/x/big && echo hi > /opt/x/small\n\
                 RUN ln -s small /opt/x/l && ln /opt/x/small /opt/x/h && chmod 4711 /opt/x/big && : > /opt/empty && rm -r /root\n";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{steps}"));
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n[storage.options]\npull_options = {{enable_partial_images = \"true\"}}\n",
        space.path("").display()
    );
    std::fs::write(space.path("storage.conf"), storage).unwrap();
    let own = run(
        "sh",
        &["-ec", LIST, "sh", space.build_files(&[]).to_str().unwrap()],
    )
    .ok()
    .stdout;
    for codec in ["zstd:chunked", "estargz"] {
        let image = format!(
            "127.0.0.1:5000/lazy-{}/{}:1",
            std::process::id(),
            codec.replace(':', "-")
        );
        let output =
            format!("type=registry,name={image},compression={codec},force-compression=true");
        _ = space.build(&["-o", &output]).ok();
        let seen = pulled(&space, &image);
        let only = |a: &str, b: &str| {
            let lines = a
                .lines()
                .filter(|line| !b.lines().any(|other| other == *line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(only(&seen, &own), only(&own, &seen), "{codec}");
    }
}
