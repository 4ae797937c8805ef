//! Commands of other tools: those with an equal here are taken for it, the others are answered.

use std::ffi::OsString;

use Answer::{Is, Says};

/// A command of another tool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verb {
    /// Its words.
    pub(crate) words: &'static [&'static str],
    pub(crate) answer: Answer,
}

/// What a command is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// These words mean the same here.
    Is(&'static [&'static str]),
    /// It is refused with this sentence.
    Says(&'static str),
}

const fn verb(words: &'static [&'static str], answer: Answer) -> Verb {
    Verb { words, answer }
}

const IMAGE_TOOLS: &str =
    "'kiln image inspect NAME' shows an image, 'kiln image create -t NAME IMAGE…' merges images";
const NO_BUILDERS: &str =
    "kiln has no builders to choose from or to start: 'kiln build' is the builder";
const NO_CONTAINERS: &str = "kiln builds images and runs no containers: 'kiln build --load' gives the image to Docker; 'kiln shell' opens a shell in a step";
const CREDENTIALS: &str = "kiln keeps no credentials: it reads those of 'docker login' (~/.docker/config.json, with its helpers)";
const ONE_BUILD: &str = "'kiln history' lists builds; with --build ID 'kiln explain' shows the steps of one, 'kiln logs' prints their output, 'kiln timeline' writes them as a page";
const BY_FILE: &str = "kiln builds images from a Dockerfile or a kiln.toml, not command by command: 'kiln init' writes one";

/// All of them. Of several that fit, the longest counts.
pub(crate) const VERBS: &[Verb] = &[
    // docker and podman
    verb(&["builder", "build"], Is(&["build"])),
    verb(&["builder", "prune"], Is(&["prune"])),
    verb(&["image", "build"], Is(&["build"])),
    verb(
        &["image", "prune"],
        Says(
            "'kiln prune' removes what the store no longer needs; --keep-images N removes old tags",
        ),
    ),
    verb(&["image", "list"], Is(&["image", "ls"])),
    verb(&["image", "remove"], Is(&["image", "rm"])),
    verb(
        &["image", "save"],
        Says("'kiln build -o type=docker,dest=FILE' writes an archive for 'docker load'"),
    ),
    verb(&["image", "history"], Is(&["image", "layers"])),
    verb(&["images"], Is(&["image", "ls"])),
    verb(&["rmi"], Is(&["image", "rm"])),
    verb(&["tag"], Is(&["image", "tag"])),
    verb(&["push"], Is(&["image", "push"])),
    verb(&["pull"], Is(&["image", "pull"])),
    verb(&["inspect"], Is(&["image", "inspect"])),
    verb(&["load"], Is(&["image", "load"])),
    verb(&["history", "ls"], Is(&["history"])),
    verb(&["history", "logs"], Says(ONE_BUILD)),
    verb(&["history", "inspect"], Says(ONE_BUILD)),
    verb(&["volume", "list"], Is(&["volume", "ls"])),
    verb(&["volume", "remove"], Is(&["volume", "rm"])),
    verb(
        &["volume", "prune"],
        Says(
            "'kiln prune' removes what was long unused, volumes too; 'kiln volume rm NAME' removes one",
        ),
    ),
    verb(
        &["volume", "create"],
        Says("the first step with RUN --mount=type=cache,id=NAME makes a volume"),
    ),
    verb(
        &["save"],
        Says("'kiln build -o type=docker,dest=FILE' writes an archive for 'docker load'"),
    ),
    verb(&["import"], Says("build FROM scratch with ADD FILE.tar /")),
    verb(&["commit"], Says(BY_FILE)),
    verb(&["login"], Says(CREDENTIALS)),
    verb(&["logout"], Says(CREDENTIALS)),
    verb(&["run"], Says(NO_CONTAINERS)),
    verb(&["exec"], Says(NO_CONTAINERS)),
    verb(&["ps"], Says(NO_CONTAINERS)),
    verb(&["rm"], Says(NO_CONTAINERS)),
    verb(&["start"], Says(NO_CONTAINERS)),
    verb(&["stop"], Says(NO_CONTAINERS)),
    verb(&["kill"], Says(NO_CONTAINERS)),
    verb(&["container"], Says(NO_CONTAINERS)),
    verb(&["compose", "build"], Is(&["bake"])),
    verb(&["compose"], Says(NO_CONTAINERS)),
    verb(
        &["manifest", "create"],
        Says("'kiln image create -t NAME IMAGE…' merges images into an index"),
    ),
    verb(&["manifest", "inspect"], Is(&["image", "inspect"])),
    verb(&["manifest", "push"], Is(&["image", "push"])),
    verb(&["system", "df"], Is(&["du"])),
    verb(&["system", "prune"], Is(&["prune"])),
    verb(&["info"], Is(&["doctor"])),
    verb(&["version"], Is(&["--version"])),
    verb(&["-v"], Is(&["--version"])),
    verb(
        &["cache"],
        Says(
            "'kiln du' shows the cache, 'kiln prune' removes what is unused, 'kiln volume' manages cache volumes",
        ),
    ),
    verb(&["search"], Says("search in the registry's own pages")),
    // docker buildx
    verb(&["buildx", "build"], Is(&["build"])),
    verb(&["buildx", "b"], Is(&["build"])),
    verb(&["buildx", "bake"], Is(&["bake"])),
    verb(&["buildx", "f"], Is(&["bake"])),
    verb(&["buildx", "du"], Is(&["du"])),
    verb(&["buildx", "prune"], Is(&["prune"])),
    verb(
        &["buildx", "imagetools", "create"],
        Is(&["image", "create"]),
    ),
    verb(
        &["buildx", "imagetools", "inspect"],
        Is(&["image", "inspect"]),
    ),
    verb(&["buildx", "imagetools"], Says(IMAGE_TOOLS)),
    verb(&["buildx", "history", "ls"], Is(&["history"])),
    verb(&["buildx", "history", "logs"], Says(ONE_BUILD)),
    verb(&["buildx", "history", "inspect"], Says(ONE_BUILD)),
    verb(&["buildx", "history"], Is(&["history"])),
    verb(
        &["buildx", "dap"],
        Says("'kiln build --debug' opens a shell where a step failed"),
    ),
    verb(&["buildx", "version"], Is(&["--version"])),
    verb(&["buildx"], Says(NO_BUILDERS)),
    verb(&["imagetools", "create"], Is(&["image", "create"])),
    verb(&["imagetools", "inspect"], Is(&["image", "inspect"])),
    verb(&["imagetools"], Says(IMAGE_TOOLS)),
    // buildah
    verb(&["bud"], Is(&["build"])),
    verb(&["build-using-dockerfile"], Is(&["build"])),
    verb(&["from"], Says(BY_FILE)),
    verb(&["copy"], Says(BY_FILE)),
    verb(&["add"], Says(BY_FILE)),
    verb(&["config"], Says(BY_FILE)),
    verb(
        &["mount"],
        Says(
            "'kiln build -o DIRECTORY' writes the files of an image; 'kiln shell' opens a shell in a step",
        ),
    ),
    verb(
        &["unshare"],
        Says("kiln enters a user namespace by itself where it needs one"),
    ),
];

/// `buildx --builder NAME build` says the same as `buildx build`: kiln is the builder.
pub(crate) fn without_builder(mut words: Vec<OsString>) -> Vec<OsString> {
    let flag = match &words[..] {
        [buildx, flag, ..] if buildx == "buildx" => flag.to_string_lossy().into_owned(),
        _ => return words,
    };
    let count = match flag.as_str() {
        "--builder" => 2.min(words.len() - 1),
        flag if flag.starts_with("--builder=") => 1,
        _ => return words,
    };
    words.drain(1..=count);
    words
}

/// The words of a command line, without the program's name, in kiln's own words.
///
/// # Errors
/// The sentence for a command that has no equal.
pub(crate) fn translate(words: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let words = without_builder(words);
    let fits = |verb: &&Verb| {
        let given = words.iter().take(verb.words.len());
        words.len() >= verb.words.len() && given.eq(verb.words.iter())
    };
    let found = VERBS.iter().filter(fits);
    let Some(verb) = found.max_by_key(|verb| verb.words.len()) else {
        return Ok(words);
    };
    match verb.answer {
        Is(own) => {
            let rest = words.into_iter().skip(verb.words.len());
            Ok(own.iter().map(OsString::from).chain(rest).collect())
        }
        Says(text) => Err(format!("kiln has no '{}': {text}", verb.words.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> Result<String, String> {
        let words = line.split_whitespace().map(OsString::from).collect();
        let words = translate(words)?;
        let words: Vec<String> = words
            .into_iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        Ok(words.join(" "))
    }

    #[test]
    fn commands_with_an_equal_are_taken_for_it() {
        for (line, want) in [
            ("build .", "build ."),
            ("bud -t a .", "build -t a ."),
            ("buildx build --load .", "build --load ."),
            ("buildx --builder x build .", "build ."),
            ("buildx --builder=x bake", "bake"),
            ("buildx imagetools inspect a", "image inspect a"),
            ("images", "image ls"),
            ("tag a b", "image tag a b"),
            ("load -i a.tar", "image load -i a.tar"),
            ("history ls", "history"),
            ("-v", "--version"),
            ("image ls", "image ls"),
            ("history", "history"),
        ] {
            assert_eq!(translated(line).as_deref(), Ok(want), "{line}");
        }
        for (line, says) in [
            ("login r.example", "docker login"),
            ("imagetools", "kiln image create"),
            ("buildx imagetools --help", "kiln image create"),
            ("run busybox", "runs no containers"),
            ("history inspect x", "--build ID"),
            ("volume prune", "kiln volume rm"),
            ("buildx create --use", "'kiln build' is the builder"),
        ] {
            let text = translated(line).unwrap_err();
            assert!(text.contains(says), "{line}: {text}");
        }
    }
}
