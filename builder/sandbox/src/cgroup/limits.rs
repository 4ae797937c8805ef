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

impl Setting {
    /// One that the kernel must take.
    fn new(controller: Controller, file: &'static str, value: String) -> Self {
        Self {
            controller,
            file,
            value,
            optional: false,
        }
    }
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The files that set these limits, in the order in which they must be written.
    pub(super) fn settings(&self, version: Version) -> Vec<Setting> {
        let mut all: Vec<Setting> = self.shares(version).into_iter().collect();
        all.extend(self.processor_time(version));
        for (file, value) in [
            ("cpuset.cpus", &self.cpus),
            ("cpuset.mems", &self.memory_nodes),
        ] {
            let value = value.iter().cloned();
            all.extend(value.map(|value| Setting::new(Controller::Cpuset, file, value)));
        }
        all.extend(self.memory(version));
        all
    }

    fn shares(&self, version: Version) -> Option<Setting> {
        let shares = self.cpu_shares?.clamp(2, 262_144);
        let (file, value) = match version {
            Version::V1 => ("cpu.shares", shares),
            // As the OCI runtime specification converts them.
            Version::V2 => ("cpu.weight", 1 + ((shares - 2) * 9999) / 262_142),
        };
        Some(Setting::new(Controller::Cpu, file, value.to_string()))
    }

    fn processor_time(&self, version: Version) -> Vec<Setting> {
        if self.cpu_quota.is_none() && self.cpu_period.is_none() {
            return Vec::new();
        }
        let period = self.cpu_period.unwrap_or(PERIOD);
        let quota = self.cpu_quota.map(|quota| quota.to_string());
        let set = |file, value| Setting::new(Controller::Cpu, file, value);
        match version {
            Version::V1 => {
                let period = set("cpu.cfs_period_us", period.to_string());
                let quota = quota.map(|quota| set("cpu.cfs_quota_us", quota));
                std::iter::once(period).chain(quota).collect()
            }
            Version::V2 => {
                let quota = quota.unwrap_or_else(|| "max".to_owned());
                vec![set("cpu.max", format!("{quota} {period}"))]
            }
        }
    }

    fn memory(&self, version: Version) -> Vec<Setting> {
        let Some(memory) = self.memory else {
            return Vec::new();
        };
        let both = self
            .memory_and_swap
            .unwrap_or(Swap::Limited(memory.saturating_mul(2)));
        let (file, swap_file) = match version {
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            Version::V2 => ("memory.max", "memory.swap.max"),
        };
        let swap = match (version, both) {
            (Version::V1, Swap::Limited(all)) => Some(all.to_string()),
            (Version::V1, Swap::Unlimited) => None,
            (Version::V2, Swap::Limited(all)) => Some(all.saturating_sub(memory).to_string()),
            (Version::V2, Swap::Unlimited) => Some("max".to_owned()),
        };
        let swap = swap.map(|swap| Setting {
            optional: true,
            ..Setting::new(Controller::Memory, swap_file, swap)
        });
        let memory = Setting::new(Controller::Memory, file, memory.to_string());
        std::iter::once(memory).chain(swap).collect()
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
