//! Reads the user's own directories into manifests ([`context`]).

pub mod context;
mod stat_cache;
