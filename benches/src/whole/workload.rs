//! What is built.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;

/// The base image that `scripts/setup-tests` serves.
const BASE: &str = "127.0.0.1:5000/busybox:latest";

/// A build to be timed.
pub(crate) struct Workload {
    /// What it is.
    pub(crate) name: &'static str,
    /// Writes the context.
    pub(crate) make: fn(&Path) -> Result<()>,
    /// What happens before each run.
    pub(crate) before: fn(&Path) -> Result<()>,
    /// Whether results are used again.
    pub(crate) cached: bool,
}

/// All of them.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "50 cached steps, nothing to do",
        make: chain,
        before: nothing,
        cached: true,
    },
    Workload {
        name: "50 RUN steps, no cache",
        make: chain,
        before: nothing,
        cached: false,
    },
    Workload {
        name: "16 stages that sleep 1 s",
        make: fan,
        before: nothing,
        cached: false,
    },
    Workload {
        name: "10,000 files, no cache",
        make: files,
        before: nothing,
        cached: false,
    },
    Workload {
        name: "10,000 files, nothing changed",
        make: files,
        before: nothing,
        cached: true,
    },
    Workload {
        name: "10,000 files, one edited",
        make: files,
        before: edit,
        cached: true,
    },
];

fn nothing(_: &Path) -> Result<()> {
    Ok(())
}

fn chain(context: &Path) -> Result<()> {
    let mut text = format!("FROM {BASE}\n");
    for number in 0..50 {
        writeln!(text, "RUN echo {number} > /f{number}")?;
    }
    Ok(std::fs::write(context.join("Dockerfile"), text)?)
}

fn fan(context: &Path) -> Result<()> {
    let mut text = format!("FROM {BASE} AS base\n");
    for number in 0..16 {
        writeln!(
            text,
            "FROM base AS s{number}\nRUN sleep 1 && echo {number} > /out{number}"
        )?;
    }
    text.push_str("FROM scratch\n");
    for number in 0..16 {
        writeln!(text, "COPY --from=s{number} /out{number} /")?;
    }
    Ok(std::fs::write(context.join("Dockerfile"), text)?)
}

fn files(context: &Path) -> Result<()> {
    for number in 0..10_000u32 {
        let folder = context.join(format!("src/d{}/s{}", number % 100, number % 10));
        std::fs::create_dir_all(&folder)?;
        let content = number.to_string().repeat(400);
        std::fs::write(folder.join(format!("f{number}")), content)?;
    }
    let text = format!("FROM {BASE}\nCOPY src /src\nRUN find /src -type f | wc -l > /count\n");
    Ok(std::fs::write(context.join("Dockerfile"), text)?)
}

fn edit(context: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let file = context.join("src/d0/s0/f0");
    Ok(std::fs::write(file, now.as_nanos().to_string())?)
}
