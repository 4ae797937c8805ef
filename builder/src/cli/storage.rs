//! `kiln du` and `kiln prune`.

use std::time::Duration;

use clap::Args;
use indicatif::HumanBytes;
use kiln_cache::{Kind, PruneOptions};

use super::{Failed, print, say};
use crate::Error;

/// The flags of `kiln prune`.
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Everything that named images don't need
    #[arg(short, long)]
    all: bool,
    /// What was not used for this long: 30m, 12h, 7d, 2w
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
    /// The least recently used, down to this size: 500MB, 20GB
    #[arg(long, value_name = "SIZE")]
    keep_storage: Option<String>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
}

/// Runs `kiln du`.
pub(crate) fn du() -> Result<(), Failed> {
    let (engine, _) = crate::open()?;
    let usage = engine.store().usage()?;
    let mut text = String::new();
    for kind in Kind::ALL {
        text += &format!(
            "{:<8} {:>7}  {}\n",
            kind.plural(),
            usage.count(kind),
            HumanBytes(usage.bytes(kind))
        );
    }
    text += &format!(
        "{:<8} {:>7}  {}\n",
        "total",
        usage.items.len(),
        HumanBytes(usage.total())
    );
    print(&text);
    Ok(())
}

/// Runs `kiln prune`.
pub(crate) fn prune(args: &PruneArgs) -> Result<(), Failed> {
    let options = PruneOptions {
        all: args.all,
        older_than: args.older_than.as_deref().map(age).transpose()?,
        keep_storage: args.keep_storage.as_deref().map(size).transpose()?,
        dry_run: args.dry_run,
    };
    let (engine, _) = crate::open()?;
    if !args.force && !args.dry_run && !confirmed(args) {
        return Ok(());
    }
    let report = engine.store().prune(&options)?;
    let verb = if args.dry_run { "would free" } else { "freed" };
    print(&format!(
        "{verb} {} in {} items\n",
        HumanBytes(report.bytes()),
        report.items.len()
    ));
    Ok(())
}

/// Asks on a terminal; elsewhere the command itself is the answer.
fn confirmed(args: &PruneArgs) -> bool {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() {
        return true;
    }
    let what = if args.all {
        "everything that named images don't need"
    } else {
        "what is no longer wanted"
    };
    say(&format!("This removes {what} from the store. Go on? [y/N]"));
    let mut answer = String::new();
    _ = std::io::stdin().read_line(&mut answer);
    answer.trim().eq_ignore_ascii_case("y")
}

fn age(text: &str) -> Result<Duration, Error> {
    let bad = || {
        Error::Usage(format!(
            "--older-than {text}: write it as 30m, 12h, 7d or 2w"
        ))
    };
    let unit = text.chars().next_back().ok_or_else(bad)?;
    let number: u64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| bad())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(bad()),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn size(text: &str) -> Result<u64, Error> {
    let bad = || Error::Usage(format!("--keep-storage {text}: write it as 500MB or 20GB"));
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| bad())?;
    let factor = match text[end..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).ok_or_else(bad)
}
