//! `--set TARGET.KEY[.NAME]=VALUE`, and the flags that stand for some of them.

use kiln_graph::parse_bool;
use serde_json::{Value, json};

use crate::BakeError;
use crate::environment::Lookup;
use crate::target::Target;

/// What the command line says of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Which targets: a name, or a pattern with `*`, `?` and `[…]`.
    pattern: String,
    key: String,
    /// What comes behind the key, for keys that are maps.
    name: Option<String>,
    value: Option<String>,
}

/// Keys whose values are collected.
const LISTS: &[(&str, &str)] = &[
    ("annotations", "annotations"),
    ("attest", "attest"),
    ("cache-from", "cache-from"),
    ("cache-to", "cache-to"),
    ("entitlements", "entitlements"),
    ("no-cache-filter", "no-cache-filter"),
    ("output", "output"),
    ("outputs", "output"),
    ("platform", "platforms"),
    ("platforms", "platforms"),
    ("secret", "secret"),
    ("secrets", "secret"),
    ("ssh", "ssh"),
    ("tags", "tags"),
    ("ulimits", "ulimits"),
];
const TEXTS: &[&str] = &[
    "call",
    "context",
    "description",
    "dockerfile",
    "dockerfile-inline",
    "network",
    "shm-size",
    "target",
];
const FLAGS: &[&str] = &["load", "no-cache", "pull", "push"];
const MAPS: &[&str] = &["args", "contexts", "extra-hosts", "labels"];

impl std::str::FromStr for Override {
    type Err = BakeError;

    fn from_str(text: &str) -> Result<Self, BakeError> {
        let wrong = |reason: String| BakeError(format!("--set {text}: {reason}"));
        let (path, value) = match text.split_once('=') {
            Some((path, value)) => (path, Some(value.to_owned())),
            None => (text, None),
        };
        let mut parts = path.splitn(3, '.');
        let (pattern, key) = (parts.next().unwrap_or_default(), parts.next());
        let key = key.ok_or_else(|| wrong("write TARGET.KEY=VALUE".to_owned()))?;
        let one = Self {
            pattern: pattern.to_owned(),
            key: key.to_owned(),
            name: parts.next().map(str::to_owned),
            value,
        };
        one.check().map_err(wrong)?;
        Ok(one)
    }
}

impl Override {
    /// The override for all targets that a flag stands for.
    #[must_use]
    pub fn of_all(key: &str, value: &str) -> Self {
        Self {
            pattern: "*".to_owned(),
            key: key.to_owned(),
            name: None,
            value: Some(value.to_owned()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let key = self.key.as_str();
        if MAPS.contains(&key) {
            return match (&self.name, &self.value) {
                (None, _) => Err(format!("{key} needs a name: {key}.NAME")),
                (Some(_), None) if key != "args" => Err("a value is missing".to_owned()),
                _ => Ok(()),
            };
        }
        let value = self.value.as_deref().ok_or("a value is missing")?;
        if FLAGS.contains(&key) {
            return flag(value).map(drop);
        }
        match TEXTS.contains(&key) || list_of(key).is_some() {
            true => Ok(()),
            false => Err(format!("there is no key '{key}'")),
        }
    }

    pub(crate) fn fits(&self, name: &str) -> bool {
        fits(&self.pattern, name)
    }

    pub(crate) fn pattern(&self) -> &str {
        &self.pattern
    }
}

fn list_of(key: &str) -> Option<&'static str> {
    let found = LISTS.iter().find(|(own, _)| *own == key);
    found.map(|(_, attribute)| *attribute)
}

/// A truth as Go reads it.
pub(crate) fn flag(value: &str) -> Result<bool, String> {
    parse_bool(value).ok_or_else(|| format!("'{value}' is not true or false"))
}

/// Applies the overrides that fit a target. Lists replace the target's own, those that only add
/// excepted: annotations, attestations, limits.
pub(crate) fn apply(target: &mut Target, all: &[&Override], env: Lookup<'_>) {
    let mut begun: Vec<&str> = Vec::new();
    for one in all {
        let key = one.key.as_str();
        let value = one.value.as_deref().unwrap_or_default();
        if let Some(attribute) = list_of(key) {
            let adds = ["annotations", "attest", "ulimits"].contains(&attribute);
            if !adds && !begun.contains(&attribute) {
                begun.push(attribute);
                target.set(attribute, json!([]));
            }
            target.push(attribute, value);
        } else if let Some(name) = &one.name.as_ref().filter(|_| MAPS.contains(&key)) {
            let given = one.value.clone().or_else(|| env(name));
            if let Some(value) = given {
                target.merge_one(key, json!({ *name: value }));
            }
        } else if FLAGS.contains(&key) {
            let flag = flag(value).unwrap_or(false);
            match key {
                "push" => push(target, flag),
                "load" if flag => target.push("output", "type=docker"),
                "load" => {}
                _ => target.set(key, flag.into()),
            }
        } else {
            target.set(key, value.into());
        }
    }
}

/// Has a target's images pushed, or not.
fn push(target: &mut Target, wanted: bool) {
    let outputs = target.list("output");
    let is_image = |output: &String| {
        let kind = output
            .split(',')
            .find_map(|field| field.strip_prefix("type="));
        matches!(kind, Some("image" | "registry"))
    };
    if wanted && !outputs.iter().any(is_image) {
        target.push("output", "type=image,push=true");
        return;
    }
    let set = |output: String| match is_image(&output) {
        true => {
            let kept = output
                .split(',')
                .filter(|field| !field.starts_with("push="));
            let kept: Vec<&str> = kept.collect();
            Value::from(format!("{},push={wanted}", kept.join(",")))
        }
        false => output.into(),
    };
    target.set(
        "output",
        Value::Array(outputs.into_iter().map(set).collect()),
    );
}

/// Whether a name fits a pattern: `*` is any text, `?` any character, `[a-z]` one of a set.
fn fits(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    let Some(first) = rest.next() else {
        return name.is_empty();
    };
    let mut own = name.chars();
    match first {
        '*' => {
            let starts = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            let mut starts = starts;
            starts.any(|at| fits(rest.as_str(), &name[at..]))
        }
        '[' => {
            let Some((set, rest)) = rest.as_str().split_once(']') else {
                return false;
            };
            own.next().is_some_and(|c| is_in(set, c)) && fits(rest, own.as_str())
        }
        '?' => own.next().is_some() && fits(rest.as_str(), own.as_str()),
        first => own.next() == Some(first) && fits(rest.as_str(), own.as_str()),
    }
}

fn is_in(set: &str, c: char) -> bool {
    let (set, negated) = match set.strip_prefix('^') {
        Some(set) => (set, true),
        None => (set, false),
    };
    let all: Vec<char> = set.chars().collect();
    let mut at = 0;
    let mut found = false;
    while at < all.len() {
        match all.get(at + 1..at + 3) {
            Some(&['-', last]) => {
                found |= (all[at]..=last).contains(&c);
                at += 3;
            }
            _ => {
                found |= all[at] == c;
                at += 1;
            }
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("a", "a", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[abd]", "d", true),
            ("[a", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (text, says) in [
            ("app", "TARGET.KEY=VALUE"),
            ("app=1", "TARGET.KEY=VALUE"),
            ("app.nope=1", "no key 'nope'"),
            ("app.args=1", "args.NAME"),
            ("app.tags", "a value is missing"),
            ("app.pull=perhaps", "'perhaps' is not true or false"),
        ] {
            let error = text.parse::<Override>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
