//! Private keys that are encrypted as cosign does.

#[cfg(feature = "cosign-keys")]
mod open;

#[cfg(feature = "cosign-keys")]
pub(crate) use open::open;

/// Says that this build has no cryptography for encrypted keys.
#[cfg(not(feature = "cosign-keys"))]
pub(crate) fn open(
    _bytes: &[u8],
    _password: &str,
) -> Result<zeroize::Zeroizing<Vec<u8>>, crate::AttestError> {
    Err(crate::AttestError::Key(
        "this kiln was built without encrypted keys: use a release, or build kiln with the feature 'cosign-keys'".to_owned(),
    ))
}
