//! `PolicyVerifier.CheckPolicy`: a client that has a policy decides on each source before it is used.
//!
//! A policy may look at an image's digest and configuration or a file's digest first, which is then what the build
//! must get, and put another image in an image's place. What else it asks for (attestations, a commit) or would replace is refused: a build without the
//! policy is not what was asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln::SourceVerdict;
use kiln_graph::address::IMAGE_SCHEME;
use kiln_graph::{BlobDigest, Platform};
use kiln_image::ImageName;
use tokio::runtime::Handle;
use tonic::Status;

use super::Session;
use crate::about_source::{about_file, about_image, is_http, wants_attestations, wants_other_sum};
use crate::proto::frontend::{ResolveSourceMetaRequest, ResolveSourceMetaResponse};
use crate::proto::pb::SourceOp;
use crate::proto::platform as platform_message;
use crate::proto::policy::{CheckPolicyRequest, CheckPolicyResponse, Decision, PolicyResult};

const PATH: &str = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";
/// A client decides after so many questions.
const MAX_ROUNDS: usize = 10;

/// An image's digest and configuration.
type ImageFound = (BlobDigest, Vec<u8>);

/// Finds out what an image's name stands for.
pub(crate) type ImageLookup =
    Box<dyn Fn(&str, &Platform) -> Result<ImageFound, String> + Send + Sync>;

/// Finds a file's digest out.
pub(crate) type FileLookup = Box<dyn Fn(&str) -> Result<BlobDigest, String> + Send + Sync>;

/// Finds out what policies ask about sources.
pub(crate) struct Lookups {
    pub(crate) image: ImageLookup,
    pub(crate) file: FileLookup,
}

/// What a session's policy says.
pub(crate) struct SessionPolicy {
    runtime: Handle,
    session: Arc<Session>,
    lookups: Lookups,
    decisions: Arc<Decisions>,
}

/// What a policy said so far, of sources on platforms: a source is asked about once in a build.
#[derive(Debug, Default)]
pub(crate) struct Decisions(Mutex<HashMap<(String, String), Result<SourceVerdict, String>>>);

impl Decisions {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Result<SourceVerdict, String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionPolicy {
    /// The policy of a session, which must have one.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn new(
        runtime: Handle,
        session: Arc<Session>,
        lookups: Lookups,
        decisions: Arc<Decisions>,
    ) -> Result<Self, Status> {
        if !session.offers(PATH) {
            let text = "the session that is to verify the build's sources offers no policy";
            return Err(Status::failed_precondition(text));
        }
        Ok(Self {
            runtime,
            session,
            lookups,
            decisions,
        })
    }

    /// Decides on a source.
    ///
    /// # Errors
    /// Why it may not be used.
    pub(crate) fn check(
        &self,
        source: &str,
        platform: Option<&Platform>,
    ) -> Result<SourceVerdict, String> {
        let platform_name = platform.map(Platform::to_string).unwrap_or_default();
        let key = (source.to_owned(), platform_name);
        if let Some(answer) = self.decisions.lock().get(&key) {
            return answer.clone();
        }
        let host = Platform::host();
        let known = Known {
            image: &|image| (self.lookups.image)(image, platform.unwrap_or(&host)),
            file: &self.lookups.file,
        };
        let answer = decide(source, &|about| self.ask(about, platform), &known);
        _ = self.decisions.lock().insert(key, answer.clone());
        answer
    }

    fn ask(
        &self,
        about: ResolveSourceMetaResponse,
        platform: Option<&Platform>,
    ) -> Result<CheckPolicyResponse, String> {
        let request = CheckPolicyRequest {
            platform: platform.map(platform_message),
            source: Some(about),
        };
        let answer = self.runtime.block_on(self.session.unary(PATH, request));
        answer.map_err(|status| format!("the client's policy: {}", status.message()))
    }
}

type Ask<'a> = &'a dyn Fn(ResolveSourceMetaResponse) -> Result<CheckPolicyResponse, String>;

/// What can be known of sources on one platform.
struct Known<'a> {
    image: &'a dyn Fn(&str) -> Result<ImageFound, String>,
    file: &'a dyn Fn(&str) -> Result<BlobDigest, String>,
}

/// Asks until there is a decision.
fn decide(source: &str, ask: Ask<'_>, known: &Known<'_>) -> Result<SourceVerdict, String> {
    let mut about = ResolveSourceMetaResponse {
        source: Some(SourceOp {
            identifier: source.to_owned(),
            ..SourceOp::default()
        }),
        ..ResolveSourceMetaResponse::default()
    };
    let mut told = Told::default();
    for _ in 0..MAX_ROUNDS {
        let now = about.source.clone().unwrap_or_default();
        match ask(about.clone())?.result {
            Some(PolicyResult::Decision(decision)) if decision.action == Decision::CONVERT => {
                let missing = || "the client's policy replaces it by nothing".to_owned();
                about = ResolveSourceMetaResponse {
                    source: Some(decision.update.ok_or_else(missing)?),
                    ..ResolveSourceMetaResponse::default()
                };
            }
            Some(PolicyResult::Decision(decision)) => {
                allowed(&decision, &now.identifier)?;
                let verdict = verdict_of(source, &now)?;
                return Ok(told.hold(&now.identifier, verdict));
            }
            Some(PolicyResult::Request(request)) => {
                about = looked_up(&request, now, known)?;
                told.note(&about)?;
            }
            None => return Err("the client's policy gave no decision".to_owned()),
        }
    }
    Err("too many policy requests".to_owned())
}

/// The digests that a policy was told of sources before it decided: what is fetched later is held to them.
#[derive(Default)]
struct Told(HashMap<String, BlobDigest>);

impl Told {
    fn note(&mut self, about: &ResolveSourceMetaResponse) -> Result<(), String> {
        let file = about.http.as_ref().map(|file| &file.checksum);
        let digest = file.or_else(|| about.image.as_ref().map(|image| &image.digest));
        if let (Some(source), Some(digest)) = (&about.source, digest) {
            let digest = digest
                .parse()
                .map_err(|error| format!("{digest:?}: {error}"))?;
            _ = self.0.insert(source.identifier.clone(), digest);
        }
        Ok(())
    }

    /// A verdict on a source, with the digest that it was told of.
    fn hold(&self, source: &str, verdict: SourceVerdict) -> SourceVerdict {
        match (verdict, self.0.get(source)) {
            (SourceVerdict::AsItIs, Some(digest)) => SourceVerdict::Checksum(*digest),
            (SourceVerdict::Image(name), Some(digest)) => {
                SourceVerdict::Image(with_digest(&name, digest))
            }
            (verdict, _) => verdict,
        }
    }
}

/// An image's name with what it stands for, unless it says so already.
pub(crate) fn with_digest(name: &str, digest: &BlobDigest) -> String {
    match name.contains('@') {
        true => name.to_owned(),
        false => format!("{name}@{digest}"),
    }
}

/// What a policy wants to know of a source before it decides.
fn looked_up(
    request: &ResolveSourceMetaRequest,
    source: SourceOp,
    known: &Known<'_>,
) -> Result<ResolveSourceMetaResponse, String> {
    let is_other = |asked: &SourceOp| asked.identifier != source.identifier;
    let is_unknown = wants_attestations(request)
        || request.git.is_some()
        || wants_other_sum(request)
        || request.source.as_ref().is_some_and(is_other);
    if is_http(&source.identifier) && !is_unknown {
        let digest = (known.file)(&source.identifier)?;
        return Ok(about_file(source, &digest));
    }
    let image = source.identifier.strip_prefix(IMAGE_SCHEME);
    let Some(image) = image.filter(|_| !is_unknown) else {
        return Err(
            "the client's policy asks what is in the source before it decides, which kiln tells of images, without their attestations, and of files only"
                .to_owned(),
        );
    };
    let (digest, config) = (known.image)(image)?;
    Ok(about_image(source, request, &digest, config))
}

/// What it comes to that a policy put `now` in the place of a source.
///
/// # Errors
/// When that can't be done here.
pub(crate) fn verdict_of(source: &str, now: &SourceOp) -> Result<SourceVerdict, String> {
    const SUM: &str = "http.checksum";
    let is_meant = |key: &&String| {
        ["image.", "git.", "http.", "local."]
            .iter()
            .any(|kind| key.starts_with(kind))
    };
    if let Some(other) = now.attrs.keys().filter(is_meant).find(|key| *key != SUM) {
        return Err(format!("the policy sets {other}, which kiln can't do"));
    }
    let sum = now.attrs.get(SUM);
    if sum.is_some() && !is_http(source) {
        return Err(format!("the policy sets {SUM}, which is for files only"));
    }
    match (now.identifier.strip_prefix(IMAGE_SCHEME), sum) {
        _ if now.identifier == source => match sum {
            None => Ok(SourceVerdict::AsItIs),
            Some(sum) => sum
                .parse()
                .map(SourceVerdict::Checksum)
                .map_err(|error| format!("the policy's checksum {sum:?}: {error}")),
        },
        (Some(image), None) if source.starts_with(IMAGE_SCHEME) => match image.parse() {
            Ok(ImageName::Registry(name)) => Ok(SourceVerdict::Image(name.to_string())),
            _ => Err(format!(
                "the policy replaces it by {image:?}, which is no image of a registry"
            )),
        },
        _ => Err(
            "the policy replaces it by another source, which kiln does for images only".to_owned(),
        ),
    }
}

fn allowed(decision: &Decision, source: &str) -> Result<(), String> {
    let action = match decision.action {
        Decision::ALLOW => return Ok(()),
        Decision::DENY => "DENY".to_owned(),
        other => other.to_string(),
    };
    let reasons = decision.deny_messages.iter();
    let reasons: Vec<&str> = reasons.map(|one| one.message.as_str()).collect();
    let why = match reasons.is_empty() {
        true => String::new(),
        false => format!(": {}", reasons.join("; ")),
    };
    Err(format!(
        "source {source:?} not allowed by policy: action {action}{why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::policy::DenyMessage;

    fn decision(action: i32) -> CheckPolicyResponse {
        CheckPolicyResponse {
            result: Some(PolicyResult::Decision(Decision {
                action,
                deny_messages: vec![DenyMessage {
                    message: "pin it".to_owned(),
                }],
                update: None,
            })),
        }
    }

    const FILE: &str = "https://a.example/a.tar";
    const SOURCE: &str = "docker-image://docker.io/library/busybox:latest";

    /// What a client that gives these answers, one after the other, comes to.
    fn decided(answers: &[CheckPolicyResponse]) -> (Result<SourceVerdict, String>, usize) {
        decided_on(SOURCE, answers)
    }

    fn decided_on(
        source: &str,
        answers: &[CheckPolicyResponse],
    ) -> (Result<SourceVerdict, String>, usize) {
        let asked = std::cell::Cell::new(0);
        let ask = |about: ResolveSourceMetaResponse| {
            let number = asked.get();
            asked.set(number + 1);
            if about.image.is_some_and(|image| image.digest.is_empty()) {
                return Err("no digest".to_owned());
            }
            if number > 0
                && source == FILE
                && about.http.is_none_or(|http| http.filename != "a.tar")
            {
                return Err("no file".to_owned());
            }
            Ok(answers[number.min(answers.len() - 1)].clone())
        };
        let lookup = |name: &str| match name {
            "docker.io/library/busybox:latest" => {
                Ok((BlobDigest::from_sha256([7; 32]), b"{}".to_vec()))
            }
            other => Err(format!("{other} is not known")),
        };
        let known = Known {
            image: &lookup,
            file: &|url| Ok(BlobDigest::of(url.as_bytes())),
        };
        (decide(source, &ask, &known), asked.get())
    }

    fn request(source: &str) -> CheckPolicyResponse {
        CheckPolicyResponse {
            result: Some(PolicyResult::Request(Box::new(ResolveSourceMetaRequest {
                source: Some(SourceOp {
                    identifier: source.to_owned(),
                    ..SourceOp::default()
                }),
                ..ResolveSourceMetaRequest::default()
            }))),
        }
    }

    fn convert(to: &str, attributes: &[(&str, &str)]) -> CheckPolicyResponse {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        CheckPolicyResponse {
            result: Some(PolicyResult::Decision(Decision {
                action: Decision::CONVERT,
                deny_messages: Vec::new(),
                update: Some(SourceOp {
                    identifier: to.to_owned(),
                    attrs: attributes.iter().map(owned).collect(),
                }),
            })),
        }
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        let yes = decision(Decision::ALLOW);
        assert_eq!(
            decided(std::slice::from_ref(&yes)).0,
            Ok(SourceVerdict::AsItIs)
        );
        let denied = decided(&[decision(Decision::DENY)]).0.unwrap_err();
        assert_eq!(
            denied,
            format!("source {SOURCE:?} not allowed by policy: action DENY: pin it")
        );
        for other in [decision(7), CheckPolicyResponse::default()] {
            assert!(decided(&[other]).0.is_err());
        }
    }

    #[test]
    fn policies_look_at_the_digests_of_files() {
        let yes = decision(Decision::ALLOW);
        let looked = decided_on(FILE, &[request(FILE), yes.clone()]);
        let seen = SourceVerdict::Checksum(BlobDigest::of(FILE.as_bytes()));
        assert_eq!(
            looked,
            (Ok(seen), 2),
            "what is fetched later is what it saw"
        );
        let blind = decided_on(FILE, std::slice::from_ref(&yes));
        assert_eq!(blind, (Ok(SourceVerdict::AsItIs), 1));
        let mut other = request(FILE);
        if let Some(PolicyResult::Request(request)) = &mut other.result {
            request.http = Some(crate::proto::frontend::ResolveSourceHttpRequest {
                checksum_request: Some(Default::default()),
            });
        }
        assert!(decided_on(FILE, &[other, yes.clone()]).0.is_err());
        let git = "git://a.example/b";
        assert!(decided_on(git, &[request(git), yes]).0.is_err());
    }

    #[test]
    fn policies_look_into_images_and_replace_them() {
        let (yes, no) = (decision(Decision::ALLOW), decision(Decision::DENY));
        let looked = decided(&[request(SOURCE), yes.clone()]);
        let seen = BlobDigest::from_sha256([7; 32]);
        assert_eq!(looked, (Ok(SourceVerdict::Checksum(seen)), 2));
        assert!(
            decided(&[request("docker-image://docker.io/library/other:latest")])
                .0
                .is_err()
        );
        let other = "docker-image://docker.io/library/alpine:latest";
        let replaced = decided(&[convert(other, &[("note", "1")]), yes.clone()]).0;
        let name = "docker.io/library/alpine:latest".to_owned();
        assert_eq!(replaced, Ok(SourceVerdict::Image(name)));
        let denied = decided(&[convert(other, &[]), no]).0.unwrap_err();
        assert!(
            denied.contains("alpine"),
            "what takes the place is decided on: {denied}"
        );
        assert_eq!(
            decided(&[convert(SOURCE, &[])]),
            (Err("too many policy requests".to_owned()), MAX_ROUNDS)
        );
        for bad in [
            convert("https://a.example/b", &[]),
            convert("docker-image://", &[]),
            convert(other, &[("image.layerlimit", "1")]),
            convert(SOURCE, &[("http.checksum", "sha256:1")]),
            convert(
                SOURCE,
                &[("http.checksum", &BlobDigest::of(b"x").to_string())],
            ),
        ] {
            assert!(decided(&[bad.clone(), yes.clone()]).0.is_err(), "{bad:?}");
        }
    }
}
