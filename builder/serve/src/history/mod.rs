//! Builds that clients asked for, as `docker buildx history` shows them.
//!
//! ```text
//! store     records and their blobs on disk
//! record    what is remembered of a build
//! listen    records that are there, and those that come
//! content   blobs of records, for clients
//! ```

mod content;
mod listen;
mod record;
mod store;

pub(crate) use content::answer;
pub(crate) use listen::{listen, update};
pub(crate) use record::{begun, ended};
pub(crate) use store::History;
pub use store::HistoryLimits;
