//! What is remembered of a build: what was asked for, its messages, its error, where its result comes from.

use std::collections::HashMap;
use std::time::SystemTime;

use base64::Engine as _;
use kiln_graph::address::redact_variable;
use prost::Message as _;
use serde::Deserialize;
use serde_json::Value;
use tonic::Status;

use super::store::Blob;
use crate::build::Built;
use crate::job::Job;
use crate::proto::control::{BuildHistoryRecord, BuildResultInfo, Descriptor, Exporter};
use crate::proto::{Any, RpcStatus, timestamp};

const LOGS: &str = "application/vnd.buildkit.status.v0";
/// As BuildKit spells it.
const ERROR: &str = "application/vnd.googeapis.google.rpc.status+proto";
const STATEMENT: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "in-toto.io/predicate-type";

/// The record of a build that is running.
pub(crate) fn begun(job: &Job) -> BuildHistoryRecord {
    let known = &job.request.known;
    let sessions: Vec<&str> = job.sessions().collect();
    let exporters = known.exporters.iter().map(|exporter| Exporter {
        r#type: exporter.r#type.clone(),
        attrs: kept(&exporter.attrs, &sessions),
    });
    BuildHistoryRecord {
        r#ref: job.reference.clone(),
        frontend: known.frontend.clone(),
        frontend_attrs: kept(&known.frontend_attrs, &sessions),
        exporters: exporters.collect(),
        created_at: Some(timestamp(job.begun)),
        ..BuildHistoryRecord::default()
    }
}

/// Attributes without what lets somebody in: credentials, and the ids of sessions.
fn kept(attributes: &HashMap<String, String>, sessions: &[&str]) -> HashMap<String, String> {
    let is_told = |(key, value): &(&String, &String)| {
        let names = |id: &&str| key.contains(*id) || value.contains(*id);
        let kind = key.split(':').next().unwrap_or(key);
        let is_session = kind.to_ascii_lowercase().contains("session");
        // The caches have their keys among their own attributes.
        !is_session && key != &"cache-imports" && !sessions.iter().any(names)
    };
    let one = |(key, value): (&String, &String)| {
        let name = key.strip_prefix("build-arg:").unwrap_or(key);
        (key.clone(), redact_variable(name, value).into_owned())
    };
    attributes.iter().filter(is_told).map(one).collect()
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
            let whole = for_everybody(whole(status));
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

/// A status as whoever may read the history gets it: without the command lines that clients put into their
/// traces, for values of flags may be credentials, and without the names of what a failed step left behind,
/// by which its files are read.
fn for_everybody(status: RpcStatus) -> RpcStatus {
    const STACK: &str = "/stack.Stack+json";
    const LEFT: &str = "/errdefs.Solve+json";
    let one = |mut detail: Any| {
        if detail.type_url.ends_with(LEFT) {
            return None;
        }
        if detail.type_url.ends_with(STACK) {
            let mut stack: Value = serde_json::from_slice(&detail.value).ok()?;
            _ = stack.as_object_mut()?.remove("cmdline");
            detail.value = stack.to_string().into_bytes();
        }
        Some(detail)
    };
    RpcStatus {
        details: status.details.into_iter().filter_map(one).collect(),
        ..status
    }
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
    use crate::connection::ConnectionId;
    use crate::error::detail;
    use crate::job::Jobs;
    use crate::proto::SolveRequest;
    use serde_json::json;
    use std::sync::Arc;

    /// The record of a build that is asked for with these attributes.
    fn record(attributes: &[(&str, &str)]) -> BuildHistoryRecord {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let attributes: HashMap<String, String> = attributes.iter().map(owned).collect();
        let mut request = SolveRequest::default();
        request.known.r#ref = "ref".to_owned();
        request.known.session = "own7session".to_owned();
        request.known.source_policy_session = "policy7session".to_owned();
        request.known.frontend_attrs.clone_from(&attributes);
        request.known.exporters = vec![Exporter {
            r#type: "image".to_owned(),
            attrs: attributes,
        }];
        let rules = crate::build::SourcePolicy::default();
        let begin = Arc::new(Jobs::default()).begin(request, rules, ConnectionId::next());
        begun(&begin.unwrap().0.job)
    }

    #[test]
    fn credentials_are_not_kept() {
        let record = record(&[
            ("build-arg:NPM_TOKEN", "hunter2"),
            ("build-arg:HTTP_PROXY", "http://u:hunter2@p"),
            ("context", "https://u:hunter2@h/a.git"),
            (
                "cache-imports",
                r#"[{"Type":"s3","Attrs":{"secret_access_key":"hunter2"}}]"#,
            ),
            ("secret_access_key", "hunter2"),
            ("target", "t"),
        ]);
        assert!(!format!("{record:?}").contains("hunter2"), "{record:?}");
        assert_eq!(record.frontend_attrs["target"], "t");
    }

    #[test]
    fn neither_command_lines_of_clients_nor_names_of_results_are_kept() {
        let stack = json!({ "frames": [{ "Name": "f" }], "cmdline": ["buildx", "token=hunter2"] });
        let other = json!({ "cmdline": ["of another kind"] });
        let broken = Any {
            value: b"{\"cmdline\":[\"hunter2\"".to_vec(),
            ..detail("stack.Stack", &stack)
        };
        let status = RpcStatus {
            details: vec![
                detail("stack.Stack", &stack),
                detail("errdefs.Vertex", &other),
                broken,
                detail("errdefs.Solve", &json!({ "inputIDs": ["left-behind"] })),
            ],
            ..RpcStatus::default()
        };
        let kept = for_everybody(status).details;
        let texts: Vec<&str> = kept
            .iter()
            .map(|one| std::str::from_utf8(&one.value).unwrap())
            .collect();
        assert_eq!(texts, [r#"{"frames":[{"Name":"f"}]}"#, &other.to_string()]);
    }

    #[test]
    fn sessions_are_not_told() {
        let record = record(&[
            ("local-sessionid:context", "dir:dir7session"),
            ("source-policy-session", "x7session"),
            ("hint", "in policy7session"),
            ("of-own7session", "x"),
            ("other", "dir7session"),
            ("build-arg:SESSION_TIMEOUT", "5"),
        ]);
        assert!(!format!("{record:?}").contains("7session"), "{record:?}");
        assert_eq!(record.frontend_attrs["build-arg:SESSION_TIMEOUT"], "5");
    }
}
