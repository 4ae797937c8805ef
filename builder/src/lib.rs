//! An image build engine as a library; the `kiln` command (crate `kiln-cli`) is a thin shell over it.
//!
//! ```standalone_crate
//! use kiln::{BuildRequest, Event, Kiln, Output};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let at = |name: &str| directory.path().join(name);
//! # std::fs::create_dir(at("app"))?;
//! # std::fs::write(at("app/Dockerfile"), "FROM scratch\nCOPY . /\n")?;
//! kiln::run_if_helper();
//! let kiln = Kiln::builder().store(at("store")).open()?;
//! let request = BuildRequest::dockerfile(at("app"))
//!     .tag("app:1")
//!     .output(Output::oci(at("app.tar")))
//!     .progress(|event| if let Event::Warning { message } = event { eprintln!("{message}") });
//! match kiln.build(request) {
//!     Ok(outcome) => println!("{:?} in {:?}", outcome.digest, outcome.files),
//!     Err(error) => println!("{error} (at fault: {})", error.fault()),
//! }
//! # assert!(at("app.tar").exists());
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is printed, and no home directory is read unless a method of [`KilnBuilder`] asks for it.
//! A graph without a build file is made by [`GraphBuilder`]. In a program with an async runtime,
//! [`Kiln::build_async`] runs a build beside it, [`KilnBuilder::helper`] names another program to
//! run around each step, and [`enter`] is called before the runtime is started, where ordinary users
//! build. What lies below is public, too: [`prepare`] goes from a build file to a compiled build,
//! [`Engine::solve`] runs one.
#![allow(
    clippy::disallowed_methods,
    reason = "opens files that the user names; trees are opened by kiln-tree"
)]

mod attest;
mod build_file;
mod build_id;
mod config;
pub mod conformance;
mod context;
mod embed;
mod error;
mod excerpt;
mod fields;
mod image;
mod journal;
pub mod lock;
mod millis;
mod mounted;
mod open;
mod outcome;
pub mod output;
mod prepare;
pub mod question;
mod raw_fields;
mod request;
mod secret;
mod select;
mod text;

pub use attest::{
    AttestFlags, AttestOptions, AttestationKind, BuildFacts, ListedAttestation, ProvenanceOptions,
    ProvenanceVersion, Signer, StepResult, Storage, Verified, list_attestations, missing_signature,
    verify_image,
};
pub use build_file::{
    Texts, check_sources, compile_dockerfile, in_directory as build_file_in, read_inside,
    resolve_images,
};
pub use build_id::build_id;
pub use config::{Config, GcPolicy};
pub use context::ContextFrom;
pub use embed::{Kiln, KilnBuilder, user_store_root};
pub use error::Error;
pub use excerpt::excerpt;
pub use fields::{FieldError, Fields};
pub use image::{
    ExpireRules, Expired, IdentityFields, IdentityMistake, Policy, PolicyTest, RequiredSignature,
    SignatureRule, SourceCheck, SourceName, SourceRules, SourceVerdict, StaleDelta, expire,
    stale_deltas,
};
pub use journal::{About, Journal, redacted};
pub use kiln_attest::artifact::Form as IndexForm;
pub use kiln_attest::provenance::{Mode as ProvenanceMode, Provenance};
pub use kiln_attest::sbom::Format as SbomFormat;
pub use kiln_attest::{
    AttestError, NamePattern, PublicKey, Signed, SignerIdentity, Statement, TrustedRoot, Verifier,
    Verifiers,
};
pub use kiln_cache::StoreError;
pub use kiln_engine::{
    CacheMode, CacheSigner, CacheSource, CacheTarget, CacheTrust, Cancel, DefaultNetwork,
    DirectoryRemote, Engine, EngineError, Event, EventSink, Image, ImageOptions, LayerPlan, Moment,
    Needed, NoSecrets, PathRule, RegistryRemote, Remote, RemoteBlob, RemoteError, Request,
    SecretError, SecretProvider, SecretValue, Solved,
};
pub use kiln_frontend_dockerfile as dockerfile_frontend;
pub use kiln_frontend_toml as toml_frontend;
pub use kiln_graph as graph;
pub use kiln_graph::{BlobDigest, Fault, Frontend, GraphBuilder, Location, Platform};
pub use kiln_image::{
    CredentialProvider, CredentialSource, Credentials, Descriptor, ImageError, Login, Logins,
    Provider, Reference, Registries, RegistrySettings, WantedToken,
};
pub use kiln_sandbox::SandboxError;
pub use kiln_sandbox::{Identity, Isolation, IsolationChoice, Privileges, run_if_helper};
pub use kiln_solve as solve;
pub use mounted::{MountOptions, mount_image, mounted_images, unmount_image};
pub use open::{enter, isolation_of_environment, open, open_isolated};
pub use outcome::BuildOutcome;
pub use output::Output;
pub use prepare::{
    Assume, BuildFileText, CheckedFile, Configure, DockerfileRequest, Located, Locking, Opened,
    Prepared, Pull, build_dockerfile, open_build_file, prepare,
};
pub use raw_fields::{RawField, Shown, redact_fields};
pub use request::{BuildRequest, suit_options};
pub use secret::{AgentError, BadSecret, SecretPlace, SecretSource, Secrets};
pub use select::{select, selector, with_consumers};
pub use text::file_text;
