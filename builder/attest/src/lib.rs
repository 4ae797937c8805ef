//! What is in an image, where it came from, and who vouches for it.
//!
//! [`detect()`] finds the packages of one tree, [`Inventory::merge`] those of an image, and [`sbom`]
//! writes them as SPDX or CycloneDX. [`Statement`]s say such things about images, [`bundle`] has
//! them signed, and [`artifact`] the manifests in which registries keep them. Nothing here opens a
//! file or a connection: trees are read through a function that the caller gives.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at files of their own"
    )
)]

pub mod artifact;
pub mod bundle;
mod certificate;
mod certificate_log;
mod checkpoint;
mod der;
mod detect;
mod entry_body;
mod error;
mod identity;
mod inclusion_proof;
mod inventory;
mod key;
pub mod keyless;
mod license;
mod log_key;
mod merkle;
mod name_pattern;
mod number;
mod package;
mod pem;
pub mod provenance;
mod provenance_02;
mod purl;
pub mod rpm;
mod rule;
pub mod sbom;
mod sealed_key;
mod statement;
mod supplier;
mod timestamp;
mod trusted_root;
mod validity;
mod verifier;

pub use detect::{Claim, DETECT_VERSION, Evidence, Files, ReadSeek, TreeEvidence, Warning, detect};
pub use error::AttestError;
pub use identity::SignerIdentity;
pub use inventory::{FoundPackage, Inventory, Layer};
pub use key::{PublicKey, SigningKey};
pub use name_pattern::NamePattern;
pub use package::{Distribution, Ecosystem, Package};
pub use provenance_02::{PROVENANCE_02_PREDICATE, provenance_02};
pub use rule::{PackageRules, matches_wildcard};
pub use statement::{Artifact, STATEMENT_MEDIA_TYPE, Statement, image_purl};
pub use timestamp::{check_timestamp, timestamp_query};
pub use trusted_root::TrustedRoot;
pub use verifier::{Signed, Verifier, Verifiers};
