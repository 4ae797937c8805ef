//! Archives that had to be fetched or decompressed, kept as long as a client is.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::ImageError;

/// Temporary files by what they hold.
#[derive(Debug, Default)]
pub(crate) struct KeptFiles(Mutex<HashMap<String, Arc<NamedTempFile>>>);

impl KeptFiles {
    /// A file that is written once, and there as long as this client is.
    pub(crate) fn get(
        &self,
        key: &str,
        write: impl FnOnce(&mut File) -> Result<(), ImageError>,
    ) -> Result<Arc<NamedTempFile>, ImageError> {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = saved.get(key) {
            return Ok(file.clone());
        }
        let mut file = NamedTempFile::new().map_err(|source| ImageError::Io {
            what: "a temporary file".to_owned(),
            source,
        })?;
        write(file.as_file_mut())?;
        let file = Arc::new(file);
        saved.insert(key.to_owned(), file.clone());
        Ok(file)
    }
}
