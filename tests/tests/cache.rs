//! Results shared between machines, here: between stores.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_tests::{ActionsCache, BUSYBOX, KEY, Run, S3, SECRET, Space, Web, read};

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
    let run = build_in(space, store, &[args, &["-o", &output]].concat());
    (read(out.join("copy")), run)
}

fn build_in(space: &Space, store: &str, args: &[&str]) -> Run {
    let mut command = space.command(&["build", "context", "--progress", "plain"]);
    command.args(args).env("KILN_ROOT", space.path(store));
    Run::of(&command.output().unwrap()).ok()
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
fn in_a_directory() {
    let space = space();
    let directory = space.path("cache").display().to_string();
    let to = format!("type=local,dest={directory},mode=max");
    shared_between_stores(&space, &to, &format!("type=local,src={directory}"));
}

/// What isn't in the image goes along by name only: it need not run again as long as what was made from it is found.
#[test]
fn results_without_files_are_known_by_name() {
    let space = space();
    let directory = space.path("cache").display().to_string();
    let (to, from) = (
        format!("type=local,dest={directory}"),
        format!("type=local,src={directory}"),
    );
    let (first, _) = build(&space, "store-a", &["--cache-to", &to]);
    let (second, run) = build(&space, "store-b", &["--cache-from", &from]);
    assert_eq!(second, first, "no step ran again");
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    // From there it goes on, by name again.
    let next = space.path("next").display().to_string();
    let (again, next) = (
        format!("type=local,dest={next},mode=max"),
        format!("type=local,src={next}"),
    );
    _ = build(
        &space,
        "store-b",
        &["--cache-from", &from, "--cache-to", &again],
    );
    let (third, _) = build(&space, "store-c", &["--cache-from", &next]);
    assert_eq!(third, first);
    // A step that needs the files has them made again, and what follows it.
    space.write("f", "other");
    let (fresh, run) = build(&space, "store-d", &["--cache-from", &from]);
    assert!(fresh.starts_with("other"), "{fresh}");
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    space.write("f", "content");
    let text = read(space.path("context/Dockerfile"));
    space.write(
        "Dockerfile",
        text.replace("COPY --from=build /out", "COPY --from=build /big /out"),
    );
    let (fresh, run) = build(&space, "store-e", &["--cache-from", &from]);
    assert_ne!(fresh, first);
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    assert!(!run.stderr.contains("ERROR"), "{}", run.stderr);
    // Several such steps, in a build that goes on after failures.
    let dockerfile = read(space.path("context/Dockerfile"));
    let several = "FROM busybox-again AS x\nCOPY --from=build /out /x\nFROM busybox-again AS y\nCOPY --from=build /big /y\nFROM busybox-again\nCOPY --from=x /x /copy\nCOPY --from=y /y /y\n"
        .replace("busybox-again", BUSYBOX);
    space.write("Dockerfile", format!("{dockerfile}{several}"));
    let keep = ["--cache-from", &from, "--keep-going"];
    let (_, run) = build(&space, "store-g", &keep);
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    assert!(!run.stderr.contains("ERROR"), "{}", run.stderr);
    space.write("Dockerfile", dockerfile);
    // The stage itself can be built, too.
    let stage = build_in(
        &space,
        "store-f",
        &["--cache-from", &from, "--target", "build", "-o", "stage"],
    );
    assert!(!stage.stderr.contains("WARNING"), "{}", stage.stderr);
    assert!(read(space.path("stage/out")).starts_with("content"));
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
fn in_a_workflows_cache() {
    let space = space();
    let server = ActionsCache::start();
    let token = ActionsCache::token(&[("refs/heads/main", true)]);
    let from = format!("type=gha,url_v2={},token={token},scope=app", server.url());
    shared_between_stores(&space, &format!("{from},mode=max"), &from);
    assert!(!server.keys("kiln-index-1-app-").is_empty());
}

#[test]
fn a_workflows_variables_say_where_its_cache_is() {
    let space = space();
    let server = ActionsCache::start();
    let run = |store: &str, args: &[&str], variables: &[(&str, String)]| {
        let mut command = space.command(&["build", "context", "--progress", "plain"]);
        command.args(args).env("KILN_ROOT", space.path(store));
        command.envs(
            variables
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        Run::of(&command.output().unwrap())
    };
    let variables = server.variables();
    let sent = run("store-a", &["--cache-to", "type=gha,mode=max"], &variables).ok();
    assert!(sent.stderr.contains("gha:buildkit: "), "{}", sent.stderr);
    let used = run("store-b", &["--cache-from", "type=gha"], &variables).ok();
    assert!(!used.stderr.contains("WARNING"), "{}", used.stderr);
    // Elsewhere the same flags do nothing, as with buildx.
    let both = ["--cache-from", "type=gha", "--cache-to", "type=gha"];
    let absent = run("store-c", &both, &[]).ok();
    let told = absent.stderr.matches("is left out: ").count();
    assert_eq!(told, 2, "{}", absent.stderr);
    let strange = format!("type=gha,url_v2={}", ActionsCache::start().url());
    let strange = run("store-d", &["--cache-from", &strange], &variables);
    assert_eq!(strange.status, Some(2), "{}", strange.stderr);
    assert!(strange.stderr.contains("token=TOKEN is missing"));
    let mut guessed = server.variables();
    guessed[1].1 = "guessed".to_owned();
    let to = "type=gha,mode=max";
    let told = run("store-e", &["--cache-to", to], &guessed).ok().stderr;
    assert!(
        told.contains("are not shared") && told.contains("know the token"),
        "{told}"
    );
    assert!(!told.contains("guessed"), "{told}");
    let strict = run(
        "store-f",
        &["--cache-to", &format!("{to},ignore-error=false")],
        &guessed,
    );
    assert_eq!(strict.status, Some(1), "{}", strict.stderr);
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
    let directory = space.path("cache").display().to_string();
    let to = format!("type=local,dest={directory},mode=max");
    let from = format!("type=local,src={directory}");
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
    let directory = space.path("cache");
    let to = format!("type=local,dest={},mode=max", directory.display());
    let from = format!("type=local,src={}", directory.display());
    let (first, _) = build(&space, "store-a", &["--cache-to", &to]);
    let (fresh, run) = build(&space, "store-b", &["--cache-from", "127.0.0.1:1/none:x"]);
    assert_ne!(fresh, first);
    assert!(run.stderr.contains("is not used"), "{}", run.stderr);
    let damage = |part: &str, how: &dyn Fn(&Path)| {
        for entry in std::fs::read_dir(directory.join(part)).unwrap() {
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

#[test]
fn results_are_sent_while_the_build_goes_on() {
    let space = Space::new();
    let cache = space.path("cache");
    std::fs::create_dir_all(cache.join("entries")).unwrap();
    let web = Web::serve(&cache);
    let wait = format!(
        "n=0; until wget -qO- {} | grep step-; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done",
        web.url("entries/")
    );
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN echo first > /first\nRUN {wait}\nRUN false\n"),
    );
    // The second step ends when the first one's result is there; the third one fails.
    let to = format!("type=local,dest={}", cache.display());
    let failed = space.build(&["--cache-to", &to]);
    failed.fails_with(&["RUN false"]);
}

#[test]
fn processes_that_share_at_once_lose_nothing() {
    let space = Space::new();
    let server = S3::start(&space.path("s3"));
    let registry = format!("127.0.0.1:5000/writers-{}:main", std::process::id());
    let directory = format!("type=local,dest={}", space.path("cache").display());
    for (place, to) in [directory, registry, bucket(&server, SECRET)]
        .iter()
        .enumerate()
    {
        let start = |number: usize| {
            let name = format!("Dockerfile.{number}");
            let text = format!(
                "FROM {BUSYBOX}\nRUN head -c 500000 /dev/zero > /same\nRUN echo {number} > /copy; cat /proc/sys/kernel/random/uuid >> /copy\n"
            );
            space.write(&name, text);
            let file = format!("context/{name}");
            let to = format!("{to},mode=max");
            let mut command = space.command(&["build", "context", "-f", &file, "--cache-to", &to]);
            command.args(["-o", &format!("type=local,dest=out-{place}-{number}")]);
            command.env("KILN_ROOT", space.path(format!("store-{place}-{number}")));
            command
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let children: Vec<_> = (0..6).map(start).collect();
        for child in children {
            let run = Run::of(&child.wait_with_output().unwrap()).ok();
            assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
        }
        for number in 0..6 {
            let file = format!("context/Dockerfile.{number}");
            let fresh = format!("fresh-{place}");
            let (copy, _) = build(&space, &fresh, &["-f", &file, "--cache-from", to]);
            let first = read(space.path(format!("out-{place}-{number}/copy")));
            assert_eq!(copy, first, "{to}");
        }
    }
}

/// Pushes an image that carries its cache, and gives its name.
fn pushed(space: &Space, store: &str, args: &[&str]) -> String {
    let name = format!("127.0.0.1:5000/inline-{}-{store}:v1", std::process::id());
    let push = ["--push", "-t", &name, "--cache-to", "type=inline"];
    let mut command = space.command(&["build", "context", "--progress", "plain"]);
    command
        .args(push)
        .args(args)
        .env("KILN_ROOT", space.path(store));
    let run = Run::of(&command.output().unwrap()).ok();
    assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    name
}

fn unpacking(space: &Space) {
    space.write("Dockerfile", format!("FROM {BUSYBOX}
RUN mkdir -p /a/b && echo 1 > /a/b/c && touch -d @1000 /a/b/c && cat /proc/sys/kernel/random/uuid > /out
WORKDIR /work
COPY f .
RUN rm /a/b/c; cat /out f > /copy; ln /copy /link; mkfifo /fifo; true
RUN true
"));
}

#[test]
fn in_the_image_itself() {
    let space = space();
    unpacking(&space);
    let name = pushed(&space, "store-a", &[]);
    let (first, _) = build(&space, "store-a", &[]);
    for (store, from) in [
        ("store-b", name.clone()),
        ("store-c", format!("type=registry,ref={name}")),
        ("store-d", format!("type=inline,ref={name}")),
    ] {
        let (second, run) = build(&space, store, &["--cache-from", &from]);
        assert_eq!(second, first, "no step ran again");
        assert!(!run.stderr.contains("WARNING"), "{}", run.stderr);
    }
    // A step more on top of what was taken, pushed with its cache, for the next one.
    let text = read(space.path("context/Dockerfile"));
    space.write("Dockerfile", format!("{text}RUN cat /copy >> /more\n"));
    let grown = pushed(&space, "store-e", &["--cache-from", &name]);
    let (third, _) = build(&space, "store-f", &["--cache-from", &grown]);
    assert_eq!(third, first);
    // An image on top of one that carries a cache carries only its own.
    space.write("Dockerfile", format!("FROM {name}\nRUN echo top > /top\n"));
    let top = pushed(&space, "store-g", &[]);
    let host = kiln_graph::Platform::host();
    let image = kiln_image::Client::default().resolve(&top, &host).unwrap();
    assert_eq!(image.config.inline_cache.len(), 1);
}

/// The kibibytes of a store's blobs.
fn blobs(space: &Space, store: &str) -> u64 {
    let directories = std::fs::read_dir(space.path(store).join("blobs/sha256")).unwrap();
    let files =
        directories.flat_map(|directory| std::fs::read_dir(directory.unwrap().path()).unwrap());
    let sizes = files.map(|file| file.unwrap().metadata().unwrap().len());
    sizes.sum::<u64>() / 1024
}

#[test]
fn a_pushed_image_is_put_together_in_the_registry() {
    let space = space();
    let steps = "RUN head -c 3000000 /dev/urandom > /big\nRUN cp /big /copy\n";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{steps}"));
    let (name, directory) = (pushed(&space, "there", &[]), space.path("cache"));
    let to = format!("type=local,dest={}", directory.display());
    let other = format!("type=local,src={}", directory.display());
    _ = space
        .command(&["build", "context", "--cache-to", &to])
        .env("KILN_ROOT", space.path("there"))
        .output();
    _ = pushed(&space, "mounted", &["--cache-from", &name]);
    assert!(blobs(&space, "mounted") < 1000, "nothing was fetched");
    // From elsewhere the layers come while the image is sent.
    _ = pushed(&space, "fetched", &["--cache-from", &other]);
    let fetched = blobs(&space, "fetched");
    assert!(fetched > 5000, "{fetched}");
}

#[test]
fn an_image_carries_signed_entries() {
    let space = space();
    unpacking(&space);
    std::fs::write(space.path("key"), "11".repeat(32)).unwrap();
    let key = space.path("key").display().to_string();
    let name = pushed(&space, "signed-a", &["--cache-sign-key", &key]);
    let (first, _) = build(&space, "signed-a", &[]);
    let public = "d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737";
    let other = "a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f0";
    let from = |store: &str, trusted: &str| {
        build(
            &space,
            store,
            &["--cache-from", &name, "--cache-trust", trusted],
        )
    };
    assert_eq!(from("signed-b", public).0, first);
    let (fresh, run) = from("signed-c", other);
    assert_ne!(fresh, first);
    assert!(
        run.stderr.contains("is not signed by a trusted key"),
        "{}",
        run.stderr
    );
}

#[test]
fn steps_without_a_layer_of_their_own_are_said() {
    let space = space();
    unpacking(&space);
    let name = format!("127.0.0.1:5000/inline-{}-squashed:v1", std::process::id());
    let args = [
        "--push",
        "-t",
        &name,
        "--cache-to",
        "type=inline",
        "--layers",
        "squash",
    ];
    let run = space.build(&args).ok();
    assert!(run.stderr.contains("carries no cache of"), "{}", run.stderr);
}
