//! Rules about what builds take from elsewhere: `[[sources]]` of a policy.
//!
//! ```toml
//! unmatched-sources = "deny"                    # those that no rule is about; default: allow
//!
//! [[sources]]                                   # the first rule that matches decides
//! match = "docker-image://docker.io/library/*"  # * is anything
//! pin = true                                    # by digest, commit or checksum, or by kiln.lock
//! signed-by = "base.pub"                        # images: the key, beside the policy
//! attestations = ["provenance"]                 # what the key must have signed
//! # or verify = { … }, as in `super::signature`
//!
//! [[sources]]
//! match = "http://*"
//! action = "deny"
//! reason = "use https"
//!
//! [[tests]]                                     # for `kiln policy test`
//! source = "http://example.com/x"
//! expect = "deny"
//! ```
//!
//! Sources are named as BuildKit's policies name them: `docker-image://HOST/REPOSITORY:TAG`,
//! `git://HOST/PATH#REFERENCE` whatever the protocol, and the address of a file.

use std::path::{Path, PathBuf};

use kiln_attest::matches_wildcard;
use kiln_graph::address::{IMAGE_SCHEME, redact};
use kiln_image::ImageName;
use serde::Deserialize;

use super::signature::SignatureRule;

/// Whether something may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Decision {
    /// It may, if it meets what is required.
    #[default]
    Allow,
    /// It may not.
    Deny,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SourceRule {
    #[serde(rename = "match")]
    pattern: String,
    #[serde(default)]
    action: Decision,
    #[serde(default)]
    pin: bool,
    signed_by: Option<PathBuf>,
    #[serde(default)]
    attestations: Vec<String>,
    verify: Option<SignatureRule>,
    reason: Option<String>,
}

/// A source as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceName {
    identifier: String,
    is_pinned: bool,
}

/// The rules of a policy about sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRules {
    rules: Vec<SourceRule>,
    unmatched: Decision,
    warn: bool,
}

impl SourceName {
    /// An image. Of one in a registry, the whole name counts: `busybox` is
    /// `docker-image://docker.io/library/busybox:latest`.
    #[must_use]
    pub fn image(name: &str, is_locked: bool) -> Self {
        let Ok(ImageName::Registry(mut reference)) = name.parse() else {
            return Self {
                identifier: name.to_owned(),
                is_pinned: is_locked,
            };
        };
        reference.host.make_ascii_lowercase();
        Self {
            is_pinned: is_locked || reference.digest.is_some(),
            identifier: format!("{IMAGE_SCHEME}{reference}"),
        }
    }

    /// A git repository at a reference.
    #[must_use]
    pub fn git(remote: &str, reference: &str, is_pinned: bool) -> Self {
        let address = match remote.split_once("://") {
            Some((_, address)) => normal(address),
            // `git@host:path`, as ssh has it.
            None => normal(&remote.replacen(':', "/", 1)),
        };
        let fragment = match reference {
            "" => String::new(),
            reference => format!("#{reference}"),
        };
        Self {
            identifier: format!("git://{address}{fragment}"),
            is_pinned,
        }
    }

    /// A file on a web server.
    #[must_use]
    pub fn http(url: &str, is_pinned: bool) -> Self {
        let identifier = match url.split_once("://") {
            Some((scheme, address)) => {
                format!("{}://{}", scheme.to_ascii_lowercase(), normal(address))
            }
            None => url.to_owned(),
        };
        Self {
            identifier,
            is_pinned,
        }
    }

    /// A source as a policy's tests name it.
    #[must_use]
    pub fn parse(text: &str, is_pinned: bool) -> Self {
        if let Some(image) = text.strip_prefix(IMAGE_SCHEME) {
            return Self::image(image, is_pinned);
        }
        match text.split_once("://") {
            Some(("git", address)) => {
                let (remote, reference) = address.split_once('#').unwrap_or((address, ""));
                Self::git(&format!("git://{remote}"), reference, is_pinned)
            }
            Some(_) => Self::http(text, is_pinned),
            None => Self::image(text, is_pinned),
        }
    }

    /// The name as BuildKit's policies have it, with all that is in it.
    #[must_use]
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    fn is_image(&self) -> bool {
        self.identifier.starts_with(IMAGE_SCHEME)
    }
}

impl std::fmt::Display for SourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&redact(&self.identifier))
    }
}

/// An address of which hosts have one spelling only: no user, lower case, no usual port, no last dot.
fn normal(address: &str) -> String {
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (host, rest) = address.split_at(end);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = host.to_ascii_lowercase();
    let host = [":443", ":80", ":22"]
        .iter()
        .find_map(|port| host.strip_suffix(port))
        .unwrap_or(&host);
    format!("{}{rest}", host.trim_end_matches('.'))
}

impl SourceRules {
    pub(super) fn new(
        mut rules: Vec<SourceRule>,
        unmatched: Decision,
        warn: bool,
        directory: &Path,
    ) -> Result<Self, String> {
        for (number, rule) in rules.iter_mut().enumerate() {
            rule.check()
                .map_err(|reason| format!("sources, rule {}: {reason}", number + 1))?;
            let signature = rule.signature();
            rule.verify = signature.map(|signature| signature.below(directory));
        }
        Ok(Self {
            rules,
            unmatched,
            warn,
        })
    }

    /// Whether there is nothing to check.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.unmatched == Decision::Allow
    }

    /// Whether what is denied is only warned of.
    #[must_use]
    pub fn only_warns(&self) -> bool {
        self.warn
    }

    /// Whether a source may be used, and the signature it must have.
    ///
    /// # Errors
    /// When it may not: the rule, in words.
    pub fn check(&self, source: &SourceName) -> Result<Option<&SignatureRule>, String> {
        let mut rules = self.rules.iter().enumerate();
        let found = rules.find(|(_, rule)| matches_wildcard(&rule.pattern, &source.identifier));
        let Some((number, rule)) = found else {
            return match self.unmatched {
                Decision::Allow => Ok(None),
                Decision::Deny => Err("no rule allows it".to_owned()),
            };
        };
        let denied = |why: &str| {
            let reason = rule.reason.as_deref().map(|text| format!(": {text}"));
            let (number, pattern) = (number + 1, &rule.pattern);
            let reason = reason.unwrap_or_default();
            Err(format!("rule {number} ({pattern}) {why}{reason}"))
        };
        if rule.action == Decision::Deny {
            return denied("denies it");
        }
        if rule.pin && !source.is_pinned {
            return denied("wants a digest, a commit or a checksum, or an entry in kiln.lock");
        }
        match &rule.verify {
            Some(_) if !source.is_image() => {
                denied("wants a signature, which only images of registries have")
            }
            signature => Ok(signature.as_ref()),
        }
    }
}

impl SourceRule {
    /// What can't be meant so.
    fn check(&self) -> Result<(), String> {
        self.check_words().map_err(str::to_owned)?;
        self.signature().map_or(Ok(()), |rule| rule.check())
    }

    fn check_words(&self) -> Result<(), &'static str> {
        let signed = self.signed_by.is_some() || self.verify.is_some();
        let wants = self.pin || signed || !self.attestations.is_empty();
        if self.action == Decision::Deny && wants {
            return Err("what is denied needs no pin and no signature");
        }
        if self.signed_by.is_none() && !self.attestations.is_empty() {
            return Err(
                "attestations count only with the key that must have signed them: signed-by",
            );
        }
        if self.signed_by.is_some() && self.verify.is_some() {
            return Err("signed-by is verify = { key = … } in short: write one of them");
        }
        Ok(())
    }

    /// The signature that is wanted, however it is written.
    fn signature(&self) -> Option<SignatureRule> {
        let short = self.signed_by.as_ref().map(|key| SignatureRule {
            key: Some(key.clone()),
            attestations: self.attestations.clone(),
            ..SignatureRule::default()
        });
        self.verify.clone().or(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> SourceRules {
        #[derive(Deserialize)]
        struct File {
            sources: Vec<SourceRule>,
        }
        let file: File = toml::from_str(text).unwrap();
        SourceRules::new(file.sources, Decision::Deny, false, Path::new("/p")).unwrap()
    }

    #[test]
    fn sources_have_one_name() {
        let cases = [
            (
                SourceName::image("busybox", false),
                "docker-image://docker.io/library/busybox:latest",
            ),
            (
                SourceName::image("LOCALHOST:5000/a:1", false),
                "docker-image://localhost:5000/a:1",
            ),
            (
                SourceName::git("https://u:p@GitHub.com:443/a/b.git", "main", false),
                "git://github.com/a/b.git#main",
            ),
            (
                SourceName::git("git@github.com:a/b.git", "", false),
                "git://github.com/a/b.git",
            ),
            (
                SourceName::git("https://github.com@evil.example/a", "", false),
                "git://evil.example/a",
            ),
            (
                SourceName::http("HTTPS://Example.COM.:443/X?a=b", false),
                "https://example.com/X?a=b",
            ),
            (
                SourceName::parse("git://github.com/a/b#v1", false),
                "git://github.com/a/b#v1",
            ),
        ];
        for (source, want) in cases {
            assert_eq!(source.identifier, want);
        }
    }

    #[test]
    fn the_first_rule_decides() {
        let rules = rules(
            r#"
            [[sources]]
            match = "docker-image://docker.io/library/*"
            pin = true
            [[sources]]
            match = "docker-image://r.example/*"
            signed-by = "k.pub"
            attestations = ["provenance"]
            [[sources]]
            match = "http://*"
            action = "deny"
            reason = "use https"
            [[sources]]
            match = "https://*"
            "#,
        );
        let digest = format!("busybox@sha256:{}", "0".repeat(64));
        let said = |source: SourceName| match rules.check(&source) {
            Ok(None) => "allowed".to_owned(),
            Ok(Some(wanted)) => format!("{:?} {:?}", wanted.key, wanted.attestations),
            Err(reason) => reason,
        };
        let cases = [
            (
                SourceName::image("busybox", false),
                "rule 1 (docker-image://docker.io/library/*) wants a digest",
            ),
            (SourceName::image(&digest, false), "allowed"),
            (SourceName::image("busybox", true), "allowed"),
            (
                SourceName::image("r.example/a", false),
                "Some(\"/p/k.pub\") [\"provenance\"]",
            ),
            (
                SourceName::http("http://h/x", true),
                "rule 3 (http://*) denies it: use https",
            ),
            (SourceName::http("https://h/x", false), "allowed"),
            (
                SourceName::git("https://h/x", "", true),
                "no rule allows it",
            ),
            (SourceName::image("oci:dir", false), "no rule allows it"),
        ];
        for (source, want) in cases {
            let said = said(source.clone());
            assert!(said.starts_with(want), "{source}: {said}");
        }
    }

    #[test]
    fn rules_that_contradict_themselves() {
        let wrong = |text: &str| {
            let rule: SourceRule = toml::from_str(text).unwrap();
            SourceRules::new(vec![rule], Decision::Allow, false, Path::new("")).unwrap_err()
        };
        assert!(wrong("match = '*'\naction = 'deny'\npin = true").contains("rule 1"));
        assert!(wrong("match = '*'\nattestations = ['sbom']").contains("signed-by"));
        assert!(wrong("match = '*'\nsigned-by = 'k'\nverify = { key = 'k' }").contains("one of"));
        assert!(wrong("match = '*'\nverify = { threshold = 2 }").contains("who must have signed"));
        assert!(wrong("match = '*'\naction = 'deny'\nverify = { key = 'k' }").contains("no pin"));
        assert!(toml::from_str::<SourceRule>("match = '*'\nsigned = 'x'").is_err());
    }
}
