//! What the user says of a cluster that steps run on.

use std::path::PathBuf;
use std::time::Duration;

use crate::ReapiSettings;
use crate::placement::NetworkChoice;

/// How long a step waits for a worker unless the user says otherwise.
const QUEUE_LIMIT: Duration = Duration::from_secs(600);
/// How many steps are sent at once unless the user says otherwise.
const JOBS: usize = 64;

/// A cluster to run steps on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorSettings {
    /// The server.
    pub server: ReapiSettings,
    /// What a worker must offer: platform properties, as the cluster names them.
    pub properties: Vec<(String, String)>,
    /// Where steps run that may use a network.
    pub network: NetworkChoice,
    /// How long a step waits for a worker.
    pub queue_limit: Duration,
    /// Programs for workers besides the running one: kiln for other processors, or a static one.
    pub helpers: Vec<PathBuf>,
    /// Which user ids workers must have.
    pub ids: IdsChoice,
    /// Whether all that steps change is brought here, not only what somebody here needs.
    pub brings_outputs: bool,
    /// Where steps run that can run in both places.
    pub place: PlaceChoice,
    /// How many steps are there at once, at least one; those that wait for a worker are among them.
    pub jobs: usize,
    /// After which time a step that has no result yet is begun in the other place as well.
    pub race_after: Option<Duration>,
    /// Whether what fails there fails, where it could run here.
    pub required: bool,
}

/// Which user ids workers must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdsChoice {
    /// Those that a step needs for the result that it would have here.
    #[default]
    Same,
    /// All of them.
    All,
    /// One is enough: all files are owned by root then.
    One,
}

/// Where steps run that can run in both places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaceChoice {
    /// Where their inputs are cheapest, as long as there is room.
    #[default]
    Cheapest,
    /// On the cluster.
    Cluster,
}

impl ExecutorSettings {
    /// A cluster, and usual settings.
    #[must_use]
    pub fn new(server: ReapiSettings) -> Self {
        Self {
            server,
            properties: Vec::new(),
            network: NetworkChoice::default(),
            queue_limit: QUEUE_LIMIT,
            helpers: Vec::new(),
            ids: IdsChoice::default(),
            brings_outputs: false,
            place: PlaceChoice::default(),
            jobs: JOBS,
            race_after: None,
            required: false,
        }
    }
}
