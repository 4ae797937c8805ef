//! `kiln delta`: differences between images; and the flags of `kiln build` that send them.

use std::path::{Path, PathBuf};

use crate::human::format_size;
use clap::{Args, Subcommand, ValueEnum};
use kiln::output::{DeltaFrom, DeltaOptions, check_file, not_worth, write_file};
use kiln::{Engine, Error};
use kiln_engine::{Delta, DeltaReport, Level, Meter, Side};
use kiln_image::{Reference, Resolved, write_oci_archive};

use super::access::AccessArgs;
use super::image_id::full_name;
use super::{Failed, print, say};
use crate::display::{Style, display};

/// The command line of `kiln delta`.
#[derive(Args, Debug)]
pub(crate) struct DeltaArgs {
    #[command(flatten)]
    access: AccessArgs,
    #[command(subcommand)]
    command: DeltaCommand,
}

/// The commands of `kiln delta`.
#[derive(Subcommand, Debug)]
pub(crate) enum DeltaCommand {
    /// Write the difference between two images to a file, or push it beside the new one
    Create(CreateArgs),
}

/// The flags of `kiln delta create`.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The image that receivers have: in the store, a registry or an archive
    old: String,
    /// The image that they are to have
    new: String,
    /// Write an OCI archive, for 'kiln image load'
    #[arg(short, long, value_name = "FILE", required_unless_present = "push")]
    output: Option<PathBuf>,
    /// Push it to the repository of the new image, which must be there
    #[arg(long)]
    push: bool,
    /// How much effort goes into it
    #[arg(long, value_enum, default_value_t)]
    level: DeltaLevel,
    /// Of images for several platforms, those for this one
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Keep it even when it spares less than 30 % of the layers
    #[arg(long)]
    force: bool,
}

/// How much effort goes into a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeltaLevel {
    /// zstd level 3
    #[default]
    Fast,
    /// zstd level 19: smaller, and many times slower
    Best,
}

impl From<DeltaLevel> for Level {
    fn from(level: DeltaLevel) -> Self {
        match level {
            DeltaLevel::Fast => Self::Fast,
            DeltaLevel::Best => Self::Best,
        }
    }
}

/// Differences that are pushed after an image.
#[derive(Args, Debug, Clone)]
pub(crate) struct PushDeltaArgs {
    /// Push the difference from an earlier image as well: a tag or digest of the same repository,
    /// auto (what the tag names now), or auto:N (the last N that it named; repeatable)
    #[arg(long, value_name = "IMAGE")]
    delta_from: Vec<String>,
    /// How much effort goes into differences
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    delta_level: DeltaLevel,
}

impl PushDeltaArgs {
    /// What the flags say; they need an image that is pushed.
    pub(super) fn options(&self, is_pushed: bool) -> Result<DeltaOptions, Error> {
        if !self.delta_from.is_empty() && !is_pushed {
            let text = "--delta-from pushes a difference after the image: give --push as well";
            return Err(Error::Usage(text.to_owned()));
        }
        let wrong =
            |error: kiln::output::BadDeltaFrom| Error::Usage(format!("--delta-from: {error}"));
        let from = self.delta_from.iter();
        let from = from.map(|text| text.parse::<DeltaFrom>().map_err(wrong));
        Ok(DeltaOptions {
            from: from.collect::<Result<_, _>>()?,
            level: self.delta_level.into(),
        })
    }
}

/// Runs `kiln delta`.
pub(crate) fn run(args: &DeltaArgs) -> Result<(), Failed> {
    let DeltaCommand::Create(create) = &args.command;
    let names = [&create.old, &create.new];
    let named: Vec<Reference> = names
        .into_iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    let engine = super::open_with(None, args.access.read(&named)?)?;
    Ok(create.run(&engine)?)
}

impl CreateArgs {
    fn run(&self, engine: &Engine) -> Result<(), Error> {
        if let Some(file) = &self.output {
            check_file("-o", file)?;
        }
        let to = match self.push {
            true => Some(full_name(&self.new)?),
            false => None,
        };
        let platform = super::platform_flag::platform_or_host(self.platform.as_deref())?;
        let _session = engine.store().session()?;
        let find =
            |name: &str| -> Result<Resolved, Error> { Ok(engine.images().find(name, &platform)?) };
        let (old, new) = (find(&self.old)?, find(&self.new)?);
        let events = display(Style::Auto);
        let sides = [(&self.old, &old), (&self.new, &new)];
        let [old, new] = sides.map(|(name, image)| Side { name, image });
        let delta = engine
            .deltas()
            .create(old, new, self.level.into(), &*events)?;
        if !self.force && !delta.report.is_worth() {
            let text = format!("no difference was kept: {}", not_worth(&delta.report));
            return Err(Error::Usage(text));
        }
        if let Some(file) = &self.output {
            write(engine, &delta, &self.new, file)?;
        }
        if let Some(to) = to {
            engine.deltas().push(&delta, &to, &*events)?;
        }
        say(&summary(&delta.report));
        print(&format!("{}\n", delta.digest));
        Ok(())
    }
}

fn write(engine: &Engine, delta: &Delta, new: &str, file: &Path) -> Result<(), Error> {
    let name = new.parse::<Reference>();
    let name = name.map_or_else(|_| String::new(), |name| name.to_string());
    let mut archive = engine.deltas().archive(delta, &name);
    archive.names.retain(|name| !name.is_empty());
    let name = format!("write {}", file.display());
    let events = display(Style::Auto);
    let meter = Meter::new(&*events, name, Some(archive.size()));
    write_file(file, &meter, |out| write_oci_archive(&archive, out))
}

fn summary(report: &DeltaReport) -> String {
    let mut text = format!(
        "{} where the {} changed layers have {}",
        format_size(report.bytes),
        report.changed,
        format_size(report.layers)
    );
    if report.exact < report.changed {
        text += &format!(
            "; {} of them can't be restored to the registry's blobs, only to their files: another tool compressed them",
            report.changed - report.exact
        );
    }
    text
}
