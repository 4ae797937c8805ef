//! The `kiln` command: flags in, displays and reports out; the work is the library `kiln`'s.
#![allow(
    clippy::disallowed_methods,
    reason = "opens files that the user names; trees are opened by kiln-tree"
)]
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments of flags are their help, where brackets hold what may be left out"
)]

mod command;
mod convert;
mod display;
mod human;
mod report;
mod terminal;
mod untag;

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kiln::run_if_helper();
    #[cfg(feature = "reapi")]
    kiln_cluster::run_if_worker();
    command::run()
}
