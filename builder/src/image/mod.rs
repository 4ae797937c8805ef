//! What images must keep to, and which of them are no longer wanted.

mod expire;
mod policy;

pub use expire::{ExpireRules, Expired, expire};
pub use policy::Policy;
