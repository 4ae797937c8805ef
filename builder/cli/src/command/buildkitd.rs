//! The program name `buildkitd`: `kiln serve` with BuildKit's flags and its configuration file.
//!
//! Of `buildkitd.toml`, `root`, `grpc.address`, `insecure-entitlements` and `registry.NAME` with
//! `mirrors`, `http`, `insecure` and `ca` are read; what is about other workers changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use kiln::{Error, RegistrySettings, file_text};
use kiln_serve::Address;
use serde::Deserialize;

use super::Failed;
use super::serve::ServeArgs;

/// The name that the program is called by.
pub(crate) const NAME: &str = "buildkitd";

/// Flags about what kiln doesn't have, with `=VALUE` or without.
const WITHOUT_EFFECT: [&str; 4] = ["--oci-", "--containerd-", "--debug", "--otel-"];

/// BuildKit's daemon, as kiln is it
#[derive(Parser, Debug)]
#[command(name = "buildkitd", version)]
struct Flags {
    /// Where to listen: unix://PATH or tcp://IP:PORT (repeatable)
    #[arg(long = "addr", value_name = "ADDRESS")]
    addresses: Vec<Address>,
    /// The directory of the store
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Let clients allow their builds this: network.host or security.insecure (repeatable)
    #[arg(long = "allow-insecure-entitlement", value_name = "ENTITLEMENT")]
    entitlements: Vec<String>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    root: Option<PathBuf>,
    insecure_entitlements: Vec<String>,
    grpc: Grpc,
    registry: BTreeMap<String, Registry>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Grpc {
    address: Vec<String>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Registry {
    mirrors: Vec<String>,
    http: bool,
    insecure: bool,
    ca: Vec<PathBuf>,
}

/// Runs the program with the words after its name.
pub(crate) fn run(words: &[String]) -> Result<(), Failed> {
    let has_effect = |word: &&String| !WITHOUT_EFFECT.iter().any(|start| word.starts_with(start));
    let words = words.iter().filter(has_effect).map(String::as_str);
    let flags = Flags::try_parse_from([NAME].into_iter().chain(words));
    let flags = match flags {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let file = match &flags.config {
        Some(path) => read(path)?,
        None => File::default(),
    };
    super::serve::run_with(&arguments(flags, &file)?, file.registries())
}

fn read(path: &Path) -> Result<File, Error> {
    let text = file_text(path)?;
    toml::from_str(&text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

fn arguments(flags: Flags, file: &File) -> Result<ServeArgs, Error> {
    let mut addresses = flags.addresses;
    if addresses.is_empty() {
        for text in &file.grpc.address {
            let address: Result<Address, _> = text.parse();
            addresses.push(address.map_err(|error| Error::Usage(error.to_string()))?);
        }
    }
    if addresses.is_empty() {
        addresses.push(Address::Unix("/run/buildkit/buildkitd.sock".into()));
    }
    let mut entitlements = flags.entitlements;
    entitlements.extend(file.insecure_entitlements.iter().cloned());
    Ok(ServeArgs {
        addresses,
        root: flags.root.or(file.root.clone()),
        entitlements,
        isolation: None,
    })
}

impl File {
    fn registries(&self) -> Vec<(String, RegistrySettings)> {
        let one = |(name, own): (&String, &Registry)| {
            let settings = RegistrySettings {
                mirrors: own.mirrors.clone(),
                http: own.http,
                insecure: own.insecure,
                ca: own.ca.first().cloned(),
            };
            (name.clone(), settings)
        };
        self.registry.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_buildkit_is_read() {
        let text = r#"
            debug = true
            root = "/var/lib/x"
            insecure-entitlements = ["network.host"]
            [grpc]
            address = ["unix:///run/x.sock"]
            [otel]
            socketPath = "/x"
            [worker.oci]
            gc = true
            [registry."docker.io"]
            mirrors = ["127.0.0.1:5001"]
            http = true
        "#;
        let file: File = toml::from_str(text).unwrap();
        let flags = Flags::try_parse_from(["buildkitd"]).unwrap();
        let args = arguments(flags, &file).unwrap();
        assert_eq!(args.addresses[0].to_string(), "unix:///run/x.sock");
        assert_eq!(
            (args.root, args.entitlements.len()),
            (Some("/var/lib/x".into()), 1)
        );
        let registries = file.registries();
        assert_eq!(registries[0].1.mirrors, ["127.0.0.1:5001"]);
        assert!(registries[0].1.http && !registries[0].1.insecure);
        assert!(toml::from_str::<File>("registry = 1").is_err());
    }
}
