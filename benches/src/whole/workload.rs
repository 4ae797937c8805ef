//! What is built.

use std::fmt::Write as _;
use std::os::unix::fs::FileExt as _;
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
    /// Which results are used again.
    pub(crate) start: Start,
    /// What comes out.
    pub(crate) output: Output,
}

/// What a build may use of those before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Everything.
    Cached,
    /// Base images only.
    Steps,
    /// Nothing.
    Nothing,
}

/// What a build makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// A result in the builder's store.
    Stored,
    /// An OCI archive, its layers compressed so.
    Archive(&'static str),
    /// An image in the tests' registry.
    Pushed,
}

/// All of them.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "50 cached steps, nothing to do",
        make: chain,
        before: nothing,
        start: Start::Cached,
        output: Output::Stored,
    },
    Workload {
        name: "50 RUN steps, no cache",
        make: chain,
        before: nothing,
        start: Start::Steps,
        output: Output::Stored,
    },
    Workload {
        name: "16 stages that sleep 1 s",
        make: fan,
        before: nothing,
        start: Start::Steps,
        output: Output::Stored,
    },
    Workload {
        name: "10,000 files, no cache",
        make: files,
        before: nothing,
        start: Start::Steps,
        output: Output::Stored,
    },
    Workload {
        name: "10,000 files, nothing changed",
        make: files,
        before: nothing,
        start: Start::Cached,
        output: Output::Stored,
    },
    Workload {
        name: "10,000 files, one edited",
        make: files,
        before: edit,
        start: Start::Cached,
        output: Output::Stored,
    },
    Workload {
        name: "512 MB to an OCI archive, gzip",
        make: big,
        before: change_big,
        start: Start::Cached,
        output: Output::Archive("gzip"),
    },
    Workload {
        name: "512 MB to an OCI archive, zstd",
        make: big,
        before: change_big,
        start: Start::Cached,
        output: Output::Archive("zstd"),
    },
    Workload {
        name: "512 MB to a registry",
        make: big,
        before: change_big,
        start: Start::Cached,
        output: Output::Pushed,
    },
    Workload {
        name: "pull and unpack a Debian base, 1 RUN",
        make: debian,
        before: nothing,
        start: Start::Nothing,
        output: Output::Stored,
    },
    Workload {
        name: "push again what the registry has",
        make: debian,
        before: nothing,
        start: Start::Cached,
        output: Output::Pushed,
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
        let directory = context.join(format!("src/d{}/s{}", number % 100, number % 10));
        std::fs::create_dir_all(&directory)?;
        let content = number.to_string().repeat(400);
        std::fs::write(directory.join(format!("f{number}")), content)?;
    }
    let text = format!("FROM {BASE}\nCOPY src /src\nRUN find /src -type f | wc -l > /count\n");
    Ok(std::fs::write(context.join("Dockerfile"), text)?)
}

fn edit(context: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let file = context.join("src/d0/s0/f0");
    Ok(std::fs::write(file, now.as_nanos().to_string())?)
}

/// How large each of the four large files is, in bytes.
const BIG: usize = 128 << 20;

/// Half noise, half text.
fn big(context: &Path) -> Result<()> {
    std::fs::create_dir(context.join("data"))?;
    // Xorshift (Marsaglia 2003): noise that is the same in every run.
    let mut state = 88_172_645_463_325_252_u64;
    for number in 0..4 {
        let mut bytes = Vec::with_capacity(BIG);
        while bytes.len() < BIG {
            for _ in 0..(512 << 10) / 8 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&state.to_le_bytes());
            }
            bytes.extend_from_slice(&b"compressible text ".repeat((512 << 10) / 18));
        }
        bytes.truncate(BIG);
        std::fs::write(context.join(format!("data/blob{number}")), bytes)?;
    }
    Ok(std::fs::write(
        context.join("Dockerfile"),
        "FROM scratch\nCOPY data /data\n",
    )?)
}

/// What was compressed or sent before is of no use.
fn change_big(context: &Path) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    for number in 0..4 {
        let path = context.join(format!("data/blob{number}"));
        let file = std::fs::File::options().write(true).open(path)?;
        file.write_all_at(&now.as_nanos().to_le_bytes(), 0)?;
    }
    Ok(())
}

fn debian(context: &Path) -> Result<()> {
    let text = "FROM 127.0.0.1:5000/debian:bookworm\nRUN echo hi > /hi\n";
    Ok(std::fs::write(context.join("Dockerfile"), text)?)
}
