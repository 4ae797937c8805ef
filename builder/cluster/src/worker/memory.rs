//! How much memory there is for files.

use std::path::{Path, PathBuf};

use kiln_tree::host;

/// Where control groups are looked for (`cgroups(7)`, version 2).
const GROUPS: &str = "/sys/fs/cgroup";

/// What can be used without anybody being killed for it, in bytes: as the machine says, and the
/// control groups that this process is in. Nothing where nobody says.
pub(super) fn available() -> Option<u64> {
    let text = host::read_to_string("/proc/meminfo").ok()?;
    let machine = of_machine(&text)?;
    let group = host::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = group_of(&group).into_iter().flat_map(groups_above);
    Some(
        groups
            .filter_map(|group| of_group(&group))
            .fold(machine, u64::min),
    )
}

/// `MemAvailable: 123 kB` (`proc_meminfo(5)`).
fn of_machine(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The path of a group of version 2: `0::/PATH`.
fn group_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

fn groups_above(path: &str) -> Vec<PathBuf> {
    let path = Path::new(path);
    path.ancestors()
        .map(|part| Path::new(GROUPS).join(part))
        .collect()
}

/// What a group may use more; nothing where it has no limit.
fn of_group(group: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        host::read_to_string(group.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let used = number("memory.current").unwrap_or(0);
    Some(number("memory.max")?.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24683632 kB\nMemAvailable:      100 kB\n";
        assert_eq!(of_machine(text), Some(102_400));
        assert_eq!(of_machine("MemTotal: 5 kB\n"), None);
        assert_eq!(of_machine("MemAvailable: many kB\n"), None);
        assert_eq!(group_of("1:cpu:/a\n0::/b/c\n"), Some("b/c"));
        assert_eq!(group_of("1:cpu:/a\n"), None);
        let above = groups_above("b/c");
        let want = ["/sys/fs/cgroup/b/c", "/sys/fs/cgroup/b", "/sys/fs/cgroup/"];
        assert_eq!(above, want.map(PathBuf::from));
        assert!(available().is_some());
    }

    #[test]
    fn a_group_with_a_limit_has_what_it_lacks() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(group.path().join(name), text).unwrap();
        assert_eq!(of_group(group.path()), None);
        write("memory.max", "max\n");
        assert_eq!(of_group(group.path()), None);
        write("memory.max", "1000\n");
        write("memory.current", "400\n");
        assert_eq!(of_group(group.path()), Some(600));
        write("memory.current", "4000\n");
        assert_eq!(of_group(group.path()), Some(0));
    }
}
