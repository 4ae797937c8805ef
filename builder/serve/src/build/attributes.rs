//! The attributes of `dockerfile.v0`, as the frontend's options. Attributes that nobody knows are
//! left out, as BuildKit does; values that can't be read are errors.

use std::collections::{BTreeMap, HashMap};

use kiln::Pull;
use kiln_engine::DefaultNetwork;
use kiln_frontend_dockerfile::{ContextKind, Options, is_remote};
use kiln_graph::address::IMAGE_SCHEME;
use kiln_graph::{BlobDigest, Platform, parse_bool, parse_extra_host};
use kiln_image::ImageName;
use kiln_sandbox::{GroupPath, Limits, Swap};
use tonic::Status;

/// The attributes of a request.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a HashMap<String, String>);

/// Where the files of a named context come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A directory of the client's, by the client's name for it.
    Client(String),
    /// A git repository, or a file on a web server.
    Remote(String),
    /// Another build's result, by its name among the inputs.
    Input(String),
    /// An image in a layout that the client has.
    Layout(LayoutName),
    /// What the frontend knows by itself.
    Known(ContextKind),
}

/// An image in a client's layout: `oci-layout://STORE[:TAG]@DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayoutName {
    /// The client's name for the layout.
    pub(super) store: String,
    pub(super) digest: BlobDigest,
}

impl LayoutName {
    /// Reads what stands behind the scheme.
    pub(super) fn read(text: &str) -> Result<Self, Status> {
        let bad = || wrong("context", text, "write oci-layout://NAME@DIGEST");
        let (name, digest) = text.rsplit_once('@').ok_or_else(bad)?;
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let store = match name[last..].find(':') {
            Some(tag) => &name[..last + tag],
            None => name,
        };
        let digest = digest.parse().map_err(|_| bad())?;
        match store.is_empty() {
            true => Err(bad()),
            false => Ok(Self {
                store: store.to_owned(),
                digest,
            }),
        }
    }
}

fn wrong(key: &str, value: &str, reason: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("invalid {key} {value:?}: {reason}"))
}

/// A value that is true or false, as Go reads them; an empty one is none.
pub(super) fn flag(
    attributes: &HashMap<String, String>,
    key: &str,
) -> Result<Option<bool>, Status> {
    let value = attributes.get(key).map(String::as_str);
    let read = |text: &str| parse_bool(text).ok_or_else(|| wrong(key, text, "write true or false"));
    value.filter(|text| !text.is_empty()).map(read).transpose()
}

impl<'a> Attributes<'a> {
    /// A value; an empty one is none.
    pub(super) fn text(self, key: &str) -> Option<&'a str> {
        let value = self.0.get(key).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    fn below(self, prefix: &'static str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.0.iter();
        pairs.filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// The parts of a list; none of an empty one.
    pub(super) fn list(self, key: &str) -> impl Iterator<Item = &'a str> {
        self.text(key).into_iter().flat_map(|all| all.split(','))
    }

    fn number<N: std::str::FromStr>(self, key: &str) -> Result<Option<N>, Status> {
        let read = |text: &str| text.parse().map_err(|_| wrong(key, text, "write a number"));
        self.text(key).map(read).transpose()
    }

    /// The name of the build file.
    pub(super) fn file_name(self) -> &'a str {
        self.text("filename").unwrap_or("Dockerfile")
    }

    /// What the frontend is told.
    pub(super) fn options(self) -> Result<Options, Status> {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let host =
            |text: &str| parse_extra_host(text).map_err(|error| wrong("add-hosts", text, error));
        let mut options = Options {
            target: self.text("target").map(str::to_owned),
            build_args: self.below("build-arg:").map(owned).collect(),
            labels: self.below("label:").map(owned).collect(),
            shm_size: self.number("shm-size")?.filter(|size| *size > 0),
            ulimits: self.ulimits()?,
            extra_hosts: self.list("add-hosts").map(host).collect::<Result<_, _>>()?,
            no_cache_filter: self.list("no-cache").map(str::to_owned).collect(),
            ..Options::default()
        };
        if let Some(name) = self.text("hostname") {
            let argument = "BUILDKIT_SANDBOX_HOSTNAME".to_owned();
            let own = options.build_args.entry(argument);
            own.or_insert_with(|| name.to_owned());
        }
        if self.text("platform").is_some() {
            options.platforms_are_given = true;
            let read = |text: &str| {
                let platform: Result<Platform, _> = text.trim().parse();
                platform.map_err(|error| wrong("platform", text, error))
            };
            options.platforms = self.list("platform").map(read).collect::<Result<_, _>>()?;
        }
        Ok(options)
    }

    /// Whether results are named by their platforms.
    ///
    /// # Errors
    /// When the client says neither true nor false.
    pub(super) fn is_map(self) -> Result<bool, Status> {
        let keys = ["multi-platform", "build-arg:BUILDKIT_MULTI_PLATFORM"];
        let said = keys.map(|key| flag(self.0, key));
        said.into_iter()
            .try_fold(false, |any, said| Ok(any || said? == Some(true)))
    }

    /// Whether nothing that is stored is used.
    pub(super) fn no_cache(self) -> bool {
        self.0.get("no-cache").is_some_and(String::is_empty)
    }

    /// When registries are asked about base images: always, as BuildKit does, unless the client says
    /// otherwise.
    pub(super) fn pull(self) -> Result<Pull, Status> {
        match self.text("image-resolve-mode") {
            None | Some("default" | "pull") => Ok(Pull::Always),
            Some("local") => Ok(Pull::Missing),
            Some(other) => {
                let text = "use default, pull or local";
                Err(wrong("image-resolve-mode", other, text))
            }
        }
    }

    /// The network of steps that don't say which, if the client wants one.
    pub(super) fn network(self) -> Result<Option<DefaultNetwork>, Status> {
        match self.text("force-network-mode") {
            None => Ok(None),
            Some("host") => Ok(Some(DefaultNetwork::Host)),
            Some("none") => Ok(Some(DefaultNetwork::None)),
            Some("sandbox") => Ok(Some(DefaultNetwork::Sandbox)),
            Some(other) => {
                let text = "use host, none or sandbox";
                Err(wrong("force-network-mode", other, text))
            }
        }
    }

    /// `NAME=SOFT[:HARD]`, as the Docker command has them.
    fn ulimits(self) -> Result<BTreeMap<String, (u64, u64)>, Status> {
        let number = |text: &str| match text {
            "-1" => Some(u64::MAX),
            text => text.parse().ok(),
        };
        let read = |text: &str| {
            let (name, values) = text.split_once('=')?;
            let (soft, hard) = values.split_once(':').unwrap_or((values, values));
            let pair: (u64, u64) = (number(soft)?, number(hard)?);
            let is_known = kiln_graph::ULIMITS.contains(&name) && pair.0 <= pair.1;
            is_known.then(|| (name.to_owned(), pair))
        };
        let all = self
            .list("ulimit")
            .map(|text| read(text).ok_or_else(|| wrong("ulimit", text, "write NAME=SOFT[:HARD]")));
        all.collect()
    }

    /// What each step may use.
    pub(super) fn resources(self) -> Result<Limits, Status> {
        let swap = match self.text("memswap") {
            Some("-1") => Some(Swap::Unlimited),
            _ => self.number("memswap")?.map(Swap::Limited),
        };
        Ok(Limits {
            memory: self.number("memory")?,
            memory_and_swap: swap,
            cpu_shares: self.number("cpushares")?,
            cpu_period: self.number("cpuperiod")?,
            cpu_quota: self.number("cpuquota")?,
            cpus: self.text("cpusetcpus").map(str::to_owned),
            memory_nodes: self.text("cpusetmems").map(str::to_owned),
        })
    }

    /// The control group for steps, below the server's own.
    pub(super) fn cgroup_parent(self) -> Result<GroupPath, Status> {
        let text = self.text("cgroup-parent").unwrap_or_default();
        text.parse()
            .map_err(|error| wrong("cgroup-parent", text, error))
    }

    /// The named contexts, by the names that build files have for them, with the platforms that they are for.
    pub(super) fn contexts(self) -> Result<BTreeMap<String, Source>, Status> {
        let named = self.below("context:");
        let named = named.map(|(name, value)| Ok((name.to_owned(), source(value)?)));
        named.collect()
    }
}

/// What a named context is. Images are those of registries: paths would be the server's.
fn source(value: &str) -> Result<Source, Status> {
    if let Some(name) = value.strip_prefix("local:") {
        return Ok(Source::Client(name.to_owned()));
    }
    if let Some(name) = value.strip_prefix("input:") {
        return Ok(Source::Input(name.to_owned()));
    }
    let layout = value.strip_prefix("oci-layout:");
    if let Some(name) = layout.map(|name| name.trim_start_matches("//")) {
        return LayoutName::read(name).map(Source::Layout);
    }
    // BuildKit needs no slashes behind the kind.
    let image = value.strip_prefix(IMAGE_SCHEME);
    if let Some(name) = image.or_else(|| value.strip_prefix(IMAGE_SCHEME.trim_end_matches('/'))) {
        return match name.parse::<ImageName>() {
            Ok(ImageName::Registry(_)) => {
                let kind = ContextKind::Image(name.to_owned());
                Ok(Source::Known(kind))
            }
            _ => Err(wrong("context", value, "name an image of a registry")),
        };
    }
    if let Some(name) = value.strip_prefix("target:") {
        return Ok(Source::Known(ContextKind::Target(name.to_owned())));
    }
    match is_remote(value) {
        true => Ok(Source::Remote(value.to_owned())),
        false => Err(Status::unimplemented(format!(
            "the context {value:?} is of a kind that kiln doesn't know: use a directory, docker-image://, oci-layout://, target: or an address"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn options_of_clients() {
        let map = map(&[
            ("target", "t"),
            ("build-arg:A", "1"),
            ("label:l", "v"),
            ("platform", "linux/amd64,linux/arm/v7"),
            ("add-hosts", "a=1.2.3.4,b=::1"),
            ("ulimit", "nofile=10:20"),
            ("no-cache", "x,y"),
            ("unknown", "z"),
        ]);
        let attributes = Attributes(&map);
        let options = attributes.options().unwrap();
        assert_eq!(options.target.as_deref(), Some("t"));
        assert_eq!(options.build_args["A"], "1");
        assert_eq!((options.platforms.len(), options.extra_hosts.len()), (2, 2));
        assert_eq!(options.ulimits["nofile"], (10, 20));
        assert_eq!(options.no_cache_filter, ["x", "y"]);
        assert!(!attributes.no_cache());
    }

    #[test]
    fn contexts_name_no_file_of_the_server() {
        let address = "https://x.example/a.git";
        for (value, want) in [
            ("local:dir", Source::Client("dir".to_owned())),
            ("input:0-base", Source::Input("0-base".to_owned())),
            (address, Source::Remote(address.to_owned())),
            (
                &format!("oci-layout://a/b:v1@{}", BlobDigest::of(b"")),
                Source::Layout(LayoutName {
                    store: "a/b".to_owned(),
                    digest: BlobDigest::of(b""),
                }),
            ),
            (
                "docker-image://busybox",
                Source::Known(ContextKind::Image("busybox".to_owned())),
            ),
            (
                "docker-image:busybox",
                Source::Known(ContextKind::Image("busybox".to_owned())),
            ),
        ] {
            assert_eq!(source(value).unwrap(), want);
        }
        for value in [
            "docker-image://oci:/etc",
            "docker-image:oci:/etc",
            "docker-image://oci-archive:/etc/x.tar",
            "docker-image://docker-daemon:x",
            "oci-layout://store@sha256:00",
            "/etc",
            "file:///etc",
            "",
        ] {
            assert!(source(value).is_err(), "{value}");
        }
    }

    #[test]
    fn contexts_of_several_platforms_are_apart() {
        let map = map(&[
            ("context:a::linux/amd64", "target:one"),
            ("context:a::linux/arm64", "target:other"),
        ]);
        let contexts = Attributes(&map).contexts().unwrap();
        let target = |name: &str| Source::Known(ContextKind::Target(name.to_owned()));
        assert_eq!(contexts["a::linux/amd64"], target("one"));
        assert_eq!(contexts["a::linux/arm64"], target("other"));
    }

    #[test]
    fn values_that_cannot_be_read_are_told() {
        for (key, value) in [
            ("platform", "a//b"),
            ("add-hosts", "a"),
            ("ulimit", "nofile=20:10"),
            ("ulimit", "hats=1"),
            ("shm-size", "big"),
        ] {
            let map = map(&[(key, value)]);
            assert!(Attributes(&map).options().is_err(), "{key}={value}");
        }
        for (value, want) in [("T", true), ("1", true), ("False", false), ("", false)] {
            let map = map(&[("multi-platform", value)]);
            assert_eq!(Attributes(&map).is_map().unwrap(), want, "{value}");
        }
        let neither = map(&[("multi-platform", "yes")]);
        assert!(Attributes(&neither).is_map().is_err());
        assert!(
            Attributes(&map(&[("force-network-mode", "x")]))
                .network()
                .is_err()
        );
        assert!(
            Attributes(&map(&[("image-resolve-mode", "x")]))
                .pull()
                .is_err()
        );
        assert!(
            Attributes(&map(&[("cgroup-parent", "/../x")]))
                .cgroup_parent()
                .is_err()
        );
    }
}
