//! Everything that can stop a command.

use std::path::Path;

use kiln_cache::StoreError;
use kiln_engine::EngineError;
use kiln_frontend_dockerfile::DockerfileError;
use kiln_graph::{Fault, Location};
use kiln_image::ImageError;
use kiln_sandbox::SandboxError;

/// A failed command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The build file is wrong.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// The build file is wrong.
    #[error(transparent)]
    Toml(#[from] kiln_frontend_toml::TomlError),
    /// The build failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An image can't be had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A frontend of a program that embeds kiln can't compile what it was given.
    #[error("{0}")]
    Frontend(Box<dyn std::error::Error + Send + Sync>),
    /// An image that the build file asks for can't be had.
    #[error("{source}")]
    BaseImage {
        /// Why.
        source: Box<ImageError>,
        /// Where the build file asks for it.
        location: Option<Location>,
    },
    /// The build file names an image of this machine that the user didn't give.
    #[error("{name} is an image of this machine, which only you can give")]
    NotGiven {
        /// The image.
        name: String,
        /// Where the build file asks for it.
        location: Option<Location>,
    },
    /// A secret or an SSH agent isn't given as it has to be.
    #[error(transparent)]
    Secret(#[from] crate::BadSecret),
    /// No sandbox can be had.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A file of the user's can't be read or written.
    #[error("{what}: {source}")]
    File {
        /// What was tried, on which file.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something that can change isn't locked, though it must be.
    #[error("{what} isn't in the lock")]
    NotLocked {
        /// What.
        what: String,
        /// Where the build file asks for it.
        location: Option<Location>,
    },
    /// An image hasn't the signatures that the build file or the lock demands.
    #[error("{image}: {reason}")]
    Unsigned {
        /// The image.
        image: String,
        /// What it lacks.
        reason: String,
        /// Where it is named.
        location: Option<Location>,
    },
    /// A policy doesn't let a source be used.
    #[error("the policy denies {source_name}: {rule}")]
    SourceDenied {
        /// The source.
        source_name: String,
        /// The rule, or what it wants and the source lacks.
        rule: String,
        /// Where the build file asks for it.
        location: Option<Location>,
    },
    /// Something can't be attested or verified.
    #[error(transparent)]
    Attest(#[from] kiln_attest::AttestError),
    /// A service that signing needs doesn't do its part.
    #[error("cannot sign: {service}: {reason}")]
    Signing {
        /// Which service.
        service: String,
        /// What is wrong with it, or what it said.
        reason: String,
    },
    /// The key wanted has not signed what is wanted.
    #[error("{image}: no valid signature of {by} for {what}{}", if *.is_unsigned { ": its registry has no signature of it" } else { "" })]
    NotSigned {
        /// The image.
        image: String,
        /// What is wanted.
        what: String,
        /// Who must have signed it.
        by: String,
        /// Whether nobody has signed it.
        is_unsigned: bool,
    },
    /// An image breaks its policy.
    #[error("the image breaks its policy:\n  {}", .0.join("\n  "))]
    Policy(Vec<String>),
    /// Steps gave other files when they ran again.
    #[error("steps gave other files when they ran again:{0}")]
    NotReproducible(String),
    /// There is no build file where one is looked for.
    #[error(
        "failed to read dockerfile: there is no Dockerfile, Containerfile or kiln.toml in {}",
        .context.display()
    )]
    NoBuildFile {
        /// The context.
        context: std::path::PathBuf,
    },
    /// No step is meant by a selector.
    #[error(
        "there is no step '{selector}': use a stage ({}), STAGE:N, N in the target stage, or @LINE",
        stages.join(", ")
    )]
    NoSuchStep {
        /// The selector.
        selector: String,
        /// The stages there are.
        stages: Vec<String>,
    },
    /// No image is mounted where one is to be unmounted.
    #[error("no image is mounted on {}", .directory.display())]
    NotMounted {
        /// The directory.
        directory: std::path::PathBuf,
    },
    /// An image is mounted there, and this process doesn't see it.
    #[error(
        "{image} is mounted on {} in another mount namespace: unmount it inside of that",
        .directory.display()
    )]
    MountedElsewhere {
        /// The image.
        image: String,
        /// The directory.
        directory: std::path::PathBuf,
    },
    /// No store was named.
    #[error("no store was named")]
    NoStore,
    /// An image is to be pushed that has no name.
    #[error("a push needs a name")]
    NoName,
    /// A defect of kiln.
    #[error("{0}")]
    Defect(String),
    /// A flag or argument is wrong.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// What makes of a system's error that a file can't be read, written or whatever else is being
    /// done to it.
    pub fn file(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File {
            what: format!("cannot {doing} {}", path.display()),
            source,
        }
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Dockerfile(error) => error.fault(),
            Self::Toml(error) => error.fault(),
            Self::Engine(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Attest(error) => error.fault(),
            Self::Image(error) => error.fault(),
            Self::BaseImage { source, .. } => source.fault(),
            Self::Secret(error) => error.fault(),
            Self::Sandbox(_) | Self::Signing { .. } => Fault::Environment,
            Self::File { .. }
            | Self::NotLocked { .. }
            | Self::NotGiven { .. }
            | Self::NotSigned { .. }
            | Self::SourceDenied { .. }
            | Self::Unsigned { .. }
            | Self::Policy(_)
            | Self::Frontend(_)
            | Self::NotReproducible(_)
            | Self::NoBuildFile { .. }
            | Self::NoSuchStep { .. }
            | Self::NotMounted { .. }
            | Self::MountedElsewhere { .. }
            | Self::NoStore
            | Self::NoName
            | Self::Usage(_) => Fault::User,
            Self::Defect(_) => Fault::Kiln,
        }
    }

    /// Whether something in the store may be damaged.
    #[must_use]
    pub fn may_be_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.may_be_damage(),
            Self::Store(StoreError::Damaged(_) | StoreError::WrongDigest { .. }) => true,
            Self::File { source, .. } => kiln_image::layer::ContentChanged::is_cause_of(source),
            _ => false,
        }
    }

    /// Where the build file asks for what failed.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Dockerfile(error) => error.location.as_deref(),
            Self::Toml(error) => error.location.as_ref(),
            Self::Engine(error) => error.location(),
            Self::BaseImage { location, .. }
            | Self::NotLocked { location, .. }
            | Self::SourceDenied { location, .. }
            | Self::Unsigned { location, .. }
            | Self::NotGiven { location, .. } => location.as_ref(),
            _ => None,
        }
    }

    /// The exit status: 2 for wrong usage, 1 for everything else.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Secret(_) | Self::NoName | Self::NoSuchStep { .. } => 2,
            _ => 1,
        }
    }
}
