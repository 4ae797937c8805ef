//! What a server can do.

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use reapi::capabilities_client::CapabilitiesClient;
use reapi::digest_function::Value as DigestFunction;
use tonic::Code;

use crate::channel::Service;
use crate::retry::retried;
use crate::{ClusterError, ReapiSettings};

/// In bytes, where the server names none: gRPC's limit for a message, less its framing.
const USUAL_BATCH: u64 = (4 << 20) - (64 << 10);

/// What matters of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// How many bytes of blobs go into one message.
    pub(crate) max_batch: u64,
    /// The largest blob that it takes, in bytes.
    pub(crate) max_blob: Option<u64>,
    /// Whether clients may write to the action cache.
    pub(crate) takes_results: bool,
    /// Whether it executes actions.
    pub(crate) executes: bool,
}

pub(crate) async fn ask(
    service: &Service,
    settings: &ReapiSettings,
) -> Result<Capabilities, ClusterError> {
    let request = reapi::GetCapabilitiesRequest {
        instance_name: settings.instance.clone(),
    };
    let answer = retried(async || {
        let mut client = CapabilitiesClient::new(service.clone());
        Ok(client.get_capabilities(request.clone()).await?)
    });
    match answer.await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let executes = answer.execution_capabilities;
            let executes = executes.is_some_and(|execution| execution.exec_enabled);
            let cache = understand(answer.cache_capabilities)?;
            Ok(Capabilities { executes, ..cache })
        }
        Err(ClusterError::Call {
            code: Code::NotFound | Code::InvalidArgument,
            ..
        }) => Err(ClusterError::Instance(settings.instance.clone())),
        // Old servers have no such call.
        Err(ClusterError::Call {
            code: Code::Unimplemented,
            ..
        }) => Ok(Capabilities {
            max_batch: USUAL_BATCH,
            max_blob: None,
            takes_results: true,
            executes: true,
        }),
        // Whether the alert that says why arrives before the connection's end is a matter of luck.
        Err(error) if settings.is_encrypted() && error.is_broken_stream() => {
            Err(ClusterError::Closed(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

fn understand(cache: Option<reapi::CacheCapabilities>) -> Result<Capabilities, ClusterError> {
    let cache = cache.ok_or(ClusterError::ReadOnly)?;
    let sha256 = DigestFunction::Sha256 as i32;
    if !cache.digest_functions.is_empty() && !cache.digest_functions.contains(&sha256) {
        return Err(ClusterError::DigestFunction);
    }
    let size = |bytes: i64| u64::try_from(bytes).ok().filter(|&bytes| bytes > 0);
    let updates = cache.action_cache_update_capabilities;
    Ok(Capabilities {
        max_batch: size(cache.max_batch_total_size_bytes)
            .unwrap_or(USUAL_BATCH)
            .min(USUAL_BATCH),
        max_blob: size(cache.max_cas_blob_size_bytes),
        takes_results: updates.is_some_and(|updates| updates.update_enabled),
        executes: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_understood() {
        let cache = |functions: Vec<i32>, batch, blob, enabled| reapi::CacheCapabilities {
            digest_functions: functions,
            max_batch_total_size_bytes: batch,
            max_cas_blob_size_bytes: blob,
            action_cache_update_capabilities: Some(reapi::ActionCacheUpdateCapabilities {
                update_enabled: enabled,
            }),
            ..reapi::CacheCapabilities::default()
        };
        let known = understand(Some(cache(vec![1, 9], 1000, 5, true))).unwrap();
        let want = Capabilities {
            max_batch: 1000,
            max_blob: Some(5),
            takes_results: true,
            executes: false,
        };
        assert_eq!(known, want);
        let silent = understand(Some(cache(vec![], 0, 0, false))).unwrap();
        assert_eq!((silent.max_batch, silent.max_blob), (USUAL_BATCH, None));
        assert!(!silent.takes_results);
        let other = understand(Some(cache(vec![9], 0, 0, true)));
        assert!(matches!(other, Err(ClusterError::DigestFunction)));
        assert!(matches!(understand(None), Err(ClusterError::ReadOnly)));
    }
}
