//! `kiln registry`: what lies in registries.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use kiln_image::{Client, ClientOptions, ImageError, Reference};

use super::access::AccessArgs;
use super::{Failed, print, say};
use kiln::{Config, Error};
use kiln::{ExpireRules, Expired, StaleDelta, expire, stale_deltas};

/// The command line of `kiln registry`.
#[derive(Args, Debug)]
pub(crate) struct RegistryArgs {
    #[command(flatten)]
    access: AccessArgs,
    #[command(subcommand)]
    command: RegistryCommand,
}

/// The commands of `kiln registry`.
#[derive(Subcommand, Debug)]
pub(crate) enum RegistryCommand {
    /// Delete old tags of a repository, the manifests that only they need, and differences to or from
    /// images that no tag names then: with --yes; without, only say which
    Prune(PruneArgs),
}

/// The flags of `kiln registry prune`.
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// The repository: registry.example/app
    repository: String,
    /// Keep the N newest tags
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Only tags older than this: 12h, 30d, 8w. With --keep, a tag is deleted if both rules select it
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
    /// Only tags that this pattern matches: 'pr-*' (repeatable)
    #[arg(long = "tags", value_name = "PATTERN")]
    tags: Vec<String>,
    /// Only list what would be deleted (the default)
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Delete
    #[arg(short, long)]
    yes: bool,
}

/// Runs `kiln registry`.
pub(crate) fn run(args: &RegistryArgs) -> Result<(), Failed> {
    let RegistryCommand::Prune(prune) = &args.command;
    let (access, args) = (&args.access, prune);
    let rules = args.rules()?;
    let repository = repository(&args.repository)?;
    let access = access.read(std::slice::from_ref(&repository))?;
    let client = Client::new(ClientOptions {
        registries: Config::load()?.registries,
        insecure: access.insecure,
        certificates: access.certificates,
        credentials: access.credentials,
        logins: access.logins,
        ..ClientOptions::default()
    });
    let all = client.tagged(&repository).map_err(Error::from)?;
    let expired = expire(&all, &rules);
    let stale = stale_deltas(&client, &repository, &all, &expired);
    show(&expired, args.yes);
    show_deltas(&stale, args.yes);
    if args.yes {
        for delta in &stale {
            client
                .delete_referrer(&repository, &delta.target, &delta.artifact)
                .map_err(Error::from)?;
        }
        for digest in &expired.manifests {
            client
                .delete_manifest(&repository, digest)
                .map_err(Error::from)?;
        }
    }
    let (tags, all) = (expired.tags.len(), all.len());
    let manifests = expired.manifests.len();
    let text = match args.yes {
        true => format!("deleted {tags} of {all} tags, {manifests} manifests"),
        false => format!("would delete {tags} of {all} tags, {manifests} manifests: --yes does"),
    };
    print(&format!("{text}\n"));
    Ok(())
}

impl PruneArgs {
    fn rules(&self) -> Result<ExpireRules, Error> {
        if self.keep.is_none() && self.older_than.is_none() {
            let text = "say what is to go: --keep N, --older-than AGE, or both";
            return Err(Error::Usage(text.to_owned()));
        }
        for pattern in &self.tags {
            let wrong = |error| Error::Usage(format!("--tags {pattern}: {error}"));
            kiln_graph::pattern::matches(pattern, b"").map_err(wrong)?;
        }
        let age = self
            .older_than
            .as_deref()
            .map(kiln_graph::parse_duration)
            .transpose();
        let age = age.map_err(|reason| Error::Usage(format!("--older-than: {reason}")))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let before = age.map(|age| now.saturating_sub(age).as_secs().cast_signed());
        Ok(ExpireRules {
            keep: self.keep,
            before,
            tags: self.tags.clone(),
        })
    }
}

/// A name without a tag: all of the repository is looked at.
fn repository(name: &str) -> Result<Reference, Error> {
    let mut reference: Reference = name.parse().map_err(ImageError::from)?;
    let end = name.rsplit('/').next().unwrap_or(name);
    if end.contains([':', '@']) {
        let text = format!("{name} names one image: give the repository alone, and --tags PATTERN");
        return Err(Error::Usage(text));
    }
    reference.tag = None;
    Ok(reference)
}

fn show_deltas(stale: &[StaleDelta], deleted: bool) {
    let verb = if deleted { "delete" } else { "would delete" };
    for delta in stale {
        let (artifact, target) = (delta.artifact.hex(), delta.target.hex());
        print(&format!(
            "{verb}  difference {} to {}\n",
            &artifact[..12],
            &target[..12]
        ));
    }
}

fn show(expired: &Expired, deleted: bool) {
    let verb = if deleted { "delete" } else { "would delete" };
    for tag in &expired.tags {
        let created = tag.created.as_deref().unwrap_or("-");
        print(&format!(
            "{verb}  {created}  {}  {}\n",
            &tag.digest.hex()[..12],
            tag.tag
        ));
    }
    for tag in &expired.shared {
        say(&format!(
            "{tag} stays: a tag that is kept stands for the same"
        ));
    }
    for tag in &expired.undated {
        say(&format!("{tag} stays: it doesn't say when it was made"));
    }
}
