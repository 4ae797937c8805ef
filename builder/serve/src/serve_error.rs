//! Why a server can't be started.

use crate::address::Address;
use crate::tls::BadTls;

/// Why a server can't be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It can't listen at an address.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: Address,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else answers there.
    #[error("cannot listen at {0}: another server answers there")]
    InUse(Address),
    /// Anybody who reaches the port could build.
    #[error(
        "cannot listen at {0}: whoever reaches it may run commands here as the server's user; have clients show a certificate (TLS: --tlscacert, --tlscert and --tlskey), or listen at 127.0.0.1 or at a socket (unix://PATH)"
    )]
    Open(Address),
    /// Nobody gave sockets.
    #[error("cannot listen at fd://: this process was started without sockets (LISTEN_FDS)")]
    NotGiven,
    /// TLS can't be spoken.
    #[error(transparent)]
    Tls(#[from] BadTls),
    /// There is no runtime.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}
