//! `kiln image`.

use crate::human::format_size;
use clap::{Args, Subcommand};
use kiln::output::{check_directory, to_directory};
use kiln_cache::Store;
use kiln_engine::{Meter, Rebase};
use kiln_graph::Platform;
use kiln_image::Reference;

use kiln_tree::host;

use super::access::AccessArgs;
use super::image_id::{full_name, no_such_image, platform_of};
use super::image_load::LoadArgs;
use super::pull::PullArgs;
use super::{Failed, print, print_json, say};
use crate::display::{Style, display};
use kiln::Error;

/// The command line of `kiln image`.
#[derive(Args, Debug)]
pub(crate) struct ImageArgs {
    #[command(flatten)]
    access: AccessArgs,
    #[command(subcommand)]
    command: ImageCommand,
}

/// The commands of `kiln image`.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum ImageCommand {
    /// List the images in the store
    Ls {
        /// Only their IDs
        #[arg(short, long, conflicts_with = "json")]
        quiet: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print an image's manifest and configuration, from the store, a registry or an archive
    Inspect(super::index::InspectArgs),
    /// Merge images of several platforms into an index, and push it
    Create(super::index::CreateArgs),
    /// Give an image of the store more names
    Tag {
        /// The image
        name: String,
        /// Its other names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Send an image to its registry
    Push {
        /// The image
        name: String,
    },
    /// Fetch an image into the store, where builds find it under its name
    Pull(PullArgs),
    /// Bring an image into the store: oci-archive:FILE, docker-archive:FILE, oci:DIRECTORY,
    /// docker-daemon:NAME, or a file that docker save or 'kiln delta create' wrote
    Load(LoadArgs),
    /// Write the files of an image to a new or empty directory
    Unpack {
        /// The image, in the store, a registry or an archive
        name: String,
        /// The directory
        directory: std::path::PathBuf,
        /// Of several, the image for this platform
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<String>,
    },
    /// Mount the files of an image on a directory, or list the mounted images
    Mount(super::mount::MountArgs),
    /// Unmount images, and drop what was changed in them
    #[command(alias = "unmount")]
    Umount(super::mount::UmountArgs),
    /// Show what each layer of an image holds and wastes
    Layers {
        /// The image, in the store, a registry or an archive
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Of several, the image for this platform
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<String>,
    },
    /// List the packages of an image
    Sbom(super::sbom::SbomArgs),
    /// Show the files in which two images differ
    Diff {
        /// The one
        before: String,
        /// The other
        after: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Of several, the image for this platform
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<String>,
    },
    /// Put an image's own layers onto another base, without running anything
    Rebase {
        /// The image
        name: String,
        /// The base it was built on
        #[arg(long, value_name = "IMAGE")]
        from: String,
        /// The base it is to have
        #[arg(long, value_name = "IMAGE")]
        onto: String,
        /// The result's name in the store
        #[arg(short, long, value_name = "NAME")]
        tag: String,
        /// Even when files it replaces differ between the bases
        #[arg(long)]
        force: bool,
    },
    /// Take names away
    Rm {
        /// The images
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl ImageCommand {
    /// The images that it names.
    fn names(&mut self) -> Vec<String> {
        match self {
            Self::Create(args) => args.images.iter().chain(&args.tags).cloned().collect(),
            Self::Pull(args) => args.images(),
            Self::Load(args) => args.source.iter().cloned().collect(),
            other => other
                .stored()
                .into_iter()
                .map(|name| name.clone())
                .collect(),
        }
    }

    /// The names of images that are looked up in the store first.
    fn stored(&mut self) -> Vec<&mut String> {
        match self {
            Self::Ls { .. }
            | Self::Rm { .. }
            | Self::Umount(_)
            | Self::Create(_)
            | Self::Pull(_)
            | Self::Load(_) => Vec::new(),
            Self::Mount(args) => args.name.iter_mut().collect(),
            Self::Inspect(args) => vec![&mut args.name],
            Self::Sbom(args) => args.names(),
            Self::Tag { name, .. }
            | Self::Push { name }
            | Self::Unpack { name, .. }
            | Self::Layers { name, .. } => vec![name],
            Self::Diff { before, after, .. } => vec![before, after],
            Self::Rebase {
                name, from, onto, ..
            } => vec![name, from, onto],
        }
    }
}

/// Runs `kiln image`.
pub(crate) fn run(args: &ImageArgs) -> Result<(), Failed> {
    let mut command = args.command.clone();
    let names = command.names().into_iter();
    let named: Vec<Reference> = names.filter_map(|name| name.parse().ok()).collect();
    let engine = super::open_with(None, args.access.read(&named)?)?;
    for name in command.stored() {
        *name = super::image_id::name(engine.store(), name)?;
    }
    let transfers = matches!(
        command,
        ImageCommand::Push { .. } | ImageCommand::Pull(_) | ImageCommand::Create(_)
    );
    let _cancel = transfers.then(|| super::signals::cancel_on_signals(&engine));
    let done = execute(&engine, &command);
    match done.map_err(|error| failed(engine.store(), &command, &error))? {
        0 => Ok(()),
        status => Err(Failed {
            text: String::new(),
            status,
        }),
    }
}

/// An error, with what the store has, where the image was looked for in it first.
fn failed(store: &Store, command: &ImageCommand, error: &Error) -> Failed {
    match command {
        ImageCommand::Push { .. } | ImageCommand::Pull(_) | ImageCommand::Create(_) => {
            Failed::of(error, &kiln::Texts::default())
        }
        _ => super::image_id::absent(store, error),
    }
}

/// Executes a command; gives the exit status.
fn execute(engine: &kiln::Engine, command: &ImageCommand) -> Result<u8, Error> {
    match command {
        ImageCommand::Ls { quiet, json } => list(engine, *quiet, *json)?,
        ImageCommand::Inspect(args) => super::index::inspect(engine, args)?,
        ImageCommand::Create(args) => super::index::create(engine, args)?,
        ImageCommand::Tag { name, names } => super::index::tag(engine, name, names)?,
        ImageCommand::Push { name } => super::image_push::push(engine, name)?,
        ImageCommand::Pull(args) => super::pull::run(engine, args)?,
        ImageCommand::Load(args) => super::image_load::load(engine, args)?,
        ImageCommand::Unpack {
            name,
            directory,
            platform,
        } => unpack(engine, name, directory, platform.as_deref())?,
        ImageCommand::Mount(args) => return super::mount::mount(engine, args),
        ImageCommand::Umount(args) => super::mount::umount(engine, args)?,
        ImageCommand::Layers {
            name,
            json,
            platform,
        } => layers(engine, name, *json, platform.as_deref())?,
        ImageCommand::Sbom(args) => super::sbom::run(engine, args)?,
        ImageCommand::Diff {
            before,
            after,
            json,
            platform,
        } => diff(engine, before, after, *json, platform.as_deref())?,
        ImageCommand::Rebase {
            name,
            from,
            onto,
            tag,
            force,
        } => {
            let rebase = Rebase {
                image: name,
                from,
                onto,
                name: &full_name(tag)?,
                platform: &Platform::host(),
                force: *force,
            };
            engine.images().rebase(&rebase, &*display(Style::Auto))?;
            print(&format!("{}\n", rebase.name));
        }
        ImageCommand::Rm { names } => {
            for name in names {
                remove(engine.store(), name)?;
            }
        }
    }
    Ok(0)
}

/// Writes an image's files to a directory, which must have none.
fn unpack(
    engine: &kiln::Engine,
    name: &str,
    directory: &std::path::Path,
    platform: Option<&str>,
) -> Result<(), Error> {
    let platform = platform_of(engine, &[name], platform)?;
    check_directory("DIRECTORY", directory)?;
    let mut inside = host::read_dir(directory).into_iter().flatten();
    if inside.next().is_some() {
        let text = format!("{} isn't empty: name a new directory", directory.display());
        return Err(Error::Usage(text));
    }
    let _session = engine.store().session()?;
    let events = display(Style::Auto);
    let files = engine.images().files(name, &platform, &*events)?;
    let size = files.iter().map(|(entry, _)| entry.size()).sum();
    let transfer = format!("write {}", directory.display());
    let meter = Meter::new(&*events, transfer, Some(size));
    to_directory(&files, directory, &|bytes| meter.advance(bytes), &*events)
}

fn layers(
    engine: &kiln::Engine,
    name: &str,
    json: bool,
    platform: Option<&str>,
) -> Result<(), Error> {
    let platform = platform_of(engine, &[name], platform)?;
    let report = engine
        .images()
        .inspect(name, &platform, &*display(Style::Auto))?;
    if json {
        print_json(&serde_json::json!(report));
        return Ok(());
    }
    let mut text = String::new();
    for (number, layer) in report.layers.iter().enumerate() {
        let made_by = layer.created_by.lines().next().unwrap_or_default();
        text += &format!(
            "{number:>3}  {:>10} compressed  {:>10} plain  {} paths  {}\n",
            format_size(layer.compressed),
            format_size(layer.plain),
            layer.paths,
            made_by.chars().take(90).collect::<String>()
        );
        for (path, bytes) in layer.biggest.iter().take(3) {
            text += &format!("        {:>10}  {path}\n", format_size(*bytes));
        }
        for (bytes, why) in [
            (layer.shadowed, "replaced or removed by later layers"),
            (layer.duplicated, "the same as other files of the image"),
        ] {
            if bytes > 0 {
                text += &format!("        {:>10}  {why}\n", format_size(bytes));
            }
        }
    }
    text += &format!(
        "{} compressed, {} plain, {} wasted, {:.1} % efficient\n",
        format_size(report.compressed),
        format_size(report.plain),
        format_size(report.wasted),
        report.efficiency
    );
    print(&text);
    Ok(())
}

fn diff(
    engine: &kiln::Engine,
    before: &str,
    after: &str,
    json: bool,
    platform: Option<&str>,
) -> Result<(), Error> {
    let platform = platform_of(engine, &[before, after], platform)?;
    let events = display(Style::Auto);
    let found = engine.images().diff(before, after, &platform, &*events)?;
    if json {
        print_json(&serde_json::json!(found));
        return Ok(());
    }
    for file in found {
        print(&format!("{:<10}  {}\n", file.what, file.path));
    }
    Ok(())
}

fn list(engine: &kiln::Engine, quiet: bool, json: bool) -> Result<(), Error> {
    let mut images = engine.store().images().all()?;
    images.retain(|image| !super::result::is_link(&image.name));
    if json {
        print_json(&serde_json::json!(images));
        return Ok(());
    }
    if images.is_empty() && !quiet {
        say(
            "no image is kept here: 'kiln build -t NAME' keeps one, '--push' sends it away instead",
        );
    }
    let mut text = String::new();
    for image in images {
        let id = &image.config.hex()[..12];
        let size = format_size(image.size);
        let platforms = image.platforms.join(",");
        text += &match quiet {
            true => format!("{id}\n"),
            false => format!("{}  {id}  {platforms}  {size}\n", image.name),
        };
    }
    print(&text);
    Ok(())
}

/// Takes a name away: the one that was given, or all of the image whose ID it is.
fn remove(store: &Store, name: &str) -> Result<(), Error> {
    for name in super::image_id::names(store, name)? {
        if !store.images().remove(&full_name(&name)?.to_string())? {
            return Err(no_such_image(&name));
        }
    }
    Ok(())
}
