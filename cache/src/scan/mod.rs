//! Reads folders into manifests: what a step changed ([`upper`]), and the user's own folders
//! ([`context`]).

pub mod context;
mod hash;
mod stat_cache;
pub mod upper;
mod walk;
