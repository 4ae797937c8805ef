//! `kiln verify`.

use std::path::PathBuf;

use clap::Args;
use kiln::{Error, verify_image};
use kiln_attest::PublicKey;
use kiln_graph::Platform;
use kiln_image::{ImageError, Reference};

use super::access::AccessArgs;
use super::{Failed, print, say};

/// The flags of `kiln verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// The image, in a registry
    name: String,
    /// The public key that must have signed it, in PEM, or env:NAME for one in a variable
    #[arg(long, value_name = "KEY")]
    key: String,
    /// What must be signed: sbom, spdx, cyclonedx, provenance, signature, or the type of a predicate
    /// (repeatable; default: anything)
    #[arg(long = "attestation", value_name = "TYPE")]
    attestations: Vec<String>,
    /// Print the verified statements as JSON
    #[arg(long)]
    json: bool,
    /// The platform, for images of several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// Runs `kiln verify`.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failed> {
    let key = read_key(&args.key)?;
    let image: Reference = args.name.parse().map_err(ImageError::from)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let access = args.access.read(std::slice::from_ref(&image))?;
    let engine = super::open_with(None, access)?;
    let (verified, refused) = verify_image(engine.client(), &image, &platform, &key)?;
    let wanted = &args.attestations;
    let missing = wanted
        .iter()
        .find(|wanted| !verified.iter().any(|one| one.is_of(wanted)));
    if verified.is_empty() || missing.is_some() {
        for reason in &refused {
            say(&format!("ignored: {reason}"));
        }
        let what = missing.map_or("it", String::as_str);
        return Err(Error::NotSigned {
            image: args.name.clone(),
            what: what.to_owned(),
        }
        .into());
    }
    let shown = verified
        .iter()
        .filter(|one| wanted.is_empty() || wanted.iter().any(|wanted| one.is_of(wanted)));
    if args.json {
        let statements: Vec<_> = shown.map(|one| &one.statement).collect();
        print(&format!("{:#}\n", serde_json::json!(statements)));
        return Ok(());
    }
    for one in shown {
        print(&format!(
            "{}  {}\n",
            one.digest, one.statement.predicate_type
        ));
    }
    Ok(())
}

fn read_key(place: &str) -> Result<PublicKey, Error> {
    let usage = |reason: String| Error::Usage(format!("--key {place}: {reason}"));
    let text = match place.strip_prefix("env:") {
        Some(name) => {
            std::env::var(name).map_err(|_| usage("there is no such variable".to_owned()))?
        }
        None => std::fs::read_to_string(PathBuf::from(place)).map_err(|source| Error::File {
            what: format!("cannot read the key {place}"),
            source,
        })?,
    };
    PublicKey::read(&text).map_err(|error| usage(error.to_string()))
}
