//! Addresses as they may be shown and kept: without what lets anybody in.
//!
//! A URL may carry a credential in its userinfo (RFC 3986, section 3.2.1), in its query (the
//! signature of a presigned address, a token) and in its fragment. All text about a build passes
//! through [`redact`] before it reaches a terminal, a log, a trace or the store.

use std::borrow::Cow;

use crate::image_path::unescape;

/// What the names of images begin with as sources, in policies and as contexts.
pub const IMAGE_SCHEME: &str = "docker-image://";

/// What stands in place of a credential.
pub const REDACTED: &str = "***";

/// Query keys of git addresses: they choose what is fetched, and open nothing.
const HARMLESS_KEYS: &[&str] = &[
    "ref",
    "branch",
    "tag",
    "commit",
    "checksum",
    "subdir",
    "keep-git-dir",
    "submodules",
];

/// Text with every address in it redacted: the userinfo, and the values of queries.
///
/// The user of an `ssh` address without a password stays, for it is part of the name.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    each(text, true)
}

/// Text with the userinfo of every address in it redacted; for files in which addresses are looked
/// up again, and which the author of the addresses keeps.
#[must_use]
pub fn redact_userinfo(text: &str) -> Cow<'_, str> {
    each(text, false)
}

fn each(text: &str, queries: bool) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let scheme = scheme(before);
        let (address, behind) = after.split_at(length(after));
        one(&mut out, scheme, address, queries);
        rest = behind;
    }
    out.push_str(rest);
    match out == text {
        true => Cow::Borrowed(text),
        false => Cow::Owned(out),
    }
}

/// The last part of a URL's path, decoded; `None` where it has none that can name a file.
#[must_use]
pub fn file_name(url: &str) -> Option<String> {
    let url = url.split(['?', '#']).next()?;
    let (_, path) = url.split_once("://")?.1.split_once('/')?;
    let path = unescape(path).unwrap_or_else(|| path.as_bytes().to_vec());
    let path = String::from_utf8_lossy(&path);
    let name = path.trim_end_matches('/').rsplit('/').next()?;
    (!matches!(name, "" | "." | "..")).then(|| name.to_owned())
}

/// A proxy's address, which may come without a scheme, redacted.
#[must_use]
pub fn redact_proxy(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((_, host)) if !text.contains("://") => format!("{REDACTED}@{host}").into(),
        _ => redact(text),
    }
}

/// Words of a variable's name that say that its value is a credential: those of BuildKit's check
/// `SecretsUsedInArgOrEnv`.
pub const CREDENTIAL_WORDS: &[&str] = &[
    "apikey",
    "auth",
    "credential",
    "credentials",
    "ghtoken",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Whether a variable of this name holds a credential, as far as names tell.
#[must_use]
pub fn names_a_credential(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    !lower.contains("public") && words.any(|word| CREDENTIAL_WORDS.contains(&word))
}

/// The value of a variable as it may be kept: not at all when the name says that it is a
/// credential, without a password when it is an address.
#[must_use]
pub fn redact_variable<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if names_a_credential(name) && !value.is_empty() {
        return Cow::Borrowed(REDACTED);
    }
    match name.to_ascii_lowercase().ends_with("_proxy") {
        true => redact_proxy(value),
        false => redact(value),
    }
}

fn scheme(before: &str) -> &str {
    let name = before.trim_end_matches("://");
    let start = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || "+.-".contains(c)));
    start.map_or(name, |at| {
        &name[at + name[at..].chars().next().map_or(1, char::len_utf8)..]
    })
}

/// How much of a text behind `://` belongs to the address: up to a blank, a quote, or the scheme of
/// the next address. A password may hold what ends an address elsewhere.
fn length(text: &str) -> usize {
    let userinfo = text.find(is_end_of_userinfo).unwrap_or(text.len());
    let userinfo = text[..userinfo].rfind('@').unwrap_or(0);
    let end = text[userinfo..].find(is_end);
    let end = end.map_or(text.len(), |end| userinfo + end);
    match text[..end].find("://") {
        Some(next) => next - scheme(&text[..next + 3]).len(),
        None => end,
    }
}

/// Whether an address in a text ends here.
fn is_end(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '|' | '\\')
}

/// Whether no userinfo goes on here.
fn is_end_of_userinfo(c: char) -> bool {
    is_end(c) && !matches!(c, '|' | '\\' | '`') || matches!(c, '/' | '?' | '#')
}

/// What follows `://`.
fn one(out: &mut String, scheme: &str, address: &str, queries: bool) {
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (authority, rest) = address.split_at(end);
    match authority.rsplit_once('@') {
        None => out.push_str(authority),
        Some((user, host)) if scheme.ends_with("ssh") && !user.contains(':') => {
            out.push_str(user);
            out.push('@');
            out.push_str(host);
        }
        Some((_, host)) => {
            out.push_str(REDACTED);
            out.push('@');
            out.push_str(host);
        }
    }
    if !queries {
        return out.push_str(rest);
    }
    let (path, fragment) = rest
        .split_once('#')
        .map_or((rest, None), |(a, b)| (a, Some(b)));
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(a, b)| (a, Some(b)));
    out.push_str(path);
    if let Some(query) = query {
        out.push('?');
        values(out, query);
    }
    if let Some(fragment) = fragment {
        out.push('#');
        match fragment.contains('=') {
            true => values(out, fragment),
            false => out.push_str(fragment),
        }
    }
}

/// `key=value&key=value` without values that may open something.
fn values(out: &mut String, query: &str) {
    for (number, pair) in query.split('&').enumerate() {
        if number > 0 {
            out.push('&');
        }
        match pair.split_once('=') {
            Some((key, _)) if HARMLESS_KEYS.contains(&key) => out.push_str(pair),
            Some((key, _)) => {
                out.push_str(key);
                out.push('=');
                out.push_str(REDACTED);
            }
            None if pair.is_empty() || HARMLESS_KEYS.contains(&pair) => out.push_str(pair),
            None => out.push_str(REDACTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_files() {
        let cases = [
            ("https://x.example/a/b.tar.gz?c=d/e", Some("b.tar.gz")),
            ("https://x.example/a/#b", Some("a")),
            ("https://x.example/a%20b", Some("a b")),
            ("https://x.example/a%2Fb", Some("b")),
            ("https://x.example/100%", Some("100%")),
            ("https://x.example/a/..", None),
            ("https://x.example/?a/b", None),
            ("https://x.example", None),
        ];
        for (url, want) in cases {
            assert_eq!(file_name(url).as_deref(), want, "{url}");
        }
    }

    #[test]
    fn what_opens_something_is_left_out() {
        let cases = [
            ("nothing here", "nothing here"),
            ("https://h.example/a/b", "https://h.example/a/b"),
            (
                "ADD https://u:pw@h.example/a /b",
                "ADD https://***@h.example/a /b",
            ),
            ("https://ghp_token@h.example", "https://***@h.example"),
            ("'http://u:p@w@h/'", "'http://***@h/'"),
            ("HTTPS://u:pw@h:8/x.", "HTTPS://***@h:8/x."),
            ("ssh://git@h.example/a", "ssh://git@h.example/a"),
            ("git+ssh://git:pw@h/a", "git+ssh://***@h/a"),
            (
                "https://h/a?X-Sig=1&b&ref=v1#sub",
                "https://h/a?X-Sig=***&***&ref=v1#sub",
            ),
            (
                "https://h/a.git?tag=v1#main:dir",
                "https://h/a.git?tag=v1#main:dir",
            ),
            ("https://h/#access_token=x", "https://h/#access_token=***"),
            (
                "a=https://u:p@h,b=https://v:q@i",
                "a=https://***@h,b=https://***@i",
            ),
            (
                "https://h/?to=https://u:p@i/",
                "https://h/?to=***https://***@i/",
            ),
            ("é://u:p@h", "é://***@h"),
            ("https://u:p|w`x\\y@h/a|sh", "https://***@h/a|sh"),
            ("curl https://h/a|sh x@y", "curl https://h/a|sh x@y"),
            ("https://h|x/a@b", "https://h|x/a@b"),
            ("https://h/@scope/pkg", "https://h/@scope/pkg"),
            ("git@github.com:a/b", "git@github.com:a/b"),
        ];
        for (text, want) in cases {
            assert_eq!(redact(text), want, "{text}");
        }
    }

    #[test]
    fn variables() {
        let cases = [
            ("HTTP_PROXY", "u:pw@proxy:3128", "***@proxy:3128"),
            (
                "https_proxy",
                "http://u:pw@proxy:3128",
                "http://***@proxy:3128",
            ),
            ("NPM_TOKEN", "abc", "***"),
            ("PUBLIC_KEY", "abc", "abc"),
            ("MONKEY", "abc", "abc"),
            (
                "INDEX",
                "https://u:pw@pypi.example/simple",
                "https://***@pypi.example/simple",
            ),
        ];
        for (name, value, want) in cases {
            assert_eq!(redact_variable(name, value), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_password_never_stays(
            before in "[a-z \"=,(]{0,8}", user in "[a-z]{0,4}", odd in r"[|\\`~^]{0,3}",
            after in "[a-z/?#&= ]{0,20}",
        ) {
            let text = format!("{before}https://{user}:{odd}hunter2{odd}@h.example/{after}");
            prop_assert!(!redact(&text).contains("hunter2"), "{}", redact(&text));
        }

        #[test]
        fn redacted_text_stays_as_it_is(text in "[a-z:/@?#&=. \u{e9}]{0,40}") {
            let once = redact(&text).into_owned();
            prop_assert_eq!(redact(&once), once.as_str());
        }
    }
}
