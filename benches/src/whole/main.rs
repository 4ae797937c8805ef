//! Whole builds, side by side with the other builders that are installed:
//! `cargo run --release -p kiln-benches --bin whole`.
//!
//! Each figure is the median of several runs, the builders taking turns, and each ratio the
//! median of the pairs. Needs the registry that `scripts/setup-tests` starts.

mod builder;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;

use builder::Builder;
use workload::Workload;

/// Times whole builds.
#[derive(Parser)]
struct Arguments {
    /// How often each build is run
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The kiln command
    #[arg(long, default_value = "kiln")]
    kiln: PathBuf,
    /// Only workloads whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let place = tempfile::tempdir()?;
    let builders = builder::installed(&arguments.kiln, place.path());
    let names: Vec<&str> = builders.iter().map(|builder| builder.name()).collect();
    print(&format!("| work | {} | ratio to kiln |", names.join(" | ")));
    print(&format!("|---|{}---|", "---|".repeat(names.len())));
    let wanted = |workload: &&Workload| workload.name.contains(&arguments.only);
    for workload in workload::ALL.iter().filter(wanted) {
        print(&row(workload, &builders, arguments.runs, place.path())?);
    }
    Ok(())
}

fn row(
    workload: &Workload,
    builders: &[Box<dyn Builder>],
    runs: usize,
    place: &Path,
) -> Result<String> {
    let context = place.join("context");
    _ = std::fs::remove_dir_all(&context);
    std::fs::create_dir(&context)?;
    (workload.make)(&context)?;
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); builders.len()];
    for builder in builders {
        _ = builder.build(&context, workload)?;
    }
    for _ in 0..runs {
        for (builder, times) in builders.iter().zip(&mut times) {
            (workload.before)(&context)?;
            times.extend(builder.build(&context, workload)?);
        }
    }
    ensure!(!times[0].is_empty(), "nothing was run");
    let shown = |times: &Vec<Duration>| match times.is_empty() {
        true => "-".to_owned(),
        false => seconds(median(times)),
    };
    let shown: Vec<String> = times.iter().map(shown).collect();
    let others = times[1..].iter().map(|other| match other.is_empty() {
        true => "-".to_owned(),
        false => ratio(other, &times[0]),
    });
    let ratios: Vec<String> = others.collect();
    Ok(format!(
        "| {} | {} | {} |",
        workload.name,
        shown.join(" | "),
        ratios.join(", ")
    ))
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

fn ratio(other: &[Duration], own: &[Duration]) -> String {
    let pairs = other.iter().zip(own);
    let mut ratios: Vec<f64> = pairs
        .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    format!("{:.1}", ratios[ratios.len() / 2])
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn print(line: &str) {
    println!("{line}");
}
