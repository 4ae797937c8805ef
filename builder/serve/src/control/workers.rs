//! Who builds: this machine.

use std::collections::HashMap;

use kiln_graph::Platform;

use crate::build::DOCKERFILE;
use crate::proto::control::ListWorkersResponse;
use crate::proto::types::{BuildkitVersion, WorkerRecord};
use crate::proto::{InfoResponse, Version, platform};
use crate::server::Server;

/// The version of BuildKit's API that is served; clients show it, and decide by it.
const API: &str = "v0.29.0";

fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "kiln".to_owned(),
        version: format!("{API}+kiln.{}", env!("CARGO_PKG_VERSION")),
        revision: String::new(),
    }
}

/// This machine.
pub(crate) fn worker(server: &Server) -> WorkerRecord {
    let host = Platform::host();
    WorkerRecord {
        id: server.worker.clone(),
        labels: HashMap::from([(
            "org.mobyproject.buildkit.worker.executor".to_owned(),
            "kiln".to_owned(),
        )]),
        platforms: vec![platform(&host)],
        gc_policy: Vec::new(),
        buildkit_version: Some(version()),
        cdi_devices: Vec::new(),
    }
}

/// Answers `ListWorkers`.
pub(super) fn list(server: &Server) -> ListWorkersResponse {
    ListWorkersResponse {
        record: vec![worker(server)],
    }
}

/// Answers `Info`.
pub(super) fn info() -> InfoResponse {
    let BuildkitVersion {
        package,
        version,
        revision,
    } = version();
    InfoResponse {
        buildkit_version: Some(Version {
            package,
            version,
            revision,
            dockerfile_version: DOCKERFILE.to_owned(),
        }),
    }
}
