//! A shared cache in memory: of two stores, the second runs nothing that the first has run. One behind
//! a service of one's own looks the same.
#![allow(clippy::disallowed_methods, reason = "reads blobs of its own store")]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use kiln::{
    BlobDigest, BuildRequest, CacheMode, CacheSource, CacheTarget, CacheTrust, Kiln, Remote,
    RemoteBlob, RemoteError,
};

#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl Memory {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned()
    }

    fn set(&self, name: String, bytes: Vec<u8>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, bytes);
    }
}

impl Remote for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        Ok(self.get(name))
    }

    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        let mut sent = entry.len() as u64;
        for blob in blobs {
            let bytes = std::fs::read(blob.path);
            let bytes = bytes.map_err(|error| RemoteError::Local(error.to_string()))?;
            self.set(blob.digest.to_string(), bytes);
            sent += blob.size;
        }
        self.set(name.to_owned(), entry.to_vec());
        Ok(sent)
    }

    fn blob(&self, digest: &BlobDigest, _: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        let bytes = self.get(&digest.to_string());
        let bytes = bytes.ok_or_else(|| RemoteError::Damaged(format!("{digest} is missing")))?;
        out.write_all(&bytes)
            .map_err(|error| RemoteError::Local(error.to_string()))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kiln::run_if_helper();
    let cache: Arc<dyn Remote> = Arc::new(Memory::default());
    for store in ["first", "second"] {
        let build = BuildRequest::dockerfile(".")
            .cache_from(CacheSource::new(cache.clone(), CacheTrust::default()))
            .cache_to(CacheTarget {
                remote: cache.clone(),
                mode: CacheMode::Max,
                signer: None,
            });
        let kiln = Kiln::builder().store(store).open()?;
        let digest = kiln.build(build)?.digest;
        writeln!(std::io::stdout(), "{store}: {digest:?}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn it_keeps_what_a_shared_cache_keeps() {
        kiln::conformance::remote(&Memory::default()).unwrap();
    }
}
