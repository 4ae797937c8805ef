//! What a step may use at most, and what each version of control groups calls it.

use super::Version;

/// How long a period of a processor quota is when nothing says so, in microseconds (the kernel's own).
const PERIOD: u64 = 100_000;

/// Limits of a step. Zero fields and `None` are no limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together, in bytes; twice the memory when only that is limited.
    pub memory_and_swap: Option<Swap>,
    /// The weight beside other groups: 1024 is usual, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// The length of a period, in microseconds.
    pub cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds.
    pub cpu_quota: Option<u64>,
    /// Processors, as `0-3,5`.
    pub cpus: Option<String>,
    /// Memory nodes, as `0,1`.
    pub memory_nodes: Option<String>,
}

/// A limit on memory and swap together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// Bytes.
    Limited(u64),
    /// As much as there is.
    Unlimited,
}

/// A part of the kernel that limits one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Cpu,
    Cpuset,
    Memory,
}

impl Controller {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
        }
    }
}

/// A file of a group and what is written to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: Controller,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether the kernel may be without it, such as one that doesn't account swap.
    pub(super) optional: bool,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The files that set these limits, in the order in which they must be written.
    pub(super) fn settings(&self, version: Version) -> Vec<Setting> {
        let mut all = Vec::new();
        let mut set = |controller, file, value: String, optional| {
            all.push(Setting {
                controller,
                file,
                value,
                optional,
            });
        };
        if let Some(shares) = self.cpu_shares {
            let shares = shares.clamp(2, 262_144);
            match version {
                Version::V1 => set(Controller::Cpu, "cpu.shares", shares.to_string(), false),
                Version::V2 => {
                    // As the OCI runtime specification converts them.
                    let weight = 1 + ((shares - 2) * 9999) / 262_142;
                    set(Controller::Cpu, "cpu.weight", weight.to_string(), false);
                }
            }
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            let period = self.cpu_period.unwrap_or(PERIOD);
            match (version, self.cpu_quota) {
                (Version::V1, quota) => {
                    set(
                        Controller::Cpu,
                        "cpu.cfs_period_us",
                        period.to_string(),
                        false,
                    );
                    if let Some(quota) = quota {
                        set(
                            Controller::Cpu,
                            "cpu.cfs_quota_us",
                            quota.to_string(),
                            false,
                        );
                    }
                }
                (Version::V2, quota) => {
                    let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                    set(
                        Controller::Cpu,
                        "cpu.max",
                        format!("{quota} {period}"),
                        false,
                    );
                }
            }
        }
        for (file, value) in [
            ("cpuset.cpus", &self.cpus),
            ("cpuset.mems", &self.memory_nodes),
        ] {
            if let Some(value) = value {
                set(Controller::Cpuset, file, value.clone(), false);
            }
        }
        if let Some(memory) = self.memory {
            let swap = self
                .memory_and_swap
                .unwrap_or(Swap::Limited(memory.saturating_mul(2)));
            let (file, swap_file, swap) = match (version, swap) {
                (Version::V1, Swap::Limited(all)) => {
                    let swap = Some(all.to_string());
                    ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", swap)
                }
                (Version::V1, Swap::Unlimited) => ("memory.limit_in_bytes", "", None),
                (Version::V2, Swap::Limited(all)) => {
                    let swap = Some(all.saturating_sub(memory).to_string());
                    ("memory.max", "memory.swap.max", swap)
                }
                (Version::V2, Swap::Unlimited) => {
                    ("memory.max", "memory.swap.max", Some("max".to_owned()))
                }
            };
            set(Controller::Memory, file, memory.to_string(), false);
            if let Some(swap) = swap {
                set(Controller::Memory, swap_file, swap, true);
            }
        }
        all
    }

    /// The controllers that these limits need.
    pub(super) fn controllers(&self) -> Vec<Controller> {
        let settings = self.settings(Version::V2);
        let mut all: Vec<Controller> = settings.iter().map(|setting| setting.controller).collect();
        all.sort();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits, version: Version) -> String {
        let settings = limits.settings(version);
        let all = settings
            .iter()
            .map(|it| format!("{}={}", it.file, it.value));
        all.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn both_versions_are_told_the_same() {
        let memory = Limits {
            memory: Some(100),
            ..Limits::default()
        };
        let swap = |swap| Limits {
            memory_and_swap: Some(swap),
            ..memory.clone()
        };
        let cpu = Limits {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpus: Some("0-1".to_owned()),
            memory_nodes: Some("0".to_owned()),
            ..Limits::default()
        };
        let period = Limits {
            cpu_period: Some(20_000),
            ..Limits::default()
        };
        for (limits, v1, v2) in [
            (
                &memory,
                "memory.limit_in_bytes=100; memory.memsw.limit_in_bytes=200",
                "memory.max=100; memory.swap.max=100",
            ),
            (
                &swap(Swap::Limited(100)),
                "memory.limit_in_bytes=100; memory.memsw.limit_in_bytes=100",
                "memory.max=100; memory.swap.max=0",
            ),
            (
                &swap(Swap::Unlimited),
                "memory.limit_in_bytes=100",
                "memory.max=100; memory.swap.max=max",
            ),
            (
                &cpu,
                "cpu.shares=1024; cpu.cfs_period_us=100000; cpu.cfs_quota_us=50000; cpuset.cpus=0-1; cpuset.mems=0",
                "cpu.weight=39; cpu.max=50000 100000; cpuset.cpus=0-1; cpuset.mems=0",
            ),
            (&period, "cpu.cfs_period_us=20000", "cpu.max=max 20000"),
        ] {
            assert_eq!(written(limits, Version::V1), v1);
            assert_eq!(written(limits, Version::V2), v2);
        }
        assert_eq!(cpu.controllers(), [Controller::Cpu, Controller::Cpuset]);
        assert!(Limits::default().is_empty() && !memory.is_empty());
    }
}
