//! `Control.ListenBuildHistory` and `UpdateBuildHistory`.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::broadcast;
use tonic::Status;

use super::begun;
use crate::grpc::Messages;
use crate::proto::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest,
    UpdateBuildHistoryRequest, UpdateBuildHistoryResponse,
};
use crate::server::Server;

/// The records that are asked for, and, unless the client wants no more, those that come.
pub(crate) async fn listen(
    server: Arc<Server>,
    request: BuildHistoryRequest,
) -> Result<Messages<BuildHistoryEvent>, Status> {
    let coming = server.history.subscribe();
    let wanted = Wanted(request.r#ref.clone());
    let mut events = Vec::new();
    for job in server.jobs.running() {
        if !job.request.known.internal && wanted.takes(&job.reference) {
            events.push(event(BuildHistoryEventType::Started, begun(&job)));
        }
    }
    if !request.active_only {
        let reading = server.clone();
        let records = tokio::task::spawn_blocking(move || match request.r#ref.as_str() {
            "" => reading.history.records(),
            reference => reading.history.record(reference).into_iter().collect(),
        });
        let mut records = records.await.unwrap_or_default();
        // Clients filter by themselves as well; what is left out before they do is lost to them.
        let limit = usize::try_from(request.limit).unwrap_or(0);
        if limit > 0 && request.filter.is_empty() {
            records.drain(..records.len().saturating_sub(limit));
        }
        let complete = |record| event(BuildHistoryEventType::Complete, record);
        events.extend(records.into_iter().map(complete));
    }
    let events = futures_util::stream::iter(events.into_iter().map(Ok));
    Ok(match request.early_exit {
        true => Box::pin(events),
        false => Box::pin(events.chain(follow(coming, wanted))),
    })
}

/// Which builds a client wants to know of.
struct Wanted(String);

impl Wanted {
    fn takes(&self, reference: &str) -> bool {
        self.0.is_empty() || self.0 == reference
    }
}

fn event(kind: BuildHistoryEventType, record: BuildHistoryRecord) -> BuildHistoryEvent {
    BuildHistoryEvent {
        r#type: kind.into(),
        record: Some(record),
    }
}

/// What happens from now on.
fn follow(
    coming: broadcast::Receiver<BuildHistoryEvent>,
    wanted: Wanted,
) -> impl futures_util::Stream<Item = Result<BuildHistoryEvent, Status>> + Send {
    futures_util::stream::unfold((coming, wanted), |(mut coming, wanted)| async {
        loop {
            match coming.recv().await {
                Ok(event) => {
                    let record = event.record.as_ref();
                    if record.is_some_and(|record| wanted.takes(&record.r#ref)) {
                        return Some((Ok(event), (coming, wanted)));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

/// Pins a record or forgets it. A record is final when its build has ended.
pub(crate) async fn update(
    server: Arc<Server>,
    request: UpdateBuildHistoryRequest,
) -> Result<UpdateBuildHistoryResponse, Status> {
    let done = tokio::task::spawn_blocking(move || {
        let (history, reference) = (&server.history, request.r#ref.as_str());
        let found = match (request.delete, request.finalize) {
            (true, _) => history.remove(reference)?,
            (false, true) => history.record(reference).is_some(),
            (false, false) => history.pin(reference, request.pinned)?,
        };
        match found {
            true => Ok(()),
            false => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        }
    });
    let done = done.await;
    let done = done.map_err(|_| Status::internal("looking at the history ended early"))?;
    done.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Status::not_found("no such build in the history"),
        _ => Status::unknown(format!("the history: {error}")),
    })?;
    Ok(UpdateBuildHistoryResponse {})
}
