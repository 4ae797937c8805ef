//! What identifies one run of a build.

use kiln_tree::host;

/// Identifies a build that began at `began`, in milliseconds since 1970: builds of one process in one
/// millisecond, and of containers whose processes have the same numbers, have different ones. Later builds sort later.
#[must_use]
pub fn build_id(began: u64) -> String {
    let own = host::random().unwrap_or_default();
    let own = u64::from_ne_bytes(own);
    format!("{began:013}-{}-{own:016x}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::build_id;

    #[test]
    fn builds_of_one_millisecond_are_told_apart() {
        let ids: std::collections::BTreeSet<String> = (0..100).map(|_| build_id(7)).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.starts_with("0000000000007-")));
        assert!(build_id(999) < build_id(1000));
    }
}
