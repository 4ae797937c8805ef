//! What grows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

/// The base image that `scripts/setup-tests` serves.
const BASE: &str = "127.0.0.1:5000/busybox:latest";
/// How many steps one build of those that fill a store has.
const BATCH: usize = 1000;

/// Builds with the context as it is.
type Build<'a> = &'a dyn Fn() -> Result<()>;

/// Something that there can be more of.
pub(crate) struct Dimension {
    /// What it is.
    pub(crate) name: &'static str,
    /// How many of it.
    pub(crate) sizes: &'static [usize],
    /// Flags of the build that is timed.
    pub(crate) flags: &'static [&'static str],
    /// Writes the context, and builds what is to be there before.
    pub(crate) prepare: fn(&Path, usize, Build<'_>) -> Result<()>,
}

/// All of them.
pub(crate) const ALL: &[Dimension] = &[
    Dimension {
        name: "steps",
        sizes: &[10, 100, 1000],
        flags: &[],
        prepare: steps,
    },
    Dimension {
        name: "files",
        sizes: &[1000, 10_000, 100_000, 1_000_000],
        flags: &[],
        prepare: files,
    },
    Dimension {
        name: "layers",
        sizes: &[1, 10, 100, 300],
        flags: &["--layers", "per-step", "-o", "type=oci,dest=image.tar"],
        prepare: layers,
    },
    Dimension {
        name: "records in the store",
        sizes: &[10, 1000, 10_000, 100_000],
        flags: &[],
        prepare: records,
    },
];

fn steps(context: &Path, count: usize, _: Build<'_>) -> Result<()> {
    let mut text = format!("FROM {BASE}\n");
    for number in 0..count {
        writeln!(text, "RUN echo {number} > /f")?;
    }
    Ok(std::fs::write(context.join("Dockerfile"), text)?)
}

fn files(context: &Path, count: usize, _: Build<'_>) -> Result<()> {
    for directory in 0..count.div_ceil(100) {
        let path = context.join(format!("src/d{}/s{directory}", directory % 100));
        std::fs::create_dir_all(&path)?;
        for number in 0..100.min(count - directory * 100) {
            std::fs::write(
                path.join(format!("f{number}")),
                format!("{directory} {number}\n"),
            )?;
        }
    }
    Ok(std::fs::write(
        context.join("Dockerfile"),
        "FROM scratch\nCOPY src /src\n",
    )?)
}

fn layers(context: &Path, count: usize, _: Build<'_>) -> Result<()> {
    let mut text = "FROM scratch\n".to_owned();
    for number in 0..count {
        std::fs::write(context.join(format!("f{number}")), vec![b'x'; 10_000])?;
        writeln!(text, "COPY f{number} /")?;
    }
    Ok(std::fs::write(context.join("Dockerfile"), text)?)
}

/// Fills the store, and leaves a build of ten steps.
fn records(context: &Path, count: usize, build: Build<'_>) -> Result<()> {
    std::fs::write(context.join("f"), "f")?;
    for batch in 0..count.div_ceil(BATCH) {
        let mut text = "FROM scratch\n".to_owned();
        for number in 0..BATCH.min(count - batch * BATCH) {
            writeln!(text, "COPY f /{batch}/{number}")?;
        }
        std::fs::write(context.join("Dockerfile"), text)?;
        build()?;
    }
    steps(context, 10, build)
}
