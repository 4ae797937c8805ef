//! What the store holds, and what of it goes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_cache::{Kind, PruneOptions, UsageItem};
use tonic::Status;

use super::filter::Filters;
use crate::grpc::Messages;
use crate::proto::control::{DiskUsageRequest, DiskUsageResponse, PruneRequest, UsageRecord};
use crate::proto::timestamp;
use crate::server::Server;

/// A stored thing in BuildKit's words. Memos, records and logs are one kind to it.
fn record(item: &UsageItem) -> UsageRecord {
    let (kind, mutable) = match item.kind {
        Kind::Tree | Kind::Blob => ("regular", false),
        Kind::Volume => ("exec.cachemount", true),
        Kind::Record | Kind::Memo | Kind::Log => ("internal", false),
    };
    let step = item.cost.as_ref().and_then(|cost| cost.step.clone());
    UsageRecord {
        id: item.name.clone(),
        mutable,
        size: i64::try_from(item.bytes).unwrap_or(i64::MAX),
        created_at: Some(timestamp(item.last_used)),
        last_used_at: Some(timestamp(item.last_used)),
        usage_count: 1,
        description: step.unwrap_or_else(|| item.kind.singular().to_owned()),
        record_type: kind.to_owned(),
        ..UsageRecord::default()
    }
}

/// The copies of clients' directories, as one thing.
fn contexts(bytes: u64) -> UsageRecord {
    UsageRecord {
        id: "contexts".to_owned(),
        size: i64::try_from(bytes).unwrap_or(i64::MAX),
        description: "copies of clients' build contexts".to_owned(),
        record_type: "source.local".to_owned(),
        created_at: Some(timestamp(SystemTime::now())),
        ..UsageRecord::default()
    }
}

/// Answers `DiskUsage`.
pub(super) async fn disk_usage(
    server: Arc<Server>,
    request: DiskUsageRequest,
) -> Result<DiskUsageResponse, Status> {
    let filters = Filters::read(&request.filter)?;
    let usage = blocking(move || server.engine.store().usage()).await?;
    let age = u64::try_from(request.age_limit).map_or(Duration::ZERO, Duration::from_nanos);
    let is_old = |item: &&UsageItem| item.last_used.elapsed().unwrap_or_default() >= age;
    let records = usage.items.iter().filter(is_old).map(record);
    Ok(DiskUsageResponse {
        record: records.filter(|record| filters.take(record)).collect(),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, kiln_cache::StoreError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Status::internal("looking at the store ended early"))?;
    done.map_err(|error| Status::unknown(error.to_string()))
}

/// What a client that selects things by filters wants is that all of them go, however useful they are.
fn options(request: &PruneRequest, filters: &Filters) -> PruneOptions {
    let size = |bytes: i64| u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    PruneOptions {
        all: (request.all || !filters.is_empty())
            && size(request.max_used_space).is_none()
            && size(request.min_free_space).is_none()
            && size(request.reserved_space).is_none()
            && size(request.keep_duration).is_none(),
        older_than: size(request.keep_duration).map(Duration::from_nanos),
        keep_storage: size(request.max_used_space).or(size(request.reserved_space)),
        min_free: size(request.min_free_space),
        dry_run: false,
    }
}

/// Answers `Prune`: with everything that was removed.
pub(super) async fn prune(
    server: Arc<Server>,
    request: PruneRequest,
) -> Result<Messages<UsageRecord>, Status> {
    let filters = Filters::read(&request.filter)?;
    let options = options(&request, &filters);
    server.jobs.forget_ended();
    let removed = blocking(move || {
        let select = |item: &UsageItem| filters.take(&record(item));
        let report = server.engine.store().prune_of(&options, &select)?;
        let mirrors = match filters.take(&contexts(0)) {
            true => server.mirrors.prune(options.older_than),
            false => 0,
        };
        Ok((report.items, mirrors))
    });
    let (items, mirrors) = removed.await?;
    let contexts = (mirrors > 0).then(|| contexts(mirrors));
    let records = items.iter().map(record).chain(contexts);
    let records: Vec<_> = records.map(Ok).collect();
    Ok(Box::pin(futures_util::stream::iter(records)))
}
