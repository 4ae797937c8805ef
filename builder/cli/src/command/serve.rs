//! `kiln serve`: BuildKit's API over the user's store.

use std::path::{Path, PathBuf};

use clap::Args;
use kiln::{CredentialSource, Engine, Error, IsolationChoice, Kiln, RegistrySettings};
use kiln_graph::{Entitlement, Entitlements};
use kiln_serve::{Address, Options, ServeError, SocketOwner, Tls, serve};
use tokio::signal::unix::{SignalKind, signal};

use super::buildkitd_file::{File, Settings, TlsFiles};
use super::{Failed, say};

/// The flags of `kiln serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Where to listen: unix://PATH, tcp://IP:PORT, or fd:// for the sockets that systemd gives
    /// (repeatable; default: those, else unix:///run/kiln/kiln.sock for root, and below
    /// $XDG_RUNTIME_DIR for others)
    #[arg(long = "addr", value_name = "ADDRESS")]
    addresses: Vec<Address>,
    /// The directory of the store (default: that of all commands)
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,
    /// A configuration file in the form of buildkitd.toml
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The group whose members may use the sockets: its name or number
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// TLS for tcp://: the authorities whose clients may connect (PEM). Ports that other machines
    /// reach need it
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// TLS for tcp://: the server's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// TLS for tcp://: the certificate's key (PEM)
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// Let clients allow their builds this: network.host or security.insecure (repeatable)
    #[arg(long = "allow-insecure-entitlement", value_name = "ENTITLEMENT")]
    entitlements: Vec<String>,
    /// Run steps of other machines' builds as well: their --executor is grpc://IP:PORT, or grpcs:// with TLS,
    /// of a tcp:// address (Remote Execution API)
    #[arg(long)]
    remote_execution: bool,
    /// How steps are kept apart from the machine: auto, namespaces or chroot
    #[arg(long, value_name = "HOW", env = "KILN_ISOLATION")]
    isolation: Option<IsolationChoice>,
    /// Where to listen when nothing else says it.
    #[arg(skip)]
    pub(super) default_address: Option<Address>,
}

/// Runs `kiln serve`.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failed> {
    let file = args.config.as_deref().map(File::read).transpose()?;
    run_with(args, &file.unwrap_or_default())
}

/// The same with a configuration.
pub(super) fn run_with(args: &ServeArgs, file: &File) -> Result<(), Failed> {
    // Before anything else may come to have their numbers.
    let inherited = kiln_sandbox::take_inherited_sockets();
    let root = args.root.as_deref().or(file.root.as_deref());
    let place = match root {
        Some(root) => root.to_owned(),
        None => kiln::user_store_root()?,
    };
    let settings = file.settings(disk_of(&place)).map_err(Error::Usage)?;
    for note in &settings.notes {
        say(&format!("WARNING: {note}"));
    }
    let registries = settings.registries.clone();
    let mut options = args.options(file, settings, !inherited.is_empty())?;
    let engine = args.open(root, registries)?;
    if args.remote_execution {
        options.other = Some(super::node::open(&engine, &options)?);
    }
    let ready = |addresses: &[Address]| {
        for address in addresses {
            say(&format!("listening at {address}"));
        }
    };
    serve(engine, &options, inherited, ready, stopped()).map_err(|error| Failed {
        text: format!("ERROR: {error}"),
        status: match error {
            ServeError::Open(_) | ServeError::Tls(_) | ServeError::NotGiven => 2,
            _ => 1,
        },
    })
}

impl ServeArgs {
    /// What the flags and the file come to.
    fn options(
        &self,
        file: &File,
        settings: Settings,
        has_sockets: bool,
    ) -> Result<Options, Error> {
        Ok(Options {
            addresses: self.addresses(settings.addresses, has_sockets)?,
            granted: self.granted(file)?,
            tls: self.tls()?.or(settings.tls),
            socket_owner: self.owner(settings.owner)?,
            frontends: settings.frontends,
            network: settings.network,
            jobs: settings.jobs,
            prune: settings.prune,
            history: settings.history,
            other: None,
        })
    }

    /// Where to listen: what the flags say, the file, who started the server, or where it is usual.
    fn addresses(&self, of_file: Vec<Address>, has_sockets: bool) -> Result<Vec<Address>, Error> {
        if !self.addresses.is_empty() {
            return Ok(self.addresses.clone());
        }
        if !of_file.is_empty() {
            return Ok(of_file);
        }
        if has_sockets {
            return Ok(vec![Address::Inherited]);
        }
        if let Some(address) = &self.default_address {
            return Ok(vec![address.clone()]);
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

    fn granted(&self, file: &File) -> Result<Entitlements, Error> {
        let mut granted = Entitlements::default();
        for word in self.entitlements.iter().chain(&file.entitlements) {
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

    fn tls(&self) -> Result<Option<Tls>, Error> {
        let files = TlsFiles {
            cert: self.tlscert.clone(),
            key: self.tlskey.clone(),
            ca: self.tlscacert.clone(),
        };
        files.read().map_err(Error::Usage)
    }

    /// Who may use the sockets.
    fn owner(&self, of_file: Option<SocketOwner>) -> Result<Option<SocketOwner>, Error> {
        let Some(group) = &self.group else {
            return Ok(of_file);
        };
        Ok(Some(SocketOwner {
            group: Some(group_id(group)?),
            ..of_file.unwrap_or_default()
        }))
    }

    /// Opens the store. Credentials are those of clients only.
    fn open(
        &self,
        root: Option<&Path>,
        registries: Vec<(String, RegistrySettings)>,
    ) -> Result<Engine, Error> {
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
        let builder = match root {
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

/// The number of a group of this machine.
fn group_id(group: &str) -> Result<u32, Error> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let text = kiln::file_text("/etc/group".as_ref())?;
    match kiln_sandbox::find_group(group, &text) {
        Ok(Some(id)) => Ok(id.get()),
        _ => Err(Error::Usage(format!(
            "--group {group}: there is no such group"
        ))),
    }
}

/// The length of the disk that a directory is on, or will be, in bytes.
fn disk_of(directory: &Path) -> u64 {
    let found = directory.ancestors().find_map(|place| {
        let disk = rustix::fs::statvfs(place).ok()?;
        Some(disk.f_blocks.saturating_mul(disk.f_frsize))
    });
    found.unwrap_or_default()
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
