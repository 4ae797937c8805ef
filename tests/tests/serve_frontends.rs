//! Frontends that are images, run by `kiln serve`.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{Registry, Server, Space, read, run};

/// Pushes the frontend of these tests as an image.
fn push(space: &Space, registry: &Registry) -> String {
    let program = env!("CARGO_BIN_EXE_frontend");
    let copy = |from: &str, to: &str| {
        let to = space.path("context").join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    copy(program, "image/frontend");
    let listed = run("ldd", &[program]).stdout;
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for library in libraries {
        let name = Path::new(library).file_name().unwrap().to_str().unwrap();
        copy(library, &format!("image/lib/{name}"));
    }
    let name = registry.name("frontend:1");
    space.write(
        "image/Dockerfile",
        "FROM scratch\nCOPY . /\nENTRYPOINT [\"/start\"]\n",
    );
    let loader = listed
        .split_whitespace()
        .find(|word| word.contains("/ld-linux"))
        .unwrap();
    let loader = Path::new(loader).file_name().unwrap().to_str().unwrap();
    let start = format!(
        "FROM scratch\nCOPY . /\nENTRYPOINT [\"/lib/{loader}\", \"--library-path\", \"/lib\", \"/frontend\"]\nLABEL moby.buildkit.frontend.network.none=\"true\"\n"
    );
    space.write("image/Dockerfile", start);
    _ = space
        .kiln(&["build", "--push", "-t", &name, "context/image"])
        .ok();
    name
}

#[test]
fn a_build_file_is_read_by_the_image_that_it_names() {
    let space = Space::new();
    let registry = Registry::start(&space.path("registry"), false);
    let frontend = push(&space, &registry);
    let server = Server::start(&space, &[]);
    space.write(
        "Dockerfile",
        format!("# syntax={frontend} more\nWHATEVER\n"),
    );
    _ = server.build(&["-o", "out"]).ok();
    for arch in ["amd64", "arm64"] {
        let greeting = read(space.path(format!("out/linux_{arch}/greeting")));
        assert_eq!(greeting, format!("{arch} {frontend} more"));
    }
    // Each platform's image is its own.
    let name = registry.name("made:1");
    let push = ["-t", &name, "--push", "--provenance=false"];
    _ = server.build(&push).ok();
    for arch in ["amd64", "arm64"] {
        let address = format!("docker://{name}");
        let words = [
            "inspect",
            "--tls-verify=false",
            "--override-arch",
            arch,
            "--config",
            &address,
        ];
        let config: serde_json::Value =
            serde_json::from_str(&run("skopeo", &words).stdout).unwrap();
        assert_eq!(config["architecture"], arch);
        assert_eq!(config["config"]["Labels"]["of"], arch);
    }
    // Where it comes from is told, and what read the build file.
    let files = [
        "--provenance=mode=max",
        "-o",
        "told",
        "--build-arg",
        "DO=build",
    ];
    _ = server.build(&files).ok();
    let told = read(space.path("told/linux_arm64/provenance.json"));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let request = &told["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["frontend"], "gateway.v0", "{told}");
    assert_eq!(request["args"]["build-arg:DO"], "build");
    let materials = told["buildDefinition"]["resolvedDependencies"].to_string();
    assert!(materials.contains("frontend@1"), "{materials}");
    let told = server.build(&["--build-arg", "DO=refuse"]);
    told.fails_with(&["it is refused"]);
    let told = server.build(&["--build-arg", "DO=end"]);
    told.fails_with(&["exit code: 7", "it ends here"]);
}

#[test]
fn a_configuration_says_which_images_are_frontends() {
    let space = Space::new();
    std::fs::write(
        space.path("kit.toml"),
        "[frontend.\"gateway.v0\"]\nallowedRepositories = [\"x.example/y\"]\n",
    )
    .unwrap();
    let config = space.path("kit.toml").display().to_string();
    let server = Server::start(&space, &["--config", &config]);
    space.write("Dockerfile", "# syntax=other.example/y:1\nFROM scratch\n");
    server
        .build(&[])
        .fails_with(&["'other.example/y:1' is not an allowed gateway source"]);
}
