//! rpm's packages, by its database.

use super::Reading;
use super::reading::List;
use crate::license;
use crate::rpm::{DATABASES, Installed, OLD_DATABASES, installed};
use crate::{Ecosystem, Package};

/// SQLite's log of what isn't in the database yet.
const LOG: &str = "/rpmdb.sqlite-wal";
/// Keys that rpm keeps as if they were packages.
const KEYS: &str = "gpg-pubkey";

pub(super) fn is_database(path: &str) -> bool {
    let is = |database: &&str| path.ends_with(*database);
    DATABASES.iter().chain(OLD_DATABASES).chain(&[LOG]).any(is)
}

pub(super) fn read(path: &str, bytes: &[u8]) -> Reading {
    if path.ends_with(LOG) {
        return match bytes {
            [] => Reading::default(),
            _ => Reading::problem(
                "the rpm database was not closed: the latest packages may be missing",
            ),
        };
    }
    if OLD_DATABASES.iter().any(|old| path.ends_with(old)) {
        return Reading::problem(
            "an rpm database from before 4.16 is not supported: its packages are missing",
        );
    }
    let Some(found) = installed(bytes) else {
        return Reading::problem("not an rpm database, or damaged");
    };
    let mut list = List::default();
    if found.broken > 0 {
        list.problem(format!("{} of its packages can't be read", found.broken));
    }
    if !found.is_whole {
        list.problem("the rpm database is damaged: some of its packages are missing");
    }
    let packages = found.packages.into_iter();
    list.extend(packages.filter(|package| package.name != KEYS).map(package));
    list.into()
}

fn package(found: Installed) -> Package {
    let version = format!("{}-{}", found.version, found.release);
    let epoch = found.epoch.map(|epoch| epoch.to_string());
    let mut package = Package::new(Ecosystem::Rpm, found.name, version)
        .qualify("arch", found.architecture.as_deref())
        .qualify("epoch", epoch.as_deref())
        .qualify("upstream", found.source.as_deref());
    package.license = found.license.as_deref().and_then(license::expression);
    package.supplier = found.vendor;
    package
}
