//! Looks results up in the shared caches that a build takes from: each key by itself.

use std::sync::Arc;
use std::time::Duration;

use kiln_graph::{ContentDigest, Digest, StepKey};
use kiln_share::{CacheSource, RemoteError};
use kiln_solve::{Event, EventSink, Filed, Usable};

use crate::distant::DistantTrees;

/// The shared caches that a build takes from, asked in order.
pub struct SharedSources {
    sources: Vec<CacheSource>,
    /// Where the trees that were found can be had.
    trees: Arc<DistantTrees>,
    events: Arc<dyn EventSink>,
}

impl std::fmt::Debug for SharedSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedSources")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl SharedSources {
    /// The shared caches of a build; the trees that they have are noted in `trees`.
    #[must_use]
    pub fn new(
        sources: Vec<CacheSource>,
        trees: Arc<DistantTrees>,
        events: Arc<dyn EventSink>,
    ) -> Self {
        Self {
            sources,
            trees,
            events,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// All of them, for volumes.
    pub(crate) fn all(&self) -> &[CacheSource] {
        &self.sources
    }

    /// What a step gave elsewhere, as far as a shared cache knows.
    #[must_use]
    pub fn find(&self, key: &StepKey, usable: Usable) -> Option<Filed> {
        self.record(key, usable).or_else(|| self.named(key, usable))
    }

    /// What a step gave elsewhere, with its files.
    fn record(&self, key: &StepKey, usable: Usable) -> Option<Filed> {
        let (source, record) = self.first(|source| {
            let found = source.record(key)?;
            Ok(found.filter(|found| usable.allows(found.created, found.stdout.is_some())))
        })?;
        let added = record.output.iter().map(|tree| tree.tree).collect();
        for tree in record.output {
            self.trees.add(tree, source);
        }
        Some(Filed {
            key: *key,
            added,
            took: Duration::from_millis(record.took),
            created: record.created,
            stdout: record.stdout,
        })
    }

    /// What a step gave elsewhere, where its files are not: what was made from them may be found all the same.
    fn named(&self, key: &StepKey, usable: Usable) -> Option<Filed> {
        let (source, name) = self.first(|source| {
            let found = match source.takes_names() {
                true => source.name_of(key)?,
                false => None,
            };
            Ok(found.filter(|found| usable.allows(found.created, found.stdout.is_some())))
        })?;
        for tree in &name.added {
            self.trees.add_name(*tree, source);
        }
        Some(Filed {
            key: *key,
            added: name.added,
            took: Duration::ZERO,
            created: name.created,
            stdout: name.stdout,
        })
    }

    /// What a part of a result contains, as far as a shared cache knows.
    pub(crate) fn part(&self, part: &Digest) -> Option<ContentDigest> {
        let (_, content) = self.first(|source| source.part(part))?;
        Some(content)
    }

    /// The first answer of those that still work, and whose it is. Who fails is asked no more.
    fn first<T>(
        &self,
        ask: impl Fn(&CacheSource) -> Result<Option<T>, RemoteError>,
    ) -> Option<(&CacheSource, T)> {
        let mut working = self.sources.iter().filter(|source| !source.is_broken());
        working.find_map(|source| match ask(source) {
            Ok(found) => Some((source, found?)),
            Err(reason) => {
                self.give_up(source, &reason);
                None
            }
        })
    }

    /// Asks a cache no more.
    fn give_up(&self, source: &CacheSource, reason: &RemoteError) {
        source.give_up();
        let name = source.remote().name();
        let message = format!("the cache {name} is not used: {reason}");
        self.events.event(Event::Warning { message });
    }
}
