//! Where a server listens.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a server listens: `unix://PATH`, `tcp://IP:PORT`, or `fd://` for the sockets that systemd gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port of this machine.
    Tcp(SocketAddr),
    /// All sockets that this process was started with (`sd_listen_fds(3)`).
    Inherited,
}

/// A text that is no address to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no address to listen at: write unix://PATH, tcp://IP:PORT or fd://")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let read = match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Some(Self::Unix(path.into())),
            Some(("tcp", place)) => socket_address(place).map(Self::Tcp),
            Some(("fd", "")) => Some(Self::Inherited),
            _ => None,
        };
        read.ok_or_else(|| BadAddress(text.to_owned()))
    }
}

/// `IP:PORT`, `localhost:PORT`, or `:PORT` for all addresses of the machine.
fn socket_address(place: &str) -> Option<SocketAddr> {
    let (host, port) = place.rsplit_once(':')?;
    let port = || port.parse().ok();
    match host {
        "" => Some((Ipv4Addr::UNSPECIFIED, port()?).into()),
        "localhost" => Some((Ipv4Addr::LOCALHOST, port()?).into()),
        _ => place.parse().ok(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(place) => write!(f, "tcp://{place}"),
            Self::Inherited => f.write_str("fd://"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in [
            "unix:///run/kiln/kiln.sock",
            "tcp://127.0.0.1:1234",
            "tcp://[::1]:1234",
            "fd://",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for (text, want) in [
            ("tcp://:1234", "tcp://0.0.0.0:1234"),
            ("tcp://localhost:1234", "tcp://127.0.0.1:1234"),
        ] {
            let read: Address = text.parse().unwrap();
            assert_eq!(read.to_string(), want);
        }
        for text in [
            "",
            "unix://",
            "unix://run",
            "tcp://",
            "tcp://x:y",
            "tcp://localhost",
            "tcp://localhost.example:1",
            "tcp://mylocalhost:1",
            "tcp://1.2.3.4",
            "fd://3",
            "/run/x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
