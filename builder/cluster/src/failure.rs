//! Why a step has no result of a cluster.

use kiln_execute::EngineError;

use crate::ClusterError;

/// Whose failure it is.
pub(crate) enum Failure {
    /// The step's own failure, or that it was cancelled.
    Step(EngineError),
    /// The cluster's: the step may run elsewhere.
    Cluster(ClusterError),
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Cancelled => Self::Step(EngineError::Cancelled),
            other => Self::Cluster(other),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Step(error)
    }
}
