//! From the flags of kaniko's executor to those of `kiln build`.

use std::path::{Path, PathBuf};

use kiln_image::{Reference, Registries};

use super::flag::Given;

/// A build, in kiln's words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Translated {
    /// What follows `kiln build`.
    pub(super) args: Vec<String>,
    /// Settings of registries.
    pub(super) registries: Registries,
    /// The context, as a tar archive for standard input.
    pub(super) archive: Option<PathBuf>,
    /// The names that the image gets.
    pub(super) names: Vec<String>,
}

/// Where kaniko looks for a context when none is named.
const WORKSPACE: &str = "/workspace";

/// Translates flags; `exists` says whether there is a file.
pub(super) fn translate(
    given: &Given,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Translated, String> {
    let mut build = Translated {
        names: given.all("destination").to_vec(),
        ..Translated::default()
    };
    context(given, exists, &mut build)?;
    for (name, flag) in [
        ("build-arg", "--build-arg"),
        ("label", "--label"),
        ("target", "--target"),
        ("custom-platform", "--platform"),
    ] {
        for value in given.all(name) {
            build.add(flag, value);
        }
    }
    if given.is_set("reproducible") {
        build.add("--build-arg", "SOURCE_DATE_EPOCH=0");
    }
    if given.is_set("single-snapshot") {
        build.add("--layers", "squash");
    }
    outputs(given, &mut build)?;
    cache(given, &mut build)?;
    registries(given, &mut build)?;
    Ok(build)
}

impl Translated {
    fn add(&mut self, flag: &str, value: &str) {
        self.args.extend([flag.to_owned(), value.to_owned()]);
    }
}

fn context(
    given: &Given,
    exists: &dyn Fn(&Path) -> bool,
    build: &mut Translated,
) -> Result<(), String> {
    let below = given.last("context-sub-path").unwrap_or("");
    let context = given.last("context").unwrap_or(WORKSPACE);
    let file = given.last("dockerfile").unwrap_or("Dockerfile");
    let context = match context.split_once("://") {
        Some(("tar", "stdin")) => "-".to_owned(),
        Some(("tar", path)) => {
            build.archive = Some(path.into());
            "-".to_owned()
        }
        Some(("git", address)) => git(address, below),
        Some(("https" | "http", _)) => context.to_owned(),
        Some(("dir", directory)) => joined(directory, below),
        None => joined(context, below),
        Some((scheme, _)) => {
            return Err(format!(
                "--context {context}: '{scheme}' can't be had: use dir://, tar://, git:// or https://"
            ));
        }
    };
    // As kaniko has it: a path of its own, else one in the context.
    let is_directory = context != "-" && !context.contains("://");
    let file = match is_directory && !exists(Path::new(file)) {
        true => joined(&context, file),
        false => file.to_owned(),
    };
    build.add("--file", &file);
    build.args.push(context);
    Ok(())
}

fn joined(directory: &str, below: &str) -> String {
    match below {
        "" => directory.to_owned(),
        below => format!("{}/{below}", directory.trim_end_matches('/')),
    }
}

/// `HOST/REPOSITORY[#REF[#COMMIT]]` as kiln writes it.
fn git(address: &str, below: &str) -> String {
    let mut parts = address.split('#');
    let repository = parts.next().unwrap_or_default();
    let reference = parts.next_back().unwrap_or_default();
    let reference = reference
        .strip_prefix("refs/heads/")
        .or(reference.strip_prefix("refs/tags/"))
        .unwrap_or(reference);
    let ending = if repository.ends_with(".git") {
        ""
    } else {
        ".git"
    };
    match (reference, below) {
        ("", "") => format!("https://{repository}{ending}"),
        (reference, "") => format!("https://{repository}{ending}#{reference}"),
        (reference, below) => format!("https://{repository}{ending}#{reference}:{below}"),
    }
}

fn outputs(given: &Given, build: &mut Translated) -> Result<(), String> {
    let pushes = !given.is_set("no-push");
    if pushes && build.names.is_empty() {
        return Err("give --destination NAME, or --no-push".to_owned());
    }
    for name in build.names.clone() {
        build.add("--tag", &name);
    }
    let mut form = String::new();
    if let Some(compression) = given.last("compression") {
        form += &format!(",compression={compression}");
    }
    if let Some(level) = given
        .last("compression-level")
        .filter(|level| *level != "-1")
    {
        form += &format!(",compression-level={level}");
    }
    if pushes {
        build.add("--output", &format!("type=registry{form}"));
    }
    if let Some(path) = given.last("tar-path") {
        build.add("--output", &format!("type=docker,dest={path}{form}"));
    }
    if let Some(path) = given.last("oci-layout-path") {
        build.add("--output", &format!("type=oci,dest={path},tar=false{form}"));
    }
    Ok(())
}

fn cache(given: &Given, build: &mut Translated) -> Result<(), String> {
    if !given.is_set("cache") {
        return Ok(());
    }
    let place = match (given.last("cache-repo"), build.names.first()) {
        (Some(repository), _) => match repository.strip_prefix("oci:") {
            Some(directory) => {
                build.add("--cache-from", &format!("type=local,src={directory}"));
                if !given.is_set("no-push-cache") {
                    build.add(
                        "--cache-to",
                        &format!("type=local,dest={directory},mode=max"),
                    );
                }
                return Ok(());
            }
            None => repository.to_owned(),
        },
        (None, Some(name)) => {
            let reference = parse(name)?;
            format!("{}/{}/cache", reference.host, reference.repository)
        }
        (None, None) => return Err("--cache needs --cache-repo, or a --destination".to_owned()),
    };
    build.add("--cache-from", &format!("type=registry,ref={place}"));
    if !given.is_set("no-push-cache") {
        build.add("--cache-to", &format!("type=registry,ref={place},mode=max"));
    }
    Ok(())
}

fn parse(name: &str) -> Result<Reference, String> {
    name.parse()
        .map_err(|error| format!("--destination {name}: {error}"))
}

fn registries(given: &Given, build: &mut Translated) -> Result<(), String> {
    let registries = &mut build.registries;
    for host in given.all("insecure-registry") {
        registries.entry(host.clone()).or_default().http = true;
    }
    if given.is_set("insecure") {
        for name in &build.names {
            registries.entry(parse(name)?.host).or_default().http = true;
        }
    }
    for host in given.all("skip-tls-verify-registry") {
        registries.entry(host.clone()).or_default().insecure = true;
    }
    if given.is_set("skip-tls-verify") {
        for name in &build.names {
            registries.entry(parse(name)?.host).or_default().insecure = true;
        }
    }
    if given.is_set("skip-tls-verify-pull") || given.is_set("insecure-pull") {
        build.args.push("--tls-verify=false".to_owned());
    }
    for pair in given.all("registry-certificate") {
        let (host, path) = split(pair, "registry-certificate")?;
        registries
            .entry(host.to_owned())
            .or_default()
            .ca
            .push(path.into());
    }
    for mirror in given.all("registry-mirror") {
        let hub = registries.entry("docker.io".to_owned()).or_default();
        hub.mirrors.push(mirror.clone());
    }
    for map in given
        .all("registry-map")
        .iter()
        .flat_map(|map| map.split(';'))
    {
        let (host, mirror) = split(map, "registry-map")?;
        let host = if host == "index.docker.io" {
            "docker.io"
        } else {
            host
        };
        let settings = registries.entry(host.to_owned()).or_default();
        settings.mirrors.push(mirror.to_owned());
    }
    Ok(())
}

fn split<'a>(pair: &'a str, flag: &str) -> Result<(&'a str, &'a str), String> {
    pair.split_once('=')
        .ok_or_else(|| format!("--{flag} {pair}: write HOST=VALUE"))
}

#[cfg(test)]
mod tests {
    use super::super::flag;
    use super::*;

    fn build(line: &str) -> Result<Translated, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        translate(&flag::parse(&args)?, &|path| path == Path::new("/given"))
    }

    fn args(line: &str) -> String {
        build(line).unwrap().args.join(" ")
    }

    #[test]
    fn contexts() {
        let cases = [
            ("", "--file /workspace/Dockerfile /workspace"),
            ("-c dir:///src -f sub/File", "--file /src/sub/File /src"),
            ("-c /src -f /given", "--file /given /src"),
            (
                "-c dir:///src --context-sub-path app",
                "--file /src/app/Dockerfile /src/app",
            ),
            (
                "-c git://example.com/a/b#refs/heads/main",
                "--file Dockerfile https://example.com/a/b.git#main",
            ),
            (
                "-c git://example.com/b.git#main#abc --context-sub-path d",
                "--file Dockerfile https://example.com/b.git#abc:d",
            ),
            (
                "-c https://example.com/a.tar",
                "--file Dockerfile https://example.com/a.tar",
            ),
            ("-c tar://stdin", "--file Dockerfile -"),
        ];
        for (given, expected) in cases {
            assert_eq!(args(&format!("{given} --no-push")), expected, "{given}");
        }
        let archive = build("-c tar:///a.tgz --no-push").unwrap().archive;
        assert_eq!(archive, Some("/a.tgz".into()));
        assert!(
            build("-c s3://bucket/a --no-push")
                .unwrap_err()
                .contains("dir://")
        );
    }

    #[test]
    fn outputs_and_caches() {
        let cases = [
            (
                "-d a.example/x:1 -d b.example/x",
                "--tag a.example/x:1 --tag b.example/x --output type=registry",
            ),
            (
                "-d x --no-push --tar-path /o.tar --compression zstd --compression-level 3",
                "--tag x --output type=docker,dest=/o.tar,compression=zstd,compression-level=3",
            ),
            (
                "--no-push --cache --cache-repo r.example/c",
                "--cache-from type=registry,ref=r.example/c --cache-to type=registry,ref=r.example/c,mode=max",
            ),
            (
                "-d r.example/app:1 --no-push --cache=true --no-push-cache",
                "--tag r.example/app:1 --cache-from type=registry,ref=r.example/app/cache",
            ),
            (
                "--no-push --oci-layout-path /l",
                "--output type=oci,dest=/l,tar=false",
            ),
            (
                "--no-push --single-snapshot --reproducible --target t --label a=b",
                "--label a=b --target t --build-arg SOURCE_DATE_EPOCH=0 --layers squash",
            ),
        ];
        for (given, expected) in cases {
            let expected = format!("--file /workspace/Dockerfile /workspace {expected}");
            assert_eq!(args(given), expected, "{given}");
        }
        assert!(build("").unwrap_err().contains("--destination"));
        assert!(
            build("--no-push --cache")
                .unwrap_err()
                .contains("--cache-repo")
        );
    }

    #[test]
    fn settings_of_registries() {
        let found = build(
            "-d a:5000/x --insecure --insecure-registry b:80 --registry-certificate c=/ca.pem \
             --skip-tls-verify --skip-tls-verify-registry e:1 --registry-mirror m.example --registry-map index.docker.io=n.example;d=e",
        );
        let found = found.unwrap().registries;
        assert!(found["a:5000"].http && found["b:80"].http);
        assert!(found["a:5000"].insecure && found["e:1"].insecure && !found["b:80"].insecure);
        assert_eq!(found["c"].ca, [PathBuf::from("/ca.pem")]);
        assert_eq!(found["docker.io"].mirrors, ["m.example", "n.example"]);
        assert_eq!(found["d"].mirrors, ["e"]);
        assert!(build("--no-push --registry-map x").is_err());
        let found =
            build("-d a.example/x --skip-tls-verify --skip-tls-verify-registry=b:1").unwrap();
        assert!(found.registries["a.example"].insecure && found.registries["b:1"].insecure);
        let unchecked = "--tls-verify=false".to_owned();
        assert!(!found.args.contains(&unchecked));
        for flag in ["--skip-tls-verify-pull", "--insecure-pull"] {
            let found = build(&format!("--no-push {flag}")).unwrap();
            assert!(found.args.contains(&unchecked), "{flag}");
        }
    }
}
