//! Looks results up in the shared caches that a build takes from: each key by itself.

use std::sync::Arc;

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
        for source in self.working() {
            match source.record(key) {
                Ok(Some(record)) if usable.allows(record.created, record.stdout.is_some()) => {
                    let added = record.output.iter().map(|tree| tree.tree).collect();
                    for tree in record.output {
                        self.trees.add(tree, source);
                    }
                    return Some(Filed {
                        key: *key,
                        added,
                        took: std::time::Duration::from_millis(record.took),
                        created: record.created,
                        stdout: record.stdout,
                    });
                }
                Ok(_) => {}
                Err(reason) => self.give_up(source, &reason),
            }
        }
        self.named(key, usable)
    }

    /// What a step gave elsewhere, where its files are not: what was made from them may be found all the same.
    fn named(&self, key: &StepKey, usable: Usable) -> Option<Filed> {
        for source in self.working().filter(|source| source.takes_names()) {
            match source.name_of(key) {
                Ok(Some(name)) if usable.allows(name.created, name.stdout.is_some()) => {
                    for tree in &name.added {
                        self.trees.add_name(*tree, source);
                    }
                    return Some(Filed {
                        key: *key,
                        added: name.added,
                        took: std::time::Duration::ZERO,
                        created: name.created,
                        stdout: name.stdout,
                    });
                }
                Ok(_) => {}
                Err(reason) => self.give_up(source, &reason),
            }
        }
        None
    }

    /// What a part of a result contains, as far as a shared cache knows.
    pub(crate) fn part(&self, part: &Digest) -> Option<ContentDigest> {
        for source in self.working() {
            match source.part(part) {
                Ok(None) => {}
                Ok(found) => return found,
                Err(reason) => self.give_up(source, &reason),
            }
        }
        None
    }

    fn working(&self) -> impl Iterator<Item = &CacheSource> {
        self.sources.iter().filter(|source| !source.is_broken())
    }

    /// Asks a cache no more.
    fn give_up(&self, source: &CacheSource, reason: &RemoteError) {
        source.give_up();
        let name = source.remote().name();
        let message = format!("the cache {name} is not used: {reason}");
        self.events.event(Event::Warning { message });
    }
}
