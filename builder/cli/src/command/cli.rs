//! The verbs of the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[cfg(feature = "bake")]
use super::bake;
#[cfg(feature = "serve")]
use super::serve;
use super::{
    build, convert, delta, fmt, graph, image, init, lock, mirror, past, policy, registry, shell,
    steps, storage, timeline, verify, volume,
};

/// Builds container images: fast, in parallel, without a daemon.
#[derive(Parser, Debug)]
#[command(name = "kiln", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Build the targets of bake files (docker-bake.hcl) or compose files
    #[cfg(feature = "bake")]
    Bake(Box<bake::BakeArgs>),
    /// Print the graph of a build
    Graph(Box<graph::GraphArgs>),
    /// List the steps of a build file, with their selectors
    Steps(Box<steps::StepsArgs>),
    /// Explain why each step of the last build ran or was cached
    Explain(past::ExplainArgs),
    /// Open a shell in a state of a build: where the last one failed, or before or after a step
    Shell(Box<shell::ShellArgs>),
    /// Print the output of a step
    Logs(past::LogsArgs),
    /// List recent builds
    History(past::HistoryArgs),
    /// Write a build's timeline as an HTML page
    Timeline(timeline::TimelineArgs),
    /// Manage images in the store and in registries
    Image(image::ImageArgs),
    /// Make differences between images
    Delta(delta::DeltaArgs),
    /// Serve images to the daemons of this machine
    Mirror(mirror::MirrorArgs),
    /// Manage cache volumes
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// Delete old tags of a repository
    Registry(registry::RegistryArgs),
    /// Try a policy
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Verify the signatures and signed attestations of an image in a registry
    Verify(Box<verify::VerifyArgs>),
    /// Check the store for damage
    Fsck {
        /// Remove damaged data: it is built or fetched again when needed
        #[arg(long)]
        repair: bool,
    },
    /// Show the store's disk usage
    Du {
        /// Group by recorded build
        #[arg(long)]
        builds: bool,
    },
    /// Remove unused data from the store
    Prune(storage::PruneArgs),
    /// Check what this machine supports
    Doctor,
    /// Print the JSON schema of kiln.toml, for editors
    Schema,
    /// Write a kiln.toml for the application in a directory
    Init(init::InitArgs),
    /// Format kiln.toml
    Fmt(fmt::FmtArgs),
    /// Convert a Dockerfile to kiln.toml
    Convert(convert::ConvertArgs),
    /// Pin the images, branches and files that a build file names, in kiln.lock
    Lock(Box<lock::LockArgs>),
    /// Serve BuildKit's API: docker buildx and buildctl build with kiln
    #[cfg(feature = "serve")]
    Serve(serve::ServeArgs),
    /// Build with the command line of kaniko's executor
    #[command(disable_help_flag = true)]
    Kaniko {
        /// Flags of the executor
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "FLAG"
        )]
        args: Vec<String>,
    },
    /// Write the manual pages to a directory
    Man {
        /// The directory
        directory: PathBuf,
    },
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}
