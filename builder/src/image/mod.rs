//! What images must keep to, and which of them are no longer wanted.

mod expire;
mod policy;
mod signature;
mod signer_identity;
mod source_check;
pub(crate) mod source_guard;
mod source_rule;
mod stale_delta;

pub use expire::{ExpireRules, Expired, expire};
pub use policy::{Policy, PolicyTest};
pub use signature::{RequiredSignature, SignatureRule};
pub use signer_identity::{IdentityFields, IdentityMistake};
pub use source_check::{SourceCheck, SourceVerdict};
pub use source_rule::{SourceName, SourceRules};
pub use stale_delta::{StaleDelta, stale_deltas};
