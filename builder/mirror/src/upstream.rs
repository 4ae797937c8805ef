//! The registries above a mirror, and what names stand for there.

use kiln_image::Reference;

/// The registries that a mirror may ask, the first of which has the names without a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams(Vec<String>);

impl Upstreams {
    /// These registries (`HOST[:PORT]`); Docker Hub when there are none.
    #[must_use]
    pub fn new(hosts: Vec<String>) -> Self {
        match hosts.is_empty() {
            true => Self(vec!["docker.io".to_owned()]),
            false => Self(hosts),
        }
    }

    /// The registry of names without a host.
    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or("docker.io", String::as_str)
    }

    /// The image that a name of this mirror stands for. The registry is what containerd says in the
    /// parameter `ns`, else the first part of the name if that is one of ours, else the first one.
    /// Nothing when it is a registry that the mirror may not ask, or the name is none.
    pub(crate) fn image(&self, name: &str, ns: Option<&str>, end: &str) -> Option<Reference> {
        let (host, repository) = match (ns, name.split_once('/')) {
            (Some(ns), _) => (self.known(ns)?, name),
            (None, Some((first, rest))) if self.known(first).is_some() => (first, rest),
            (None, _) => (self.first(), name),
        };
        format!("{host}/{repository}{end}").parse().ok()
    }

    fn known<'a>(&self, host: &'a str) -> Option<&'a str> {
        self.0.iter().any(|own| own == host).then_some(host)
    }
}

/// What follows a repository's name: a tag or a digest.
pub(crate) fn end(reference: &str) -> String {
    let separator = match reference.starts_with("sha256:") {
        true => '@',
        false => ':',
    };
    format!("{separator}{reference}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_registries_are_asked() {
        let upstreams = Upstreams::new(vec!["r.example".to_owned(), "127.0.0.1:5000".to_owned()]);
        let image = |name, ns| {
            upstreams
                .image(name, ns, ":v1")
                .map(|image| image.to_string())
        };
        assert_eq!(
            image("team/app", None).as_deref(),
            Some("r.example/team/app:v1")
        );
        assert_eq!(
            image("r.example/team/app", None).as_deref(),
            Some("r.example/team/app:v1")
        );
        assert_eq!(
            image("a", Some("127.0.0.1:5000")).as_deref(),
            Some("127.0.0.1:5000/a:v1")
        );
        assert_eq!(image("a", Some("other.example")), None);
        assert_eq!(image("../a", None), None);
        assert_eq!(image("a@b", None), None);
        let hub = Upstreams::new(Vec::new());
        let debian = hub.image("library/debian", None, ":v1").unwrap();
        assert_eq!(debian.to_string(), "docker.io/library/debian:v1");
    }
}
