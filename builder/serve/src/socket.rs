//! Sockets that are listened at: bound here, or given by whoever starts the server.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kiln_tree::host;
use rustix::net::AddressFamily;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::address::Address;
use crate::serve_error::ServeError;
use crate::tls::Acceptor;

/// A socket that is listened at.
pub(crate) enum Listener {
    Unix(UnixListener),
    /// With TLS, when there is an acceptor.
    Tcp(TcpListener, Option<Acceptor>),
}

/// Who may use a socket in the file system besides root; its mode is then 0660.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOwner {
    /// Its owner; `None`: the server's user.
    pub user: Option<u32>,
    /// Its group, whose members may use it.
    pub group: Option<u32>,
}

/// A socket's file, which goes with the server.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        _ = host::remove_file(&self.0);
    }
}

/// All sockets of a server.
#[derive(Default)]
pub(crate) struct Sockets {
    pub(crate) listeners: Vec<Listener>,
    /// Where they are, in the same order.
    pub(crate) addresses: Vec<Address>,
    files: Vec<SocketFile>,
}

/// How sockets are bound.
pub(crate) struct Binder<'a> {
    pub(crate) tls: Option<&'a crate::Tls>,
    pub(crate) owner: Option<SocketOwner>,
    /// Sockets that the process was started with.
    pub(crate) inherited: Vec<OwnedFd>,
}

impl Sockets {
    /// Removes the files of sockets: nobody connects any more.
    pub(crate) fn unlink(&mut self) {
        self.files.clear();
    }

    /// Binds to all addresses, or to none.
    pub(crate) async fn bind(
        addresses: &[Address],
        mut binder: Binder<'_>,
    ) -> Result<Self, ServeError> {
        let acceptor = binder.tls.map(crate::Tls::acceptor);
        let acceptor = acceptor.transpose()?;
        let mut sockets = Self::default();
        for address in addresses {
            let failed = |source| ServeError::Listen {
                address: address.clone(),
                source,
            };
            match address {
                Address::Unix(path) => {
                    if UnixStream::connect(path).await.is_ok() {
                        return Err(ServeError::InUse(address.clone()));
                    }
                    let listener = bind_unix(path, binder.owner).map_err(failed)?;
                    sockets.files.push(SocketFile(path.clone()));
                    sockets.add(Listener::Unix(listener), address.clone());
                }
                Address::Tcp(place) => {
                    binder.check(*place)?;
                    let listener = TcpListener::bind(place).await.map_err(failed)?;
                    sockets.tcp(listener, acceptor.clone()).map_err(failed)?;
                }
                Address::Inherited => {
                    let all = std::mem::take(&mut binder.inherited);
                    if all.is_empty() {
                        return Err(ServeError::NotGiven);
                    }
                    for socket in all {
                        sockets.inherit(socket, &binder, acceptor.clone())?;
                    }
                }
            }
        }
        Ok(sockets)
    }

    fn add(&mut self, listener: Listener, address: Address) {
        self.listeners.push(listener);
        self.addresses.push(address);
    }

    fn tcp(&mut self, listener: TcpListener, acceptor: Option<Acceptor>) -> std::io::Result<()> {
        let address = Address::Tcp(listener.local_addr()?);
        self.add(Listener::Tcp(listener, acceptor), address);
        Ok(())
    }

    /// Takes a socket that somebody else has bound.
    fn inherit(
        &mut self,
        socket: OwnedFd,
        binder: &Binder<'_>,
        acceptor: Option<Acceptor>,
    ) -> Result<(), ServeError> {
        let failed = |source| ServeError::Listen {
            address: Address::Inherited,
            source,
        };
        let name = rustix::net::getsockname(&socket).map_err(|error| failed(error.into()))?;
        if name.address_family() == AddressFamily::UNIX {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            self.add(Listener::Unix(listener), Address::Inherited);
            return Ok(());
        }
        let listener = std::net::TcpListener::from(socket);
        binder.check(listener.local_addr().map_err(failed)?)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        self.tcp(listener, acceptor).map_err(failed)
    }
}

impl Binder<'_> {
    /// Whether a port may be listened at: one that other machines reach is for clients that show a
    /// certificate only.
    fn check(&self, place: SocketAddr) -> Result<(), ServeError> {
        let knows_clients = self.tls.is_some_and(|tls| tls.clients.is_some());
        match place.ip().is_loopback() || knows_clients {
            true => Ok(()),
            false => Err(ServeError::Open(Address::Tcp(place))),
        }
    }
}

/// Listens at a socket that only its owner, its group if it has one, and root may use. What a server that
/// died left there is removed.
fn bind_unix(path: &Path, owner: Option<SocketOwner>) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt as _;
    if let Some(parent) = path.parent() {
        host::create_dir_all(parent)?;
    }
    if host::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket()) {
        host::remove_file(path)?;
    }
    // Nobody gets in between: it is made beside, and takes its name when its mode is set.
    let aside = SocketFile(host::aside(path));
    _ = host::remove_file(&aside.0);
    let listener = UnixListener::bind(&aside.0)?;
    let mode = if owner.is_some() { 0o660 } else { 0o600 };
    if let Some(owner) = owner {
        let user = owner.user.map(rustix::fs::Uid::from_raw);
        let group = owner.group.map(rustix::fs::Gid::from_raw);
        rustix::fs::chown(&aside.0, user, group)?;
    }
    host::set_permissions(&aside.0, std::fs::Permissions::from_mode(mode))?;
    host::rename(&aside.0, path)?;
    Ok(listener)
}
