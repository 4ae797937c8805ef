//! `kiln serve`: BuildKit's API over the user's store.

use std::path::{Path, PathBuf};

use clap::Args;
use kiln::{CredentialSource, Engine, Error, IsolationChoice, Kiln, RegistrySettings};
use kiln_graph::{Entitlement, Entitlements};
use kiln_serve::{Address, Options, ServeError, serve};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failed, say};

/// The flags of `kiln serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Where to listen: unix://PATH, or tcp://IP:PORT of this machine's own (repeatable; default:
    /// unix:///run/kiln/kiln.sock for root, and below $XDG_RUNTIME_DIR for others)
    #[arg(long = "addr", value_name = "ADDRESS")]
    pub(super) addresses: Vec<Address>,
    /// The directory of the store (default: that of all commands)
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) root: Option<PathBuf>,
    /// Let clients allow their builds this: network.host or security.insecure (repeatable)
    #[arg(long = "allow-insecure-entitlement", value_name = "ENTITLEMENT")]
    pub(super) entitlements: Vec<String>,
    /// How steps are kept apart from the machine: auto, namespaces or chroot
    #[arg(long, value_name = "HOW", env = "KILN_ISOLATION")]
    pub(super) isolation: Option<IsolationChoice>,
}

/// Runs `kiln serve`.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failed> {
    run_with(args, Vec::new())
}

/// The same with more settings of registries.
pub(super) fn run_with(
    args: &ServeArgs,
    registries: Vec<(String, RegistrySettings)>,
) -> Result<(), Failed> {
    let options = Options {
        addresses: args.addresses()?,
        granted: args.granted()?,
    };
    let engine = args.open(registries)?;
    let ready = |addresses: &[Address]| {
        for address in addresses {
            say(&format!("listening at {address}"));
        }
    };
    serve(engine, &options, ready, stopped()).map_err(|error| Failed {
        text: format!("ERROR: {error}"),
        status: match error {
            ServeError::Open(_) => 2,
            _ => 1,
        },
    })
}

impl ServeArgs {
    fn addresses(&self) -> Result<Vec<Address>, Error> {
        if !self.addresses.is_empty() {
            return Ok(self.addresses.clone());
        }
        let directory = match rustix::process::geteuid().is_root() {
            true => PathBuf::from("/run"),
            false => std::env::var_os("XDG_RUNTIME_DIR")
                .map(PathBuf::from)
                .ok_or_else(|| {
                    Error::Usage("XDG_RUNTIME_DIR is not set: give --addr unix://PATH".to_owned())
                })?,
        };
        Ok(vec![Address::Unix(directory.join("kiln/kiln.sock"))])
    }

    fn granted(&self) -> Result<Entitlements, Error> {
        let mut granted = Entitlements::default();
        for word in &self.entitlements {
            let read = word.parse::<Entitlement>();
            match read {
                Ok(Entitlement::Read(_)) | Err(_) => {
                    let text = format!(
                        "--allow-insecure-entitlement {word}: use network.host or security.insecure"
                    );
                    return Err(Error::Usage(text));
                }
                Ok(entitlement) => granted.allow(entitlement),
            }
        }
        Ok(granted)
    }

    /// Opens the store. Credentials are those of clients only.
    fn open(&self, registries: Vec<(String, RegistrySettings)>) -> Result<Engine, Error> {
        let isolation = self
            .isolation
            .map_or_else(kiln::isolation_of_environment, Ok)?;
        let mut config = kiln::Config::load()?;
        config.registries.extend(registries);
        let builder = Kiln::builder()
            .config(config)
            .credentials(CredentialSource::None)
            .isolation(isolation)
            .notice(say);
        let builder = match &self.root {
            Some(root) => builder.store(whole(root)?),
            None => builder.user_store()?,
        };
        Ok(builder.open()?.engine().clone())
    }
}

fn whole(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::File {
        what: format!("--root {}", path.display()),
        source,
    })
}

/// Waits for SIGTERM or SIGINT; a second one ends the program.
async fn stopped() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    say("stopping");
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(1);
    });
}
