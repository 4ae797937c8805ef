//! Holds what a build takes from elsewhere to the rules of a policy, before it is fetched.

use kiln_engine::{Engine, Event, EventSink, Pins};
use kiln_graph::encode::Encoder;
use kiln_graph::{BlobDigest, Build, Digest, Location, Op, Platform, StepId, is_commit};
use kiln_image::{ImageName, Reference};

use super::signature::{RequiredSignature, SignatureRule};
use super::source_check::SourceCheck;
use super::source_rule::{SourceName, SourceRules};
use crate::attest::{missing_signature, verify_image};
use crate::{Error, file_text};

/// Bumped when signatures are checked in another way: what was found before counts no more.
const VERIFY_VERSION: u32 = 2;

/// Checks sources.
#[derive(Clone, Copy)]
pub(crate) struct SourceGuard<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) rules: &'a SourceRules,
    /// What whoever asks for the build says of sources.
    pub(crate) check: Option<&'a dyn SourceCheck>,
    /// Is told what a policy that only warns would deny.
    pub(crate) events: &'a dyn EventSink,
}

impl<'a> SourceGuard<'a> {
    /// Whether an image may be used at all, and the signature it must have.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn image(
        &self,
        name: &str,
        platform: &Platform,
        is_locked: bool,
        location: Option<&Location>,
    ) -> Result<Option<RequiredSignature>, Error> {
        let name = SourceName::image(name, is_locked);
        let rule = self.check(&name, Some(platform), location)?;
        rule.map(|rule| rule.resolve(file_text)).transpose()
    }

    /// Why an image hasn't the signatures that it must have, if it hasn't.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) fn unsigned(
        &self,
        name: &str,
        digest: &BlobDigest,
        platform: &Platform,
        wanted: &RequiredSignature,
    ) -> Result<Option<String>, Error> {
        let memo = memo_key(digest, wanted);
        let store = self.engine.store();
        if store.memo::<bool>("verified", &memo)? == Some(true) {
            return Ok(None);
        }
        let Ok(ImageName::Registry(reference)) = name.parse::<ImageName>() else {
            let reason = "it is in no registry that could have its signature";
            return Ok(Some(reason.to_owned()));
        };
        let pinned = Reference {
            digest: Some(*digest),
            ..reference
        };
        let client = self.engine.client();
        let (verified, refused) = match verify_image(client, &pinned, platform, &wanted.signers) {
            Ok(found) => found,
            Err(error) => return Ok(Some(format!("its signatures can't be had: {error}"))),
        };
        let missing = missing_signature(&verified, &wanted.signers, &wanted.attestations);
        let Some(missing) = missing else {
            store.put_memo("verified", &memo, &true)?;
            return Ok(None);
        };
        let missing = match missing.as_str() {
            "it" => missing,
            kind => format!("its {kind}"),
        };
        let refused = match (refused.first(), verified.is_empty()) {
            (Some(reason), _) => Some(format!(" ({reason})")),
            (None, true) => Some(" (its registry has no signature of it)".to_owned()),
            (None, false) => None,
        };
        let (by, refused) = (&wanted.shown, refused.unwrap_or_default());
        Ok(Some(format!("{missing} must be signed by {by}{refused}")))
    }

    /// Refuses an image that hasn't the signature which a rule demands.
    ///
    /// # Errors
    /// The refusal, unless the policy only warns.
    pub(crate) fn refuse(
        &self,
        name: &str,
        rule: String,
        location: Option<&Location>,
    ) -> Result<(), Error> {
        self.denied(&SourceName::image(name, true), rule, location)
    }

    /// Whether what the steps of a build fetch by git and HTTP may be used.
    ///
    /// # Errors
    /// When something may not.
    pub(crate) fn build(&self, build: &Build, pins: &Pins) -> Result<(), Error> {
        if self.rules.is_empty() && self.check.is_none() {
            return Ok(());
        }
        let roots: Vec<StepId> = build.targets.iter().map(|target| target.root).collect();
        for id in build.graph.needed_for(&roots) {
            let step = build.graph.step(id);
            let source = match &step.op {
                Op::Git(git) => {
                    let is_pinned = is_commit(&git.reference)
                        || git.checksum.is_some()
                        || pins.git.contains_key(&Pins::git_key(git));
                    SourceName::git(&git.remote, &git.reference, is_pinned)
                }
                Op::Http(http) => {
                    let is_pinned =
                        http.checksum.is_some() || pins.http.contains_key(&Pins::http_key(http));
                    SourceName::http(&http.url, is_pinned)
                }
                _ => continue,
            };
            let _none = self.check(&source, None, step.location.as_ref())?;
        }
        Ok(())
    }

    /// Whether a commit of a repository may be used.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn commit(&self, remote: &str, commit: &str) -> Result<(), Error> {
        self.check(&SourceName::git(remote, commit, true), None, None)
            .map(|_| ())
    }

    fn check(
        &self,
        source: &SourceName,
        platform: Option<&Platform>,
        location: Option<&Location>,
    ) -> Result<Option<&'a SignatureRule>, Error> {
        if let Some(check) = self.check
            && let Err(rule) = check.check(source.identifier(), platform)
        {
            return Err(Error::SourceDenied {
                source_name: source.to_string(),
                rule,
                location: location.cloned(),
            });
        }
        match self.rules.check(source) {
            Ok(wanted) => Ok(wanted),
            Err(rule) => self.denied(source, rule, location).map(|()| None),
        }
    }

    /// An error, or a warning when that is all the policy does.
    fn denied(
        &self,
        source: &SourceName,
        rule: String,
        location: Option<&Location>,
    ) -> Result<(), Error> {
        let error = Error::SourceDenied {
            source_name: source.to_string(),
            rule,
            location: location.cloned(),
        };
        if self.rules.only_warns() {
            let message = error.to_string();
            self.events.event(Event::Warning { message });
            return Ok(());
        }
        Err(error)
    }
}

fn memo_key(digest: &BlobDigest, wanted: &RequiredSignature) -> Digest {
    let mut out = Encoder::new("kiln-verified", VERIFY_VERSION);
    // All that is compared is in the text: keys, roots, identities, how many.
    out.blob(digest).str(&format!("{:?}", wanted.signers));
    out.seq(&wanted.attestations, |out, kind| {
        out.str(&kind.to_string());
    });
    out.finish()
}
