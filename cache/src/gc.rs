//! Removes what is no longer wanted.
//!
//! What a running build has used since it began stays, and so do the blobs of named images. Trees
//! and records go independently: a record without its trees is a miss, a tree without a record is
//! garbage that the next collection takes.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use kiln_tree::{host, remove_all};
use rayon::prelude::*;

use crate::cost::goes_at;
use crate::lock::Mode;
use crate::staging::{remove_dead, rename};
use crate::usage::last_used;
use crate::{Kind, Store, StoreError, UsageItem};

/// What is to be removed. Without any rule: what no tagged image and no step's record needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct PruneOptions {
    /// Everything but what named images need.
    pub all: bool,
    /// What was not used for this long.
    pub older_than: Option<Duration>,
    /// The least worth keeping, until no more than this many bytes are left: what was not used for
    /// long, later what is slow to make again for its size.
    pub keep_storage: Option<u64>,
    /// The least worth keeping, until this many bytes are free on the store's disk.
    pub min_free: Option<u64>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// The things, in the order they went.
    pub items: Vec<UsageItem>,
}

impl PruneReport {
    /// How long it took to make the things, each step counted once; at least that long it would
    /// take again.
    #[must_use]
    pub fn cost(&self) -> Duration {
        let mut steps = HashSet::new();
        let costs = self.items.iter().filter_map(|item| item.cost.as_ref());
        let fresh =
            costs.filter(|cost| cost.step.is_none() || steps.insert((&cost.step, cost.time)));
        fresh.map(|cost| cost.time).sum()
    }

    /// The disk space freed, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// How many things go while builds have to wait.
const BATCH: usize = 256;
/// How long after one automatic collection the next one may be.
const POLICY_PAUSE: Duration = Duration::from_secs(300);

impl Store {
    /// Removes what is no longer wanted.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn prune(&self, options: &PruneOptions) -> Result<PruneReport, StoreError> {
        self.prune_of(options, &|_| true)
    }

    /// Removes what is no longer wanted among the things that `select` takes. Limits of size are those of the
    /// whole store.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn prune_of(
        &self,
        options: &PruneOptions,
        select: &dyn Fn(&UsageItem) -> bool,
    ) -> Result<PruneReport, StoreError> {
        let items = self.victims(options, select)?;
        if options.dry_run {
            return Ok(PruneReport { items });
        }
        remove_dead(self)?;
        let mut report = PruneReport::default();
        for batch in items.chunks(BATCH) {
            report.items.extend(self.remove(batch)?);
        }
        Ok(report)
    }

    fn victims(
        &self,
        options: &PruneOptions,
        select: &dyn Fn(&UsageItem) -> bool,
    ) -> Result<Vec<UsageItem>, StoreError> {
        let usage = self.usage()?;
        let total = usage.total();
        let mut items = usage.items;
        self.add_costs(&mut items);
        let in_use = self.oldest_session()?;
        let mut needed = self.image_blobs()?;
        needed.extend(self.mounts().trees()?);
        let is_free = |item: &UsageItem| item.last_used < in_use && !needed.contains(&item.name);
        items.retain(|item| is_free(item) && select(item));
        items.sort_by_cached_key(goes_at);
        if options.all {
            return Ok(items);
        }
        let no_limit = options.keep_storage.is_none() && options.min_free.is_none();
        if options.older_than.is_none() && no_limit {
            return self.garbage(items);
        }
        let limit = options
            .older_than
            .and_then(|age| SystemTime::now().checked_sub(age));
        let over = options
            .keep_storage
            .map_or(0, |keep| total.saturating_sub(keep));
        let lacking = options
            .min_free
            .map_or(0, |wanted| wanted.saturating_sub(self.free_space()));
        let mut excess = over.max(lacking);
        items.retain(|item| {
            let go = limit.is_some_and(|limit| item.last_used < limit) || excess > 0;
            excess = excess.saturating_sub(if go { item.bytes } else { 0 });
            go
        });
        Ok(items)
    }

    /// The bytes that are free on the store's disk.
    fn free_space(&self) -> u64 {
        rustix::fs::statvfs(self.root()).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize)
    }

    /// Prunes by a policy, unless that was done a short while ago: looking takes time in a large
    /// store.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn prune_by_policy(&self, options: &PruneOptions) -> Result<PruneReport, StoreError> {
        let mark = self.path("locks/policy");
        let last = host::metadata(&mark).and_then(|about| about.modified());
        let recent = last.is_ok_and(|last| last.elapsed().is_ok_and(|age| age < POLICY_PAUSE));
        if recent {
            return Ok(PruneReport::default());
        }
        _ = host::write(&mark, "");
        self.prune(options)
    }

    /// The trees that no record and no unpacked layer names.
    fn garbage(&self, mut items: Vec<UsageItem>) -> Result<Vec<UsageItem>, StoreError> {
        let mut named: HashSet<String> = HashSet::new();
        for item in self.usage()?.items {
            if matches!(item.kind, Kind::Record | Kind::Memo) {
                let text = crate::checked_text::read_checked(&item.path)?.unwrap_or_default();
                named.extend(hex_words(&text));
            }
        }
        items.retain(|item| {
            matches!(item.kind, Kind::Tree | Kind::Blob) && !named.contains(&item.name)
        });
        Ok(items)
    }

    fn image_blobs(&self) -> Result<HashSet<String>, StoreError> {
        let blobs = self
            .images()
            .all()?
            .into_iter()
            .flat_map(|image| image.blobs);
        Ok(blobs.map(|digest| digest.hex()).collect())
    }

    fn remove(&self, batch: &[UsageItem]) -> Result<Vec<UsageItem>, StoreError> {
        let mut removed = Vec::new();
        let mut aside = Vec::new();
        let alone = self.gc_lock(Mode::Exclusive)?;
        let in_use = self.oldest_session()?;
        let mounted = self.mounts().trees()?;
        for item in batch.iter().filter(|item| !mounted.contains(&item.name)) {
            let grave = self.temp_path();
            let unused = last_used(item.kind, &item.path) < in_use;
            let Some(_held) = self.hold_unused(item)? else {
                continue;
            };
            if unused && rename(&item.path, &grave).is_ok() {
                aside.push(grave);
                removed.push(item.clone());
            }
        }
        drop(alone);
        aside.par_iter().for_each(|grave| remove_all(grave));
        Ok(removed)
    }

    /// Keeps steps from using a volume while it is removed; nothing when one uses it.
    fn hold_unused(&self, item: &UsageItem) -> Result<Option<Vec<crate::Lock>>, StoreError> {
        match item.kind {
            Kind::Volume => self.volumes().hold_copies(&item.name),
            _ => Ok(Some(Vec::new())),
        }
    }
}

/// The runs of exactly 64 hexadecimal digits in a text.
fn hex_words(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch_store;
    use kiln_graph::Digest;

    #[test]
    fn what_a_session_used_and_what_images_need_stays() {
        let (_directory, store) = scratch_store();
        let all = PruneOptions {
            all: true,
            ..PruneOptions::default()
        };
        let (old, kept) = (
            store.blobs().put(b"old").unwrap(),
            store.blobs().put(b"kept").unwrap(),
        );
        let image = crate::ImageRecord {
            name: "a".into(),
            digest: kept.digest,
            media_type: String::new(),
            config: kept.digest,
            platforms: vec![],
            size: 0,
            tagged: 0,
            blobs: vec![kept.digest],
            index: None,
            origins: std::collections::BTreeMap::new(),
        };
        store.images().tag(&image).unwrap();
        // The kernel's clock for files advances in steps of milliseconds.
        std::thread::sleep(Duration::from_millis(20));
        let session = store.session().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let used = store.blobs().put(b"used").unwrap();
        let report = store
            .prune(&PruneOptions {
                dry_run: true,
                ..all
            })
            .unwrap();
        assert_eq!(report.items.len(), 1);
        assert_eq!(store.prune(&all).unwrap().items.len(), 1);
        assert_eq!(store.blobs().get(&old.digest).unwrap(), None);
        assert!(store.blobs().get(&used.digest).unwrap().is_some());
        drop(session);
        std::thread::sleep(Duration::from_millis(20));
        store.prune(&all).unwrap();
        assert_eq!(store.blobs().get(&used.digest).unwrap(), None);
        assert!(store.blobs().get(&kept.digest).unwrap().is_some());
    }

    #[test]
    fn without_rules_only_garbage_goes() {
        let (_directory, store) = scratch_store();
        let tree = store.trees().empty().unwrap();
        store
            .memos()
            .put("layer-tree", &Digest::of(b"x"), &tree.id())
            .unwrap();
        let garbage = store.blobs().put(b"garbage").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        store.prune(&PruneOptions::default()).unwrap();
        assert!(store.trees().get(&tree.id()).unwrap().is_some());
        assert_eq!(store.blobs().get(&garbage.digest).unwrap(), None);
    }

    #[test]
    fn what_is_quick_to_make_again_goes_first() {
        let (_directory, store) = scratch_store();
        let make = |name: &str, seconds: u64| {
            let staging = store.staging().unwrap();
            std::fs::write(staging.fs().join("file"), vec![b'x'; 200_000]).unwrap();
            let entry = kiln_graph::Entry {
                node: kiln_graph::Node::File {
                    size: 200_000,
                    digest: Digest::of(&[b'x'; 200_000]),
                },
                ..kiln_graph::Entry::directory(format!("/{name}").as_str().into())
            };
            let tree = store
                .trees()
                .commit(staging, kiln_graph::Manifest::new(vec![entry]));
            let digest = Digest::of(name.as_bytes());
            let record = crate::Record {
                key: kiln_graph::StepKey(digest),
                output: vec![tree.unwrap().id()],
                parts: crate::KeyParts {
                    definition: kiln_graph::DefinitionDigest(digest),
                    operation: serde_json::Value::Null,
                    inputs: Vec::new(),
                },
                name: name.to_owned(),
                location: None,
                duration: Duration::from_secs(seconds),
                created: 0,
                stdout: None,
            };
            store.records().put(&record).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            record.output[0]
        };
        // The slow one was used longest ago.
        let (slow, quick) = (make("slow", 600), make("quick", 1));
        let options = PruneOptions {
            keep_storage: Some(store.usage().unwrap().total() - 100_000),
            ..PruneOptions::default()
        };
        let dry = PruneOptions {
            dry_run: true,
            ..options
        };
        let planned = store.prune(&dry).unwrap();
        assert!(
            store.trees().get(&quick).unwrap().is_some(),
            "nothing went yet"
        );
        assert!(
            planned.cost() >= Duration::from_secs(1) && planned.cost() < Duration::from_secs(9)
        );
        let steps = planned
            .items
            .iter()
            .filter_map(|item| item.cost.clone()?.step);
        assert!(steps.into_iter().all(|step| step == "quick"));
        std::thread::sleep(Duration::from_millis(20));
        store.prune(&options).unwrap();
        assert!(store.trees().get(&slow).unwrap().is_some());
        assert!(store.trees().get(&quick).unwrap().is_none());
    }
}
