//! `buildkitd.toml`: the configuration file of BuildKit's daemon, as far as it means something here.
//!
//! What restricts builds or clients holds, or the server doesn't start. What is about things that kiln
//! doesn't have (snapshotters, other workers, traces) changes nothing. Unknown keys are errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln::{DefaultNetwork, Error, RegistrySettings, file_text};
use kiln_cache::PruneOptions;
use kiln_graph::{parse_duration, parse_size};
use kiln_serve::{Address, Frontends, HistoryLimits, SocketOwner, Tls};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) root: Option<PathBuf>,
    #[serde(rename = "insecure-entitlements")]
    pub(super) entitlements: Vec<String>,
    #[serde(rename = "proxyNetwork")]
    pub(super) proxy_network: bool,
    pub(super) grpc: Grpc,
    pub(super) worker: Workers,
    registry: BTreeMap<String, Registry>,
    frontend: FrontendTable,
    dns: Option<IgnoredAny>,
    history: HistoryTable,
    system: Option<IgnoredAny>,
    debug: Option<IgnoredAny>,
    trace: Option<IgnoredAny>,
    log: Option<IgnoredAny>,
    otel: Option<IgnoredAny>,
    cdi: Option<IgnoredAny>,
    cache: Option<IgnoredAny>,
    #[serde(rename = "provenanceEnvDir")]
    provenance_directory: Option<PathBuf>,
}

/// How clients connect.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Grpc {
    pub(super) address: Vec<String>,
    #[serde(rename = "debugAddress")]
    debug_address: Option<IgnoredAny>,
    uid: Option<u32>,
    pub(super) gid: Option<u32>,
    #[serde(rename = "securityDescriptor")]
    security_descriptor: Option<IgnoredAny>,
    pub(super) tls: TlsFiles,
}

/// The files of TLS.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsFiles {
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
}

/// Who builds. kiln is the worker of OCI; others aren't there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Workers {
    pub(super) oci: Worker,
    containerd: Option<IgnoredAny>,
}

/// A worker.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Worker {
    enabled: Option<IgnoredAny>,
    labels: Option<IgnoredAny>,
    platforms: Option<IgnoredAny>,
    snapshotter: Option<IgnoredAny>,
    rootless: Option<IgnoredAny>,
    no_process_sandbox: Option<IgnoredAny>,
    user_remap_unsupported: Option<IgnoredAny>,
    binary: Option<IgnoredAny>,
    proxy_snapshotter_path: Option<IgnoredAny>,
    stargz_snapshotter: Option<IgnoredAny>,
    default_cgroup_parent: Option<String>,
    #[serde(rename = "apparmor-profile")]
    pub(super) apparmor_profile: Option<String>,
    pub(super) selinux: bool,
    #[serde(rename = "max-parallelism")]
    pub(super) max_parallelism: usize,
    pub(super) network_mode: Option<String>,
    cni_config_path: Option<IgnoredAny>,
    cni_binary_path: Option<IgnoredAny>,
    cni_pool_size: Option<IgnoredAny>,
    bridge_name: Option<IgnoredAny>,
    bridge_subnet: Option<IgnoredAny>,
    pub(super) gc: Option<bool>,
    #[serde(rename = "gckeepstorage")]
    pub(super) gc_keep_storage: Option<Amount>,
    pub(super) reserved_space: Option<Amount>,
    pub(super) max_used_space: Option<Amount>,
    pub(super) min_free_space: Option<Amount>,
    gcpolicy: Vec<GcPolicy>,
}

/// What goes from the store.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct GcPolicy {
    all: Option<IgnoredAny>,
    filters: Vec<String>,
    keep_duration: Option<Amount>,
    keep_bytes: Option<Amount>,
    reserved_space: Option<Amount>,
    max_used_space: Option<Amount>,
    min_free_space: Option<Amount>,
}

/// A number (of bytes, or of seconds), or a text such as `10GB`, `15%` or `48h`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Amount {
    Number(u64),
    Text(String),
}

/// A registry.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Registry {
    mirrors: Vec<String>,
    http: bool,
    insecure: bool,
    ca: Vec<PathBuf>,
    keypair: Vec<IgnoredAny>,
    tlsconfigdir: Vec<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FrontendTable {
    #[serde(rename = "dockerfile.v0")]
    dockerfile: Switch,
    #[serde(rename = "gateway.v0")]
    gateway: Gateway,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Switch {
    enabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Gateway {
    enabled: Option<bool>,
    allowed_repositories: Vec<String>,
}

/// How many builds are remembered.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct HistoryTable {
    max_age: Option<Amount>,
    max_entries: Option<usize>,
}

/// What a file comes to.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) addresses: Vec<Address>,
    pub(super) tls: Option<Tls>,
    pub(super) owner: Option<SocketOwner>,
    pub(super) registries: Vec<(String, RegistrySettings)>,
    pub(super) frontends: Frontends,
    pub(super) network: DefaultNetwork,
    pub(super) jobs: Option<usize>,
    pub(super) prune: Vec<PruneOptions>,
    pub(super) history: HistoryLimits,
    /// What has no effect and might be expected to have one.
    pub(super) notes: Vec<&'static str>,
}

impl File {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = file_text(path)?;
        let read = toml::from_str(&text);
        read.map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
    }

    /// What it comes to; `disk` is the length of the store's disk, in bytes.
    pub(super) fn settings(&self, disk: u64) -> Result<Settings, String> {
        self.refuse()?;
        let mut addresses = Vec::new();
        for text in &self.grpc.address {
            let address: Result<Address, _> = text.parse();
            addresses.push(address.map_err(|error| format!("grpc.address: {error}"))?);
        }
        let worker = &self.worker.oci;
        let mut settings = Settings {
            addresses,
            tls: self.grpc.tls.read()?,
            owner: self.grpc.owner(),
            registries: self.registries(),
            frontends: self.frontend.read(),
            network: network(worker.network_mode.as_deref())?,
            jobs: Some(worker.max_parallelism).filter(|jobs| *jobs > 0),
            prune: worker.prune(disk)?,
            history: self.history.read()?,
            notes: Vec::new(),
        };
        let filtered = worker
            .gcpolicy
            .iter()
            .any(|policy| !policy.filters.is_empty());
        for (is_there, note) in [
            (
                filtered,
                "worker.oci.gcpolicy: policies with filters have no effect; kiln removes what was used least recently",
            ),
            (
                self.dns.is_some(),
                "dns has no effect: steps use the machine's name servers",
            ),
        ] {
            settings.notes.extend(is_there.then_some(note));
        }
        Ok(settings)
    }

    /// What would restrict builds, and can't be kept to.
    fn refuse(&self) -> Result<(), String> {
        let worker = &self.worker.oci;
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let keys =
            |registry: &Registry| !registry.keypair.is_empty() || !registry.tlsconfigdir.is_empty();
        let refused = [
            (self.proxy_network, "proxyNetwork"),
            (
                is_given(&worker.apparmor_profile),
                "worker.oci.apparmor-profile",
            ),
            (worker.selinux, "worker.oci.selinux"),
            (
                is_given(&worker.default_cgroup_parent),
                "worker.oci.defaultCgroupParent",
            ),
            (self.provenance_directory.is_some(), "provenanceEnvDir"),
            (
                self.registry.values().any(keys),
                "registry.keypair and registry.tlsconfigdir",
            ),
        ];
        match refused.iter().find(|(is_set, _)| *is_set) {
            Some((_, what)) => Err(format!("kiln can't keep to {what}: take it out")),
            None => Ok(()),
        }
    }

    fn registries(&self) -> Vec<(String, RegistrySettings)> {
        let one = |(name, own): (&String, &Registry)| {
            let settings = RegistrySettings {
                mirrors: own.mirrors.clone(),
                http: own.http,
                insecure: own.insecure,
                ca: own.ca.clone(),
            };
            (name.clone(), settings)
        };
        self.registry.iter().map(one).collect()
    }
}

impl Grpc {
    fn owner(&self) -> Option<SocketOwner> {
        let owner = SocketOwner {
            user: self.uid,
            group: self.gid,
        };
        (owner != SocketOwner::default()).then_some(owner)
    }
}

impl TlsFiles {
    /// The files, when there are any.
    pub(super) fn read(&self) -> Result<Option<Tls>, String> {
        match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => Ok(Some(Tls {
                certificate: certificate.clone(),
                key: key.clone(),
                clients: self.ca.clone(),
            })),
            (None, None) if self.ca.is_none() => Ok(None),
            _ => Err(
                "TLS needs the server's certificate and its key: --tlscert FILE --tlskey FILE"
                    .to_owned(),
            ),
        }
    }
}

impl HistoryTable {
    fn read(&self) -> Result<HistoryLimits, String> {
        let usual = HistoryLimits::default();
        let age = self.max_age.as_ref().map(Amount::duration).transpose()?;
        Ok(HistoryLimits {
            entries: self.max_entries.unwrap_or(usual.entries),
            age: age.unwrap_or(usual.age),
        })
    }
}

impl FrontendTable {
    fn read(&self) -> Frontends {
        Frontends {
            dockerfile: self.dockerfile.enabled != Some(false),
            gateway: self.gateway.enabled != Some(false),
            repositories: self.gateway.allowed_repositories.clone(),
        }
    }
}

fn network(mode: Option<&str>) -> Result<DefaultNetwork, String> {
    match mode.unwrap_or_default() {
        "" | "auto" | "host" => Ok(DefaultNetwork::Host),
        "none" => Ok(DefaultNetwork::None),
        "bridge" => Ok(DefaultNetwork::Sandbox),
        other => Err(format!(
            "worker.oci.networkMode: kiln can't keep to {other:?}: use host, bridge or none"
        )),
    }
}

impl Worker {
    fn prune(&self, disk: u64) -> Result<Vec<PruneOptions>, String> {
        if self.gc == Some(false) {
            return Ok(Vec::new());
        }
        let whole = GcPolicy {
            keep_bytes: self.gc_keep_storage.clone(),
            reserved_space: self.reserved_space.clone(),
            max_used_space: self.max_used_space.clone(),
            min_free_space: self.min_free_space.clone(),
            ..GcPolicy::default()
        };
        let policies = match self.gcpolicy.is_empty() {
            true => std::slice::from_ref(&whole),
            false => &self.gcpolicy[..],
        };
        let mut all = Vec::new();
        for policy in policies.iter().filter(|policy| policy.filters.is_empty()) {
            all.extend(policy.options(disk)?);
        }
        Ok(all)
    }
}

impl GcPolicy {
    /// What is pruned; nothing by a policy that says nothing.
    fn options(&self, disk: u64) -> Result<Option<PruneOptions>, String> {
        let size = |amount: &Option<Amount>| {
            let read = amount.as_ref().map(|amount| amount.bytes(disk));
            Ok::<_, String>(read.transpose()?.filter(|bytes| *bytes > 0))
        };
        let keep = size(&self.max_used_space)?
            .or(size(&self.reserved_space)?)
            .or(size(&self.keep_bytes)?);
        let min_free = size(&self.min_free_space)?;
        let age = self
            .keep_duration
            .as_ref()
            .map(Amount::duration)
            .transpose()?;
        let is_bounded = keep.is_some() || min_free.is_some();
        Ok((is_bounded || age.is_some()).then(|| PruneOptions {
            all: false,
            // With a bound it is what may stay until the bound is reached: as it is here without.
            older_than: age.filter(|_| !is_bounded),
            keep_storage: keep,
            min_free,
            dry_run: false,
        }))
    }
}

impl Amount {
    /// Of a text.
    pub(super) fn text(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Text(text.to_owned()), Self::Number)
    }

    fn bytes(&self, disk: u64) -> Result<u64, String> {
        match self {
            Self::Number(bytes) => Ok(*bytes),
            Self::Text(text) => match text.strip_suffix('%').map(str::parse::<u64>) {
                Some(Ok(percent @ 0..=100)) => Ok(disk / 100 * percent),
                Some(_) => Err(format!("'{text}' is no share of a disk: write it as 10%")),
                None => parse_size(text),
            },
        }
    }

    fn duration(&self) -> Result<Duration, String> {
        match self {
            Self::Number(seconds) => Ok(Duration::from_secs(*seconds)),
            Self::Text(text) => parse_duration(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        file.settings(1000)
    }

    #[test]
    fn the_file_of_buildkit_is_read() {
        let text = r#"
            debug = true
            root = "/var/lib/x"
            insecure-entitlements = ["network.host"]
            [log]
            format = "json"
            [grpc]
            address = ["unix:///run/x.sock", "tcp://127.0.0.1:1"]
            debugAddress = "x"
            uid = 0
            gid = 7
            [grpc.tls]
            cert = "c.pem"
            key = "k.pem"
            ca = "ca.pem"
            [history]
            maxAge = 3600
            maxEntries = 7
            [otel]
            socketPath = "/x"
            [cdi]
            specDirs = ["/x"]
            [worker.oci]
            enabled = true
            platforms = ["linux/amd64"]
            snapshotter = "overlayfs"
            networkMode = "bridge"
            max-parallelism = 4
            gc = true
            maxUsedSpace = "50%"
            minFreeSpace = 10
            [worker.oci.labels]
            "a" = "b"
            [worker.containerd]
            enabled = false
            whatever = 1
            [frontend."dockerfile.v0"]
            enabled = false
            [frontend."gateway.v0"]
            allowedRepositories = ["docker/dockerfile"]
            [registry."docker.io"]
            mirrors = ["127.0.0.1:5001"]
            http = true
            ca = ["a.pem", "b.pem"]
        "#;
        let settings = read(text).unwrap();
        assert_eq!(settings.addresses.len(), 2);
        let tls = settings.tls.unwrap();
        assert_eq!(tls.clients, Some("ca.pem".into()));
        let owner = settings.owner.unwrap();
        assert_eq!((owner.user, owner.group), (Some(0), Some(7)));
        assert_eq!(settings.network, DefaultNetwork::Sandbox);
        assert_eq!(settings.jobs, Some(4));
        let history = settings.history;
        assert_eq!((history.entries, history.age.as_secs()), (7, 3600));
        let prune = &settings.prune[0];
        assert_eq!((prune.keep_storage, prune.min_free), (Some(500), Some(10)));
        assert!(!settings.frontends.dockerfile && settings.frontends.gateway);
        assert_eq!(settings.frontends.repositories, ["docker/dockerfile"]);
        let (_, registry) = &settings.registries[0];
        assert!(registry.http && !registry.insecure && registry.ca.len() == 2);
        assert!(settings.notes.is_empty());
    }

    #[test]
    fn policies_of_collection() {
        let text = r#"
            [[worker.oci.gcpolicy]]
            filters = ["type==source.local"]
            keepDuration = "48h"
            reservedSpace = "512MB"
            [[worker.oci.gcpolicy]]
            keepDuration = 3600
            [[worker.oci.gcpolicy]]
            all = true
            keepBytes = "1GB"
        "#;
        let settings = read(text).unwrap();
        let of = |policy: &PruneOptions| (policy.older_than, policy.keep_storage);
        let policies: Vec<_> = settings.prune.iter().map(of).collect();
        let hour = Duration::from_secs(3600);
        assert_eq!(policies, [(Some(hour), None), (None, Some(1_000_000_000))]);
        assert_eq!(settings.notes.len(), 1);
        let off = read("[worker.oci]\ngc = false\nmaxUsedSpace = \"1GB\"").unwrap();
        assert!(off.prune.is_empty());
    }

    #[test]
    fn what_restricts_holds_or_is_refused() {
        for (text, says) in [
            ("proxyNetwork = true", "proxyNetwork"),
            ("[worker.oci]\napparmor-profile = \"x\"", "apparmor-profile"),
            ("[worker.oci]\nselinux = true", "selinux"),
            ("[worker.oci]\nnetworkMode = \"cni\"", "networkMode"),
            (
                "[worker.oci]\ndefaultCgroupParent = \"x\"",
                "defaultCgroupParent",
            ),
            (
                "[[registry.\"a\".keypair]]\nkey = \"k\"\ncert = \"c\"",
                "keypair",
            ),
            ("[registry.\"a\"]\ntlsconfigdir = [\"x\"]", "tlsconfigdir"),
            ("[grpc.tls]\nca = \"x\"", "--tlscert"),
            ("[grpc]\naddress = [\"localhost\"]", "grpc.address"),
            ("[worker.oci]\nmaxUsedSpace = \"101%\"", "101%"),
            ("[regisrty.\"a\"]\nhttp = true", "regisrty"),
            ("[grpc.tls]\ncrt = \"x\"", "crt"),
            ("registry = 1", "registry"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
