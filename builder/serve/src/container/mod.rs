//! Containers that clients make of results, and run processes in.
//!
//! ```text
//! open      a container; those of a build
//! process   one process: its streams, its signals, its end
//! stream    a client's messages about its processes
//! terminal  a terminal for a process
//! signal    signals by their names
//! ```

mod open;
mod process;
mod signal;
mod stream;
mod terminal;

pub(crate) use open::{Containers, OpenContainer};
pub(crate) use stream::serve;
