//! Which tags of a repository are no longer wanted, by age and count.
//!
//! Deleting a manifest takes away all its tags, so one that a kept tag needs stays. Tags that name
//! another manifest (`sha256-DIGEST.sig`, as cosign and ORAS write them) go with it and never alone.

use std::collections::BTreeSet;

use kiln_graph::BlobDigest;
use kiln_graph::pattern;
use kiln_image::TaggedManifest;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What is to go: what all rules speak against.
#[derive(Clone, Debug, Default)]
pub struct ExpireRules {
    /// So many of the latest tags stay.
    pub keep: Option<usize>,
    /// What is not older than this stays, in seconds since 1970.
    pub before: Option<i64>,
    /// Only tags that one of these patterns matches go, if there are any (`pr-*`).
    pub tags: Vec<String>,
}

/// What goes, and why other tags don't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// The tags that go.
    pub tags: Vec<TaggedManifest>,
    /// The manifests to delete, in this order.
    pub manifests: Vec<BlobDigest>,
    /// Tags that would go, but stand for what a kept tag needs.
    pub shared: Vec<String>,
    /// Tags that don't say when they were made: they stay.
    pub undated: Vec<String>,
}

/// What the rules speak against in a repository.
#[must_use]
pub fn expire(all: &[TaggedManifest], rules: &ExpireRules) -> Expired {
    let mut expired = Expired::default();
    let mut dated = Vec::new();
    for tag in all
        .iter()
        .filter(|tag| rules.speak_of(&tag.tag) && subject(tag).is_none())
    {
        match seconds(tag) {
            Some(created) => dated.push((created, tag)),
            None => expired.undated.push(tag.tag.clone()),
        }
    }
    dated.sort_by(|a, b| (b.0, &b.1.tag).cmp(&(a.0, &a.1.tag)));
    let is_old = |(at, (created, _)): &(usize, (i64, &TaggedManifest))| {
        rules.keep.is_none_or(|keep| *at >= keep)
            && rules.before.is_none_or(|before| *created < before)
    };
    let old = dated.into_iter().enumerate().filter(is_old);
    let mut going: BTreeSet<&str> = old.map(|(_, (_, tag))| tag.tag.as_str()).collect();
    let needed = spare_needed(all, &mut going, &mut expired);
    follow(all, &mut going);
    let goes = |tag: &&TaggedManifest| going.contains(tag.tag.as_str());
    expired.tags = all.iter().filter(goes).cloned().collect();
    let tops = expired.tags.iter().map(|tag| tag.digest);
    let parts = expired
        .tags
        .iter()
        .flat_map(|tag| tag.parts.iter().copied());
    let mut seen = needed;
    expired.manifests = tops
        .chain(parts)
        .filter(|digest| seen.insert(*digest))
        .collect();
    expired
}

impl ExpireRules {
    fn speak_of(&self, tag: &str) -> bool {
        let fits = |pattern: &String| pattern::matches(pattern, tag.as_bytes()).unwrap_or(false);
        self.tags.is_empty() || self.tags.iter().any(fits)
    }
}

fn seconds(tag: &TaggedManifest) -> Option<i64> {
    let created = OffsetDateTime::parse(tag.created.as_ref()?, &Rfc3339).ok()?;
    Some(created.unix_timestamp())
}

/// The manifest that a tag belongs to.
pub(super) fn subject(tag: &TaggedManifest) -> Option<BlobDigest> {
    let hex = tag.tag.strip_prefix("sha256-")?.get(..64)?;
    format!("sha256:{hex}").parse().ok()
}

/// What a tag names: a manifest, or an index and its parts.
pub(super) fn manifests(tag: &TaggedManifest) -> impl Iterator<Item = BlobDigest> {
    tag.parts.iter().copied().chain([tag.digest])
}

/// Takes back what kept tags need, and gives all that they need.
fn spare_needed(
    all: &[TaggedManifest],
    going: &mut BTreeSet<&str>,
    expired: &mut Expired,
) -> BTreeSet<BlobDigest> {
    loop {
        let kept = all.iter().filter(|tag| !going.contains(tag.tag.as_str()));
        let kept = kept.filter(|tag| subject(tag).is_none());
        let needed: BTreeSet<BlobDigest> = kept.flat_map(manifests).collect();
        let found = all
            .iter()
            .find(|tag| going.contains(tag.tag.as_str()) && needed.contains(&tag.digest));
        let Some(spared) = found else { return needed };
        going.remove(spared.tag.as_str());
        expired.shared.push(spared.tag.clone());
    }
}

/// Lets what belongs to manifests that go, go with them.
fn follow<'a>(all: &'a [TaggedManifest], going: &mut BTreeSet<&'a str>) {
    let gone = all.iter().filter(|tag| going.contains(tag.tag.as_str()));
    let gone: BTreeSet<BlobDigest> = gone.flat_map(manifests).collect();
    let stays = all.iter().filter(|tag| !going.contains(tag.tag.as_str()));
    let needed: BTreeSet<BlobDigest> = stays.flat_map(manifests).collect();
    let belongs = |tag: &&TaggedManifest| {
        subject(tag).is_some_and(|subject| gone.contains(&subject) && !needed.contains(&subject))
    };
    going.extend(all.iter().filter(belongs).map(|tag| tag.tag.as_str()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> BlobDigest {
        BlobDigest::from_sha256([byte; 32])
    }

    /// A tag made on a day of January 2026; day 0 says nothing.
    fn tag(name: &str, byte: u8, day: u8) -> TaggedManifest {
        TaggedManifest {
            tag: name.to_owned(),
            digest: digest(byte),
            parts: Vec::new(),
            created: (day > 0).then(|| format!("2026-01-{day:02}T00:00:00Z")),
        }
    }

    fn day(day: i64) -> Option<i64> {
        Some(1_767_225_600 + (day - 1) * 86_400)
    }

    fn names(expired: &Expired) -> Vec<&str> {
        expired.tags.iter().map(|tag| tag.tag.as_str()).collect()
    }

    #[test]
    fn by_age_and_count() {
        let all = [
            tag("a", 1, 1),
            tag("b", 2, 2),
            tag("c", 3, 3),
            tag("d", 4, 4),
            tag("x", 5, 0),
        ];
        let of = |keep, before| {
            expire(
                &all,
                &ExpireRules {
                    keep,
                    before,
                    tags: vec![],
                },
            )
        };
        assert_eq!(names(&of(Some(2), None)), ["a", "b"]);
        assert_eq!(names(&of(None, day(4))), ["a", "b", "c"]);
        assert_eq!(
            names(&of(Some(2), day(2))),
            ["a"],
            "what all rules speak against"
        );
        assert_eq!(names(&of(Some(9), None)), [""; 0]);
        assert_eq!(of(Some(0), None).undated, ["x"]);
        assert_eq!(of(Some(2), None).manifests, [digest(1), digest(2)]);
        let tags = vec!["[ab]".to_owned(), "x*".to_owned()];
        let some = expire(
            &all,
            &ExpireRules {
                keep: Some(0),
                before: None,
                tags,
            },
        );
        assert_eq!(names(&some), ["a", "b"]);
    }

    #[test]
    fn what_kept_tags_need_stays() {
        let index = |name: &str, byte, day, parts: &[u8]| TaggedManifest {
            parts: parts.iter().copied().map(digest).collect(),
            ..tag(name, byte, day)
        };
        // `old` shares a part with `new`; `alias` is `new` by an older name; `part` is a part of it.
        let all = [
            index("old", 1, 1, &[10, 11]),
            index("new", 2, 9, &[11, 12]),
            index("alias", 2, 1, &[11, 12]),
            tag("part", 12, 1),
        ];
        let rules = ExpireRules {
            keep: Some(1),
            ..ExpireRules::default()
        };
        let expired = expire(&all, &rules);
        assert_eq!(names(&expired), ["old"]);
        assert_eq!(expired.manifests, [digest(1), digest(10)]);
        assert_eq!(expired.shared, ["alias", "part"]);
    }

    #[test]
    fn signatures_go_with_what_they_sign() {
        let sig = |byte: u8| format!("sha256-{}.sig", digest(byte).hex());
        let all = [
            tag("old", 1, 1),
            tag("new", 2, 9),
            tag(&sig(1), 3, 1),
            tag(&sig(2), 4, 1),
        ];
        let rules = ExpireRules {
            keep: Some(1),
            ..ExpireRules::default()
        };
        assert_eq!(names(&expire(&all, &rules)), ["old", &sig(1)]);
    }

    #[test]
    fn what_belongs_to_a_part_of_an_index_goes_with_it() {
        let list = |byte: u8| format!("sha256-{}", digest(byte).hex());
        let index = |name: &str, byte, day, parts: [u8; 2]| TaggedManifest {
            parts: parts.map(digest).into(),
            ..tag(name, byte, day)
        };
        let all = [
            index("old", 1, 1, [10, 11]),
            index("new", 2, 9, [11, 12]),
            tag(&list(10), 3, 0),
            tag(&list(11), 4, 0),
        ];
        let rules = ExpireRules {
            keep: Some(1),
            ..ExpireRules::default()
        };
        assert_eq!(names(&expire(&all, &rules)), ["old", &list(10)]);
    }
}
