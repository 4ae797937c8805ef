//! Decides: which step runs when, what its result is filed under, whether it is there already.

pub(crate) mod cancel;
pub(crate) mod entitlement;
pub(crate) mod event;
pub(crate) mod forecast;
pub(crate) mod key;
pub(crate) mod meter;
pub(crate) mod pin;
pub(crate) mod schedule;
pub(crate) mod scheduler;
pub(crate) mod snapshot;
pub(crate) mod step;
