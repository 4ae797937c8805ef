//! Limits on what each step may use: the flags of `docker build`, and buildx's `--resource`.

use std::str::FromStr;

use clap::Args;
use kiln::Error;
use kiln_sandbox::{CgroupParent, Cgroups, GroupPath, Limits, SandboxError, Swap};

/// The flags, named as `docker build` names them.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct ResourceArgs {
    /// Limit the memory of each step: 512m, 2g
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Limit memory and swap together; -1 for all the swap there is (default: twice the memory)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// How many processors' time each step may use: 1.5
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// The share of processor time beside other groups; 1024 is usual
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<String>,
    /// The length of a period of --cpu-quota, in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<String>,
    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "N")]
    cpu_quota: Option<String>,
    /// The processors that steps run on: 0-3, 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes that steps use: 0-3, 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Several of these limits: memory=2g,cpu-quota=50000 (repeatable)
    #[arg(long = "resource", value_name = "NAME=VALUE,…")]
    resources: Vec<String>,
    /// The control group below which steps get theirs
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
}

impl ResourceArgs {
    /// Where steps are limited; `None` when nothing is.
    ///
    /// # Errors
    /// When a limit can't be read, or can't be had here.
    pub(crate) fn cgroups(&self) -> Result<Option<Cgroups>, Error> {
        let limits = self.limits().map_err(Error::Usage)?;
        let parent = self.parent().map_err(Error::Usage)?;
        Ok(Cgroups::new(limits, &parent).map_err(SandboxError::from)?)
    }

    fn parent(&self) -> Result<CgroupParent, String> {
        let Some(text) = self.cgroup_parent.as_deref().filter(|it| !it.is_empty()) else {
            return Ok(CgroupParent::Usual);
        };
        let group = text.parse::<GroupPath>();
        let group = group.map_err(|error| format!("--cgroup-parent {text}: {error}"))?;
        Ok(CgroupParent::Group(group))
    }

    fn limits(&self) -> Result<Limits, String> {
        let mut limits = Limits::default();
        for text in &self.resources {
            for (name, value) in fields(text)? {
                set(&mut limits, &name, &value).map_err(|error| format!("--resource {error}"))?;
            }
        }
        for (name, value) in [
            ("memory", &self.memory),
            ("memory-swap", &self.memory_swap),
            ("cpus", &self.cpus),
            ("cpu-shares", &self.cpu_shares),
            ("cpu-period", &self.cpu_period),
            ("cpu-quota", &self.cpu_quota),
            ("cpuset-cpus", &self.cpuset_cpus),
            ("cpuset-mems", &self.cpuset_mems),
        ] {
            if let Some(value) = value {
                set(&mut limits, name, value).map_err(|error| format!("--{error}"))?;
            }
        }
        check(&limits)?;
        Ok(limits)
    }
}

/// The fields of `--resource`. Sets of processors have commas themselves: what is no `NAME=VALUE` goes
/// on with the field before.
fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    for field in text.split(',') {
        let field = field.trim_matches('"');
        match (field.split_once('='), all.last_mut()) {
            (Some((name, value)), _) => all.push((name.to_owned(), value.to_owned())),
            (None, Some((name, value))) if name.starts_with("cpuset-") => {
                value.push(',');
                value.push_str(field);
            }
            _ => return Err(format!("--resource {text}: write NAME=VALUE")),
        }
    }
    Ok(all)
}

fn set(limits: &mut Limits, name: &str, value: &str) -> Result<(), String> {
    let size = || {
        let size = kiln_graph::parse_memory(value);
        size.map_err(|_| format!("{name} {value}: write a size, such as 512m or 2g"))
    };
    match name {
        "memory" => limits.memory = Some(size()?),
        "memory-swap" if value == "-1" => limits.memory_and_swap = Some(Swap::Unlimited),
        "memory-swap" => limits.memory_and_swap = Some(Swap::Limited(size()?)),
        "cpus" => {
            let cpus: f64 = number(name, value)?;
            if !(cpus > 0.0 && cpus < 100_000.0) {
                return Err(format!(
                    "{name} {value}: write how many processors, such as 1.5"
                ));
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is positive and small"
            )]
            let quota = (cpus * 100_000.0).round().max(1000.0) as u64;
            (limits.cpu_quota, limits.cpu_period) = (Some(quota), Some(100_000));
        }
        "cpu-shares" => limits.cpu_shares = Some(number(name, value)?),
        "cpu-period" => limits.cpu_period = Some(number(name, value)?),
        "cpu-quota" => limits.cpu_quota = Some(number(name, value)?),
        "cpuset-cpus" => limits.cpus = Some(list(name, value)?),
        "cpuset-mems" => limits.memory_nodes = Some(list(name, value)?),
        _ => {
            return Err(format!(
                "{name}: use memory, memory-swap, cpus, cpu-shares, cpu-period, cpu-quota, cpuset-cpus or cpuset-mems"
            ));
        }
    }
    Ok(())
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{name} {value}: write a number"))
}

fn list(name: &str, value: &str) -> Result<String, String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_range = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(part),
    };
    match value.split(',').all(is_range) {
        true => Ok(value.to_owned()),
        false => Err(format!(
            "{name} {value}: write a list of numbers, such as 0-3,5"
        )),
    }
}

/// What the kernel would refuse, in words.
fn check(limits: &Limits) -> Result<(), String> {
    if limits.memory.is_some_and(|memory| memory < MIN_MEMORY) {
        return Err("--memory: a step needs at least 6 MiB".to_owned());
    }
    match (limits.memory, limits.memory_and_swap) {
        (None, Some(_)) => Err("--memory-swap needs --memory".to_owned()),
        (Some(memory), Some(Swap::Limited(all))) if all < memory => {
            Err("--memory-swap is memory and swap together: give no less than --memory".to_owned())
        }
        _ => Ok(()),
    }
}

/// The least memory that Docker gives a container.
const MIN_MEMORY: u64 = 6 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(args: &[&str]) -> Result<Limits, String> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            resources: ResourceArgs,
        }
        let words = std::iter::once(&"x").chain(args);
        let line: Line = clap::Parser::try_parse_from(words).map_err(|error| error.to_string())?;
        line.resources.limits()
    }

    #[test]
    fn flags_and_resources_say_the_same() {
        let one = limits(&["-m", "64m", "--memory-swap", "-1", "--cpu-quota", "5000"]).unwrap();
        let other = limits(&[
            "--resource",
            "memory=64m,memory-swap=-1",
            "--resource=cpu-quota=5000",
        ]);
        assert_eq!(Ok(&one), other.as_ref());
        assert_eq!(one.memory, Some(64 << 20));
        assert_eq!(one.memory_and_swap, Some(Swap::Unlimited));
        let cpus = limits(&["--cpus", "1.5", "-c", "512", "--cpuset-cpus=0-1,3"]).unwrap();
        assert_eq!(cpus.cpu_quota, Some(150_000));
        assert_eq!(cpus.cpu_shares, Some(512));
        assert_eq!(cpus.cpus.as_deref(), Some("0-1,3"));
        assert!(limits(&[]).unwrap().is_empty());
        for text in [
            "cpuset-cpus=0-1,3,memory=64m",
            "memory=64m,cpuset-cpus=0-1,3",
            "\"cpuset-cpus=0-1,3\",memory=64m",
        ] {
            let set = limits(&["--resource", text]).unwrap();
            assert_eq!(set.cpus.as_deref(), Some("0-1,3"), "{text}");
            assert_eq!(set.memory, Some(64 << 20), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (args, says) in [
            (&["--memory", "much"][..], "a size"),
            (&["--memory", "1k"], "6 MiB"),
            (&["--memory-swap", "1g"], "needs --memory"),
            (&["--memory", "1g", "--memory-swap", "512m"], "no less"),
            (&["--cpus", "0"], "how many processors"),
            (&["--cpu-quota", "-5"], ""),
            (&["--cpuset-cpus", "a-b"], "0-3,5"),
            (&["--resource", "memory"], "NAME=VALUE"),
            (&["--resource", "disk=5g"], "use memory"),
        ] {
            let error = limits(args).unwrap_err();
            assert!(error.contains(says), "{args:?}: {error}");
        }
    }
}
