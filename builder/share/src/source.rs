//! A shared cache that builds take results from: what it says is checked, and it is asked no more
//! once it has failed.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use kiln_graph::{ContentDigest, Digest, StepKey};

use crate::{CacheTrust, Remote, RemoteError, RemoteName, RemotePart, RemoteRecord};

/// A remote that builds take results from.
#[derive(Clone)]
pub struct CacheSource {
    remote: Arc<dyn Remote>,
    trust: CacheTrust,
    /// Which volumes are taken from it when a step wants one that isn't here.
    pub volumes: Volumes,
    /// Whether it failed: then it is not asked again.
    broken: Arc<AtomicBool>,
    /// Whether results count whose files it doesn't have.
    takes_names: Arc<AtomicBool>,
    /// Whether it has any such, once that was asked.
    has_names: Arc<OnceLock<bool>>,
}

/// Some cache volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These.
    Named(Vec<String>),
}

impl Volumes {
    /// Whether a volume is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(names) => names.iter().any(|known| known == name),
        }
    }
}

impl fmt::Debug for CacheSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheSource({})", self.remote.name())
    }
}

impl CacheSource {
    /// A source whose entries must be signed by one of the trusted keys, if there are any.
    #[must_use]
    pub fn new(remote: Arc<dyn Remote>, trust: CacheTrust) -> Self {
        Self {
            remote,
            trust,
            volumes: Volumes::None,
            broken: Arc::default(),
            takes_names: Arc::new(AtomicBool::new(true)),
            has_names: Arc::default(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    /// Whether [`CacheSource::give_up`] was called.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Has builds ask it no more.
    pub fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Whether results count whose files it doesn't have, until [`CacheSource::forget_names`] is called.
    #[must_use]
    pub fn takes_names(&self) -> bool {
        self.takes_names.load(Ordering::Relaxed)
    }

    /// Has builds use only what the cache has the files of.
    pub fn forget_names(&self) {
        self.takes_names.store(false, Ordering::Relaxed);
    }

    /// An entry whose signature is good, if one is demanded; `None` when there is none.
    ///
    /// # Errors
    /// In words, when the remote can't be read, or the signature isn't good.
    pub fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let Some(text) = self.remote.entry(name)? else {
            return Ok(None);
        };
        let opened = self.trust.open(name, &text);
        opened
            .map(Some)
            .map_err(|error| RemoteError::Damaged(error.to_string()))
    }

    /// The result that is filed under a key.
    ///
    /// # Errors
    /// In words, as [`CacheSource::entry`], and when the entry isn't what its name says.
    pub fn record(&self, key: &StepKey) -> Result<Option<RemoteRecord>, RemoteError> {
        let name = RemoteRecord::entry_name(key);
        let Some(record) = self.document::<RemoteRecord>(&name)? else {
            return Ok(None);
        };
        match record.key == *key {
            true => Ok(Some(record)),
            false => Err(damaged(&name, "holds the result of another step")),
        }
    }

    /// What is known of the result that is filed under a key, where its files are not.
    ///
    /// # Errors
    /// As [`CacheSource::record`].
    pub fn name_of(&self, key: &StepKey) -> Result<Option<RemoteName>, RemoteError> {
        if !self.has_names()? {
            return Ok(None);
        }
        let name = RemoteName::entry_name(key);
        let Some(found) = self.document::<RemoteName>(&name)? else {
            return Ok(None);
        };
        match found.key == *key {
            true => Ok(Some(found)),
            false => Err(damaged(&name, "names the result of another step")),
        }
    }

    /// Whether it has results whose files it doesn't have.
    fn has_names(&self) -> Result<bool, RemoteError> {
        if let Some(known) = self.has_names.get() {
            return Ok(*known);
        }
        let found = self.remote.entry(RemoteName::ANY)?.is_some();
        Ok(*self.has_names.get_or_init(|| found))
    }

    /// What a part of a result contains.
    ///
    /// # Errors
    /// As [`CacheSource::record`].
    pub fn part(&self, part: &Digest) -> Result<Option<ContentDigest>, RemoteError> {
        let name = RemotePart::entry_name(part);
        let Some(found) = self.document::<RemotePart>(&name)? else {
            return Ok(None);
        };
        match found.part == *part {
            true => Ok(Some(found.content)),
            false => Err(damaged(&name, "holds another part")),
        }
    }

    fn document<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, RemoteError> {
        let Some(text) = self.entry(name)? else {
            return Ok(None);
        };
        let document = serde_json::from_slice(&text);
        document
            .map(Some)
            .map_err(|error| damaged(name, &format!("can't be understood: {error}")))
    }
}

fn damaged(name: &str, reason: &str) -> RemoteError {
    RemoteError::Damaged(format!("{name} {reason}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::RemoteBlob;

    /// A cache that has one entry at the most, and notes what it is asked for.
    #[derive(Default)]
    struct Asked {
        has: Option<&'static str>,
        names: Mutex<Vec<String>>,
    }

    impl Remote for Asked {
        fn name(&self) -> String {
            "asked".to_owned()
        }
        fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
            self.names.lock().unwrap().push(name.to_owned());
            Ok((self.has == Some(name)).then(|| b"{}".to_vec()))
        }
        fn put(&self, _: &str, _: &[u8], _: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
            Ok(0)
        }
        fn blob(
            &self,
            _: &kiln_graph::BlobDigest,
            _: u64,
            _: &mut dyn std::io::Write,
        ) -> Result<(), RemoteError> {
            Ok(())
        }
    }

    #[test]
    fn keys_are_looked_up_once_where_no_names_are() {
        for (has, asked) in [(None, 4), (Some(RemoteName::ANY), 7)] {
            let remote = Arc::new(Asked {
                has,
                ..Asked::default()
            });
            let source = CacheSource::new(remote.clone(), CacheTrust::default());
            for text in ["a", "b", "c"] {
                let key = StepKey(Digest::of(text.as_bytes()));
                assert_eq!(source.record(&key), Ok(None));
                assert_eq!(source.name_of(&key), Ok(None));
            }
            assert_eq!(remote.names.lock().unwrap().len(), asked);
        }
    }
}
