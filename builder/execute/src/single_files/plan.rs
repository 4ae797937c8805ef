//! Which parts of a blob are fetched: few requests, and no more bytes than pay.

use std::ops::Range;

/// What lies between two parts is fetched as well when it has fewer bytes: a request costs as much.
const GAP: u64 = 128 << 10;
/// How many parts one layer is fetched in, at the most.
const MAX_PARTS: usize = 32;
/// A layer of which more is needed is fetched whole, in percent.
const MAX_SHARE: u64 = 60;

/// The parts of a blob of `size` bytes that have all of the `wanted` ones, in order. Nothing when the whole
/// blob pays; `already` bytes are fetched in either case.
pub(super) fn parts(wanted: &[Range<u64>], already: u64, size: u64) -> Option<Vec<Range<u64>>> {
    let mut wanted: Vec<Range<u64>> = wanted.to_vec();
    wanted.sort_by_key(|range| range.start);
    let mut parts = joined(&wanted, GAP);
    if parts.len() > MAX_PARTS {
        let gaps = parts.windows(2).map(|two| two[1].start - two[0].end);
        let mut gaps: Vec<u64> = gaps.collect();
        gaps.sort_unstable_by(|one, other| other.cmp(one));
        // As many of the largest as leave that many parts; one of equal length more goes too.
        parts = joined(&parts, gaps[MAX_PARTS - 1] + 1);
    }
    let bytes: u64 = parts.iter().map(|part| part.end - part.start).sum();
    let pays = (bytes + already).saturating_mul(100) <= size.saturating_mul(MAX_SHARE);
    pays.then_some(parts)
}

/// Ranges in order, those with less than `gap` bytes between them as one.
fn joined(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end.saturating_add(gap) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range.clone()),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn near_ones_are_one_part() {
        let wanted = [
            10 * MIB..10 * MIB + 5,
            0..10,
            1000..2000,
            10 * MIB..10 * MIB + 2,
        ];
        let found = parts(&wanted, 0, 100 * MIB).unwrap();
        assert_eq!(found, [0..2000, 10 * MIB..10 * MIB + 5]);
        assert_eq!(parts(&[], 0, MIB), Some(Vec::new()));
    }

    #[test]
    fn the_whole_blob_is_fetched_when_most_is_needed() {
        assert_eq!(parts(std::slice::from_ref(&(0..61)), 0, 100), None);
        assert_eq!(parts(std::slice::from_ref(&(0..50)), 11, 100), None);
        assert!(parts(std::slice::from_ref(&(0..50)), 10, 100).is_some());
    }

    proptest! {
        #[test]
        fn all_that_is_wanted_comes_in_few_parts(
            starts in proptest::collection::vec((0u64..1 << 40, 1u64..1 << 20), 0..200)
        ) {
            let wanted: Vec<Range<u64>> = starts.iter().map(|(at, size)| *at..at + size).collect();
            let found = parts(&wanted, 0, u64::MAX).unwrap();
            prop_assert!(found.len() <= MAX_PARTS);
            prop_assert!(found.windows(2).all(|two| two[0].end < two[1].start));
            for range in wanted {
                let holds = |part: &&Range<u64>| part.start <= range.start && range.end <= part.end;
                prop_assert!(found.iter().any(|part| holds(&part)));
            }
        }
    }
}
