//! Static source policies: rules about sources that a client sends along with a build (BuildKit's
//! `sourcepolicy/pb`). What of them isn't known here is refused, for they restrict.

use kiln::SourceVerdict;
use regex::Regex;
use tonic::Status;

use crate::proto::pb::SourceOp;
use crate::proto::sourcepolicy::{MatchType, Policy, PolicyAction, Rule as RuleMessage, Selector};
use crate::session::verdict_of;

/// Rules that replace sources by each other in a circle end after so many replacements.
const MAX_REPLACED: usize = 20;
/// A pattern compiles to no more bytes.
const MAX_PATTERN: usize = 1 << 20;

/// The policies of a build: each must allow a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourcePolicy(Vec<Vec<Rule>>);

#[derive(Clone, Debug)]
struct Rule {
    /// The source as it was written, which matches itself whatever it means as a pattern.
    identifier: String,
    pattern: Option<Regex>,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Allow,
    Deny,
    Replace {
        /// The other source, with `${1}` for what the pattern's first part is.
        identifier: String,
        attributes: Vec<(String, String)>,
    },
}

impl SourcePolicy {
    /// Reads policies.
    ///
    /// # Errors
    /// When one has a mistake, or says what isn't known here.
    pub(crate) fn read<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Result<Self, Status> {
        let all = policies.into_iter().map(|policy| {
            let rules = policy.rules.iter().map(rule);
            rules.collect::<Result<Vec<_>, Status>>()
        });
        all.collect::<Result<_, _>>().map(Self)
    }

    /// These, and others besides.
    ///
    /// # Errors
    /// As [`SourcePolicy::read`].
    pub(crate) fn with(&self, others: &[Policy]) -> Result<Self, Status> {
        let mut all = self.clone();
        all.0.extend(Self::read(others)?.0);
        Ok(all)
    }

    /// Decides on a source: of a policy's rules that match it the last counts, and what takes the place of another is
    /// decided on by itself.
    ///
    /// # Errors
    /// Why it may not be used.
    pub(crate) fn check(&self, source: &str) -> Result<SourceVerdict, String> {
        let mut now = SourceOp {
            identifier: source.to_owned(),
            ..SourceOp::default()
        };
        for _ in 0..MAX_REPLACED {
            let mut policies = self.0.iter();
            let other = policies.find_map(|rules| replaced(rules, &now).transpose());
            match other.transpose()? {
                Some(other) => now = other,
                None => return verdict_of(source, &now),
            }
        }
        Err("too many mutations on a single source".to_owned())
    }
}

/// What takes a source's place by the rules of a policy, if anything does.
fn replaced(rules: &[Rule], now: &SourceOp) -> Result<Option<SourceOp>, String> {
    let mut is_denied = false;
    for rule in rules.iter().filter(|rule| rule.matches(&now.identifier)) {
        match &rule.action {
            Action::Allow => is_denied = false,
            Action::Deny => is_denied = true,
            Action::Replace {
                identifier,
                attributes,
            } => {
                let mut other = now.clone();
                other.attrs.extend(attributes.iter().cloned());
                other.identifier = rule.fill(&now.identifier, identifier);
                if other != *now {
                    return Ok(Some(other));
                }
            }
        }
    }
    let source = &now.identifier;
    match is_denied {
        true => Err(format!(
            "source {source:?} denied by policy: source denied by policy"
        )),
        false => Ok(None),
    }
}

impl Rule {
    fn matches(&self, source: &str) -> bool {
        let pattern = self.pattern.as_ref();
        self.identifier == source || pattern.is_some_and(|pattern| pattern.is_match(source))
    }

    /// The source that a replacement means.
    fn fill(&self, source: &str, replacement: &str) -> String {
        match &self.pattern {
            _ if replacement.is_empty() => source.to_owned(),
            Some(pattern) if pattern.is_match(source) => {
                pattern.replace(source, replacement).into_owned()
            }
            _ => replacement.to_owned(),
        }
    }
}

fn rule(rule: &RuleMessage) -> Result<Rule, Status> {
    let selector = rule.selector.as_ref();
    let selector = selector.ok_or_else(|| wrong("invalid nil selector in policy"))?;
    if !selector.constraints.is_empty() {
        let text = "source policies with constraints on attributes are not supported by kiln";
        return Err(Status::unimplemented(text));
    }
    if names_subdirectory(&selector.identifier) {
        let text = "source policies about a directory of a git repository (#REF:DIRECTORY) are not supported by kiln";
        return Err(Status::unimplemented(text));
    }
    let action = match PolicyAction::try_from(rule.action) {
        Ok(PolicyAction::Allow) => Action::Allow,
        Ok(PolicyAction::Deny) => Action::Deny,
        Ok(PolicyAction::Convert) => {
            let updates = rule.updates.as_ref();
            let updates = updates.ok_or_else(|| wrong("missing destination for convert rule"))?;
            let attributes = updates.attrs.clone().into_iter().collect();
            Action::Replace {
                identifier: updates.identifier.clone(),
                attributes,
            }
        }
        Err(_) => {
            return Err(wrong(&format!(
                "source policy: unknown type {}",
                rule.action
            )));
        }
    };
    Ok(Rule {
        identifier: selector.identifier.clone(),
        pattern: pattern(selector)?,
        action,
    })
}

/// Whether a rule is about a part of a repository. Sources are named here without their directories: it would
/// never match.
fn names_subdirectory(identifier: &str) -> bool {
    let reference = identifier.split_once('#').map(|(_, reference)| reference);
    identifier.contains("git://") && reference.is_some_and(|reference| reference.contains(':'))
}

fn pattern(selector: &Selector) -> Result<Option<Regex>, Status> {
    let text = match MatchType::try_from(selector.match_type) {
        Ok(MatchType::Exact) => return Ok(None),
        Ok(MatchType::Regex) => selector.identifier.clone(),
        Ok(MatchType::Wildcard) => {
            let parts = selector.identifier.split('*').map(regex::escape);
            format!("^{}$", parts.collect::<Vec<_>>().join("(.*?)"))
        }
        Err(_) => {
            let number = selector.match_type;
            return Err(wrong(&format!("unknown match type: {number}")));
        }
    };
    let compiled = regex::RegexBuilder::new(&text)
        .size_limit(MAX_PATTERN)
        .build();
    compiled.map(Some).map_err(|error| {
        let text = &selector.identifier;
        wrong(&format!("source policy: the pattern {text:?}: {error}"))
    })
}

fn wrong(text: &str) -> Status {
    Status::invalid_argument(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::sourcepolicy::Update;

    const BUSYBOX: &str = "docker-image://docker.io/library/busybox:latest";

    fn policy(rules: &[(PolicyAction, MatchType, &str, &str, &str)]) -> SourcePolicy {
        let rules = rules.iter().map(|(action, kind, source, other, sum)| {
            let attributes =
                (!sum.is_empty()).then(|| ("http.checksum".to_owned(), (*sum).to_owned()));
            RuleMessage {
                action: (*action).into(),
                selector: Some(Selector {
                    identifier: (*source).to_owned(),
                    match_type: (*kind).into(),
                    constraints: Vec::new(),
                }),
                updates: (*action == PolicyAction::Convert).then(|| Update {
                    identifier: (*other).to_owned(),
                    attrs: attributes.into_iter().collect(),
                }),
            }
        });
        SourcePolicy::read([&Policy {
            version: 1,
            rules: rules.collect(),
        }])
        .unwrap()
    }

    #[test]
    fn the_last_rule_that_matches_counts() {
        use MatchType::{Exact, Regex, Wildcard};
        use PolicyAction::{Allow, Deny};
        let any = "docker-image://*";
        let cases = [
            (vec![(Deny, Wildcard, any, "", "")], false),
            (vec![(Deny, Exact, any, "", "")], true),
            (vec![(Deny, Regex, "busy.ox", "", "")], false),
            (vec![(Deny, Wildcard, "*alpine*", "", "")], true),
            (
                vec![
                    (Deny, Wildcard, any, "", ""),
                    (Allow, Exact, BUSYBOX, "", ""),
                ],
                true,
            ),
            (
                vec![
                    (Allow, Exact, BUSYBOX, "", ""),
                    (Deny, Wildcard, any, "", ""),
                ],
                false,
            ),
        ];
        for (rules, is_allowed) in cases {
            let decided = policy(&rules).check(BUSYBOX);
            assert_eq!(decided.is_ok(), is_allowed, "{rules:?}: {decided:?}");
        }
    }

    #[test]
    fn sources_are_replaced_until_no_rule_does() {
        use MatchType::{Exact, Wildcard};
        use PolicyAction::{Convert, Deny};
        let own = "docker-image://registry.example/";
        let mirrored = (
            Convert,
            Wildcard,
            "docker-image://docker.io/*",
            "docker-image://registry.example/${1}",
            "",
        );
        let decided = policy(&[mirrored]).check(BUSYBOX);
        let want = "registry.example/library/busybox:latest".to_owned();
        assert_eq!(decided, Ok(SourceVerdict::Image(want)));
        let denied = policy(&[mirrored, (Deny, Wildcard, &format!("{own}*"), "", "")]);
        assert!(
            denied
                .check(BUSYBOX)
                .unwrap_err()
                .contains("denied by policy")
        );
        let (a, b) = (
            "docker-image://a.example/a:1",
            "docker-image://a.example/b:1",
        );
        let circle = policy(&[(Convert, Exact, a, b, ""), (Convert, Exact, b, a, "")]);
        assert!(circle.check(a).unwrap_err().contains("too many"));
        let (url, sum) = ("https://a.example/b", format!("sha256:{}", "ab".repeat(32)));
        let pinned = policy(&[(Convert, Exact, url, "", &sum)]);
        assert_eq!(
            pinned.check(url),
            Ok(SourceVerdict::Checksum(sum.parse().unwrap()))
        );
        let moved = policy(&[(Convert, Exact, url, "https://c.example/b", "")]);
        assert!(moved.check(url).is_err(), "files are not replaced");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let good = RuleMessage {
            action: PolicyAction::Deny.into(),
            selector: Some(Selector::default()),
            updates: None,
        };
        let regex = |text: &str| Selector {
            identifier: text.to_owned(),
            match_type: MatchType::Regex.into(),
            constraints: Vec::new(),
        };
        let cases = [
            RuleMessage {
                action: 9,
                ..good.clone()
            },
            RuleMessage {
                selector: None,
                ..good.clone()
            },
            RuleMessage {
                action: PolicyAction::Convert.into(),
                ..good.clone()
            },
            RuleMessage {
                selector: Some(regex("(")),
                ..good.clone()
            },
            RuleMessage {
                selector: Some(regex("(a{1000}){1000}")),
                ..good.clone()
            },
            RuleMessage {
                selector: Some(Selector {
                    identifier: "git://github.com/a/b#v1:directory".to_owned(),
                    match_type: MatchType::Exact.into(),
                    ..Selector::default()
                }),
                ..good.clone()
            },
            RuleMessage {
                selector: Some(Selector {
                    match_type: 7,
                    ..Selector::default()
                }),
                ..good.clone()
            },
            RuleMessage {
                selector: Some(Selector {
                    constraints: vec![Default::default()],
                    ..Selector::default()
                }),
                ..good.clone()
            },
        ];
        let read = |rule: &RuleMessage| {
            SourcePolicy::read([&Policy {
                version: 1,
                rules: vec![rule.clone()],
            }])
        };
        assert!(read(&good).is_ok());
        for rule in cases {
            assert!(read(&rule).is_err(), "{rule:?}");
        }
    }
}
