//! A remote in the cache of GitHub Actions (its second API, which other CI systems speak too). Format 1.
//!
//! What the service has are *caches*: bytes under a key, which never change, are found by the whole key or by what
//! it begins with, belong to a branch, and go when nobody has used them for a while. So each blob is a cache,
//! `kiln-blob-1-<sha256>`, and all entries of a scope are one document, see [`index`], which is written anew when
//! a build ends: `kiln-index-1-<scope>-<branch>#<number>`, of which the highest number counts. Writers take the next number
//! or, when somebody else has it already, read again and add theirs to it: nothing of each other's is lost, unless one takes half a minute to send its document. A cache
//! that is begun and never finished keeps its key for a while: blobs then have `#<number>` behind their keys.
//!
//! An entry whose blobs aren't all there any more is none.

mod index;
mod remote;
mod service;
mod settings;
mod storage;
mod token;

pub use remote::GhaRemote;
pub use settings::{GhaSettings, GhaSettingsError};
