//! What it would cost to have stored things again.
//!
//! A step's tree and record cost what the step took. What was fetched or compressed is taken to
//! come at a usual speed. Volumes and logs have no known cost.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::{Kind, Record, Store, UsageItem};

/// Bytes a second at which layers are fetched and unpacked, or compressed.
const USUAL_SPEED: u64 = 50 << 20;
/// How much longer something stays for each second that a mebibyte of it costs.
const LONGER: Duration = Duration::from_secs(3600);
const MAX_LONGER: Duration = Duration::from_secs(14 * 24 * 3600);
/// Smaller things count as this large, in bytes: a file system gives out whole blocks.
const SMALLEST: u64 = 64 << 10;

/// What it would cost to have a thing again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// How long it takes, as far as is known.
    pub time: Duration,
    /// The step that makes it.
    pub step: Option<String>,
    /// The bytes that this time is for, a step's trees and record together.
    bytes: u64,
}

impl Cost {
    /// How much longer it stays than what costs nothing.
    fn bonus(&self) -> Duration {
        let mebibytes = self.bytes.max(SMALLEST) as f64 / f64::from(1 << 20);
        let factor = self.time.as_secs_f64() / mebibytes;
        let most = MAX_LONGER.as_secs_f64();
        Duration::from_secs_f64((LONGER.as_secs_f64() * factor).clamp(0.0, most))
    }
}

impl Store {
    /// Notes what items would cost.
    pub(crate) fn add_costs(&self, items: &mut [UsageItem]) {
        let size: HashMap<(Kind, String), u64> = items
            .iter()
            .map(|item| ((item.kind, item.name.clone()), item.bytes))
            .collect();
        let mut known: HashMap<(Kind, String), Cost> = HashMap::new();
        for item in items.iter().filter(|item| item.kind == Kind::Record) {
            let Some(record) = read(item) else { continue };
            let trees = record
                .output
                .iter()
                .map(|tree| (Kind::Tree, tree.to_string()));
            let all: Vec<_> = trees.chain([(Kind::Record, item.name.clone())]).collect();
            let cost = Cost {
                time: record.duration,
                bytes: all.iter().filter_map(|name| size.get(name)).sum(),
                step: Some(record.name),
            };
            for name in all {
                // Of several steps that made a tree, the quickest would make it again.
                let known = known.entry(name).or_insert_with(|| cost.clone());
                if cost.time < known.time {
                    *known = cost.clone();
                }
            }
        }
        for item in items {
            let by_step = known.remove(&(item.kind, item.name.clone()));
            item.cost = by_step.or_else(|| usual(item));
        }
    }
}

fn read(item: &UsageItem) -> Option<Record> {
    let text = crate::checked_text::read_checked(&item.path).ok()??;
    serde_json::from_str(&text).ok()
}

fn usual(item: &UsageItem) -> Option<Cost> {
    let time = match item.kind {
        Kind::Tree | Kind::Blob => Duration::from_secs_f64(item.bytes as f64 / USUAL_SPEED as f64),
        // Without the fact, a layer is fetched or compressed again.
        Kind::Memo => Duration::from_secs(1),
        Kind::Record | Kind::Volume | Kind::Log => return None,
    };
    Some(Cost {
        time,
        step: None,
        bytes: item.bytes,
    })
}

/// The time by which things go, the earliest first: when it was last used, and later for what is
/// slow to make again for its size.
pub(crate) fn goes_at(item: &UsageItem) -> SystemTime {
    let bonus = item.cost.as_ref().map_or(Duration::ZERO, Cost::bonus);
    item.last_used + bonus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_to_make_for_its_size_stays_longer() {
        let cost = |seconds, mebibytes: u64| Cost {
            time: Duration::from_secs(seconds),
            step: None,
            bytes: mebibytes << 20,
        };
        let hours = |cost: Cost| cost.bonus().as_secs() / 3600;
        assert_eq!(hours(cost(60, 10)), 6);
        assert_eq!(hours(cost(1, 1000)), 0);
        assert_eq!(hours(cost(0, 0)), 0);
        assert_eq!(hours(cost(100_000, 1)), 14 * 24);
    }
}
