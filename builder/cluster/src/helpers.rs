//! The programs for workers that a build has: those that the user names, and the running one where
//! none of them is for its processors.

use std::path::PathBuf;
use std::sync::OnceLock;

use kiln_graph::Platform;

use crate::ClusterError;
use crate::helper::Helper;

/// Programs for workers, which are read when the first is asked for.
#[derive(Debug)]
pub(crate) struct Helpers {
    given: Vec<PathBuf>,
    found: OnceLock<Result<Vec<Helper>, ClusterError>>,
}

impl Helpers {
    /// With the programs that the user names.
    pub(crate) fn new(given: Vec<PathBuf>) -> Self {
        Self {
            given,
            found: OnceLock::new(),
        }
    }

    /// The one for some processors.
    pub(crate) fn of(&self, architecture: &str) -> Result<Option<&Helper>, ClusterError> {
        let found = self.found.get_or_init(|| self.find());
        let mut helpers = found.as_deref().map_err(Clone::clone)?.iter();
        Ok(helpers.find(|helper| helper.architecture == architecture))
    }

    /// Why steps for some processors can't be sent.
    pub(crate) fn obstacle(&self, architecture: &str) -> Option<String> {
        match self.of(architecture) {
            Ok(None) => Some(format!(
                "a step is for linux/{architecture}, and workers need a kiln for it: name one with helper=FILE"
            )),
            _ => None,
        }
    }

    /// A program that is linked dynamically is the likely reason when it didn't even begin.
    pub(crate) fn explained(&self, error: ClusterError, architecture: &str) -> ClusterError {
        let helper = self.of(architecture);
        let is_static = helper.is_ok_and(|helper| helper.is_none_or(Helper::is_static));
        match error {
            ClusterError::NoReport { worker, reason } if !is_static => ClusterError::NoReport {
                worker,
                reason: format!(
                    "{reason}; this kiln is linked dynamically, and a worker with other libraries needs a static one, as releases are: name it with helper=FILE"
                ),
            },
            other => other,
        }
    }

    fn find(&self) -> Result<Vec<Helper>, ClusterError> {
        let given = self.given.iter().map(|path| Helper::of(path));
        let mut helpers = given.collect::<Result<Vec<_>, _>>()?;
        // The running program is large, and is only read where it is the one to be sent.
        let own = Platform::host().architecture;
        if helpers.iter().all(|helper| helper.architecture != own) {
            helpers.push(Helper::own()?);
        }
        Ok(helpers)
    }
}
