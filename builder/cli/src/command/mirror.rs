//! `kiln mirror`: a registry on this machine over the store.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use kiln::Error;
use kiln_mirror::{Access, Mirror, Serving, Upstreams};

use super::access::AccessArgs;
use super::{Failed, print, say, signals};
use crate::display::{Style, display};

/// The command line of `kiln mirror`.
#[derive(Args, Debug)]
pub(crate) struct MirrorArgs {
    #[command(flatten)]
    access: AccessArgs,
    #[command(subcommand)]
    command: MirrorCommand,
}

/// The commands of `kiln mirror`.
#[derive(Subcommand, Debug)]
pub(crate) enum MirrorCommand {
    /// Serve images to the daemons of this machine: out of the store, else from the registry above,
    /// by differences where an earlier image is here
    Serve(ServeArgs),
}

/// The flags of `kiln mirror serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0: a free one, which is printed
    #[arg(default_value = "127.0.0.1:5001", value_name = "ADDRESS:PORT")]
    address: SocketAddr,
    /// A registry that may be asked; the first one has the names without a host (repeatable; default:
    /// docker.io)
    #[arg(long, value_name = "HOST")]
    upstream: Vec<String>,
    /// Serve only the named images of the store, to whoever asks, and ask no registry
    #[arg(long)]
    offline: bool,
}

/// Runs `kiln mirror`.
pub(crate) fn run(args: &MirrorArgs) -> Result<(), Failed> {
    let MirrorCommand::Serve(serve) = &args.command;
    let engine = super::open_with(None, args.access.read(&[])?)?;
    let upstreams = Upstreams::new(serve.hosts()?);
    let access = match serve.offline {
        true => Access::Offline(upstreams),
        false => Access::Upstream(upstreams),
    };
    let options = engine.client().options().clone();
    let events = display(Style::Plain);
    let mirror = Mirror::new(engine.trees(), options, access, events);
    let cancel = signals::cancel_on_signals(&engine);
    Ok(serve.run(mirror, &cancel)?)
}

impl ServeArgs {
    /// The registries, each a host with or without a port.
    fn hosts(&self) -> Result<Vec<String>, Error> {
        for host in &self.upstream {
            let image = format!("{host}/any").parse::<kiln_image::Reference>();
            if image.is_ok_and(|image| image.host == *host) {
                continue;
            }
            let text =
                format!("--upstream {host}: name a registry: registry.example, or localhost:5000");
            return Err(Error::Usage(text));
        }
        Ok(self.upstream.clone())
    }

    fn run(&self, mirror: Mirror, cancel: &kiln_engine::Cancel) -> Result<(), Error> {
        let failed = |source: std::io::Error| Error::File {
            what: format!("cannot serve at {}", self.address),
            source,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        runtime.map_err(failed)?.block_on(async {
            let serving = Serving::bind(mirror, self.address).await;
            let serving = serving.map_err(|error| failed(error.source))?;
            let address = serving.address().map_err(failed)?;
            if !address.ip().is_loopback() {
                say(&format!(
                    "WARNING: {address} can be reached from other machines, in plain HTTP"
                ));
            }
            print(&format!("{address}\n"));
            serving.run(stopped(cancel)).await;
            Ok(())
        })
    }
}

/// Waits until a signal has come.
async fn stopped(cancel: &kiln_engine::Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
