//! Licences as SPDX expressions (SPDX 2.3, annex D), from what packages write.

use std::collections::BTreeSet;

use spdx::{Expression, ParseMode};

/// Words about a licence that are longer aren't read as an expression, in bytes.
const MAX_WORDS: usize = 4096;

/// A licence in the words of its package as an expression: itself when it is one, else the
/// nearest that the list of licences has, else a reference to a licence of that name.
pub(crate) fn expression(words: &str) -> Option<String> {
    let words = words.trim();
    if words.is_empty() || words.eq_ignore_ascii_case("unknown") {
        return None;
    }
    Some(known(words).unwrap_or_else(|| reference(words)))
}

/// An expression, if these words are one or nearly are.
pub(crate) fn known(words: &str) -> Option<String> {
    if words.len() > MAX_WORDS {
        return None;
    }
    if let Ok(parsed) = Expression::parse(words) {
        return Some(parsed.to_string());
    }
    let relaxed = Expression::parse_mode(words, ParseMode::LAX).ok();
    let relaxed = relaxed.and_then(|_| Expression::canonicalize(words).ok().flatten());
    relaxed
        .filter(|text| Expression::parse(text).is_ok())
        .or_else(|| imprecise(words))
}

/// The licence of the list that these words mean, if they are about nothing else.
fn imprecise(words: &str) -> Option<String> {
    let (id, length) = spdx::imprecise_license_id(words)?;
    (length == words.len()).then(|| id.name.to_owned())
}

/// A reference to a licence that the list doesn't have.
fn reference(words: &str) -> String {
    let mut name = String::new();
    for c in words.chars().take(80) {
        if c.is_ascii_alphanumeric() || c == '.' {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    format!("LicenseRef-{}", name.trim_matches('-'))
}

/// What holds all at once, or any of which can be chosen.
pub(crate) fn joined(parts: &BTreeSet<String>, word: &str) -> Option<String> {
    let bracket = |part: &String| match part.contains(' ') && parts.len() > 1 {
        true => format!("({part})"),
        false => part.clone(),
    };
    let joined = parts.iter().map(bracket).collect::<Vec<_>>();
    (!joined.is_empty()).then(|| joined.join(&format!(" {word} ")))
}

/// The references in an expression.
pub(crate) fn references(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split([' ', '(', ')']);
    words.filter(|word| word.starts_with("LicenseRef-"))
}

/// A licence's short name in a machine-readable Debian copyright file (copyright-format 1.0,
/// section 7), which may join several with `and`, `or` and commas.
pub(crate) fn debian(words: &str) -> Option<String> {
    if words.len() > MAX_WORDS {
        return None;
    }
    let words = words.replace(',', "");
    let mut out = Vec::new();
    let mut parts = words.split_whitespace().peekable();
    while let Some(part) = parts.next() {
        match part.to_ascii_lowercase().as_str() {
            "and" => out.push("AND".to_owned()),
            "or" => out.push("OR".to_owned()),
            "with" => {
                // An exception's name has words of its own, up to the next operator.
                let is_operator = |word: &&str| matches!(*word, "and" | "or");
                while parts.next_if(|word| !is_operator(word)).is_some() {}
            }
            _ => out.push(debian_name(part)),
        }
    }
    let text = out.join(" ");
    Expression::parse(&text).ok().map(|_| text)
}

fn debian_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let plain = match lower.as_str() {
        "expat" => Some("MIT"),
        "artistic" | "perl" => Some("Artistic-1.0-Perl"),
        "psf" | "python" => Some("PSF-2.0"),
        _ => None,
    };
    plain
        .map(str::to_owned)
        .or_else(|| gnu(&lower))
        .or_else(|| listed(name))
        .or_else(|| imprecise(name))
        .unwrap_or_else(|| reference(name))
}

/// The licence that the list has under a name, whatever its case.
fn listed(name: &str) -> Option<String> {
    let mut all = spdx::identifiers::LICENSES.iter();
    let found = all.find(|license| license.name.eq_ignore_ascii_case(name))?;
    Some(found.name.to_owned())
}

/// `gpl-2+` and its like.
fn gnu(name: &str) -> Option<String> {
    let (family, version) = name.split_once('-')?;
    let family = match family {
        "gpl" => "GPL",
        "lgpl" => "LGPL",
        "agpl" => "AGPL",
        "gfdl" | "fdl" => "GFDL",
        _ => return None,
    };
    let (version, later) = match version.strip_suffix('+') {
        Some(version) => (version, "or-later"),
        None => (version, "only"),
    };
    let version = match version.contains('.') {
        true => version.to_owned(),
        false => format!("{version}.0"),
    };
    let id = format!("{family}-{version}-{later}");
    spdx::license_id(&id).map(|id| id.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_expressions() {
        let cases = [
            ("MIT", "MIT"),
            ("Apache-2.0 OR MIT", "Apache-2.0 OR MIT"),
            ("GPLv2+ and strange", "LicenseRef-GPLv2-and-strange"),
            ("my own, see file", "LicenseRef-my-own-see-file"),
        ];
        for (words, want) in cases {
            assert_eq!(expression(words).as_deref(), Some(want), "{words}");
        }
        assert_eq!(expression("  "), None);
    }

    #[test]
    fn debian_short_names() {
        let cases = [
            ("GPL-2+", "GPL-2.0-or-later"),
            ("LGPL-2.1", "LGPL-2.1-only"),
            ("Expat", "MIT"),
            ("BSD-3-clause", "BSD-3-Clause"),
            (
                "GPL-1+ or Artistic",
                "GPL-1.0-or-later OR Artistic-1.0-Perl",
            ),
            ("GPL-3+ with Autoconf exception", "GPL-3.0-or-later"),
            ("public-domain", "LicenseRef-public-domain"),
        ];
        for (words, want) in cases {
            assert_eq!(debian(words).as_deref(), Some(want), "{words}");
        }
    }

    #[test]
    fn several_at_once() {
        let parts = ["MIT".to_owned(), "A OR B".to_owned()].into();
        assert_eq!(joined(&parts, "AND").as_deref(), Some("(A OR B) AND MIT"));
        assert_eq!(joined(&BTreeSet::new(), "AND"), None);
        let found: Vec<&str> = references("MIT AND (LicenseRef-a OR LicenseRef-b)").collect();
        assert_eq!(found, ["LicenseRef-a", "LicenseRef-b"]);
    }
}
