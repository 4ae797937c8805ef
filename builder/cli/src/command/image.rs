//! `kiln image`.

use crate::human::format_size;
use clap::{Args, Subcommand};
use kiln::output::{check_directory, to_directory};
use kiln_engine::{Meter, Rebase};
use kiln_graph::Platform;
use kiln_image::{ImageError, ImageName, Manifest, PushBlob, PushImage, Reference};

use kiln_tree::host;

use super::access::AccessArgs;
use super::{Failed, print, print_json};
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
#[derive(Subcommand, Debug)]
pub(crate) enum ImageCommand {
    /// List the images in the store
    Ls,
    /// Print an image's manifest and configuration, from the store, a registry or an archive
    Inspect(InspectArgs),
    /// Merge images of several platforms into an index, and push it
    Create(CreateArgs),
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
    Pull {
        /// The image
        name: String,
    },
    /// Bring an image into the store: oci-archive:FILE, docker-archive:FILE, oci:DIRECTORY,
    /// docker-daemon:NAME, or a file that docker save or 'kiln delta create' wrote
    Load {
        /// The image
        source: String,
        /// Its name in the store (default: as the archive says)
        #[arg(short, long)]
        tag: Option<String>,
    },
    /// Write the files of an image to a new or empty directory
    Unpack {
        /// The image, in the store, a registry or an archive
        name: String,
        /// The directory
        directory: std::path::PathBuf,
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
    fn names(&self) -> Vec<&String> {
        match self {
            Self::Ls | Self::Rm { .. } | Self::Umount(_) => Vec::new(),
            Self::Mount(args) => args.name.iter().collect(),
            Self::Inspect(args) => vec![&args.name],
            Self::Sbom(args) => vec![&args.name],
            Self::Create(args) => args.images.iter().chain(&args.tags).collect(),
            Self::Tag { name, .. }
            | Self::Push { name }
            | Self::Pull { name }
            | Self::Unpack { name, .. }
            | Self::Layers { name, .. } => vec![name],
            Self::Load { source, .. } => vec![source],
            Self::Diff { before, after, .. } => vec![before, after],
            Self::Rebase {
                name, from, onto, ..
            } => vec![name, from, onto],
        }
    }
}

/// The flags of `kiln image inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The image
    pub(super) name: String,
    /// Of several, the one for this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// Only the manifest or index, as it is
    #[arg(long)]
    pub(super) raw: bool,
}

/// The flags of `kiln image create`.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The images, in registries
    #[arg(required = true)]
    pub(super) images: Vec<String>,
    /// The index's name (repeatable)
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(super) tags: Vec<String>,
    /// Keep the images that the name has already
    #[arg(long)]
    pub(super) append: bool,
    /// Annotate the index (repeatable)
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub(super) annotations: Vec<String>,
    /// Print the index instead of pushing it
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Runs `kiln image`.
pub(crate) fn run(args: &ImageArgs) -> Result<(), Failed> {
    let command = &args.command;
    let names = command.names().into_iter();
    let named: Vec<Reference> = names.filter_map(|name| name.parse().ok()).collect();
    let engine = super::open_with(None, args.access.read(&named)?)?;
    match command {
        ImageCommand::Ls => list(&engine)?,
        ImageCommand::Inspect(args) => super::index::inspect(&engine, args)?,
        ImageCommand::Create(args) => super::index::create(&engine, args)?,
        ImageCommand::Tag { name, names } => super::index::tag(&engine, name, names)?,
        ImageCommand::Push { name } => push(&engine, name)?,
        ImageCommand::Pull { name } => pull(&engine, name)?,
        ImageCommand::Load { source, tag } => load(&engine, source, tag.as_deref())?,
        ImageCommand::Unpack { name, directory } => unpack(&engine, name, directory)?,
        ImageCommand::Mount(args) => super::mount::mount(&engine, args)?,
        ImageCommand::Umount(args) => super::mount::umount(&engine, args)?,
        ImageCommand::Layers { name, json } => layers(&engine, name, *json)?,
        ImageCommand::Sbom(args) => super::sbom::run(&engine, args)?,
        ImageCommand::Diff {
            before,
            after,
            json,
        } => diff(&engine, before, after, *json)?,
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
            engine.rebase(&rebase, &*display(Style::Auto))?;
            print(&format!("{}\n", rebase.name));
        }
        ImageCommand::Rm { names } => {
            for name in names {
                let full = full_name(name)?.to_string();
                if !engine.store().remove_image(&full)? {
                    return Err(no_such_image(name).into());
                }
            }
        }
    }
    Ok(())
}

/// Removes names from the store that nobody needs any more. One that stays does no harm.
pub(super) fn forget(names: &[String]) {
    if let Ok(engine) = super::open() {
        for name in names {
            _ = engine.store().remove_image(name);
        }
    }
}

/// Fetches and unpacks an image, and keeps it under its name.
fn pull(engine: &kiln::Engine, name: &str) -> Result<(), Error> {
    let (platform, events) = (Platform::host(), display(Style::Auto));
    engine.pull(name, &platform, &*events)?;
    if let ImageName::Registry(own) = name.parse().map_err(ImageError::from)? {
        engine.load(name, &platform, &own, &*events)?;
        print(&format!("{own}\n"));
    }
    Ok(())
}

fn load(engine: &kiln::Engine, source: &str, tag: Option<&str>) -> Result<(), Error> {
    let source = match std::path::Path::new(source).is_file() {
        true => format!("docker-archive:{source}"),
        false => source.to_owned(),
    };
    let names = match (
        tag,
        source.split_once("-archive:"),
        source.split_once("daemon:"),
    ) {
        (Some(tag), ..) => vec![tag.to_owned()],
        (None, Some((_, file)), _) => engine.client().names_in_archive(file.as_ref())?,
        (None, None, Some((_, name))) => vec![name.to_owned()],
        (None, None, None) => Vec::new(),
    };
    if let Some(artifact) = difference(engine, &source)? {
        return load_difference(engine, &source, &artifact, &names);
    }
    if names.is_empty() {
        let text = format!("{source} says no name: give one with --tag");
        return Err(Error::Usage(text));
    }
    for name in names {
        let name = full_name(&name)?;
        let platform = Platform::host();
        engine.load(&source, &platform, &name, &*display(Style::Auto))?;
        print(&format!("{name}\n"));
    }
    Ok(())
}

/// Writes an image's files to a directory, which must have none.
fn unpack(engine: &kiln::Engine, name: &str, directory: &std::path::Path) -> Result<(), Error> {
    check_directory("DIRECTORY", directory)?;
    let mut inside = host::read_dir(directory).into_iter().flatten();
    if inside.next().is_some() {
        let text = format!("{} isn't empty: name a new directory", directory.display());
        return Err(Error::Usage(text));
    }
    let _session = engine.store().session()?;
    let events = display(Style::Auto);
    let files = engine.image_files(name, &Platform::host(), &*events)?;
    let size = files.iter().map(|(entry, _)| entry.size()).sum();
    let transfer = format!("write {}", directory.display());
    let meter = Meter::new(&*events, transfer, Some(size));
    to_directory(&files, directory, &|bytes| meter.advance(bytes), &*events)
}

/// The manifest of a difference, when an archive holds one in place of an image.
fn difference(engine: &kiln::Engine, source: &str) -> Result<Option<Vec<u8>>, Error> {
    match source.parse() {
        Ok(ImageName::Archive { file, .. }) => {
            let client = engine.client();
            Ok(client.artifact_in_archive(&file, kiln_engine::DELTA_ARTIFACT)?)
        }
        _ => Ok(None),
    }
}

/// Makes the new image of a difference out of the old one, which is in the store.
fn load_difference(
    engine: &kiln::Engine,
    source: &str,
    artifact: &[u8],
    names: &[String],
) -> Result<(), Error> {
    let [name] = names else {
        let text = format!("{source} says no name: give one with --tag");
        return Err(Error::Usage(text));
    };
    let name = full_name(name)?;
    let _session = engine.store().session()?;
    let events = display(Style::Auto);
    engine.deltas().load(source, artifact, &name, &*events)?;
    print(&format!("{name}\n"));
    Ok(())
}

fn layers(engine: &kiln::Engine, name: &str, json: bool) -> Result<(), Error> {
    let report = engine.inspect_image(name, &Platform::host(), &*display(Style::Auto))?;
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

fn diff(engine: &kiln::Engine, before: &str, after: &str, json: bool) -> Result<(), Error> {
    let events = display(Style::Auto);
    let found = engine.diff_images(before, after, &Platform::host(), &*events)?;
    if json {
        print_json(&serde_json::json!(found));
        return Ok(());
    }
    for file in found {
        print(&format!("{:<10}  {}\n", file.what, file.path));
    }
    Ok(())
}

pub(super) fn full_name(name: &str) -> Result<Reference, Error> {
    Ok(name.parse::<Reference>().map_err(ImageError::from)?)
}

pub(super) fn no_such_image(name: &str) -> Error {
    Error::Usage(format!(
        "there is no image {name} in the store; 'kiln image ls' lists them"
    ))
}

fn list(engine: &kiln::Engine) -> Result<(), Error> {
    let mut text = String::new();
    for image in engine.store().images()? {
        let id = &image.config.hex()[..12];
        let size = format_size(image.size);
        text += &format!(
            "{}  {id}  {}  {size}\n",
            image.name,
            image.platforms.join(",")
        );
    }
    print(&text);
    Ok(())
}

fn push(engine: &kiln::Engine, name: &str) -> Result<(), Error> {
    let reference = full_name(name)?;
    let store = engine.store();
    let image = store
        .image(&reference.to_string())?
        .ok_or_else(|| no_such_image(name))?;
    let read = |digest: &kiln_graph::BlobDigest| -> Result<Vec<u8>, Error> {
        let blob = store.blob(digest)?.ok_or_else(|| {
            Error::Usage(format!(
                "blob {digest} of {name} was never fetched; build it again with --push"
            ))
        })?;
        std::fs::read(&blob.path).map_err(|source| Error::File {
            what: format!("cannot read blob {digest}"),
            source,
        })
    };
    let top = read(&image.digest)?;
    let mut blobs = Vec::new();
    let mut manifests = Vec::new();
    let is_part = |digest: &&kiln_graph::BlobDigest| {
        **digest != image.digest && Some(**digest) != image.index
    };
    for digest in image.blobs.iter().filter(is_part) {
        let Some(blob) = store.blob(digest)? else {
            read(digest)?;
            continue;
        };
        let bytes = if blob.size < 1 << 20 {
            read(digest)?
        } else {
            Vec::new()
        };
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
            let kind = match manifest.media_type.as_str() {
                "" => kiln_image::media_type::MANIFEST,
                own => own,
            };
            manifests.push((bytes, kind.to_owned()));
            continue;
        }
        let path = blob.path.clone();
        blobs.push(PushBlob {
            digest: *digest,
            size: blob.size,
            mount_from: None,
            file: Box::new(move || Ok(path.clone())),
        });
    }
    let image = PushImage {
        blobs,
        manifests,
        top: (top, image.media_type),
    };
    Ok(engine.client().push(&reference, &image, &|_| {})?)
}
