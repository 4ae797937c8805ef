//! Dockerfiles and the kiln.toml files made of them.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Space};

/// A Dockerfile in a context of its own, converted.
fn converted(dockerfile: &str) -> (Space, String) {
    let space = Space::new();
    space.write("Dockerfile", dockerfile.replace("BUSYBOX", BUSYBOX));
    space.write("app.txt", "app");
    let (from, to) = (
        space.path("context/Dockerfile"),
        space.path("converted.toml"),
    );
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    _ = space.kiln(&["convert", from, "-o", to]).ok();
    let text = std::fs::read_to_string(to).unwrap();
    (space, text)
}

const SAME: &[(&str, &str)] = &[
    (
        "stages, owners, directories",
        "FROM BUSYBOX AS build\nWORKDIR /src\nCOPY --chown=3:4 --chmod=640 app.txt sub/\n\
         RUN cat sub/app.txt > /out\nFROM BUSYBOX\nCOPY --from=build /src /data\nRUN ls /data > /l\n",
    ),
    (
        "variables, users, arguments",
        "ARG TAG=latest\nFROM BUSYBOX\nARG VERSION=1.2\nENV Z=1 A=\"$VERSION {{x}}\"\nUSER 10\n\
         RUN echo $VERSION $Z $A\nENV PATH=/x:$PATH\nRUN echo $PATH\n",
    ),
    (
        "mounts, here-documents, shells",
        "FROM BUSYBOX\nRUN --mount=type=cache,target=/c,id=convert,sharing=locked \
         --mount=type=bind,target=/b --network=none cat /b/app.txt > /o\nRUN <<E\n\
         echo \"a\\\\b\" > /h\nE\n\
         SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN true && echo x > /s\n",
    ),
];

#[test]
fn all_steps_of_the_dockerfile_are_cached() {
    for (what, dockerfile) in SAME {
        let (space, text) = converted(dockerfile);
        // A bind of the whole context sees the file as well.
        space.write("kiln.toml", &text);
        _ = space.build(&["-f", "context/Dockerfile"]).ok();
        let run = space.build(&[]).ok();
        let shown = format!("{}{}", run.stdout, run.stderr);
        let (_, counts) = shown.rsplit_once("ms: ").unwrap_or(("", &shown));
        let counts = counts.split(" steps").next().unwrap();
        let (cached, all) = counts.split_once(" of ").unwrap_or(("all", "all"));
        let is_cached = counts == "all" || cached == all || counts.starts_with("all ");
        assert!(is_cached, "{what}: {shown}\n{text}");
    }
}

#[test]
fn the_image_has_the_same_configuration() {
    let (space, text) = converted(
        "FROM BUSYBOX\nWORKDIR /w\nENV B=1 A=2\nLABEL a.b=c\nEXPOSE 80 53/udp\nVOLUME /v\n\
         HEALTHCHECK --interval=1m CMD true\nSTOPSIGNAL SIGINT\nUSER 5\nENTRYPOINT [\"e\"]\n\
         CMD c d\n",
    );
    assert!(!text.contains("by hand"), "{text}");
    let config = |name: &str| {
        _ = space.build(&["-t", name]).ok();
        let shown = space.kiln(&["image", "inspect", name]).ok().stdout;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert!(
            shown["config"]["config"]["Entrypoint"].is_array(),
            "{shown}"
        );
        let mut config = shown["config"]["config"].clone();
        // Only Windows reads it, and a kiln.toml can't say it.
        config.as_object_mut().unwrap().remove("ArgsEscaped");
        config
    };
    let first = config("first");
    space.write("kiln.toml", &text);
    assert_eq!(config("second"), first);
}

#[test]
fn what_cannot_be_said_is_marked() {
    let (space, text) = converted(
        "FROM BUSYBOX\nARG NONE\nRUN --mount=type=tmpfs,target=/t,size=4096 true\nCOPY --parents app.txt /x/\n",
    );
    assert_eq!(text.matches("# by hand: ").count(), 2, "{text}");
    assert!(
        text.contains("tmpfs = [{ target = \"/t\", size = \"4096\" }]"),
        "{text}"
    );
    let file = space.path("context/Dockerfile");
    let file = file.to_str().unwrap();
    let run = space.kiln(&["convert", file]).ok();
    assert!(run.stderr.contains("2 things are left"), "{}", run.stderr);
    let again = space.kiln(&["convert", file, "-o", file]);
    assert_eq!(again.status, Some(2), "{}", again.stderr);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
}

#[test]
fn layer_directives_are_layers() {
    let (_, text) = converted(
        "FROM BUSYBOX\n# layer: deps\nRUN echo 1 > /a\nRUN echo 2 > /b\n# layer: app\nRUN echo 3 > /c\n",
    );
    let deps = "[[images.app.layers]]\nname = \"deps\"\nsteps = [\"stage-0-1\", \"stage-0-2\"]\n";
    assert!(text.contains(deps), "{text}");
}

#[test]
fn files_are_laid_out() {
    let space = Space::new();
    space.write("kiln.toml", "version=1 # one\n[steps.a]\nfrom='scratch'\n");
    let file = space.path("context/kiln.toml");
    let name = file.to_str().unwrap();
    let check = space.kiln(&["fmt", name, "--check"]);
    check.fails_with(&["run 'kiln fmt"]);
    _ = space.kiln(&["fmt", name]).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, "version = 1 # one\n\n[steps.a]\nfrom = \"scratch\"\n");
    _ = space.kiln(&["fmt", name, "--check"]).ok();
}
