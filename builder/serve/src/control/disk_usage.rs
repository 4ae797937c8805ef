//! What the store holds, and what of it goes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_cache::{Kind, PruneOptions, UsageItem};
use tonic::Status;

use crate::grpc::Messages;
use crate::proto::control::{DiskUsageRequest, DiskUsageResponse, PruneRequest, UsageRecord};
use crate::proto::timestamp;
use crate::server::Server;

/// One condition: `type==regular`, `id~=abc`, `inuse`.
#[derive(Debug, PartialEq, Eq)]
struct Condition {
    field: String,
    /// What the field is compared with, and how; without it the field has to be true.
    wanted: Option<(Relation, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Is,
    IsNot,
    Contains,
}

/// Filters in containerd's language: any of them, and each is several conditions that all hold.
#[derive(Debug, Default)]
struct Filters(Vec<Vec<Condition>>);

impl Filters {
    /// An empty filter says nothing.
    fn read(texts: &[String]) -> Result<Self, Status> {
        let texts = texts.iter().filter(|text| !text.is_empty());
        let one = |text: &String| text.split(',').map(condition).collect();
        texts.map(one).collect::<Result<_, _>>().map(Self)
    }

    fn take(&self, record: &UsageRecord) -> bool {
        let holds = |condition: &Condition| condition.holds(record);
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(holds))
    }
}

fn condition(text: &str) -> Result<Condition, Status> {
    let relations = [
        ("==", Relation::Is),
        ("!=", Relation::IsNot),
        ("~=", Relation::Contains),
    ];
    let split = relations.iter().find_map(|(sign, relation)| {
        let (field, value) = text.split_once(sign)?;
        Some((field, *relation, value))
    });
    let (field, wanted) = match split {
        Some((field, relation, value)) => {
            let value = value.trim().trim_matches('"');
            (field, Some((relation, value.to_owned())))
        }
        None => (text, None),
    };
    let known = [
        "id",
        "type",
        "description",
        "inuse",
        "mutable",
        "shared",
        "private",
        "immutable",
    ];
    let field = field.trim();
    match known.contains(&field) {
        true => Ok(Condition {
            field: field.to_owned(),
            wanted,
        }),
        false => {
            let text = format!("filter {text:?}: use {}", known.join(", "));
            Err(Status::invalid_argument(text))
        }
    }
}

impl Condition {
    fn holds(&self, record: &UsageRecord) -> bool {
        let truth = |value: bool| {
            if value {
                "true".to_owned()
            } else {
                String::new()
            }
        };
        let value = match self.field.as_str() {
            "id" => record.id.clone(),
            "type" => record.record_type.clone(),
            "description" => record.description.clone(),
            "inuse" => truth(record.in_use),
            "mutable" => truth(record.mutable),
            "immutable" => truth(!record.mutable),
            "shared" => truth(record.shared),
            _ => truth(!record.shared),
        };
        match &self.wanted {
            None => !value.is_empty(),
            Some((Relation::Is, wanted)) => value == *wanted,
            Some((Relation::IsNot, wanted)) => value != *wanted,
            Some((Relation::Contains, wanted)) => value.contains(wanted.as_str()),
        }
    }
}

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

fn options(request: &PruneRequest) -> PruneOptions {
    let size = |bytes: i64| u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    PruneOptions {
        all: request.all
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
    if !filters.0.is_empty() {
        return Err(Status::unimplemented(
            "prune: kiln removes what was used least recently, and knows no filters; use --all, --keep-duration or --max-used-space",
        ));
    }
    let options = options(&request);
    server.jobs.forget_ended();
    let removed = blocking(move || {
        let report = server.engine.store().prune(&options)?;
        let mirrors = server.mirrors.prune(options.older_than);
        Ok((report.items, mirrors))
    });
    let (items, mirrors) = removed.await?;
    let contexts = (mirrors > 0).then(|| UsageRecord {
        id: "contexts".to_owned(),
        size: i64::try_from(mirrors).unwrap_or(i64::MAX),
        description: "copies of clients' build contexts".to_owned(),
        record_type: "source.local".to_owned(),
        created_at: Some(timestamp(SystemTime::now())),
        ..UsageRecord::default()
    });
    let records = items.iter().map(record).chain(contexts);
    let records: Vec<_> = records.map(Ok).collect();
    Ok(Box::pin(futures_util::stream::iter(records)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_containerd() {
        let record = UsageRecord {
            id: "abcdef".to_owned(),
            record_type: "regular".to_owned(),
            ..UsageRecord::default()
        };
        let takes = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Filters::read(&texts).unwrap().take(&record)
        };
        for yes in [
            &[][..],
            &[""],
            &["type==regular"],
            &["id~=cde,private"],
            &["inuse", "immutable"],
        ] {
            assert!(takes(yes), "{yes:?}");
        }
        for no in [
            &["type==internal"][..],
            &["inuse"],
            &["mutable"],
            &["id~=cde,shared"],
        ] {
            assert!(!takes(no), "{no:?}");
        }
        assert!(Filters::read(&["colour==red".to_owned()]).is_err());
    }
}
