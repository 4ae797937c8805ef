//! `kiln image create`, `inspect` and `tag`: images by their names, in the store and in registries.

use std::collections::BTreeMap;

use clap::Args;
use kiln::{Engine, Error, ListedAttestation};
use kiln_graph::{BlobDigest, Platform};
use kiln_image::{ImageError, ImageName, Index, Reference, Resolved};
use serde_json::{Value, json};

use super::image_id::{check_platform, full_name, no_such_image};
use super::{print, print_exact, print_json, print_json_text, say};
use crate::display::{Style, display};

/// The flags of `kiln image inspect`.
#[derive(Args, Debug, Clone)]
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
#[derive(Args, Debug, Clone)]
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

/// Merges images into an index, and pushes it under each name.
///
/// # Errors
/// When an image can't be had, or a registry doesn't take the index.
pub(super) fn create(engine: &Engine, args: &CreateArgs) -> Result<(), Error> {
    let read = |name: &String| name.parse::<Reference>().map_err(ImageError::from);
    let names: Vec<Reference> = args.tags.iter().map(read).collect::<Result<_, _>>()?;
    if names.is_empty() && !args.dry_run {
        let text = "kiln image create: give the index a name with -t NAME".to_owned();
        return Err(Error::Usage(text));
    }
    let mut images: Vec<Reference> = args.images.iter().map(read).collect::<Result<_, _>>()?;
    if args.append {
        images.splice(0..0, names.first().cloned());
    }
    let pairs = super::pairs::pairs("--annotation", &args.annotations, '=')?;
    let annotations: BTreeMap<String, String> = pairs
        .into_iter()
        .map(|(name, value)| match name.strip_prefix("index:") {
            Some(own) => (own.to_owned(), value),
            None => (name, value),
        })
        .collect();
    let index = engine.images().merge(&images, &annotations)?;
    if args.dry_run {
        print_json_text(&format!("{}\n", String::from_utf8_lossy(&index.bytes)));
        return Ok(());
    }
    let events = display(Style::Auto);
    for name in &names {
        engine.images().push_index(&index, name, &*events)?;
        say(&format!(
            "pushed   {name} ({})",
            index.platforms().join(" ")
        ));
    }
    print(&format!("{}\n", index.digest));
    Ok(())
}

/// Gives an image of the store more names.
///
/// # Errors
/// When there is no such image, or the store can't be written.
pub(super) fn tag(engine: &Engine, name: &str, more: &[String]) -> Result<(), Error> {
    let full = full_name(name)?.to_string();
    let image = engine.store().images().get(&full)?;
    let image = image.ok_or_else(|| no_such_image(name))?;
    for name in more {
        let mut image = image.clone();
        image.name = full_name(name)?.to_string();
        engine.store().images().tag(&image)?;
    }
    Ok(())
}

/// Prints what a name stands for: an image of the store, else one of a registry or an archive.
///
/// # Errors
/// When there is no such image.
pub(super) fn inspect(engine: &Engine, args: &InspectArgs) -> Result<(), Error> {
    let flag = args.platform.as_deref();
    let platform = super::platform_flag::platform_or_host(flag)?;
    let asked = flag.map(|_| &platform);
    let found = match args.name.parse::<ImageName>().map_err(ImageError::from)? {
        ImageName::Registry(reference) => match stored(engine, &reference, asked)? {
            Some(found) => found,
            None => remote(engine, &reference, asked)?,
        },
        _ => resolved(engine, &args.name, asked)?,
    };
    match (args.raw, found.manifest) {
        (true, Some(manifest)) => print_exact(&String::from_utf8_lossy(&manifest)),
        (true, None) => return Err(no_such_image(&args.name)),
        (false, _) => print_json(&found.shown),
    }
    Ok(())
}

/// What a name stands for.
struct Found {
    /// The bytes of the manifest or index.
    manifest: Option<Vec<u8>>,
    shown: Value,
}

/// An image of the store, or an index: of that, the image for the platform that is asked for.
fn stored(
    engine: &Engine,
    reference: &Reference,
    asked: Option<&Platform>,
) -> Result<Option<Found>, Error> {
    let (store, name) = (engine.store(), reference.to_string());
    let Some(record) = store.images().get(&name)? else {
        return Ok(None);
    };
    let of_platform = match asked {
        Some(platform) => Some(image_for(engine, &name, &record.platforms, platform)?),
        None => None,
    };
    let read = |digest: &BlobDigest| -> Result<Vec<u8>, Error> {
        let blob = store.blobs().get(digest)?;
        let blob = blob.ok_or_else(|| no_such_image(&reference.to_string()))?;
        std::fs::read(&blob.path).map_err(|source| Error::File {
            what: format!("cannot read {digest} of {reference}"),
            source,
        })
    };
    let whole = read(&record.digest)?;
    let (manifest, config) = match of_platform {
        Some(image) => (read(&image.manifest)?, json!(image.config)),
        None => (whole.clone(), document(&read(&record.config)?)),
    };
    let shown = json!({
        "manifest": document(&manifest),
        "config": config,
        "record": record,
        "attestations": beside(&whole, |digest| read(digest).ok()),
    });
    let manifest = Some(manifest);
    Ok(Some(Found { manifest, shown }))
}

/// The image of the store for a platform.
fn image_for(
    engine: &Engine,
    name: &str,
    platforms: &[String],
    platform: &Platform,
) -> Result<Resolved, Error> {
    let Some(found) = engine.images().tagged(name, platform)? else {
        let all = platforms.join(", ");
        let text = format!("--platform {platform}: {name} is an image for {all}");
        return Err(Error::Usage(text));
    };
    check_platform(name, &found, platform)?;
    Ok(found)
}

/// The attestations in an index, of all its images.
fn beside(index: &[u8], read: impl Fn(&BlobDigest) -> Option<Vec<u8>>) -> Vec<ListedAttestation> {
    let Ok(index) = serde_json::from_slice::<Index>(index) else {
        return Vec::new();
    };
    let images = index
        .manifests
        .iter()
        .filter(|entry| !entry.is_attestation());
    let mut all = Vec::new();
    for image in images {
        for entry in index.attestations_of(&image.digest) {
            let bytes = read(&entry.digest).unwrap_or_default();
            all.push(ListedAttestation::beside(
                image.digest,
                entry.digest,
                &bytes,
            ));
        }
    }
    all
}

fn document(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

fn remote(
    engine: &Engine,
    reference: &Reference,
    asked: Option<&Platform>,
) -> Result<Found, Error> {
    let (client, name) = (engine.client(), reference.to_string());
    let mut bytes = client.manifest_bytes(reference)?;
    let digest = engine.store().blobs().put(&bytes)?.digest;
    let found = match asked {
        // An index need not have an image for this machine.
        None => client.resolve(&name, &Platform::host()).ok(),
        Some(platform) => {
            let found = client.resolve(&name, platform)?;
            check_platform(&name, &found, platform)?;
            bytes = client.manifest_bytes(&Reference {
                digest: Some(found.manifest),
                ..reference.clone()
            })?;
            Some(found)
        }
    };
    let mut shown = json!({
        "name": name,
        "digest": digest,
        "manifest": document(&bytes),
        "config": found.as_ref().map(|found| &found.config),
    });
    if let Some(found) = found {
        let attestations = kiln::list_attestations(client, reference, &found);
        let attestations = attestations.unwrap_or_else(|error| {
            say(&format!("WARNING: attestations can't be listed: {error}"));
            Vec::new()
        });
        shown["attestations"] = json!(attestations);
    }
    let manifest = Some(bytes);
    Ok(Found { manifest, shown })
}

fn resolved(engine: &Engine, name: &str, asked: Option<&Platform>) -> Result<Found, Error> {
    let host = Platform::host();
    let found = engine.client().resolve(name, asked.unwrap_or(&host))?;
    if let Some(platform) = asked {
        check_platform(name, &found, platform)?;
    }
    let parsed: ImageName = name.parse().map_err(ImageError::from)?;
    let beside = engine
        .client()
        .attestations_beside(&parsed, &found.manifest)?
        .into_iter()
        .map(|(digest, bytes)| ListedAttestation::beside(found.manifest, digest, &bytes));
    let beside: Vec<ListedAttestation> = beside.collect();
    let shown = json!({
        "attestations": beside,
        "name": name,
        "digest": found.named.unwrap_or(found.manifest),
        "config": found.config,
    });
    let manifest = None;
    Ok(Found { manifest, shown })
}
