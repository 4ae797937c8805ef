//! The flags of `kiln build` for attestations and signatures.

use clap::Args;
use kiln::{AttestFlags, AttestOptions, Error};

/// Attestations and signatures.
#[derive(Args, Debug, Clone)]
pub(crate) struct AttestArgs {
    /// Attest the image's packages (SBOM): spdx (default), cyclonedx, false, or format=…,storage=…
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    /// Attest the image's provenance: min (default when pushed), max, false, or
    /// mode=…,builder-id=…,reproducible=…,storage=…
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// Either attestation: type=sbom|provenance,…,storage=referrers|index|index-legacy
    /// (repeatable)
    #[arg(long, value_name = "SPEC")]
    attest: Vec<String>,
    /// Sign what is pushed with an ECDSA key over P-256: key=FILE, key=env:NAME or
    /// key=exec:COMMAND, which reads the message and writes its signature in base64
    #[arg(long, value_name = "SPEC")]
    sign: Option<String>,
}

impl AttestArgs {
    /// What the flags say.
    pub(super) fn options(&self, is_pushed: bool) -> Result<AttestOptions, Error> {
        let flags = AttestFlags {
            sbom: self.sbom.clone(),
            provenance: self.provenance.clone(),
            attest: self.attest.clone(),
            sign: self.sign.clone(),
        };
        AttestOptions::read(&flags, is_pushed)
    }
}
