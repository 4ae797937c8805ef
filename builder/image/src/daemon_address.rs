//! Where a Docker daemon listens, as Docker's clients are told: `$DOCKER_HOST`, with
//! `$DOCKER_TLS_VERIFY` and `$DOCKER_CERT_PATH`.

use std::path::{Path, PathBuf};

use kiln_tree::host;
use reqwest::{Certificate, ClientBuilder, Identity};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Where daemons listen whose address names no port.
const PLAIN_PORT: u16 = 2375;
/// The same with TLS.
const TLS_PORT: u16 = 2376;

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DaemonAddress {
    /// At a socket of this machine.
    Socket(PathBuf),
    /// At a port, without encryption.
    Plain(String),
    /// At a port; the directory has `ca.pem`, `cert.pem` and `key.pem`.
    Tls(String, PathBuf),
}

impl DaemonAddress {
    /// What the environment says.
    ///
    /// # Errors
    /// When it says what kiln can't do.
    pub(crate) fn of_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let said = |name| variable(name).filter(|value| !value.is_empty());
        let Some(host) = said("DOCKER_HOST") else {
            return Ok(Self::Socket(DEFAULT_SOCKET.into()));
        };
        if let Some(path) = host.strip_prefix("unix://") {
            return Ok(Self::Socket(path.into()));
        }
        let Some(port) = host.strip_prefix("tcp://") else {
            return Err("DOCKER_HOST begins with unix:// or tcp:// for kiln".to_owned());
        };
        let port = port.trim_end_matches('/');
        if said("DOCKER_TLS_VERIFY").is_none() {
            return Ok(Self::Plain(with_port(port, PLAIN_PORT)));
        }
        let own = said("DOCKER_CERT_PATH").map(PathBuf::from);
        let usual = said("HOME").map(|home| Path::new(&home).join(".docker"));
        let directory = own.or(usual).unwrap_or_default();
        Ok(Self::Tls(with_port(port, TLS_PORT), directory))
    }

    /// The beginning of its addresses.
    pub(crate) fn base(&self) -> String {
        match self {
            Self::Socket(_) => "http://docker".to_owned(),
            Self::Plain(port) => format!("http://{port}"),
            Self::Tls(port, _) => format!("https://{port}"),
        }
    }

    /// Connects to it, and to nothing else.
    ///
    /// # Errors
    /// When its certificates can't be read.
    pub(crate) fn connect(&self, builder: ClientBuilder) -> Result<ClientBuilder, String> {
        match self {
            Self::Socket(path) => Ok(builder.unix_socket(path.as_path())),
            Self::Plain(_) => Ok(builder.no_proxy().tls_certs_only(std::iter::empty())),
            Self::Tls(_, directory) => {
                let read = |name: &str| {
                    let path = directory.join(name);
                    host::read(&path).map_err(|error| format!("{}: {error}", path.display()))
                };
                let wrong = |error: reqwest::Error| format!("{}: {error}", directory.display());
                let authorities = Certificate::from_pem_bundle(&read("ca.pem")?).map_err(wrong)?;
                let own = [read("cert.pem")?, read("key.pem")?].concat();
                let own = Identity::from_pem(&own).map_err(wrong)?;
                Ok(builder.no_proxy().tls_certs_only(authorities).identity(own))
            }
        }
    }
}

fn with_port(host: &str, usual: u16) -> String {
    let last = host.rsplit(']').next().unwrap_or(host);
    match last.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:{usual}"),
    }
}

impl std::fmt::Display for DaemonAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Plain(port) | Self::Tls(port, _) => f.write_str(port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_docker_looks() {
        let of = |pairs: &[(&str, &str)]| {
            DaemonAddress::of_environment(|name| {
                let found = pairs.iter().find(|(own, _)| *own == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let socket = |path: &str| Ok(DaemonAddress::Socket(path.into()));
        let tls =
            |directory: &str| Ok(DaemonAddress::Tls("dind:2376".to_owned(), directory.into()));
        let dind = ("DOCKER_HOST", "tcp://dind:2376");
        let verify = ("DOCKER_TLS_VERIFY", "1");
        assert_eq!(of(&[]), socket(DEFAULT_SOCKET));
        assert_eq!(of(&[("DOCKER_HOST", "")]), socket(DEFAULT_SOCKET));
        assert_eq!(of(&[("DOCKER_HOST", "unix:///a b")]), socket("/a b"));
        let plain = DaemonAddress::Plain("dind:2375".to_owned());
        assert_eq!(of(&[("DOCKER_HOST", "tcp://dind:2375/")]), Ok(plain));
        let plain = DaemonAddress::Plain("[::1]:2375".to_owned());
        assert_eq!(of(&[("DOCKER_HOST", "tcp://[::1]")]), Ok(plain));
        let bare = ("DOCKER_HOST", "tcp://dind");
        assert_eq!(of(&[bare, verify, ("DOCKER_CERT_PATH", "/c")]), tls("/c"));
        assert_eq!(of(&[dind, verify, ("HOME", "/h")]), tls("/h/.docker"));
        assert_eq!(of(&[dind, verify, ("DOCKER_CERT_PATH", "/c")]), tls("/c"));
        assert!(of(&[("DOCKER_HOST", "ssh://me@host")]).is_err());
    }
}
