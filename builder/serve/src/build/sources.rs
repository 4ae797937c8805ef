//! What a build may take from elsewhere: results of other builds that it was given as inputs, by the names that
//! they have in the store meanwhile, and what the client's policy allows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use kiln::SourceCheck;
use kiln_graph::Platform;
use kiln_llb::OWN_RESULTS;

use crate::session::SessionPolicy;

/// What one build may take from elsewhere.
#[derive(Default)]
pub(super) struct Sources {
    /// What the client's policy says of sources, when it has one.
    pub(super) policy: Option<Arc<SessionPolicy>>,
    /// The names of results that are its inputs.
    inputs: Mutex<BTreeSet<String>>,
}

impl Sources {
    /// With the client's policy.
    pub(super) fn new(policy: Option<Arc<SessionPolicy>>) -> Self {
        Self {
            policy,
            inputs: Mutex::default(),
        }
    }

    /// Lets the build use a result by the name that it has in the store.
    pub(super) fn admit(&self, name: &str) {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        _ = inputs.insert(name.to_owned());
    }
}

/// Whether an image has the name of a result. The names are shown, so they let nobody in.
fn is_result(image: &str) -> bool {
    let start = image.get(..OWN_RESULTS.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(OWN_RESULTS))
}

impl SourceCheck for Sources {
    fn check(&self, source: &str, platform: Option<&Platform>) -> Result<(), String> {
        let image = source.strip_prefix("docker-image://").unwrap_or(source);
        if is_result(image) {
            let inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
            return match inputs.iter().any(|input| image.starts_with(input)) {
                true => Ok(()),
                false => Err(format!("source {source:?} is no input of this build")),
            };
        }
        let policy = self.policy.as_ref();
        policy.map_or(Ok(()), |policy| policy.check(source, platform))
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
        assert_eq!(own.check(&source, None), Ok(()));
        let upper = source.replace("kiln-ref", "KILN-ref");
        for (sources, source) in [(&other, &source), (&own, &upper), (&other, &upper)] {
            let refused = sources.check(source, None).unwrap_err();
            assert!(refused.contains("no input"), "{refused}");
        }
        let busybox = "docker-image://docker.io/library/busybox:latest";
        assert_eq!(other.check(busybox, None), Ok(()));
    }
}
