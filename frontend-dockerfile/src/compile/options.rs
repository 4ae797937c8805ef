//! What a compilation is told besides the file.

use std::collections::BTreeMap;

use kiln_graph::Platform;

/// What a compilation is told besides the file.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file's name for messages.
    pub file_name: String,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--platform`, at least one.
    pub platforms: Vec<Platform>,
    /// Whether `--platform` was given, so that images are said to be for these platforms whatever
    /// their base images say.
    pub platforms_are_given: bool,
    /// What the builder runs on.
    pub build_platform: Platform,
    /// `--build-context`, by name; the main one is not among them.
    pub contexts: BTreeMap<String, ContextKind>,
    /// Ignore patterns by context name; the main one's is `context`.
    pub ignore: BTreeMap<String, Vec<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--no-cache-filter`: stages that are run whatever is cached.
    pub no_cache_filter: Vec<String>,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`: name, soft, hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            file_name: "Dockerfile".to_owned(),
            build_args: BTreeMap::new(),
            target: None,
            platforms: vec![Platform::host()],
            platforms_are_given: false,
            build_platform: Platform::host(),
            contexts: BTreeMap::new(),
            ignore: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache_filter: Vec::new(),
            extra_hosts: Vec::new(),
            ulimits: BTreeMap::new(),
            shm_size: None,
            allow_insecure: false,
        }
    }
}

impl Options {
    /// The context that replaces an image or a stage of this name, and what the user calls it.
    /// Names are alike when they stand for the same image. A name with a platform behind it
    /// (`NAME::linux/arm64`) is for that platform alone, and comes first.
    pub(crate) fn context_for(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Option<(&str, &ContextKind)> {
        if self.contexts.is_empty()
            || ["scratch", "context"]
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own))
        {
            return None;
        }
        let wanted = crate::image_name::familiar(name);
        let is_wanted = |known: &str| crate::image_name::familiar(known) == wanted;
        kiln_graph::context_for(&self.contexts, is_wanted, platform)
    }
}

/// What a named context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextKind {
    /// A local directory, known to the engine by the context's name.
    Local,
    /// An image, as people write it.
    Image(String),
    /// Another stage of the file.
    Target(String),
}
