//! Decides what becomes of a build's steps: which runs when, what its result is filed under, whether
//! it is there already.
//!
//! The solver runs no process and touches no disk. What it needs of others are traits: an
//! [`Executor`] runs steps, a [`SourceResolver`] brings sources, a [`ResultStore`] keeps results,
//! [`Contents`] says what they contain, [`SharedCaches`] have results of other machines. All of them
//! have one error, which is a [`StepError`]. A [`Solver`] that is given a [`Backend`] of these makes
//! a [`Solution`].

mod ahead;
mod backend;
mod cancel;
mod done;
mod ended;
mod entitlement;
mod event;
mod forecast;
mod key;
mod meter;
mod schedule;
mod slots;
mod snapshot;
mod solver;
mod step;
mod usable;

pub use backend::{
    Ahead, Backend, Contents, Executed, Executor, Filed, Following, FollowingInput, GivenContent,
    Job, NoSharedCaches, Origin, Part, ResolvedSource, ResultStore, SharedCaches, SourceResolver,
    StepError,
};
pub use cancel::{Cancel, CancelHook};
pub use entitlement::{NotAllowed, check_entitlements};
pub use event::{EVENTS_VERSION, Event, EventSink, Outcome, PlannedStep, StepRef, Stream};
pub use forecast::{Edits, Fate, Forecast};
pub use meter::{Meter, Metered};
pub use snapshot::{Directory, LayerRef, Snapshot, StepResult, empty_tree};
pub use solver::{Solution, Solver};
pub use usable::{SolveOptions, Usable};
