//! Results shared between machines, here: between stores.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{BUSYBOX, KEY, Run, S3, SECRET, Space};

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Two stages: only a copied file of the first is in the image.
fn space() -> Space {
    let space = Space::new();
    space.write("f", "content").write(
        "Dockerfile",
        format!(
            "FROM {BUSYBOX} AS build
WORKDIR /src
COPY f .
RUN head -c 3000000 /dev/urandom > /big; cat f > /out; cat /proc/sys/kernel/random/uuid >> /out
FROM {BUSYBOX}
COPY --from=build /out /out
RUN cat /out > /copy && ln /copy /link
"
        ),
    );
    space
}

/// Builds with a store of its own, and gives what the image holds.
fn build(space: &Space, store: &str, args: &[&str]) -> (String, Run) {
    let out = space.path("out");
    _ = std::fs::remove_dir_all(&out);
    let output = format!("type=local,dest={}", out.display());
    let mut command = space.command(&["build", "context", "--progress", "plain", "-o", &output]);
    command.args(args).env("KILN_ROOT", space.path(store));
    let run = Run::of(&command.output().unwrap()).ok();
    (read(out.join("copy")), run)
}

fn shared_between_stores(space: &Space, to: &str, from: &str) {
    let (first, run) = build(space, "store-a", &["--cache-to", to]);
    assert!(run.stderr.contains(" new results"), "{}", run.stderr);
    let (second, run) = build(space, "store-b", &["--cache-from", from]);
    assert_eq!(second, first, "no step ran again");
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    let (_, again) = build(space, "store-a", &["--cache-to", to]);
    assert!(again.stderr.contains(": 0 new results"), "{}", again.stderr);
    // Another file for the last step only: the first stage comes from the cache, and its big file
    // is not fetched.
    let text = read(space.path("context/Dockerfile"));
    space.write(
        "Dockerfile",
        text.replace("ln /copy /link", "ln /copy /other"),
    );
    let (third, _) = build(space, "store-c", &["--cache-from", from]);
    assert_eq!(third, first);
    let du = space
        .command(&["du"])
        .env("KILN_ROOT", space.path("store-c"))
        .output();
    let du = Run::of(&du.unwrap()).ok().stdout;
    let trees = du.lines().find(|line| line.starts_with("total")).unwrap();
    assert!(!trees.contains("KiB ") && read_size(trees) < 4.0, "{du}");
    space.write("Dockerfile", text);
}

/// The mebibytes that a line of `kiln du` names.
fn read_size(line: &str) -> f64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number: f64 = words[words.len() - 2].parse().unwrap();
    if words[words.len() - 1] == "KiB" {
        number / 1024.0
    } else {
        number
    }
}

#[test]
fn in_a_folder() {
    let space = space();
    let folder = space.path("cache").display().to_string();
    let to = format!("type=local,dest={folder},mode=max");
    shared_between_stores(&space, &to, &format!("type=local,src={folder}"));
}

#[test]
fn in_a_registry() {
    let space = space();
    let name = format!("127.0.0.1:5000/cache-{}:main", std::process::id());
    let to = format!("type=registry,ref={name},mode=max");
    shared_between_stores(&space, &to, &name);
}

/// A bucket as BuildKit's users write it.
fn bucket(server: &S3, secret: &str) -> String {
    format!(
        "type=s3,region=eu-central-1,bucket=bucket,prefix=app/,name=main,endpoint_url={},use_path_style=true,access_key_id={KEY},secret_access_key={secret}",
        server.endpoint()
    )
}

#[test]
fn in_a_bucket() {
    let space = space();
    let server = S3::start(&space.path("s3"));
    let from = bucket(&server, SECRET);
    shared_between_stores(&space, &format!("{from},mode=max"), &from);
}

#[test]
fn credentials_from_a_profile() {
    let space = space();
    let server = S3::start(&space.path("s3"));
    let keys = format!("[ci]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(space.path("credentials"), keys).unwrap();
    let config = format!(
        "[profile ci]\nregion = eu-west-1\nendpoint_url = {}\n",
        server.endpoint()
    );
    std::fs::write(space.path("config"), config).unwrap();
    let run = |profile: &str| {
        let to = "s3://bucket/profile,mode=max";
        let mut command = space.command(&["build", "context", "--cache-to", to]);
        command.env("AWS_PROFILE", profile);
        command.env("AWS_SHARED_CREDENTIALS_FILE", space.path("credentials"));
        command.env("AWS_CONFIG_FILE", space.path("config"));
        Run::of(&command.output().unwrap()).ok().stderr
    };
    let missing = run("none");
    assert!(missing.contains("no file has this profile"), "{missing}");
    let found = run("ci");
    assert!(found.contains(" new results"), "{found}");
    assert!(server.object("profile/entries").is_dir());
}

#[test]
fn a_bucket_that_fails_never_fails_a_build() {
    let space = space();
    let server = S3::start(&space.path("s3"));
    let from = bucket(&server, SECRET);
    let (first, _) = build(
        &space,
        "store-a",
        &["--cache-to", &format!("{from},mode=max")],
    );
    let wrong = bucket(&server, "guessed");
    let (_, run) = build(
        &space,
        "store-b",
        &["--cache-from", &wrong, "--cache-to", &wrong],
    );
    for part in [
        "is not used: s3://bucket/app: access is refused",
        "are not shared",
    ] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    assert!(!run.stderr.contains("guessed"), "{}", run.stderr);
    let blobs = server.object("app/blobs/sha256");
    let each = |how: &dyn Fn(&Path)| {
        for entry in std::fs::read_dir(&blobs).unwrap() {
            how(&entry.unwrap().path());
        }
    };
    each(&|path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    let (fresh, run) = build(&space, "store-c", &["--cache-from", &from]);
    assert_ne!(fresh, first);
    assert!(run.stderr.contains("can't be used"), "{}", run.stderr);
    each(&|path| std::fs::remove_file(path).unwrap());
    let (fresh, run) = build(&space, "store-d", &["--cache-from", &from]);
    assert_ne!(fresh, first);
    assert!(run.stderr.contains("is missing"), "{}", run.stderr);
}

#[test]
fn only_what_trusted_keys_signed() {
    let space = space();
    let folder = space.path("cache").display().to_string();
    let to = format!("type=local,dest={folder},mode=max");
    let from = format!("type=local,src={folder}");
    std::fs::write(space.path("key"), "11".repeat(32)).unwrap();
    let key = space.path("key").display().to_string();
    let (first, _) = build(
        &space,
        "store-a",
        &["--cache-to", &to, "--cache-sign-key", &key],
    );
    // The public key of 32 times 0x11 (RFC 8032).
    let public = "d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737";
    let trusted = build(
        &space,
        "store-b",
        &["--cache-from", &from, "--cache-trust", public],
    );
    assert_eq!(trusted.0, first);
    let other = "e0".repeat(16) + &"00".repeat(16);
    let wrong = space.build(&["--cache-from", &from, "--cache-trust", &other[1..]]);
    assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
    let other = "a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f0";
    let (fresh, run) = build(
        &space,
        "store-c",
        &["--cache-from", &from, "--cache-trust", other],
    );
    assert_ne!(fresh, first);
    assert!(
        run.stderr.contains("is not signed by a trusted key"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_damaged_or_missing_cache_never_fails_a_build() {
    let space = space();
    let folder = space.path("cache");
    let to = format!("type=local,dest={},mode=max", folder.display());
    let from = format!("type=local,src={}", folder.display());
    let (first, _) = build(&space, "store-a", &["--cache-to", &to]);
    let (fresh, run) = build(&space, "store-b", &["--cache-from", "127.0.0.1:1/none:x"]);
    assert_ne!(fresh, first);
    assert!(run.stderr.contains("is not used"), "{}", run.stderr);
    let damage = |part: &str, how: &dyn Fn(&Path)| {
        for entry in std::fs::read_dir(folder.join(part)).unwrap() {
            how(&entry.unwrap().path());
        }
    };
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    damage("blobs/sha256", &flip);
    let (fresh, run) = build(&space, "store-c", &["--cache-from", &from]);
    assert_ne!(fresh, first);
    assert!(run.stderr.contains("can't be used"), "{}", run.stderr);
    damage("entries", &|path| _ = std::fs::write(path, "{\"key\":"));
    let (fresh, run) = build(&space, "store-d", &["--cache-from", &from]);
    assert_ne!(fresh, first);
    assert!(run.stderr.contains("can't be understood"), "{}", run.stderr);
    let readonly = space
        .build(&["--cache-to", "type=local,dest=/proc/none"])
        .ok();
    assert!(
        readonly.stderr.contains("are not shared"),
        "{}",
        readonly.stderr
    );
    space
        .build(&[
            "--cache-to",
            "type=local,dest=/proc/none,ignore-error=false",
        ])
        .fails_with(&["/proc/none"]);
}
