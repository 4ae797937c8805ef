//! `kiln image pull`.

use std::path::Path;

use clap::Args;
use kiln::Error;
use kiln_engine::EventSink;
use kiln_graph::Platform;
use kiln_image::{ImageError, ImageName};
use kiln_tree::host;

use super::platform_flag::platform_or_host;
use super::{image_id, print};
use crate::display::{Style, display};

/// The flags of `kiln image pull`.
#[derive(Args, Debug, Clone)]
pub(crate) struct PullArgs {
    /// The image
    name: String,
    /// Of several, the image for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Take what didn't change from this image, or from the files in this directory (/… or ./…), besides
    /// the images of the same repository that are in the store
    #[arg(long, value_name = "IMAGE|DIR")]
    base: Option<String>,
}

impl PullArgs {
    /// The images that it names.
    pub(super) fn images(&self) -> Vec<String> {
        let base = self.base.iter().filter(|base| !is_directory(base));
        std::iter::once(&self.name).chain(base).cloned().collect()
    }
}

/// Fetches and unpacks an image, and keeps it under its name.
pub(super) fn run(engine: &kiln::Engine, args: &PullArgs) -> Result<(), Error> {
    let name = &args.name;
    let platform = platform_or_host(args.platform.as_deref())?;
    if args.platform.is_some() {
        // The store may have the image for another platform, from an earlier pull.
        let found = engine.client().resolve(name, &platform)?;
        image_id::check_platform(name, &found, &platform)?;
    }
    let events = display(Style::Auto);
    let _session = engine.store().session()?;
    if let Some(base) = &args.base {
        use_base(engine, base, &platform, &*events)?;
    }
    engine.images().pull(name, &platform, &*events)?;
    if let ImageName::Registry(own) = name.parse().map_err(ImageError::from)? {
        engine.images().load(name, &platform, &own, &*events)?;
        print(&format!("{own}\n"));
    }
    Ok(())
}

/// Whether a base is a directory: what can be no image's name.
fn is_directory(base: &str) -> bool {
    matches!(base, "." | "..")
        || ["/", "./", "../"]
            .iter()
            .any(|start| base.starts_with(start))
}

fn use_base(
    engine: &kiln::Engine,
    base: &str,
    platform: &Platform,
    events: &dyn EventSink,
) -> Result<(), Error> {
    if !is_directory(base) {
        let base = image_id::name(engine.store(), base)?;
        return Ok(engine.images().use_base(&base, platform, events)?);
    }
    let directory = Path::new(base);
    if !host::metadata(directory).is_ok_and(|found| found.is_dir()) {
        let text = format!("--base {base}: there is no such directory");
        return Err(Error::Usage(text));
    }
    if host::exists(directory.join("oci-layout")) {
        let text = format!("--base {base} is an OCI layout: write --base oci:{base}");
        return Err(Error::Usage(text));
    }
    let used = engine.trees().use_base_directory(directory);
    used.map_err(|error| Error::Usage(format!("--base: {error}")))
}
