//! The files of the old image.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::parts::fill;

/// What can be read from any position.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// An open regular file of the old image.
pub struct OldFile {
    /// Its content.
    pub content: Box<dyn ReadSeek>,
    /// Its length in bytes.
    pub size: u64,
}

impl fmt::Debug for OldFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OldFile")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl OldFile {
    /// All bytes from the start.
    pub(crate) fn read_all(&mut self) -> io::Result<Vec<u8>> {
        self.content.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        (&mut self.content)
            .take(self.size)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Fills a buffer from a position; how many bytes there were.
    pub(crate) fn read_at(&mut self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.seek(SeekFrom::Start(position))?;
        fill(&mut self.content, buffer)
    }
}

/// Opens files of the old image. A path is looked up in what is known of the image; it is never
/// walked on the host.
pub trait OldFiles {
    /// The regular file at a path of the image, when it has one there.
    ///
    /// # Errors
    /// When it can't be opened.
    fn open(&self, path: &str) -> io::Result<Option<OldFile>>;
}
