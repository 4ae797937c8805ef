//! What is known of registries by their names: how far they are trusted, and how they turned out to speak.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Registries that aren't spoken to as usual.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// Those whose certificates are not checked, besides those that the options name.
    unchecked: Mutex<HashSet<String>>,
    /// Those that may be spoken to in plain HTTP and turned out to speak nothing else.
    plain: Mutex<HashSet<String>>,
}

impl Hosts {
    /// Checks the certificate of a registry (`HOST[:PORT]`) no longer, and speaks plain HTTP to it
    /// when it has no TLS.
    pub(crate) fn allow(&self, host: &str) {
        let mut unchecked = lock(&self.unchecked);
        unchecked.insert(host.to_owned());
    }

    /// Whether the certificate of a registry isn't checked.
    pub(crate) fn is_allowed(&self, host: &str) -> bool {
        lock(&self.unchecked).contains(host)
    }

    /// An address as it is reached: in plain HTTP, when that is all that its server speaks.
    pub(crate) fn reached(&self, url: &str) -> String {
        let plain = lock(&self.plain);
        let is_plain = authority(url).is_some_and(|host| plain.contains(host));
        match url.strip_prefix("https://") {
            Some(rest) if is_plain => format!("http://{rest}"),
            _ => url.to_owned(),
        }
    }

    /// Notes that the server at an address speaks plain HTTP only.
    pub(crate) fn note_plain(&self, url: &str) {
        let mut plain = lock(&self.plain);
        plain.extend(authority(url).map(str::to_owned));
    }
}

fn lock(names: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `HOST[:PORT]` of an address, as settings name it.
pub(crate) fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    Some(match host {
        "registry-1.docker.io" => "docker.io",
        host => host,
    })
}
