//! Tries shared caches.

use kiln_engine::{Remote, RemoteBlob, RemoteError};
use kiln_graph::BlobDigest;
use kiln_graph::conformance::{Nonconforming, rule};

/// Tries a shared cache. It is written to, under names that no build uses.
///
/// # Errors
/// When it doesn't keep what [`Remote`] says, or can't be reached.
pub fn remote(remote: &dyn Remote) -> Result<(), Nonconforming> {
    let failed = Nonconforming::failed::<RemoteError>;
    let entry = |name: &str| remote.entry(name).map_err(failed("read an entry"));
    let digest = |text: &str| BlobDigest::of(text.as_bytes());
    let [name, other] = ["first", "other"].map(|text| digest(text).hex());
    let missing = digest("this blob is nowhere");
    let written = entry(&name)?;
    rule(
        written.is_none() || written.as_deref() == Some(b"{}"),
        "an entry that nobody wrote is there",
    )?;
    let file = std::env::temp_dir().join(format!("kiln-conformance-{}", std::process::id()));
    let written = kiln_tree::host::write(&file, b"content");
    written.map_err(Nonconforming::failed("make a file to try with"))?;
    let blob = RemoteBlob {
        digest: BlobDigest::of(b"content"),
        size: 7,
        path: &file,
    };
    // The same again: two builds may do so at once.
    let put = || remote.put(&name, b"{}", &[blob]);
    let twice = put().and_then(|_| put());
    _ = kiln_tree::host::remove_file(&file);
    _ = twice.map_err(failed("write an entry"))?;
    _ = remote
        .put(&other, b"[]", &[])
        .map_err(failed("write an entry without blobs"))?;
    remote.finish().map_err(failed("make entries visible"))?;
    let is = |name: &str, want: &[u8]| entry(name).map(|found| found.as_deref() == Some(want));
    rule(is(&name, b"{}")?, "an entry isn't what was written")?;
    rule(is(&other, b"[]")?, "two entries aren't apart")?;
    let mut out = Vec::new();
    remote
        .blob(&blob.digest, blob.size, &mut out)
        .map_err(failed("read a blob"))?;
    rule(out == b"content", "a blob isn't what was written")?;
    let absent = remote.blob(&missing, 1, &mut Vec::new());
    rule(absent.is_err(), "a blob that isn't there is no error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_engine::DirectoryRemote;

    #[test]
    fn a_directory_conforms_and_what_forgets_does_not() {
        struct Forgets;
        impl Remote for Forgets {
            fn name(&self) -> String {
                "nowhere".to_owned()
            }
            fn entry(&self, _: &str) -> Result<Option<Vec<u8>>, RemoteError> {
                Ok(None)
            }
            fn put(&self, _: &str, _: &[u8], _: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
                Ok(0)
            }
            fn blob(
                &self,
                _: &BlobDigest,
                _: u64,
                _: &mut dyn std::io::Write,
            ) -> Result<(), RemoteError> {
                Ok(())
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let kept = DirectoryRemote::new(directory.path().to_owned());
        remote(&kept).unwrap();
        remote(&kept).unwrap();
        let said = remote(&Forgets).unwrap_err().to_string();
        assert_eq!(said, "an entry isn't what was written");
    }
}
