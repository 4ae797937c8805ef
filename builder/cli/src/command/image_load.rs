//! `kiln image load`: images of files that come into the store.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use kiln::{Engine, Error};
use kiln_image::ImageName;
use kiln_tree::host;
use tempfile::NamedTempFile;

use super::image_id::{full_name, platform_of};
use super::print;
use crate::display::{Style, display};

/// The flags of `kiln image load`.
#[derive(Args, Debug, Clone)]
pub(crate) struct LoadArgs {
    /// The image, or - for an archive on standard input
    pub(super) source: Option<String>,
    /// The archive, as docker load names it
    #[arg(short, long, value_name = "FILE", conflicts_with = "source")]
    input: Option<PathBuf>,
    /// Its name in the store (default: as the archive says)
    #[arg(short, long)]
    tag: Option<String>,
    /// Of several, the image for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// Brings an image of an archive, a layout or the Docker daemon into the store.
///
/// # Errors
/// When there is none, or it has no name.
pub(super) fn load(engine: &Engine, args: &LoadArgs) -> Result<(), Error> {
    let (source, _piped) = source(args)?;
    let names = match &args.tag {
        Some(tag) => vec![tag.clone()],
        None => own_names(engine, &source)?,
    };
    if let Some(artifact) = difference(engine, &source)? {
        return load_difference(engine, &source, &artifact, &names);
    }
    if names.is_empty() {
        return Err(unnamed(&source));
    }
    let platform = platform_of(engine, &[&source], args.platform.as_deref())?;
    for name in names {
        let name = full_name(&name)?;
        engine
            .images()
            .load(&source, &platform, &name, &*display(Style::Auto))?;
        print(&format!("{name}\n"));
    }
    Ok(())
}

/// The image to load, as the library names it, and the file that holds what came from standard input.
fn source(args: &LoadArgs) -> Result<(String, Option<NamedTempFile>), Error> {
    let archive = |file: &Path| format!("docker-archive:{}", file.display());
    let named = match (&args.source, &args.input) {
        (None, None) => None,
        (Some(source), _) if source == "-" => None,
        (Some(source), _) => Some((source.clone(), Path::new(source))),
        (None, Some(file)) => Some((archive(file), file.as_path())),
    };
    let Some((source, file)) = named else {
        let file = piped()?;
        return Ok((archive(file.path()), Some(file)));
    };
    if file.is_file() {
        return Ok((archive(file), None));
    }
    // A name that stands for an image of a registry is meant as a file here.
    match source.parse() {
        Ok(ImageName::Registry(_)) | Err(_) => {
            let source = host::open(file).err().unwrap_or_else(not_a_file);
            Err(Error::file("read", file)(source))
        }
        Ok(_) => Ok((source, None)),
    }
}

fn not_a_file() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::IsADirectory)
}

/// Keeps an archive that comes on standard input.
fn piped() -> Result<NamedTempFile, Error> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        let text = "name an archive, or pipe one in: docker save NAME | kiln image load";
        return Err(Error::Usage(text.to_owned()));
    }
    let failed = |source| Error::File {
        what: "cannot keep what comes on standard input".to_owned(),
        source,
    };
    let mut file = NamedTempFile::new().map_err(failed)?;
    std::io::copy(&mut input, &mut file).map_err(failed)?;
    file.flush().map_err(failed)?;
    Ok(file)
}

/// The names that an image has where it is.
fn own_names(engine: &Engine, source: &str) -> Result<Vec<String>, Error> {
    match source.parse() {
        Ok(ImageName::Archive { file, .. }) => Ok(engine.client().names_in_archive(&file)?),
        Ok(ImageName::Daemon(name)) => Ok(vec![name]),
        _ => Ok(Vec::new()),
    }
}

fn unnamed(source: &str) -> Error {
    Error::Usage(format!("{source} says no name: give one with --tag"))
}

/// The manifest of a difference, when an archive holds one in place of an image.
fn difference(engine: &Engine, source: &str) -> Result<Option<Vec<u8>>, Error> {
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
    engine: &Engine,
    source: &str,
    artifact: &[u8],
    names: &[String],
) -> Result<(), Error> {
    let [name] = names else {
        return Err(unnamed(source));
    };
    let name = full_name(name)?;
    let _session = engine.store().session()?;
    let events = display(Style::Auto);
    engine.deltas().load(source, artifact, &name, &*events)?;
    print(&format!("{name}\n"));
    Ok(())
}
