//! What parts of a program's own have to keep to, as functions that try it: to be called from that
//! program's tests.
//!
//! ```text
//! executor   runs steps: kiln_solve's Executor
//! source     brings files: kiln_solve's SourceResolver
//! frontend   compiles a language: kiln_graph's Frontend
//! remote     keeps results for others: Remote
//! secrets    has secrets: SecretProvider; failing_secret tries one that it can't have
//! ```

mod remote;
mod secrets;

pub use kiln_engine::conformance::{ExecutorTrial, SourceTrial, executor, source};
pub use kiln_graph::conformance::{Nonconforming, frontend};
pub use remote::remote;
pub use secrets::{failing_secret, secrets};
