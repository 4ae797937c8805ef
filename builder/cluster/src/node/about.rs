//! What a node can do.

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::build::bazel::semver::SemVer;
use reapi::capabilities_server::Capabilities;
use reapi::digest_function::Value::Sha256;
use tonic::{Request, Response};

use super::blobs::MAX_BLOB;
use super::{Answered, ClusterNode, MAX_BATCH, check};

/// The version of the API that is known.
const VERSION: SemVer = SemVer {
    major: 2,
    minor: 3,
    patch: 0,
    prerelease: String::new(),
};

#[tonic::async_trait]
impl Capabilities for ClusterNode {
    async fn get_capabilities(
        &self,
        request: Request<reapi::GetCapabilitiesRequest>,
    ) -> Answered<reapi::ServerCapabilities> {
        check(&request.into_inner().instance_name, 0)?;
        let size = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let updates = reapi::ActionCacheUpdateCapabilities {
            update_enabled: true,
        };
        Ok(Response::new(reapi::ServerCapabilities {
            cache_capabilities: Some(reapi::CacheCapabilities {
                digest_functions: vec![Sha256.into()],
                action_cache_update_capabilities: Some(updates),
                max_batch_total_size_bytes: size(MAX_BATCH),
                max_cas_blob_size_bytes: i64::try_from(MAX_BLOB).unwrap_or(i64::MAX),
                ..reapi::CacheCapabilities::default()
            }),
            execution_capabilities: Some(reapi::ExecutionCapabilities {
                digest_function: Sha256.into(),
                digest_functions: vec![Sha256.into()],
                exec_enabled: true,
                ..reapi::ExecutionCapabilities::default()
            }),
            low_api_version: Some(SemVer {
                minor: 0,
                ..VERSION
            }),
            high_api_version: Some(VERSION),
            ..reapi::ServerCapabilities::default()
        }))
    }
}
