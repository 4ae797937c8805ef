//! Names of hosts to addresses. `localhost` is this machine without asking (RFC 6761, section 6.3): an
//! empty container has no `/etc/hosts`, and the C library of a static binary would then wait for a
//! name server that isn't there. Names below it are asked for first, for networks of containers have
//! such names, and are this machine when nobody knows them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names of this machine by itself, and asks the system for all others.
#[derive(Debug)]
pub(crate) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str().trim_end_matches('.');
            if name.eq_ignore_ascii_case("localhost") {
                return Ok(loopback());
            }
            match lookup(name).await {
                Ok(addresses) => Ok(addresses),
                Err(_) if is_below_localhost(name) => Ok(loopback()),
                Err(error) => Err(error.into()),
            }
        })
    }
}

async fn lookup(name: &str) -> std::io::Result<Addrs> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
    Ok(Box::new(addresses.into_iter()))
}

fn loopback() -> Addrs {
    let all = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ];
    Box::new(all.into_iter().map(|address| SocketAddr::new(address, 0)))
}

fn is_below_localhost(name: &str) -> bool {
    let last = name.rsplit_once('.').map(|(_, last)| last);
    last.is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(name: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let found = runtime
            .unwrap()
            .block_on(Resolver.resolve(name.parse().unwrap()));
        let found = found.map(|all| all.map(|address| address.ip().to_string()).collect());
        found.unwrap_or_default()
    }

    #[test]
    fn names_of_this_machine_need_no_name_server() {
        for name in ["localhost", "LocalHost", "localhost."] {
            assert_eq!(addresses(name), ["127.0.0.1", "::1"], "{name}");
        }
        assert!(addresses("a.localhost").contains(&"127.0.0.1".to_owned()));
        assert_eq!(addresses("nobody.invalid"), [""; 0]);
    }

    #[test]
    fn other_names_only_look_like_it() {
        for name in ["localhost.example", "notlocalhost", "localhost", ""] {
            assert!(!is_below_localhost(name), "{name}");
        }
        assert!(is_below_localhost("registry.LOCALHOST"));
    }
}
