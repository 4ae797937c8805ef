//! Who can mend an error.

use std::fmt;

/// Who is at fault when something goes wrong, and so who can mend it.
///
/// Every error enum of kiln has a method that returns one of these; the command line chooses
/// its wording and its hints by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// What the user wrote: a build file, a flag, a name.
    User,
    /// The machine, the network, a registry, a disk.
    Environment,
    /// kiln itself: a bug to be reported.
    Kiln,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Environment => "environment",
            Self::Kiln => "kiln",
        })
    }
}
