//! The flags of `kiln build` for attestations and signatures.

use clap::Args;
use kiln::{AttestFlags, AttestOptions, Error};

/// Attestations and signatures.
#[derive(Args, Clone)]
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
    /// key=exec:COMMAND, which reads the message and writes its signature in base64. Without a key:
    /// keyless[,fulcio=URL][,rekor=URL][,rekor-version=1|2][,timestamp=URL][,token=env:NAME|file:PATH]
    #[arg(long, value_name = "SPEC")]
    sign: Option<String>,
    /// Who signs with --sign keyless: env:NAME, a file, or the token itself (default: what the CI gives)
    #[arg(long, value_name = "TOKEN", requires = "sign")]
    identity_token: Option<String>,
}

impl std::fmt::Debug for AttestArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without what may have a token in it.
        f.debug_struct("AttestArgs")
            .field("sbom", &self.sbom)
            .field("provenance", &self.provenance)
            .field("attest", &self.attest)
            .finish_non_exhaustive()
    }
}

impl AttestArgs {
    /// What the flags say.
    pub(super) fn options(&self, is_pushed: bool) -> Result<AttestOptions, Error> {
        let flags = AttestFlags {
            sbom: self.sbom.clone(),
            provenance: self.provenance.clone(),
            attest: self.attest.clone(),
            sign: self.sign.clone(),
            identity_token: self.identity_token.clone(),
        };
        AttestOptions::read(&flags, is_pushed)
    }
}
