//! The flags of kaniko's executor, and reading them as it does.

use std::collections::BTreeMap;

use crate::command::hint::nearest;

/// What a flag means to kiln.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is translated.
    Translated,
    /// It changes nothing here.
    Nothing,
    /// It can't be had; the text says what to use instead.
    Refused(&'static str),
}

use Meaning::{Nothing, Refused, Translated};

/// A flag.
#[derive(Debug)]
struct Flag {
    name: &'static str,
    short: Option<char>,
    /// An older spelling.
    alias: Option<&'static str>,
    /// Whether a value follows it; otherwise it is true or false.
    takes_value: bool,
    meaning: Meaning,
}

const fn value(name: &'static str, meaning: Meaning) -> Flag {
    Flag {
        name,
        short: None,
        alias: None,
        takes_value: true,
        meaning,
    }
}

const fn switch(name: &'static str, meaning: Meaning) -> Flag {
    Flag {
        takes_value: false,
        ..value(name, meaning)
    }
}

impl Flag {
    const fn short(self, short: char) -> Self {
        Self {
            short: Some(short),
            ..self
        }
    }

    const fn alias(self, alias: &'static str) -> Self {
        Self {
            alias: Some(alias),
            ..self
        }
    }
}

const FLAGS: &[Flag] = &[
    value("build-arg", Translated),
    switch("cache", Translated),
    switch("cache-copy-layers", Nothing),
    value("cache-dir", Nothing),
    value("cache-repo", Translated),
    switch("cache-run-layers", Nothing),
    value("cache-ttl", Nothing),
    switch("cleanup", Nothing),
    switch("compressed-caching", Nothing),
    value("compression", Translated),
    value("compression-level", Translated),
    value("context", Translated).short('c'),
    value("context-sub-path", Translated),
    value("custom-platform", Translated).alias("customPlatform"),
    value("destination", Translated).short('d'),
    value("digest-file", Translated),
    value("dockerfile", Translated).short('f'),
    switch("force", Nothing),
    switch("force-build-metadata", Nothing),
    value(
        "git",
        Refused("name the branch in the context: git://HOST/REPOSITORY#refs/heads/BRANCH"),
    ),
    value("ignore-path", Nothing),
    switch("ignore-var-run", Nothing).alias("whitelist-var-run"),
    value("image-download-retry", Nothing),
    value("image-fs-extract-retry", Nothing),
    value("image-name-tag-with-digest-file", Translated),
    value("image-name-with-digest-file", Translated),
    switch("insecure", Translated),
    switch("insecure-pull", Translated),
    value("insecure-registry", Translated),
    value("kaniko-dir", Nothing),
    value("label", Translated),
    value("log-format", Nothing),
    switch("log-timestamp", Nothing),
    switch("no-push", Translated),
    switch("no-push-cache", Translated),
    value("oci-layout-path", Translated),
    switch(
        "push-ignore-immutable-tag-errors",
        Refused("push a tag that is not there yet"),
    ),
    value("push-retry", Nothing),
    value("registry-certificate", Translated),
    value(
        "registry-client-cert",
        Refused("kiln sends no client certificates"),
    ),
    value("registry-map", Translated),
    value("registry-mirror", Translated),
    switch("reproducible", Translated),
    switch("single-snapshot", Translated),
    switch("skip-default-registry-fallback", Nothing),
    switch("skip-push-permission-check", Nothing),
    switch("skip-tls-verify", Translated),
    switch("skip-tls-verify-pull", Translated),
    value("skip-tls-verify-registry", Translated),
    switch("skip-unused-stages", Nothing),
    value("snapshot-mode", Nothing).alias("snapshotMode"),
    value("tar-path", Translated).alias("tarPath"),
    value("target", Translated),
    switch("use-new-run", Nothing),
    value("verbosity", Nothing).short('v'),
];

/// What was given on the command line.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<&'static str, Vec<String>>);

impl Given {
    /// All values of a flag, in order.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The last value of a flag.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        let last = self.all(name).last().map(String::as_str);
        last.filter(|text| !text.is_empty())
    }

    /// Whether a flag is given, and not as false.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.last(name).is_some_and(|text| text != "false")
    }
}

/// Reads the executor's arguments.
pub(super) fn parse(args: &[String]) -> Result<Given, String> {
    let mut given = Given::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (flag, value) = find(arg)?;
        let value = match (flag.takes_value, value) {
            (_, Some(value)) => value.to_owned(),
            (false, None) => "true".to_owned(),
            (true, None) => {
                let value = rest.next();
                value
                    .cloned()
                    .ok_or_else(|| format!("{arg} needs a value"))?
            }
        };
        if !flag.takes_value && !["true", "false", "1", "0"].contains(&value.as_str()) {
            return Err(format!("--{}={value}: use true or false", flag.name));
        }
        let value = match (flag.takes_value, value.as_str()) {
            (false, "1") => "true".to_owned(),
            (false, "0") => "false".to_owned(),
            _ => value,
        };
        if let (Refused(instead), true) = (flag.meaning, value != "false") {
            return Err(format!("--{} can't be had: {instead}", flag.name));
        }
        given.0.entry(flag.name).or_default().push(value);
    }
    Ok(given)
}

fn find(arg: &str) -> Result<(&'static Flag, Option<&str>), String> {
    let unknown = || {
        let typed = arg.split('=').next().unwrap_or(arg);
        match nearest(typed, names()) {
            Some(near) => format!("'{typed}' is no flag of the executor; did you mean {near}?"),
            None => {
                let all = names().collect::<Vec<_>>().join(" ");
                format!("'{typed}' is no flag of the executor: use {all}")
            }
        }
    };
    if let Some(long) = arg.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let is = |flag: &&Flag| flag.name == name || flag.alias == Some(name);
        let flag = FLAGS.iter().find(is).ok_or_else(unknown)?;
        return Ok((flag, value));
    }
    let mut letters = arg.strip_prefix('-').ok_or_else(unknown)?.chars();
    let letter = letters.next();
    let is = |flag: &&Flag| flag.short.is_some() && flag.short == letter;
    let flag = FLAGS.iter().find(is).ok_or_else(unknown)?;
    let value = letters.as_str();
    let value = value.strip_prefix('=').unwrap_or(value);
    Ok((flag, (!value.is_empty()).then_some(value)))
}

/// The flags that are not refused.
pub(super) fn names() -> impl Iterator<Item = String> {
    let usable = FLAGS
        .iter()
        .filter(|flag| !matches!(flag.meaning, Refused(_)));
    usable.map(|flag| format!("--{}", flag.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Given, String> {
        parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_as_they_are_written() {
        let given = read(&[
            "--context=dir:///workspace",
            "-f",
            "Dockerfile",
            "-dA",
            "--destination",
            "B",
            "--cache",
            "--no-push=false",
            "--snapshotMode=redo",
            "--reproducible=1",
        ])
        .unwrap();
        assert_eq!(given.last("context"), Some("dir:///workspace"));
        assert_eq!(given.last("dockerfile"), Some("Dockerfile"));
        assert_eq!(given.all("destination"), ["A", "B"]);
        assert!(given.is_set("cache") && given.is_set("reproducible"));
        assert!(!given.is_set("no-push") && !given.is_set("target"));
        assert_eq!(given.last("snapshot-mode"), Some("redo"));
    }

    #[test]
    fn what_can_not_be_had_says_what_to_use() {
        let error = |args: &[&str]| read(args).unwrap_err();
        assert!(error(&["--git", "branch=x"]).contains("#refs/heads/BRANCH"));
        assert!(read(&["--push-ignore-immutable-tag-errors=false"]).is_ok());
        assert!(error(&["--frobnicate"]).contains("--destination"));
        assert!(error(&["--destination"]).contains("needs a value"));
        assert!(error(&["--cache=maybe"]).contains("true or false"));
        assert!(error(&["context"]).contains("no flag"));
    }
}
