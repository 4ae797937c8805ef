//! `kiln du` and `kiln prune`.

use std::collections::HashSet;

use clap::Args;
use kiln_cache::{Kind, PruneOptions, Store, UsageItem};

use super::result::is_link;
use super::{Failed, print, say};
use crate::human::{format_duration, format_size};
use kiln::Error;
use kiln_graph::parse_size;

use crate::untag::{UntagRules, untag};
use kiln_graph::parse_duration;

/// The flags of `kiln prune`.
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Remove everything that no named image needs
    #[arg(short, long)]
    all: bool,
    /// Remove what wasn't used for this long: 30m, 12h, 7d, 2w
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
    /// Remove the least recently used data until the store has this size: 500MB, 20GB
    #[arg(long, value_name = "SIZE")]
    keep_storage: Option<String>,
    /// Remove the least recently used data until this much of the disk is free
    #[arg(long, value_name = "SIZE")]
    min_free: Option<String>,
    /// Keep the N newest tags per repository
    #[arg(long, value_name = "N")]
    keep_images: Option<usize>,
    /// Remove tags that are older than this
    #[arg(long, value_name = "AGE")]
    images_older_than: Option<String>,
    /// until=AGE: the same as --older-than
    #[arg(long, value_name = "FILTER", conflicts_with = "older_than")]
    filter: Option<String>,
    /// Only list what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Don't ask for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Runs `kiln du`.
pub(crate) fn du() -> Result<(), Failed> {
    let engine = super::open()?;
    let usage = engine.store().usage()?;
    let mut text = String::new();
    for kind in Kind::ALL {
        text += &format!(
            "{:<8} {:>7}  {}\n",
            kind.plural(),
            usage.count(kind),
            format_size(usage.bytes(kind))
        );
    }
    text += &format!("{:<8} {:>7}  {}\n", "other", "", format_size(usage.other));
    text += &format!(
        "{:<8} {:>7}  {}\n",
        "total",
        usage.items.len(),
        format_size(usage.total())
    );
    print(&text);
    Ok(())
}

/// Runs `kiln du --builds`.
pub(crate) fn du_by_build() -> Result<(), Failed> {
    let engine = super::open()?;
    let store = engine.store();
    let mut seen = HashSet::new();
    let latest = store.builds().all()?.into_iter();
    let latest = latest.filter(|build| seen.insert(build.subject.clone()));
    let (mut names, mut users) = (Vec::new(), Vec::new());
    for build in latest {
        users.push(store.paths_of_build(&build)?);
        names.push(build.title);
    }
    let (images, volumes) = store.paths_of_images_and_volumes()?;
    users.extend([images, volumes]);
    names.extend(["images that have names", "cache volumes"].map(str::to_owned));
    let found = store.attribute(&users)?;
    let row = |uses: &str, alone: &str, name: &str| format!("{uses:>12} {alone:>12}  {name}\n");
    let mut text = row("uses", "alone", "");
    for (name, share) in names.iter().zip(&found.shares) {
        text += &row(&format_size(share.uses), &format_size(share.alone), name);
    }
    let rest = format_size(found.rest);
    text += &row(&rest, &rest, "everything else");
    text += &row(&format_size(found.total), "", "total");
    print(&text);
    Ok(())
}

/// Runs `kiln fsck`.
pub(crate) fn fsck(repair: bool) -> Result<(), Failed> {
    let engine = super::open()?;
    let report = engine.store().fsck(repair)?;
    for damage in &report.damaged {
        print(&format!("{}: {}\n", damage.path.display(), damage.reason));
    }
    let count = report.damaged.len();
    let end = match (count, repair) {
        (0, _) => format!("{} things checked, no damage", report.checked),
        (count, true) => format!(
            "{} things checked, {count} damaged and removed",
            report.checked
        ),
        (count, false) => {
            let text = format!(
                "{count} of {} things are damaged: run 'kiln fsck --repair'",
                report.checked
            );
            return Err(Failed { text, status: 1 });
        }
    };
    print(&format!("{end}\n"));
    Ok(())
}

/// Takes the names away that a bake which failed left for 'kiln shell'.
fn forget_links(store: &Store) -> Result<(), Error> {
    for image in store.images().all()? {
        if is_link(&image.name) {
            _ = store.images().remove(&image.name)?;
        }
    }
    Ok(())
}

/// Runs `kiln prune`.
pub(crate) fn prune(args: &PruneArgs) -> Result<(), Failed> {
    let until = flag("--filter", args.filter.as_deref(), until)?;
    let options = PruneOptions {
        all: args.all,
        older_than: flag("--older-than", args.older_than.as_deref(), parse_duration)?.or(until),
        keep_storage: flag("--keep-storage", args.keep_storage.as_deref(), parse_size)?,
        min_free: flag("--min-free", args.min_free.as_deref(), parse_size)?,
        dry_run: args.dry_run,
    };
    let engine = super::open()?;
    if !args.force && !args.dry_run && !confirmed(args) {
        return Ok(());
    }
    if !args.dry_run {
        forget_links(engine.store())?;
    }
    for name in untag(engine.store(), args.images()?, args.dry_run)? {
        print(&format!("image    {name}\n"));
    }
    let report = engine.store().prune(&options)?;
    if args.dry_run {
        print(&listed(&report.items));
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    print(&format!(
        "{verb} {} in {} items; making them took {}\n",
        format_size(report.bytes()),
        report.items.len(),
        seconds(report.cost())
    ));
    Ok(())
}

impl PruneArgs {
    /// Which names of images go.
    fn images(&self) -> Result<UntagRules, Error> {
        let text = self.images_older_than.as_deref();
        let before = flag("--images-older-than", text, parse_duration)?.map(|age| {
            let then = std::time::SystemTime::now().checked_sub(age);
            let since = then.and_then(|then| then.duration_since(std::time::UNIX_EPOCH).ok());
            since.unwrap_or_default().as_secs()
        });
        Ok(UntagRules {
            keep: self.keep_images,
            before,
        })
    }
}

/// `until=24h`, the filter that other builders have.
fn until(text: &str) -> Result<std::time::Duration, String> {
    match text.split_once('=') {
        Some(("until", value)) => parse_duration(value),
        _ => Err(format!("'{text}': the only filter is until=AGE")),
    }
}

/// A line for each thing: its kind, size, when it was last used, what it would cost, and who
/// makes it.
fn listed(items: &[UsageItem]) -> String {
    let line = |item: &UsageItem| {
        let age = item.last_used.elapsed().unwrap_or_default();
        let cost = item.cost.as_ref();
        let step = cost.and_then(|cost| cost.step.as_deref());
        let step = step.and_then(|name| name.lines().next());
        let what = step.map_or_else(|| item.name.chars().take(12).collect(), str::to_owned);
        format!(
            "{:<8} {:>12}  used {} ago  {:>8}  {what}\n",
            item.kind.singular(),
            format_size(item.bytes),
            format_duration(age),
            cost.map_or_else(|| "?".to_owned(), |cost| seconds(cost.time)),
        )
    };
    items.iter().map(line).collect()
}

fn seconds(time: std::time::Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
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

fn flag<T>(
    name: &str,
    text: Option<&str>,
    read: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Error> {
    text.map(read)
        .transpose()
        .map_err(|reason| Error::Usage(format!("{name}: {reason}")))
}
