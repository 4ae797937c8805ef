//! Differences that are sent after an image: from which images, and that they never fail a build.

use std::collections::BTreeSet;
use std::str::FromStr;

use kiln_engine::{DeltaReport, Engine, EngineError, Event, EventSink, Level, Side, Solved};
use kiln_graph::{BlobDigest, Digest, Platform};
use kiln_image::{Reference, Resolved};

use super::Written;

/// How many images a tag is remembered to have named.
const MAX_REMEMBERED: usize = 16;
/// Under which the images that a tag has named are noted.
const MEMO: &str = "tag-history";

/// An image that a difference begins at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeltaFrom {
    /// A tag or a digest of the same repository.
    Named(String),
    /// The images that the tag has named last: so many.
    Auto(usize),
}

/// What isn't the old image of a difference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no image to begin at: use a tag or a digest of the same repository, auto, or auto:N with N from 1 to {MAX_REMEMBERED}"
)]
pub struct BadDeltaFrom(String);

impl FromStr for DeltaFrom {
    type Err = BadDeltaFrom;

    fn from_str(text: &str) -> Result<Self, BadDeltaFrom> {
        let bad = || BadDeltaFrom(text.to_owned());
        match text.split_once(':') {
            None if text == "auto" => return Ok(Self::Auto(1)),
            Some(("auto", count)) => {
                let count = count.parse().ok();
                let count = count.filter(|count| (1..=MAX_REMEMBERED).contains(count));
                return count.map(Self::Auto).ok_or_else(bad);
            }
            _ => {}
        }
        let name = Self::name("registry.invalid/image", text);
        match name.parse::<Reference>() {
            Ok(_) => Ok(Self::Named(text.to_owned())),
            Err(_) => Err(bad()),
        }
    }
}

impl DeltaFrom {
    fn name(repository: &str, text: &str) -> String {
        let separator = match text.starts_with("sha256:") {
            true => '@',
            false => ':',
        };
        format!("{repository}{separator}{text}")
    }
}

/// Which differences are to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeltaOptions {
    /// Where they begin.
    pub from: Vec<DeltaFrom>,
    /// How much effort goes into them.
    pub level: Level,
}

/// The old images of what is going to be pushed, for each name: found before its tags move on.
#[derive(Debug, Default)]
pub struct DeltaSources {
    level: Level,
    found: Vec<(Reference, Vec<Source>)>,
}

#[derive(Debug)]
struct Source {
    name: String,
    platform: Platform,
    image: Resolved,
}

impl DeltaSources {
    /// Looks for the old images. One that isn't there is said, and left out.
    #[must_use]
    pub fn find(
        engine: &Engine,
        options: &DeltaOptions,
        names: &[Reference],
        platforms: &[Platform],
        events: &dyn EventSink,
    ) -> Self {
        let mut found = Vec::new();
        for name in names.iter().filter(|_| !options.from.is_empty()) {
            let mut sources: Vec<Source> = Vec::new();
            for old in old_names(engine, &options.from, name) {
                for platform in platforms {
                    match engine.client().resolve(&old, platform) {
                        Ok(image) => {
                            let is_new = |source: &Source| source.image.manifest != image.manifest;
                            if sources.iter().all(is_new) {
                                let (name, platform) = (old.clone(), platform.clone());
                                sources.push(Source {
                                    name,
                                    platform,
                                    image,
                                });
                            }
                        }
                        Err(error) => warn(events, format!("no difference from {old}: {error}")),
                    }
                }
            }
            found.push((name.clone(), sources));
        }
        Self {
            level: options.level,
            found,
        }
    }

    /// Makes the differences to what was pushed, and sends them.
    pub fn push(&self, solved: &Solved, written: &Written, events: &dyn EventSink) {
        for (name, sources) in &self.found {
            if !written.pushed.contains(name) {
                continue;
            }
            for source in sources {
                if let Err(error) = self.push_one(solved, written, name, source, events) {
                    let message = format!("no difference from {}: {error}", source.name);
                    warn(events, message);
                }
            }
        }
        if let Err(error) = remember(solved, written) {
            warn(
                events,
                format!("the images of tags are not remembered: {error}"),
            );
        }
    }

    fn push_one(
        &self,
        solved: &Solved,
        written: &Written,
        name: &Reference,
        source: &Source,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let is_for = |platform: &Platform| *platform == source.platform;
        let mut images = written.images.iter();
        let image = images.find(|image| image.descriptor.runs_on().as_ref().is_some_and(is_for));
        let Some(image) = image.filter(|image| image.descriptor.digest != source.image.manifest)
        else {
            return Ok(());
        };
        let new = name.pinned(image.descriptor.digest);
        let new_name = new.to_string();
        let resolved = solved.client().resolve(&new_name, &source.platform)?;
        let old = Side {
            name: &source.name,
            image: &source.image,
        };
        let new_side = Side {
            name: &new_name,
            image: &resolved,
        };
        let delta = solved.deltas().create(old, new_side, self.level, events)?;
        if !delta.report.is_worth() {
            events.event(Event::Warning {
                message: format!(
                    "no difference from {}: {}",
                    source.name,
                    not_worth(&delta.report)
                ),
            });
            return Ok(());
        }
        solved.deltas().push(&delta, &new, events)
    }
}

/// Why a difference isn't kept.
#[must_use]
pub fn not_worth(report: &DeltaReport) -> String {
    match report.layers {
        0 => "all layers are the same".to_owned(),
        _ => format!(
            "it would have {} bytes where the changed layers have {}, and spares less than {} %",
            report.bytes,
            report.layers,
            DeltaReport::MIN_SPARED
        ),
    }
}

fn warn(events: &dyn EventSink, message: String) {
    events.event(Event::Warning { message });
}

/// The images that differences to `name` begin at.
fn old_names(engine: &Engine, from: &[DeltaFrom], name: &Reference) -> BTreeSet<String> {
    let repository = format!("{}/{}", name.host, name.repository);
    let mut names = BTreeSet::new();
    for from in from {
        match from {
            DeltaFrom::Named(text) => _ = names.insert(DeltaFrom::name(&repository, text)),
            DeltaFrom::Auto(count) => {
                let now = engine.client().manifest_bytes(name).ok();
                let now = now.map(|bytes| BlobDigest::of(&bytes));
                let mut seen = Vec::from_iter(now);
                seen.extend(remembered(engine, name));
                let mut known = BTreeSet::new();
                seen.retain(|digest| known.insert(*digest));
                let seen = seen.into_iter().take(*count);
                names.extend(seen.map(|digest| format!("{repository}@{digest}")));
            }
        }
    }
    names
}

/// The images that a tag has named, the last one first.
fn remembered(engine: &Engine, name: &Reference) -> Vec<BlobDigest> {
    let known = engine.store().memos().get(MEMO, &memo_key(name));
    known.ok().flatten().unwrap_or_default()
}

/// Notes what the pushed tags name now.
fn remember(solved: &Solved, written: &Written) -> Result<(), EngineError> {
    if written.pushed.is_empty() || written.images.is_empty() {
        return Ok(());
    }
    let (top, _) = solved.top(&written.images)?;
    for name in &written.pushed {
        let key = memo_key(name);
        let store = solved.store();
        let mut known: Vec<BlobDigest> = store.memos().get(MEMO, &key)?.unwrap_or_default();
        known.retain(|digest| *digest != top.digest);
        known.insert(0, top.digest);
        known.truncate(MAX_REMEMBERED);
        store.memos().put(MEMO, &key, &known)?;
    }
    Ok(())
}

fn memo_key(name: &Reference) -> Digest {
    Digest::of(name.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_differences_begin() {
        let named = |text: &str| Ok(DeltaFrom::Named(text.to_owned()));
        let digest = format!("sha256:{}", "0".repeat(64));
        for text in ["v1", "latest", "automatic", &digest] {
            assert_eq!(text.parse(), named(text), "{text}");
        }
        assert_eq!("auto".parse(), Ok(DeltaFrom::Auto(1)));
        assert_eq!("auto:3".parse(), Ok(DeltaFrom::Auto(3)));
        for text in [
            "",
            "auto:0",
            "auto:17",
            "auto:x",
            "sha256:12",
            "a b",
            "other/app:v1",
        ] {
            assert!(text.parse::<DeltaFrom>().is_err(), "{text}");
        }
    }
}
