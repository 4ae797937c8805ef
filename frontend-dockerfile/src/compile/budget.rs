//! How much a compilation may produce.

use crate::DockerfileError;
use crate::limits::MAX_PRODUCED;

/// Counts what is produced, so that a small file can't become a large build.
#[derive(Debug, Default)]
pub(crate) struct Budget(usize);

impl Budget {
    /// Adds some bytes.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), DockerfileError> {
        self.0 = self.0.saturating_add(bytes);
        match self.0 > MAX_PRODUCED {
            true => Err(DockerfileError::whole(format!(
                "the file makes more than {MAX_PRODUCED} bytes of variables, commands and history"
            ))
            .with_help("its variables are too large, or it repeats them too often")),
            false => Ok(()),
        }
    }
}
