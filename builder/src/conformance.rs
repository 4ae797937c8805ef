//! What parts of a program's own have to keep to, as functions that try it: to be called from that
//! program's tests.

use kiln_engine::{Remote, RemoteBlob, RemoteError, SecretProvider};
use kiln_graph::BlobDigest;

/// What a part doesn't keep to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Nonconforming {
    /// It doesn't do what its trait says.
    #[error("{0}")]
    Rule(&'static str),
    /// A shared cache failed where it must not.
    #[error("{doing}: {source}")]
    Remote {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: RemoteError,
    },
    /// The files that it is tried with can't be made.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

fn rule(holds: bool, text: &'static str) -> Result<(), Nonconforming> {
    match holds {
        true => Ok(()),
        false => Err(Nonconforming::Rule(text)),
    }
}

/// Tries a shared cache. It is written to, under names that no build uses.
///
/// # Errors
/// When it doesn't keep what [`Remote`] says, or can't be reached.
pub fn remote(remote: &dyn Remote) -> Result<(), Nonconforming> {
    let failed = |doing| move |source: RemoteError| Nonconforming::Remote { doing, source };
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
    kiln_tree::host::write(&file, b"content")?;
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

/// Tries a provider of secrets, which has one named `known` and none named `unknown`.
///
/// # Errors
/// When it doesn't keep what [`SecretProvider`] says.
pub fn secrets(
    provider: &dyn SecretProvider,
    known: &str,
    unknown: &str,
) -> Result<(), Nonconforming> {
    let value = |id: &str| provider.secret(id);
    let first = value(known);
    rule(
        matches!(first, Ok(Some(_))),
        "the known secret can't be had",
    )?;
    let bytes = |found: Result<Option<kiln_engine::SecretValue>, String>| {
        found.ok().flatten().map(|value| value.expose().to_vec())
    };
    rule(
        bytes(first) == bytes(value(known)),
        "a secret is another when it is asked for again",
    )?;
    let none = value(unknown);
    rule(
        matches!(none, Ok(None)),
        "an unknown secret isn't nothing: what fails is an error of the step",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_engine::{DirectoryRemote, NoSecrets};

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

    #[test]
    fn a_provider_without_secrets_has_none() {
        let said = secrets(&NoSecrets, "token", "other").unwrap_err();
        assert_eq!(said.to_string(), "the known secret can't be had");
    }
}
