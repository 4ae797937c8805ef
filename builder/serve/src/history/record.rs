//! What is remembered of a build: what was asked for, its messages, its error, where its result comes from.

use std::collections::HashMap;
use std::time::SystemTime;

use base64::Engine as _;
use kiln_graph::address::{redact, redact_variable};
use prost::Message as _;
use serde::Deserialize;
use tonic::Status;

use super::store::Blob;
use crate::build::Built;
use crate::job::Job;
use crate::proto::control::{BuildHistoryRecord, BuildResultInfo, Descriptor, Exporter};
use crate::proto::{RpcStatus, timestamp};

const LOGS: &str = "application/vnd.buildkit.status.v0";
/// As BuildKit spells it.
const ERROR: &str = "application/vnd.googeapis.google.rpc.status+proto";
const STATEMENT: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "in-toto.io/predicate-type";

/// The record of a build that is running.
pub(crate) fn begun(job: &Job) -> BuildHistoryRecord {
    let known = &job.request.known;
    let exporters = known.exporters.iter().map(|exporter| Exporter {
        r#type: exporter.r#type.clone(),
        attrs: kept(&exporter.attrs),
    });
    BuildHistoryRecord {
        r#ref: job.reference.clone(),
        frontend: known.frontend.clone(),
        frontend_attrs: kept(&known.frontend_attrs),
        exporters: exporters.collect(),
        created_at: Some(timestamp(job.begun)),
        ..BuildHistoryRecord::default()
    }
}

/// Attributes without what lets somebody in.
fn kept(attributes: &HashMap<String, String>) -> HashMap<String, String> {
    let one = |(key, value): (&String, &String)| {
        let value = match key.strip_prefix("build-arg:") {
            Some(name) => redact_variable(name, value),
            None => redact(value),
        };
        (key.clone(), value.into_owned())
    };
    attributes.iter().map(one).collect()
}

/// The record of a build that has ended, with the blobs that it names.
pub(crate) fn ended(
    job: &Job,
    built: Option<&Built>,
    outcome: Result<&HashMap<String, String>, &Status>,
) -> (BuildHistoryRecord, Vec<Blob>) {
    let mut record = begun(job);
    record.completed_at = Some(timestamp(SystemTime::now()));
    let mut blobs = Vec::new();
    let counts = job.log.counts();
    record.num_total_steps = counts.total;
    record.num_cached_steps = counts.cached;
    record.num_completed_steps = counts.completed;
    record.num_warnings = counts.warnings;
    let mut add = |blob: Blob| {
        let descriptor = blob.descriptor();
        blobs.push(blob);
        descriptor
    };
    record.logs = Some(add(Blob::new(LOGS, job.log.encode())));
    match outcome {
        Ok(response) => {
            record.exporter_response.clone_from(response);
            let result = built.map(|built| result(built, response, &mut add));
            match built.filter(|built| built.is_map) {
                Some(built) => {
                    let result = result.unwrap_or_default();
                    let platforms = built.platforms().into_iter();
                    record.results = platforms.map(|name| (name, result.clone())).collect();
                }
                None => record.result = result,
            }
        }
        Err(status) => {
            let whole = whole(status);
            record.external_error = Some(add(Blob::new(ERROR, whole.encode_to_vec())));
            record.error = Some(RpcStatus {
                details: Vec::new(),
                ..whole
            });
        }
    }
    (record, blobs)
}

/// A status with its details.
fn whole(status: &Status) -> RpcStatus {
    let inner = RpcStatus::decode(status.details()).ok();
    let inner = inner.filter(|inner| !inner.message.is_empty());
    inner.unwrap_or_else(|| RpcStatus {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn result(
    built: &Built,
    response: &HashMap<String, String>,
    add: &mut impl FnMut(Blob) -> Descriptor,
) -> BuildResultInfo {
    let mut result = BuildResultInfo::default();
    let (kind, predicate) = built.provenance();
    let predicate = predicate.to_string().into_bytes();
    let blob = Blob::new(STATEMENT, predicate).with(PREDICATE, kind);
    result.attestations.push(add(blob));
    if let Some(image) = response
        .get("containerimage.descriptor")
        .and_then(|text| image(text))
    {
        result.result_deprecated = Some(image.clone());
        result.results.insert(0, image);
    }
    result
}

/// The descriptor in an exporter's answer.
fn image(text: &str) -> Option<Descriptor> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Image {
        media_type: String,
        digest: String,
        size: i64,
    }
    let json = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    let image: Image = serde_json::from_slice(&json).ok()?;
    Some(Descriptor {
        media_type: image.media_type,
        digest: image.digest,
        size: image.size,
        annotations: HashMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_kept() {
        let given = [
            ("build-arg:NPM_TOKEN", "hunter2"),
            ("build-arg:HTTP_PROXY", "http://u:hunter2@p"),
            ("context", "https://u:hunter2@h/a.git"),
            ("target", "t"),
        ];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let kept = kept(&given.into_iter().map(owned).collect());
        assert!(
            !kept.values().any(|value| value.contains("hunter2")),
            "{kept:?}"
        );
        assert_eq!(kept["target"], "t");
    }
}
