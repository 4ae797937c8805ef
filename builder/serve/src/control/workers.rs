//! Who builds: this machine.

use std::collections::HashMap;

use kiln_graph::Platform;

use crate::proto::control::ListWorkersResponse;
use crate::proto::types::{BuildkitVersion, WorkerRecord};
use crate::proto::{InfoResponse, Version, pb};
use crate::server::Server;

/// The version of BuildKit's API that is served; clients show it, and decide by it.
const API: &str = "v0.29.0";
/// The version of Dockerfiles' syntax that the frontend knows.
pub(crate) const DOCKERFILE: &str = "1.19.0";

fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "kiln".to_owned(),
        version: format!("{API}+kiln.{}", env!("CARGO_PKG_VERSION")),
        revision: String::new(),
    }
}

/// A platform as BuildKit writes it.
pub(crate) fn platform(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        ..pb::Platform::default()
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
