//! Which stored results a step may use.

use std::collections::BTreeSet;

use kiln_graph::{Network, Reuse, Step, StepId};

/// What the user wants of a build.
#[derive(Clone, Debug, Default)]
pub struct SolveOptions {
    /// Run every step, whatever is stored.
    pub no_cache: bool,
    /// Steps to run whatever is stored.
    pub fresh: BTreeSet<StepId>,
    /// Use stored results whatever the steps, or the two fields above, say.
    pub any_age: bool,
    /// After a failure, run what doesn't depend on it.
    pub keep_going: bool,
    /// Steps whose standard output somebody wants to know.
    pub outputs: BTreeSet<StepId>,
    /// How many steps run at once, at least one.
    pub jobs: usize,
    /// The network of steps that don't say which they want. What isn't the usual one is in their keys.
    pub network: Network,
}

/// Which stored results a step may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable {
    /// Those made at this time or later, in seconds since 1970; `None`: none at all.
    since: Option<u64>,
    /// Whether what the step wrote must be known.
    with_output: bool,
}

impl Usable {
    /// What the author and the user want of a step, at a time in seconds since 1970.
    #[must_use]
    pub fn of(options: &SolveOptions, id: StepId, step: &Step, now: u64) -> Self {
        let since = match step.reuse {
            _ if options.any_age => Some(0),
            _ if options.no_cache || options.fresh.contains(&id) => None,
            Reuse::Always => Some(0),
            Reuse::Within(age) => Some(now.saturating_sub(age.as_secs())),
            Reuse::Never => None,
        };
        Self {
            since,
            with_output: options.outputs.contains(&id),
        }
    }

    /// Whether no result may be used.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.since.is_none()
    }

    /// Whether one that was made then may be used, with or without what the step wrote.
    #[must_use]
    pub fn allows(self, created: u64, output: bool) -> bool {
        let is_new = self.since.is_some_and(|since| created >= since);
        is_new && (output || !self.with_output)
    }
}
