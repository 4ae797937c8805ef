//! What a compilation is told besides the file.

use std::collections::BTreeMap;

use kiln_graph::Platform;

use crate::value::ValueTable;

/// What a compilation is told besides the file.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--build-arg`: values of parameters.
    pub params: BTreeMap<String, String>,
    /// `--target`: the image, or a step.
    pub target: Option<String>,
    /// `--platform`, at least one.
    pub platforms: Vec<Platform>,
    /// What the builder runs on.
    pub build_platform: Platform,
    /// The main context's ignore patterns.
    pub ignore: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--build-context`: what stands for a source, or for an image, of the name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--no-cache-filter`: steps to run whatever is stored.
    pub no_cache_filter: Vec<String>,
    /// `--add-host`: names and addresses.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`, by name: soft and hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// What steps have written, as far as it is known.
    pub values: ValueTable,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            params: BTreeMap::new(),
            target: None,
            platforms: vec![Platform::host()],
            build_platform: Platform::host(),
            ignore: Vec::new(),
            labels: BTreeMap::new(),
            contexts: BTreeMap::new(),
            no_cache_filter: Vec::new(),
            extra_hosts: Vec::new(),
            ulimits: BTreeMap::new(),
            shm_size: None,
            values: ValueTable::new(),
        }
    }
}

/// A named context of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory, and its ignore patterns.
    Directory(Vec<String>),
    /// An image's name.
    Image(String),
    /// Another step.
    Step(String),
}
