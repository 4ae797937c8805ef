//! `Control.Solve`: one build, from what is asked for to what the exporters answer.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_engine::Cancel;
use tokio::sync::oneshot;
use tonic::{Request, Status};

use super::check::{check, exporters};
use super::returned_metadata;
use crate::build::{Asked, Built, Export, Returned, build, export, returned as result_of};
use crate::connection::ConnectionId;
use crate::error::{BuildError, traced};
use crate::history::{begun, ended};
use crate::job::{Job, Open, StopOnDrop};
use crate::progress::Progress;
use crate::proto::SolveRequest;
use crate::proto::control::{BuildHistoryEventType, SolveResponse};
use crate::proto::frontend::ReturnRequest;
use crate::proto::pb::Definition;
use crate::server::Server;

/// Runs a build. When the client goes away, so does the build.
pub(super) async fn solve(
    server: Arc<Server>,
    request: Request<SolveRequest>,
) -> Result<SolveResponse, Status> {
    let connection = ConnectionId::of(&request)?;
    let request = request.into_inner();
    let rules = check(&request, &server.granted)?;
    let (open, returned) = server.jobs.begin(request, rules, connection)?;
    let gone = StopOnDrop::new(open.job.clone());
    let done = tokio::spawn(remembered(server.clone(), open, returned)).await;
    server.collect();
    let answer = done.unwrap_or_else(|_| Err(Status::internal("the build ended early")));
    gone.disarm();
    Ok(SolveResponse {
        exporter_response: answer?,
    })
}

/// Runs a build, and remembers it.
async fn remembered(
    server: Arc<Server>,
    open: Open,
    returned: oneshot::Receiver<ReturnRequest>,
) -> Result<HashMap<String, String>, Status> {
    let job = open.job.clone();
    let is_shown = !job.request.known.internal;
    if is_shown {
        let started = BuildHistoryEventType::Started;
        server.history.tell(started, &begun(&job));
    }
    let mut built = None;
    let done = run(&server, &job, returned, &mut built).await;
    let done = done.map_err(|status| traced(status, file!(), line!()));
    let outcome = done.clone();
    let filed = tokio::task::spawn_blocking(move || {
        job.file_journals(outcome.as_ref().err().map(Status::message));
        if is_shown {
            let (record, blobs) = ended(&job, built.as_deref(), outcome.as_ref());
            // A build is never lost for a history that can't be written.
            _ = server.history.put(&record, &blobs);
        }
    });
    _ = filed.await;
    drop(open);
    done
}

/// Runs a build; `built` is told its result.
async fn run(
    server: &Arc<Server>,
    job: &Arc<Job>,
    returned: oneshot::Receiver<ReturnRequest>,
    built: &mut Option<Arc<Built>>,
) -> Result<HashMap<String, String>, Status> {
    let cancelled = job.cancelled.clone();
    let known = &job.request.known;
    let result = match job.is_of_the_client() {
        true => tokio::select! {
            returned = returned => {
                let returned = returned.map_err(|_| Status::internal("no result"))?;
                result_of(server, returned).await?
            }
            () = cancelled.cancelled() => return Err(Status::cancelled("context canceled")),
        },
        false => {
            let definition = known.definition.clone();
            let asked = Asked {
                definition: definition.filter(|_| known.frontend.is_empty()),
                frontend: known.frontend.clone(),
                attributes: known.frontend_attrs.clone(),
                inputs: known.frontend_inputs.clone(),
                imports: known.cache.clone().unwrap_or_default().imports,
                policies: Vec::new(),
            };
            let answer = build(server.clone(), job.clone(), asked).await;
            let answer = answer.map_err(|error| error.status())?;
            Returned {
                metadata: answer.metadata(),
                first: answer.result,
            }
        }
    };
    built.clone_from(&result.first);
    exported(server.clone(), job.clone(), result).await
}

/// The empty tree, for exporters of a build without a result.
async fn nothing(server: &Arc<Server>, job: &Arc<Job>) -> Result<Arc<Built>, Status> {
    let asked = Asked {
        definition: Some(Definition::default()),
        ..Asked::default()
    };
    let answer = build(server.clone(), job.clone(), asked).await;
    let answer = answer.map_err(|error| error.status())?;
    answer
        .result
        .ok_or_else(|| Status::unknown("the build has no result to export"))
}

/// `SOURCE_DATE_EPOCH` of a build, in seconds since 1970. What is no number means something to the frontend,
/// which has read it.
fn epoch(attributes: &HashMap<String, String>) -> Option<i64> {
    let given = attributes.get("build-arg:SOURCE_DATE_EPOCH")?;
    given.trim().parse().ok()
}

/// Writes what the exporters want.
async fn exported(
    server: Arc<Server>,
    job: Arc<Job>,
    returned: Returned,
) -> Result<HashMap<String, String>, Status> {
    let wanted = exporters(&job.request);
    returned_metadata::check(&returned.metadata)?;
    let config = returned.configuration()?;
    let epoch = epoch(&job.request.known.frontend_attrs);
    let mut response: HashMap<String, String> = returned
        .metadata
        .into_iter()
        .filter(|(key, _)| key.starts_with("frontend."))
        .map(|(key, value)| (key, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let cache = returned.first.as_ref();
    if let Some(manifest) = cache.and_then(|built| built.cache_manifest.clone()) {
        response.insert("cache.manifest".to_owned(), manifest);
    }
    if wanted.is_empty() {
        return Ok(response);
    }
    let result = match returned.first {
        Some(result) => result,
        None => nothing(&server, &job).await?,
    };
    let session = server.sessions.get(&job.request.known.session).await?;
    let progress = Arc::new(Progress::new(job.log.clone(), &job.reference));
    let work = move || -> Result<HashMap<String, String>, BuildError> {
        let cancel: &Cancel = &job.cancel;
        export(&Export {
            runtime: &server.runtime,
            session: &session,
            built: &result,
            config,
            epoch,
            exporters: &wanted,
            progress: &progress,
            cancel,
        })
    };
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Status::internal("exporting ended early"))?;
    response.extend(done.map_err(|error| error.status())?);
    Ok(response)
}
