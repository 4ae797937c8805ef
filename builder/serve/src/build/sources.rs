//! What a build may take from elsewhere: results of other builds that it was given as inputs, by the names that
//! they have in the store meanwhile, and what the client's policy allows.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use kiln::{SourceCheck, SourceName, SourceVerdict};
use kiln_frontend_dockerfile::read_remote;
use kiln_graph::address::IMAGE_SCHEME;
use kiln_graph::{BlobDigest, Op, Platform};
use kiln_llb::OWN_RESULTS;
use tonic::Status;

use super::source_policy::SourcePolicy;
use crate::about_source::is_http;
use crate::session::{SessionPolicy, with_digest};

/// What one build may take from elsewhere.
#[derive(Default)]
pub(super) struct Sources {
    /// The rules that came with the build.
    rules: SourcePolicy,
    /// What the client's policy says of sources, when it has one.
    policy: Option<SessionPolicy>,
    /// The names of results that are its inputs.
    inputs: Mutex<BTreeSet<String>>,
}

impl Sources {
    /// With the build's rules, and the client's policy.
    pub(super) fn new(rules: SourcePolicy, policy: Option<SessionPolicy>) -> Self {
        Self {
            rules,
            policy,
            inputs: Mutex::default(),
        }
    }

    /// Decides on a context, by the address or the directory that the client named. Gives the digest that a file
    /// must have.
    ///
    /// # Errors
    /// When it may not be used.
    pub(super) fn context(&self, source: &str) -> Result<Option<BlobDigest>, Status> {
        let identifier = context_identifier(source);
        let decided = self.decide(&identifier, None);
        let decided = decided.and_then(|verdict| match verdict {
            SourceVerdict::AsItIs => Ok(None),
            SourceVerdict::Checksum(digest) if is_http(&identifier) => Ok(Some(digest)),
            _ => Err("the policy replaces it by another source, which kiln can't do".to_owned()),
        });
        decided.map_err(|reason| Status::unknown(format!("{identifier}: {reason}")))
    }

    /// What the rules and the policy say. The policy is asked about what the rules put in a source's place.
    fn decide(&self, source: &str, platform: Option<&Platform>) -> Result<SourceVerdict, String> {
        let first = self.rules.check(source)?;
        let Some(policy) = &self.policy else {
            return Ok(first);
        };
        let other = match &first {
            SourceVerdict::Image(name) => Some(format!("{IMAGE_SCHEME}{name}")),
            _ => None,
        };
        match policy.check(other.as_deref().unwrap_or(source), platform)? {
            SourceVerdict::AsItIs => Ok(first),
            SourceVerdict::Checksum(sum) => match first {
                SourceVerdict::Checksum(own) if own != sum => {
                    Err("the rules and the policy want different checksums".to_owned())
                }
                SourceVerdict::Image(name) => Ok(SourceVerdict::Image(with_digest(&name, &sum))),
                _ => Ok(SourceVerdict::Checksum(sum)),
            },
            image @ SourceVerdict::Image(_) => Ok(image),
        }
    }

    /// Lets the build use a result by the name that it has in the store.
    pub(super) fn admit(&self, name: &str) {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        _ = inputs.insert(name.to_owned());
    }
}

/// The name of a context in policies: of what is at an address, or of a client's directory.
fn context_identifier(source: &str) -> String {
    if !source.contains("://") {
        return format!("local://{source}");
    }
    // What stands before the digest is no user's name.
    if source.starts_with("oci-layout://") {
        return source.to_owned();
    }
    match read_remote(source, None, None) {
        Ok(Op::Git(git)) => {
            let name = SourceName::git(&git.remote, &git.reference, false);
            name.identifier().to_owned()
        }
        _ => SourceName::http(source, false).identifier().to_owned(),
    }
}

/// Whether an image has the name of a result. The names are shown, so they let nobody in.
fn is_result(image: &str) -> bool {
    let start = image.get(..OWN_RESULTS.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(OWN_RESULTS))
}

impl SourceCheck for Sources {
    fn check(&self, source: &str, platform: Option<&Platform>) -> Result<SourceVerdict, String> {
        let image = source.strip_prefix(IMAGE_SCHEME).unwrap_or(source);
        if is_result(image) {
            let inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
            return match inputs.iter().any(|input| image.starts_with(input)) {
                true => Ok(SourceVerdict::AsItIs),
                false => Err(format!("source {source:?} is no input of this build")),
            };
        }
        self.decide(source, platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_llb::image_of_ref;

    #[test]
    fn results_are_for_the_builds_that_have_them_as_inputs() {
        let (own, other) = (Sources::default(), Sources::default());
        let name = image_of_ref(&"a1".repeat(32)).unwrap();
        own.admit(&name);
        let source = format!("docker-image://{name}");
        assert_eq!(own.check(&source, None), Ok(SourceVerdict::AsItIs));
        let upper = source.replace("kiln-ref", "KILN-ref");
        for (sources, source) in [(&other, &source), (&own, &upper), (&other, &upper)] {
            let refused = sources.check(source, None).unwrap_err();
            assert!(refused.contains("no input"), "{refused}");
        }
        let busybox = "docker-image://docker.io/library/busybox:latest";
        assert_eq!(other.check(busybox, None), Ok(SourceVerdict::AsItIs));
    }
    #[test]
    fn contexts_have_the_names_of_policies() {
        for (address, want) in [
            (
                "https://github.com/a/b.git#main",
                "git://github.com/a/b.git#main",
            ),
            ("https://x.example/a.tar", "https://x.example/a.tar"),
            ("context", "local://context"),
            (
                "oci-layout://store@sha256:ab",
                "oci-layout://store@sha256:ab",
            ),
        ] {
            assert_eq!(context_identifier(address), want);
        }
    }
}
