//! `kiln verify`.

use std::path::PathBuf;

use clap::Args;
use kiln::{
    AttestationKind, Error, IdentityFields, IdentityMistake, missing_signature, verify_image,
};
use kiln_attest::{PublicKey, Verifier, Verifiers};
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
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// How many of the keys must have signed
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: usize,
    #[command(flatten)]
    identity: IdentityArgs,
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

/// Who must have signed, instead of a key.
#[derive(Args, Debug)]
struct IdentityArgs {
    /// Instead of a key: whose certificate must have signed it, an address of mail or of a workflow; *
    /// is anything
    #[arg(
        long = "certificate-identity",
        value_name = "ADDRESS",
        conflicts_with_all = ["keys", "threshold"]
    )]
    identity: Option<String>,
    /// The same as a regular expression, to be found anywhere in it
    #[arg(
        long = "certificate-identity-regexp",
        value_name = "REGEXP",
        conflicts_with_all = ["keys", "threshold"]
    )]
    identity_regexp: Option<String>,
    /// The identity provider that vouches for it
    #[arg(long = "certificate-oidc-issuer", value_name = "URL")]
    issuer: Option<String>,
    /// The same as a regular expression, to be found anywhere in it
    #[arg(long = "certificate-oidc-issuer-regexp", value_name = "REGEXP")]
    issuer_regexp: Option<String>,
    /// Whom to believe: Sigstore's trusted_root.json
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<String>,
    /// Instead of --trusted-root: the certificates of the authorities that issue such certificates, in PEM
    #[arg(long = "ca-roots", value_name = "FILE")]
    roots: Option<String>,
    /// The public key of the transparency log, in PEM, or env:NAME for one in a variable
    #[arg(long = "rekor-key", value_name = "KEY")]
    log: Option<String>,
    /// The certificates of the timestamp authority, in PEM, for a log that says no time, as Rekor's second
    /// version
    #[arg(long = "timestamp-roots", value_name = "FILE")]
    timestamps: Option<String>,
}

impl IdentityArgs {
    fn fields(&self) -> IdentityFields<'_, str> {
        IdentityFields {
            identity: self.identity.as_deref(),
            identity_regexp: self.identity_regexp.as_deref(),
            issuer: self.issuer.as_deref(),
            issuer_regexp: self.issuer_regexp.as_deref(),
            trusted_root: self.trusted_root.as_deref(),
            roots: self.roots.as_deref(),
            log: self.log.as_deref(),
            timestamps: self.timestamps.as_deref(),
        }
    }

    /// The signer; nothing when none is named.
    fn verifier(&self) -> Result<Option<Verifier>, Error> {
        let fields = self.fields();
        if fields.is_empty() {
            return Ok(None);
        }
        let usage = |text: &str| Error::Usage(text.to_owned());
        fields.check().map_err(|mistake| usage(match mistake {
            IdentityMistake::Both => "give an identity or its regular expression, and an issuer or its regular expression",
            IdentityMistake::Incomplete => {
                "--certificate-identity needs --certificate-oidc-issuer, and --trusted-root or --ca-roots with --rekor-key"
            }
            IdentityMistake::TrustedTwice => {
                "--trusted-root stands instead of --ca-roots, --rekor-key and --timestamp-roots"
            }
        }))?;
        let identity = fields.resolve(read).map_err(|error| match error {
            Error::Attest(error) => Error::Usage(format!("--certificate-identity: {error}")),
            other => other,
        })?;
        Ok(Some(Verifier::Identity(Box::new(identity))))
    }
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
        let identity = &self.identity;
        let identity = identity
            .identity
            .as_ref()
            .or(identity.identity_regexp.as_ref());
        match (identity, self.keys.as_slice()) {
            (Some(identity), _) => identity.clone(),
            (None, [only]) => only.clone(),
            (None, keys) => format!("{} of {}", self.threshold, keys.join(", ")),
        }
    }

    /// Who must have signed.
    fn signers(&self) -> Result<Verifiers, Error> {
        let mut verifiers = Vec::new();
        if !self.keys.is_empty() && !self.identity.fields().is_empty() {
            let text = "give keys or an identity, not both";
            return Err(Error::Usage(text.to_owned()));
        }
        for place in &self.keys {
            let key = PublicKey::read(&read(place)?);
            let key = key.map_err(|error| Error::Usage(format!("--key {place}: {error}")))?;
            verifiers.push(Verifier::Key(key));
        }
        verifiers.extend(self.identity.verifier()?);
        if verifiers.is_empty() {
            let text = "name who must have signed: --key, or --certificate-identity";
            return Err(Error::Usage(text.to_owned()));
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
fn read(place: &str) -> Result<String, Error> {
    match place.strip_prefix("env:") {
        Some(name) => std::env::var(name)
            .map_err(|_| Error::Usage(format!("{place}: there is no such variable"))),
        None => std::fs::read_to_string(PathBuf::from(place)).map_err(|source| Error::File {
            what: format!("cannot read {place}"),
            source,
        }),
    }
}
