//! What a step's result was: `records/<2 hex>/<step key>`, in the form of `memo`.
//!
//! Each record keeps the parts its key was made of, so that two records can be compared to say
//! why a step ran again.

use std::path::PathBuf;
use std::time::Duration;

use kiln_graph::{ContentDigest, DefinitionDigest, Location, StepKey, TreeId};
use serde::{Deserialize, Serialize};

use crate::checked_text::read_checked;
use crate::lock::Mode;
use crate::{Store, StoreError};

/// One input of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInput {
    /// What it is, in words.
    pub name: String,
    /// What it contains.
    pub content: ContentDigest,
}

/// What a step's key is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts {
    /// The step's definition with everything below it.
    pub definition: DefinitionDigest,
    /// The operation, as `kiln graph --format json` prints it.
    pub operation: serde_json::Value,
    /// The inputs, in the operation's order.
    pub inputs: Vec<KeyInput>,
}

/// What a step's result was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it is filed under.
    pub key: StepKey,
    /// The trees that the step added, lowest first.
    pub output: Vec<TreeId>,
    /// What the key was made of.
    pub parts: KeyParts,
    /// The step's name.
    pub name: String,
    /// Where the build file asked for it.
    pub location: Option<Location>,
    /// How long it ran.
    pub duration: Duration,
    /// When it ended, in seconds since 1970.
    pub created: u64,
    /// What it wrote to its standard output, when somebody wanted to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
}

/// What is known of steps in a store; [`Store::records`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(&'a Store);

impl Store {
    /// What steps gave.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records(self)
    }
}

impl Records<'_> {
    pub(crate) fn path_of(&self, key: &StepKey) -> PathBuf {
        self.0.sharded("records", &key.to_string())
    }

    /// What the step's result was, if it is known and its trees are all there. Touches them: from
    /// now until the running session ends they are not collected.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn get(&self, key: &StepKey) -> Result<Option<Record>, StoreError> {
        let _kept = self.0.gc_lock(Mode::Shared)?;
        let path = self.path_of(key);
        let Some(text) = read_checked(&path)? else {
            return Ok(None);
        };
        let Ok(record) = serde_json::from_str::<Record>(&text) else {
            return Ok(None);
        };
        if record.key != *key || !record.output.iter().all(|tree| self.0.trees().touch(tree)) {
            return Ok(None);
        }
        crate::session::touch(&path);
        Ok(Some(record))
    }

    /// Files a result; one that is there under the same key is replaced.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn put(&self, record: &Record) -> Result<(), StoreError> {
        self.0.put_checked(&self.path_of(&record.key), record)
    }
}
