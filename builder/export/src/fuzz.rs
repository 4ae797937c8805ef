//! What fuzzers call: readers of formats that the crate keeps to itself.

/// Reads rpm's database; how many files it says packages own.
#[must_use]
pub fn rpm_database(bytes: &[u8]) -> usize {
    crate::layering::rpm_owners(bytes).len()
}
