//! OCI images: registries, layouts, archives, and layers to and from tar.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at files of their own"
    )
)]

mod answer_body;
mod archive;
mod auth;
mod blocking;
mod certificate;
mod client;
mod client_options;
mod connections;
mod credentials;
mod daemon;
mod daemon_address;
mod document;
mod documents;
mod download;
mod error;
mod exchange;
mod fetch;
mod fetch_range;
mod host_name;
mod hosts;
mod http_client;
mod image_name;
mod kept_files;
pub mod layer;
mod layout;
mod on_behalf;
mod push;
mod push_trust;
mod reference;
mod referrers;
mod registry;
mod repository;
mod request;
mod resolve;
mod resolved;
mod short_answer;

pub use archive::{
    ArchiveBlob, ArchiveImage, write_docker_archive, write_oci_archive, write_oci_directory,
};
pub use certificate::authorities_der;
pub use client::Client;
pub use client_options::ClientOptions;
pub use credentials::{
    CredentialProvider, CredentialSource, Credentials, Login, Logins, Provider, WantedToken,
};
pub use daemon::{check_daemon, daemon_id, load_into_daemon};
pub use document::{Descriptor, Index, Manifest, PlatformDocument, media_type};
pub use documents::Documents;
pub use download::Downloaded;
pub use error::ImageError;
pub use exchange::{Answer, Exchange};
pub use image_name::ImageName;
pub use push::{PushBlob, PushImage, Sent};
pub use reference::{BadReference, Reference};
pub use referrers::Referrer;
pub use registry::{Registries, RegistrySettings, is_loopback};
pub use repository::TaggedManifest;
pub use resolved::Resolved;
pub use short_answer::ShortAnswer;
