//! A remote in a bucket of Amazon S3 or of a store that speaks like it: the objects
//! `PREFIX/entries/[NAME/]<entry>` and `PREFIX/blobs/sha256/<hex>`. An object is seen when it is
//! whole, and each entry is one, so that any number of builds may write at once.

#[cfg(feature = "s3")]
mod objects;
#[cfg(feature = "s3")]
mod profile;
#[cfg(feature = "s3")]
mod remote;
mod settings;

#[cfg(feature = "s3")]
pub use remote::S3Remote;
pub use settings::{S3Keys, S3Settings};

/// The remote in a bucket; `None` where this build has no S3.
#[must_use]
pub fn s3_remote(settings: &S3Settings) -> Option<std::sync::Arc<dyn crate::Remote>> {
    #[cfg(feature = "s3")]
    return Some(std::sync::Arc::new(S3Remote::new(settings.clone())));
    #[cfg(not(feature = "s3"))]
    {
        _ = settings;
        None
    }
}
