//! Holds what a build takes from elsewhere to the rules of a policy, before it is fetched.

use kiln_engine::{Engine, Event, EventSink, Pins};
use kiln_graph::encode::Encoder;
use kiln_graph::{
    BlobDigest, Build, Digest, HttpSource, Location, Op, Platform, StepId, is_commit,
};
use kiln_image::{ImageName, Reference};

use super::signature::{RequiredSignature, SignatureRule};
use super::source_check::{SourceCheck, SourceVerdict};
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

/// What is to be done about an image that may be used.
#[derive(Debug, Default)]
pub(crate) struct AdmittedImage {
    /// The signature that it must have.
    pub(crate) signature: Option<RequiredSignature>,
    /// The name of the image that takes its place.
    pub(crate) instead: Option<String>,
    /// What its name must stand for, when it doesn't say so itself.
    pub(crate) digest: Option<BlobDigest>,
}

impl<'a> SourceGuard<'a> {
    /// Whether an image may be used at all, and as what.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn image(
        &self,
        name: &str,
        platform: &Platform,
        locked: Option<BlobDigest>,
        location: Option<&Location>,
    ) -> Result<AdmittedImage, Error> {
        let source = SourceName::image(name, locked.is_some());
        let (rule, instead, digest) = match self.ask(&source, Some(platform), location)? {
            SourceVerdict::AsItIs => (self.rule(&source, location)?, None, None),
            SourceVerdict::Image(other) => {
                let replacement = SourceName::image(&other, false);
                (self.rule(&replacement, location)?, Some(other), None)
            }
            SourceVerdict::Checksum(digest) => {
                let known = locked.or_else(|| digest_in(name));
                agree(&source, known, digest, location)?;
                let digest = Some(digest).filter(|_| known.is_none());
                (self.rule(&source, location)?, None, digest)
            }
        };
        Ok(AdmittedImage {
            signature: rule.map(|rule| rule.resolve(file_text)).transpose()?,
            instead,
            digest,
        })
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
        if store.memos().get::<bool>("verified", &memo)? == Some(true) {
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
            store.memos().put("verified", &memo, &true)?;
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

    /// Whether what the steps of a build fetch by git and HTTP may be used. `pins` learns the digests that files
    /// must have.
    ///
    /// # Errors
    /// When something may not.
    pub(crate) fn build(&self, build: &Build, pins: &mut Pins) -> Result<(), Error> {
        if self.rules.is_empty() && self.check.is_none() {
            return Ok(());
        }
        let roots: Vec<StepId> = build.targets.iter().map(|target| target.root).collect();
        for id in build.graph.needed_for(&roots) {
            let step = build.graph.step(id);
            let location = step.location.as_ref();
            match &step.op {
                Op::Git(git) => {
                    let is_pinned = is_commit(&git.reference)
                        || git.checksum.is_some()
                        || pins.git.contains_key(&Pins::git_key(git));
                    let source = SourceName::git(&git.remote, &git.reference, is_pinned);
                    self.as_it_is(&source, location)?;
                }
                Op::Http(http) => self.file(http, location, pins)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a file of a web server may be used.
    fn file(
        &self,
        http: &HttpSource,
        location: Option<&Location>,
        pins: &mut Pins,
    ) -> Result<(), Error> {
        let key = Pins::http_key(http);
        let pinned = http.checksum.or_else(|| pins.http.get(&key).copied());
        let source = SourceName::http(&http.url, pinned.is_some());
        match self.ask(&source, None, location)? {
            SourceVerdict::AsItIs => {}
            SourceVerdict::Checksum(digest) => {
                agree(&source, pinned, digest, location)?;
                pins.http.insert(key, digest);
            }
            SourceVerdict::Image(_) => return Err(irreplaceable(&source, location)),
        }
        self.rule(&source, location).map(|_| ())
    }

    /// Whether a commit of a repository may be used.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn commit(&self, remote: &str, commit: &str) -> Result<(), Error> {
        self.as_it_is(&SourceName::git(remote, commit, true), None)
    }

    /// Whether a source may be used that nothing can take the place of.
    fn as_it_is(&self, source: &SourceName, location: Option<&Location>) -> Result<(), Error> {
        match self.ask(source, None, location)? {
            SourceVerdict::AsItIs => self.rule(source, location).map(|_| ()),
            _ => Err(irreplaceable(source, location)),
        }
    }

    /// What whoever asks for the build says of a source.
    fn ask(
        &self,
        source: &SourceName,
        platform: Option<&Platform>,
        location: Option<&Location>,
    ) -> Result<SourceVerdict, Error> {
        let Some(check) = self.check else {
            return Ok(SourceVerdict::AsItIs);
        };
        let verdict = check.check(source.identifier(), platform);
        verdict.map_err(|rule| denied(source, rule, location))
    }

    /// What the rules say of a source.
    fn rule(
        &self,
        source: &SourceName,
        location: Option<&Location>,
    ) -> Result<Option<&'a SignatureRule>, Error> {
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
        let error = denied(source, rule, location);
        if self.rules.only_warns() {
            let message = error.to_string();
            self.events.event(Event::Warning { message });
            return Ok(());
        }
        Err(error)
    }
}

fn denied(source: &SourceName, rule: String, location: Option<&Location>) -> Error {
    Error::SourceDenied {
        source_name: source.to_string(),
        rule,
        location: location.cloned(),
    }
}

/// The digest that is written in an image's name.
fn digest_in(name: &str) -> Option<BlobDigest> {
    match name.parse() {
        Ok(ImageName::Registry(reference)) => reference.digest,
        _ => None,
    }
}

/// Refuses a source that is known by another digest than the one that was looked at.
fn agree(
    source: &SourceName,
    known: Option<BlobDigest>,
    digest: BlobDigest,
    location: Option<&Location>,
) -> Result<(), Error> {
    match known.filter(|known| *known != digest) {
        None => Ok(()),
        Some(known) => {
            let rule = format!("the policy is about {digest}, and the build about {known}");
            Err(denied(source, rule, location))
        }
    }
}

fn irreplaceable(source: &SourceName, location: Option<&Location>) -> Error {
    const RULE: &str = "the policy replaces it by another source: images can be replaced, and images and files be given a digest";
    denied(source, RULE.to_owned(), location)
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
