//! The cache as a remote.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kiln_graph::{BlobDigest, Digest};
use kiln_image::Client;

use super::index::{Index, Indexed, MAX_READ};
use super::service::{Created, Found, Service};
use super::settings::GhaSettings;
use super::storage::gone;
use super::token::Claims;
use crate::{Remote, RemoteBlob, RemoteError};

/// About so many blobs is asked at once.
const ASKED_AT_ONCE: usize = 8;
/// So many keys are tried for a blob whose first ones somebody has begun to write and not ended.
const MAX_KEYS: usize = 4;
/// Addresses hold for longer than this.
const ADDRESS_AGE: Duration = Duration::from_secs(240);
/// How long it is waited for others who write what has the same key before another key is taken: they may be gone.
const OTHERS: Duration = Duration::from_secs(3);
/// The same for those who write a document, which may be long.
const WRITERS: Duration = Duration::from_secs(30);
/// How long it is tried in all.
const TRY_FOR: Duration = Duration::from_secs(90);
/// The shortest pause between two tries; each is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A cache of GitHub Actions that builds share. It is looked at once, at the first use; what was put is seen by
/// others from [`Remote::finish`] on.
#[derive(Debug)]
pub struct GhaRemote {
    service: Service,
    claims: Claims,
    /// The entries that were there at first.
    read: OnceLock<Result<Index, RemoteError>>,
    own: Mutex<Own>,
}

/// What this build knows and has written.
#[derive(Debug, Default)]
struct Own {
    /// Entries that it wrote.
    written: Index,
    /// When it used others, in seconds since 1970.
    used: BTreeMap<String, u64>,
    /// Where blobs were found, and when.
    blobs: BTreeMap<BlobDigest, (Found, Instant)>,
}

impl GhaRemote {
    /// The cache of a workflow.
    #[must_use]
    pub fn new(client: Client, settings: GhaSettings) -> Self {
        Self {
            claims: Claims::of(&settings.token),
            service: Service::new(client, settings),
            read: OnceLock::new(),
            own: Mutex::default(),
        }
    }

    fn fail(&self, error: RemoteError) -> RemoteError {
        error.at(&self.name())
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the keys of a branch's documents begin with.
    fn index_key(&self, branch: &str) -> String {
        let scope = &self.service.settings().scope;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        // Two scopes have two keys, and none is the beginning of another.
        let scope = match scope.chars().all(plain) {
            true => scope.clone(),
            false => Digest::of(scope.as_bytes()).to_string(),
        };
        let branch = Digest::of(branch.as_bytes()).to_string();
        format!("kiln-index-1-{scope}-{}#", &branch[..16])
    }

    /// The keys of all branches that can be read, the own one first.
    fn index_keys(&self) -> Vec<String> {
        let branches = &self.claims.branches;
        match branches.is_empty() {
            true => vec![self.index_key("")],
            false => branches.iter().map(|name| self.index_key(name)).collect(),
        }
    }

    /// The newest document of a branch, and its number; an empty one where there is none.
    fn latest(&self, key: &str) -> Result<(u64, Index), RemoteError> {
        let number = |found: &Found| found.key.strip_prefix(key)?.parse::<u64>().ok();
        let find = || self.service.find(key);
        let Some(found) = find()? else {
            return Ok((0, Index::default()));
        };
        let Some(number) = number(&found) else {
            return Ok((0, Index::default()));
        };
        let mut bytes = Vec::new();
        let own = found.key.clone();
        // What has come already belongs to this document and no other.
        let again = || Ok(find()?.filter(|again| again.key == own));
        _ = self.service.download(found, MAX_READ, &again, &mut bytes)?;
        // What another version wrote is nobody's loss: it is written over.
        Ok((number, Index::read(&bytes).unwrap_or_default()))
    }

    fn entries(&self) -> Result<&Index, RemoteError> {
        let read = || {
            self.check_token()?;
            let mut all = Index::default();
            for key in self.index_keys() {
                all.add(&self.latest(&key)?.1);
            }
            Ok(all)
        };
        self.read.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    fn check_token(&self) -> Result<(), RemoteError> {
        let is_over = |end: u64| end < now();
        match self.claims.expires.is_some_and(is_over) {
            true => Err(RemoteError::Denied(
                "the token has expired: it ends with its job".to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// An entry, written by this build or there before.
    fn indexed(&self, name: &str) -> Result<Option<Indexed>, RemoteError> {
        if let Some(own) = self.own().written.0.get(name) {
            return Ok(Some(own.clone()));
        }
        Ok(self.entries()?.0.get(name).cloned())
    }

    /// Where a blob can be fetched; nothing when the service doesn't have it.
    fn find_blob(&self, digest: &BlobDigest) -> Result<Option<Found>, RemoteError> {
        let known = self.own().blobs.get(digest).cloned();
        match known {
            Some((found, since)) if since.elapsed() < ADDRESS_AGE => Ok(Some(found)),
            _ => self.find_anew(digest),
        }
    }

    fn find_anew(&self, digest: &BlobDigest) -> Result<Option<Found>, RemoteError> {
        let found = self.service.find(&blob_key(digest))?;
        let blobs = &mut self.own().blobs;
        _ = match &found {
            Some(found) => blobs.insert(*digest, (found.clone(), Instant::now())),
            None => blobs.remove(digest),
        };
        Ok(found)
    }

    /// Whether blobs are all there; asks for several at once, up to the first that isn't.
    fn has_all(&self, blobs: &[BlobDigest]) -> Result<bool, RemoteError> {
        let next = AtomicUsize::new(0);
        let ask = || -> Result<bool, RemoteError> {
            while let Some(digest) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let found = self.find_blob(digest);
                if !matches!(found, Ok(Some(_))) {
                    // The others need not go on.
                    next.store(blobs.len(), Ordering::Relaxed);
                    return found.map(|found| found.is_some());
                }
            }
            Ok(true)
        };
        std::thread::scope(|scope| {
            let threads = (0..blobs.len().min(ASKED_AT_ONCE)).map(|_| scope.spawn(ask));
            let threads: Vec<_> = threads.collect();
            let mut all = true;
            for thread in threads {
                let died = || Err(RemoteError::Local("a thread ended early".to_owned()));
                all &= thread.join().unwrap_or_else(|_| died())?;
            }
            Ok(all)
        })
    }

    /// Sends a blob unless it is there; gives the bytes sent.
    fn send(&self, blob: &RemoteBlob<'_>) -> Result<u64, RemoteError> {
        if self.find_blob(&blob.digest)?.is_some() {
            return Ok(0);
        }
        let mut said = String::new();
        for number in 0..MAX_KEYS {
            let key = match number {
                0 => blob_key(&blob.digest),
                number => format!("{}#{number}", blob_key(&blob.digest)),
            };
            match self.service.create(&key)? {
                Created::At(url) => {
                    self.service.upload(&url, blob)?;
                    self.service.finalize(&key, blob.size)?;
                    return Ok(blob.size);
                }
                Created::Taken(reason) => said = reason,
            }
            if self.is_written(&blob.digest)? {
                return Ok(0);
            }
        }
        Err(not_taken(&blob_key(&blob.digest), &said))
    }

    /// Waits for a blob that somebody else has begun to write. Gives whether it came.
    fn is_written(&self, digest: &BlobDigest) -> Result<bool, RemoteError> {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            if self.find_anew(digest)?.is_some() {
                return Ok(true);
            }
            if begun.elapsed() > OTHERS {
                return Ok(false);
            }
            self.service.client().pause(pause)?;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Writes the document of the own branch anew, with what others wrote meanwhile.
    fn write_index(&self) -> Result<(), RemoteError> {
        let (written, used) = {
            let own = self.own();
            (own.written.clone(), own.used.clone())
        };
        if written.0.is_empty() && used.is_empty() {
            return Ok(());
        }
        let keys = self.index_keys();
        let Some(key) = keys.first() else {
            return Ok(());
        };
        let begun = Instant::now();
        let (mut waited_for, mut since, mut pause) = (None, begun, FIRST_PAUSE);
        loop {
            let (latest, there) = self.latest(key)?;
            let Some(all) = there.with(&written, &used) else {
                return Ok(());
            };
            if waited_for != Some(latest) {
                (waited_for, since) = (Some(latest), Instant::now());
            }
            let skipped = since.elapsed().as_secs() / WRITERS.as_secs();
            let number = format!("{key}{}", latest.saturating_add(1 + skipped));
            match self.service.create(&number)? {
                Created::At(url) => return self.write_document(&number, &url, &all),
                Created::Taken(said) if begun.elapsed() > TRY_FOR => {
                    return Err(not_taken(key, &said));
                }
                Created::Taken(_) => self.service.client().pause(pause)?,
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn write_document(&self, key: &str, url: &str, all: &Index) -> Result<(), RemoteError> {
        let document = all.document(now());
        let size = document.len() as u64;
        if size > MAX_READ {
            let text = "what it holds is too much for one document: use scope=NAME or mode=min";
            return Err(RemoteError::Unsupported(text.to_owned()));
        }
        self.service.upload_bytes(url, document)?;
        self.service.finalize(key, size)
    }
}

fn not_taken(key: &str, said: &str) -> RemoteError {
    let why = match said {
        "" => String::new(),
        said => format!(": {said}"),
    };
    RemoteError::Unreachable(format!("the service takes no {key}{why}"))
}

fn blob_key(digest: &BlobDigest) -> String {
    format!("kiln-blob-1-{}", digest.hex())
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

impl Remote for GhaRemote {
    fn name(&self) -> String {
        self.service.settings().to_string()
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let found = self.indexed(name).map_err(|error| self.fail(error))?;
        let Some(indexed) = found else {
            return Ok(None);
        };
        let has_all = self.has_all(&indexed.blobs);
        if !has_all.map_err(|error| self.fail(error))? {
            return Ok(None);
        }
        _ = self.own().used.insert(name.to_owned(), now());
        Ok(Some(indexed.text.into_bytes()))
    }

    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        let send = || {
            self.check_token()?;
            if self.claims.is_read_only {
                let text = "the token allows to read only: workflows of forks can't write caches";
                return Err(RemoteError::Denied(text.to_owned()));
            }
            blobs
                .iter()
                .try_fold(0, |sent, blob| Ok(sent + self.send(blob)?))
        };
        let sent = send().map_err(|error| self.fail(error))?;
        let indexed = Indexed {
            text: String::from_utf8_lossy(entry).into_owned(),
            blobs: blobs.iter().map(|blob| blob.digest).collect(),
            used: now(),
        };
        _ = self.own().written.0.insert(name.to_owned(), indexed);
        Ok(sent + entry.len() as u64)
    }

    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        let mut fetch = || {
            let found = self.find_blob(digest)?.ok_or_else(gone)?;
            let again = || self.find_anew(digest);
            let done = self.service.download(found, size, &again, out)?;
            match done == size {
                true => Ok(()),
                false => Err(RemoteError::Damaged(format!(
                    "{digest} has {done} bytes instead of {size}"
                ))),
            }
        };
        let fetched: Result<(), RemoteError> = fetch();
        fetched.map_err(|error| self.fail(error))
    }

    fn finish(&self) -> Result<(), RemoteError> {
        match self.claims.is_read_only {
            true => Ok(()),
            false => self.write_index().map_err(|error| self.fail(error)),
        }
    }
}
