//! What is asked for: a context, its build file, and what both may use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_engine::{EventSink, Pins, Request, SecretProvider};
use kiln_frontend_dockerfile::Options;
use kiln_graph::{Entitlements, ImagePath};

use crate::{ContextFrom, Error, SourceCheck, SourceRules};

/// A Dockerfile to be built.
#[derive(Clone, Default)]
pub struct DockerfileRequest {
    /// The main context.
    pub context: ContextFrom,
    /// The directory of the main context that is meant, in a context that is no directory of this
    /// machine.
    pub context_directory: ImagePath,
    /// The build file; `None`: `kiln.toml`, `Dockerfile` or `dockerfile` in the context; `-`:
    /// standard input. One that ends in `.toml` is read as a kiln.toml.
    /// In a context that is no directory of this machine, a path in the context.
    pub file: Option<PathBuf>,
    /// The build file as text, in place of `file`.
    pub text: Option<BuildFileText>,
    /// What standard input gives, in place of this process's own: a build file.
    pub input: Option<String>,
    /// What messages call a build file on standard input; `None`: `-`.
    pub input_name: Option<String>,
    /// What the frontend is told. Its file name and main ignore list are filled in.
    pub options: Options,
    /// Named contexts that hold files.
    pub contexts: BTreeMap<String, ContextFrom>,
    /// What contexts at addresses must be.
    pub context_pins: Pins,
    /// When registries are asked for images.
    pub pull: Pull,
    /// Which base images are taken to be empty. Good enough to look at a file, not to build it.
    pub assume_images: Assume,
    /// What the build file may ask for beyond what every build may. Directories that may be read
    /// are whole paths without links.
    pub allowed: Entitlements,
    /// Lets git into repositories: the ones that contexts and included files are in.
    pub secrets: Option<Arc<dyn SecretProvider>>,
    /// Is told what happens while contexts are fetched.
    pub events: Option<Arc<dyn EventSink>>,
    /// Whether somebody else asks than this process's user: then git has none of the user's own
    /// configuration and credentials.
    pub is_foreign: bool,
    /// What `kiln.lock` is for.
    pub locking: Locking,
    /// What the build file may take from elsewhere.
    pub source_rules: Arc<SourceRules>,
    /// Decides on that as well. Contexts are fetched before it is asked: whoever names them decides.
    pub source_check: Option<Arc<dyn SourceCheck>>,
    /// Prepares the builds of steps that run while the file is read, for what they write: gives
    /// them secrets, say.
    pub configure: Option<Arc<Configure>>,
}

/// A build file that is given as text, with the ignore lists of the contexts: nothing of it is read
/// from directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildFileText {
    /// Its path as messages have it. One that ends in `.toml` is read as a kiln.toml.
    pub name: String,
    /// The text.
    pub text: String,
    /// The patterns of what is left out of each context, by its name; the main one's is `context`.
    pub ignore: BTreeMap<String, Vec<String>>,
}

/// Which base images are taken to be empty rather than asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assume {
    /// None: one that can't be had is an error.
    #[default]
    Nothing,
    /// Those that can't be had.
    Missing,
    /// All; nobody is asked.
    All,
}

/// When registries are asked for base images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// Even for those that the store has under the name.
    Always,
    /// For those that the store doesn't have under the name.
    #[default]
    Missing,
    /// Never: what isn't in the store is an error. An image whose layers a build brought there is what its
    /// name stood for then.
    Never,
}

/// Whether the lock beside a build file counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// When it is there; what isn't in it is asked for.
    #[default]
    IfThere,
    /// What can change must be in it.
    Required,
    /// It doesn't.
    Off,
}

/// Prepares a build.
pub type Configure = dyn Fn(&mut Request) -> Result<(), Error> + Send + Sync;

impl std::fmt::Debug for DockerfileRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerfileRequest")
            .field("context", &self.context)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl DockerfileRequest {
    pub(crate) fn events(&self) -> Arc<dyn EventSink> {
        let events = self.events.clone();
        events.unwrap_or_else(|| Arc::new(|_| {}))
    }
}
