//! `kiln verify`.

use std::path::PathBuf;

use clap::Args;
use kiln::{AttestationKind, Error, missing_signature, verify_image};
use kiln_attest::{PublicKey, SignerIdentity, Verifier, Verifiers};
use kiln_graph::Platform;
use kiln_image::{ImageError, ImageName, Reference};

use super::access::AccessArgs;
use super::{Failed, print, print_json, say};

/// The flags of `kiln verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// The image, in a registry
    name: String,
    /// A public key that must have signed it, in PEM, or env:NAME for one in a variable (repeatable)
    #[arg(long = "key", value_name = "KEY", required_unless_present = "identity")]
    keys: Vec<String>,
    /// How many of the keys must have signed
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: usize,
    /// Instead of a key: whose certificate must have signed it, an address of mail or of a workflow; *
    /// is anything
    #[arg(
        long = "certificate-identity",
        value_name = "ADDRESS",
        conflicts_with_all = ["keys", "threshold"],
        requires_all = ["issuer", "roots", "log"]
    )]
    identity: Option<String>,
    /// The identity provider that vouches for it
    #[arg(
        long = "certificate-oidc-issuer",
        value_name = "URL",
        requires = "identity"
    )]
    issuer: Option<String>,
    /// The certificates of the authorities that issue such certificates, in PEM
    #[arg(long = "ca-roots", value_name = "FILE", requires = "identity")]
    roots: Option<String>,
    /// The public key of the transparency log, in PEM, or env:NAME for one in a variable
    #[arg(long = "rekor-key", value_name = "KEY", requires = "identity")]
    log: Option<String>,
    /// The certificates of the timestamp authority, in PEM, for a log that says no time, as Rekor's second
    /// version
    #[arg(long = "timestamp-roots", value_name = "FILE", requires = "identity")]
    timestamps: Option<String>,
    /// What must be signed: sbom, spdx, cyclonedx, provenance, signature, or the type of a predicate
    /// (repeatable; default: anything)
    #[arg(long = "attestation", value_name = "TYPE")]
    attestations: Vec<AttestationKind>,
    /// Print the verified statements as JSON
    #[arg(long)]
    json: bool,
    /// The platform, for images of several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// Runs `kiln verify`.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failed> {
    let signers = args.signers()?;
    let image = registry_image(&args.name)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let access = args.access.read(std::slice::from_ref(&image))?;
    let engine = super::open_with(None, access)?;
    let (verified, refused) = verify_image(engine.client(), &image, &platform, &signers)?;
    let wanted = &args.attestations;
    if let Some(what) = missing_signature(&verified, &signers, wanted) {
        for reason in &refused {
            say(&format!("ignored: {reason}"));
        }
        return Err(Error::NotSigned {
            image: args.name.clone(),
            what,
            by: args.signers_shown(),
            is_unsigned: verified.is_empty() && refused.is_empty(),
        }
        .into());
    }
    let shown = verified
        .iter()
        .filter(|one| wanted.is_empty() || wanted.iter().any(|wanted| one.is_of(wanted)));
    if args.json {
        let statements: Vec<_> = shown.map(|one| &one.signed.statement).collect();
        print_json(&serde_json::json!(statements));
        return Ok(());
    }
    for one in shown {
        print(&format!(
            "{}  {}\n",
            one.digest, one.signed.statement.predicate_type
        ));
    }
    Ok(())
}

impl VerifyArgs {
    /// Who must have signed, as the command line says it.
    fn signers_shown(&self) -> String {
        match (&self.identity, self.keys.as_slice()) {
            (Some(identity), _) => identity.clone(),
            (None, [only]) => only.clone(),
            (None, keys) => format!("{} of {}", self.threshold, keys.join(", ")),
        }
    }

    /// Who must have signed.
    fn signers(&self) -> Result<Verifiers, Error> {
        let mut verifiers = Vec::new();
        for place in &self.keys {
            let key = PublicKey::read(&read("--key", place)?);
            let key = key.map_err(|error| Error::Usage(format!("--key {place}: {error}")))?;
            verifiers.push(Verifier::Key(key));
        }
        if let (Some(identity), Some(issuer), Some(roots), Some(log)) =
            (&self.identity, &self.issuer, &self.roots, &self.log)
        {
            let (roots, log) = (read("--ca-roots", roots)?, read("--rekor-key", log)?);
            let identity = SignerIdentity::new(identity, issuer, &roots, &log);
            let identity = identity
                .map_err(|error| Error::Usage(format!("--ca-roots and --rekor-key: {error}")))?;
            let identity = match &self.timestamps {
                Some(place) => identity
                    .with_timestamps(&read("--timestamp-roots", place)?)
                    .map_err(|error| Error::Usage(format!("--timestamp-roots {place}: {error}")))?,
                None => identity,
            };
            verifiers.push(Verifier::Identity(Box::new(identity)));
        }
        Verifiers::new(verifiers, self.threshold)
            .map_err(|error| Error::Usage(format!("--threshold: {error}")))
    }
}

/// An image that can have signatures.
fn registry_image(name: &str) -> Result<Reference, Error> {
    match name.parse().map_err(ImageError::from)? {
        ImageName::Registry(image) => Ok(image),
        _ => Err(Error::Usage(format!(
            "{name} is in no registry: signatures are beside images in registries"
        ))),
    }
}

/// The text of a file, or of a variable (`env:NAME`).
fn read(flag: &str, place: &str) -> Result<String, Error> {
    let usage = |reason: String| Error::Usage(format!("{flag} {place}: {reason}"));
    match place.strip_prefix("env:") {
        Some(name) => {
            std::env::var(name).map_err(|_| usage("there is no such variable".to_owned()))
        }
        None => std::fs::read_to_string(PathBuf::from(place)).map_err(|source| Error::File {
            what: format!("cannot read {flag} {place}"),
            source,
        }),
    }
}
