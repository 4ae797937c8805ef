//! Runs one process in one root filesystem; knows nothing of images or builds.
//!
//! A process with threads must not fork and go on, so the namespaces are made by a helper: the
//! running program executed again under the name [`HELPER_NAME`], single-threaded. Programs that
//! use this crate call [`run_if_helper`] first thing in `main`.
//!
//! [`Sandbox::spawn`] starts the helper and gives it a [`Spec`] over a socket. The helper makes
//! namespaces and forks PID 1 of the new process namespace; that mounts the root, forks the
//! command, reaps, cleans up, and reports the outcome. Closing the socket kills everything; so
//! does the death of the caller. While the command runs, others can be started beside it
//! ([`Killer::join`]). All mounts are in a mount namespace that goes with them.
#![allow(
    unsafe_code,
    reason = "the one crate of kiln where system calls without safe wrappers are made"
)]

mod capability;
mod cgroup;
mod detect;
mod error;
mod filter;
mod guard;
mod identity;
mod inherited;
mod init;
mod isolation;
mod landlock;
mod line;
mod mount_attributes;
mod passing;
mod passwd;
mod process;
mod refusal;
mod resources;
mod root_mount;
mod selection;
mod spec;
mod system_error;

pub use cgroup::{BadGroupPath, CgroupParent, Cgroups, Group, GroupPath, Limits, NoCgroups, Swap};
pub use detect::{Abilities, Ability};
pub use error::SandboxError;
pub use guard::Lifeline;
pub use identity::{Identity, enter_user_namespace, own_mounts};
pub use inherited::take_inherited_sockets;
pub use init::{NAME_SERVER, run_if_helper};
pub use isolation::{Isolation, IsolationChoice, MountReach, Privileges, Ways};
pub use line::{Joined, Killer, Streams};
pub use passwd::{NoSuchUser, User, find_group, find_user, resolve_user};
pub use process::{Child, Exit, Finished, HELPER_NAME, Output, Sandbox, Usage};
pub use refusal::Refusal;
pub use resources::{descriptors, prepare_process};
pub use root_mount::{RootMount, mount_namespace, unmount};
pub use selection::{Fallback, Selection};
pub use spec::{Mount, MountKind, Network, OwnerCalls, Place, Root, Spec};
