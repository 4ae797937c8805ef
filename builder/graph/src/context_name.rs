//! The names of named contexts.

use std::collections::BTreeMap;

use crate::Platform;

/// The name that a build file has for a context, and the platform that the context is for: `NAME::linux/arm64` is for
/// that one alone. What follows `::` and is no platform is part of the name.
#[must_use]
pub fn split_context_name(text: &str) -> (&str, Option<Platform>) {
    let one = text.rsplit_once("::").and_then(|(name, platform)| {
        let platform: Platform = platform.parse().ok()?;
        Some((name, Some(platform)))
    });
    one.unwrap_or((text, None))
}

/// Of what is known by the names of contexts, that which is for a platform: one that names the platform comes first.
pub fn context_for<'a, T>(
    contexts: &'a BTreeMap<String, T>,
    is_wanted: impl Fn(&str) -> bool,
    platform: &Platform,
) -> Option<(&'a str, &'a T)> {
    let find = |wanted: Option<&Platform>| {
        contexts.iter().find(|(known, _)| {
            let (name, own) = split_context_name(known);
            own.as_ref() == wanted && is_wanted(name)
        })
    };
    let found = find(Some(platform)).or_else(|| find(None));
    found.map(|(known, context)| (known.as_str(), context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_come_first() {
        let [arm, amd] = ["arm64", "amd64"].map(|name| Platform::new("linux", name, ""));
        let names = ["a", "a::linux/arm64/v8", "b::linux/amd64", "c::/"];
        let contexts: BTreeMap<String, usize> = names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(0..)
            .collect();
        let find = |name: &str, platform| {
            let found = context_for(&contexts, |known| known == name, platform);
            found.map(|(_, number)| *number)
        };
        assert_eq!((find("a", &arm), find("a", &amd)), (Some(1), Some(0)));
        assert_eq!((find("b", &arm), find("b", &amd)), (None, Some(2)));
        assert_eq!(find("c::/", &amd), Some(3));
    }
}
