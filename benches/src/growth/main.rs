//! How kiln grows with the work: `cargo run --release -p kiln-benches --bin growth`.
//!
//! Each dimension is built at several sizes in a store of its own, first and again; what must not
//! grow faster than the work is the time for each piece of it. Needs the registry that
//! `scripts/setup-tests` starts, and room on the disk for the largest size twice.

mod dimension;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use dimension::Dimension;

/// Times builds of growing sizes.
#[derive(Parser)]
struct Arguments {
    /// The kiln command
    #[arg(long, default_value = "kiln")]
    kiln: PathBuf,
    /// Only dimensions whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// The largest size of any
    #[arg(long, default_value_t = usize::MAX)]
    most: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    print("| what | size | first | again | first, each | again, each | memory |");
    print("|---|---|---|---|---|---|---|");
    let wanted = dimension::ALL.iter();
    for dimension in wanted.filter(|dimension| dimension.name.contains(&arguments.only)) {
        let sizes = dimension.sizes.iter().copied();
        for size in sizes.filter(|size| *size <= arguments.most) {
            print(&row(dimension, size, &arguments.kiln)?);
        }
    }
    Ok(())
}

fn row(dimension: &Dimension, size: usize, kiln: &Path) -> Result<String> {
    let place = tempfile::tempdir()?;
    let context = place.path().join("context");
    std::fs::create_dir(&context)?;
    let build = |flags: &[&str]| build(kiln, place.path(), &context, flags);
    (dimension.prepare)(&context, size, &|| build(&[]).map(drop))?;
    let flags = dimension.flags;
    let (first, memory) = build(flags)?;
    let mut again = Vec::new();
    for _ in 0..5 {
        again.push(build(flags)?.0);
    }
    again.sort();
    let each = |time: Duration| time / u32::try_from(size).unwrap_or(u32::MAX);
    Ok(format!(
        "| {} | {size} | {:.3} s | {:.3} s | {:.1} µs | {:.1} µs | {} MiB |",
        dimension.name,
        first.as_secs_f64(),
        again[2].as_secs_f64(),
        each(first).as_secs_f64() * 1e6,
        each(again[2]).as_secs_f64() * 1e6,
        memory >> 20
    ))
}

/// Builds once: how long it took, and the most memory that a process of it had, in bytes.
fn build(kiln: &Path, place: &Path, context: &Path, flags: &[&str]) -> Result<(Duration, u64)> {
    let peak = place.join("peak");
    let mut command = Command::new("/usr/bin/time");
    command.args(["-f", "%M", "-o"]).arg(&peak).arg(kiln);
    command.args(["build", "-q"]).args(flags).arg(context);
    command
        .env("KILN_ROOT", place.join("store"))
        .current_dir(place);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command.output().context("/usr/bin/time (Debian: time)")?;
    let took = started.elapsed();
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kiln failed: {text}");
    let kilobytes: u64 = std::fs::read_to_string(&peak)?.trim().parse()?;
    Ok((took, kilobytes << 10))
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn print(line: &str) {
    println!("{line}");
}
