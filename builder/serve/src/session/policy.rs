//! `PolicyVerifier.CheckPolicy`: a client that has a policy decides on each source before it is used.
//!
//! What the client can't decide without looking into the source (an image's configuration or
//! attestations, a commit, a file's checksum) is refused, and so is a source that it would replace
//! by another: a build without the policy is not what was asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln::{SourceCheck, SourceName};
use kiln_frontend_dockerfile::read_remote;
use kiln_graph::{Op, Platform};
use tokio::runtime::Handle;
use tonic::Status;

use super::Session;
use crate::control::workers;
use crate::proto::frontend::ResolveSourceMetaResponse;
use crate::proto::pb::SourceOp;
use crate::proto::policy::{CheckPolicyRequest, CheckPolicyResponse, Decision, PolicyResult};

const PATH: &str = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";
/// What a session's policy says.
pub(crate) struct SessionPolicy {
    runtime: Handle,
    session: Arc<Session>,
    /// Answers so far: a source is asked about once in a build.
    known: Mutex<HashMap<(String, String), Result<(), String>>>,
}

impl SessionPolicy {
    /// The policy of a session, which must have one.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) fn new(runtime: Handle, session: Arc<Session>) -> Result<Self, Status> {
        if !session.offers(PATH) {
            let text = "the session that is to verify the build's sources offers no policy";
            return Err(Status::failed_precondition(text));
        }
        Ok(Self {
            runtime,
            session,
            known: Mutex::default(),
        })
    }

    /// Decides on a context, by the address or the directory that the client named.
    ///
    /// # Errors
    /// When it may not be used.
    pub(crate) fn context(&self, source: &str) -> Result<(), Status> {
        let identifier = match source.contains("://") {
            true => remote_identifier(source),
            false => format!("local://{source}"),
        };
        self.check(&identifier, None)
            .map_err(|reason| Status::unknown(format!("{identifier}: {reason}")))
    }

    fn ask(&self, source: &str, platform: Option<&Platform>) -> Result<(), String> {
        let request = CheckPolicyRequest {
            platform: platform.map(workers::platform),
            source: Some(ResolveSourceMetaResponse {
                source: Some(SourceOp {
                    identifier: source.to_owned(),
                    ..SourceOp::default()
                }),
                ..ResolveSourceMetaResponse::default()
            }),
        };
        let answer = self.session.unary(PATH, request);
        let answer: CheckPolicyResponse = self
            .runtime
            .block_on(answer)
            .map_err(|status| format!("the client's policy: {}", status.message()))?;
        decide(answer, source)
    }
}

/// What an answer comes to.
fn decide(answer: CheckPolicyResponse, source: &str) -> Result<(), String> {
    match answer.result {
        Some(PolicyResult::Decision(decision)) => allowed(&decision, source),
        Some(PolicyResult::Request(_)) => Err(
            "the client's policy asks what is in the source before it decides, which kiln can't tell it"
                .to_owned(),
        ),
        None => Err("the client's policy gave no decision".to_owned()),
    }
}

fn allowed(decision: &Decision, source: &str) -> Result<(), String> {
    let action = match decision.action {
        Decision::ALLOW => return Ok(()),
        Decision::CONVERT => {
            let text = "the client's policy replaces it by another source, which kiln can't do";
            return Err(text.to_owned());
        }
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

/// The name of what is at an address.
fn remote_identifier(address: &str) -> String {
    match read_remote(address, None, None) {
        Ok(Op::Git(git)) => {
            let name = SourceName::git(&git.remote, &git.reference, false);
            name.identifier().to_owned()
        }
        _ => SourceName::http(address, false).identifier().to_owned(),
    }
}

impl SourceCheck for SessionPolicy {
    fn check(&self, source: &str, platform: Option<&Platform>) -> Result<(), String> {
        let platform_name = platform.map(Platform::to_string).unwrap_or_default();
        let key = (source.to_owned(), platform_name);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known.get(&key) {
            return answer.clone();
        }
        drop(known);
        let answer = self.ask(source, platform);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, answer.clone());
        answer
    }
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

    #[test]
    fn only_a_clear_yes_is_one() {
        const SOURCE: &str = "docker-image://docker.io/library/busybox:latest";
        assert_eq!(decide(decision(Decision::ALLOW), SOURCE), Ok(()));
        let denied = decide(decision(Decision::DENY), SOURCE).unwrap_err();
        assert_eq!(
            denied,
            format!("source {SOURCE:?} not allowed by policy: action DENY: pin it")
        );
        let request = CheckPolicyResponse {
            result: Some(PolicyResult::Request(Box::default())),
        };
        for other in [
            decision(Decision::CONVERT),
            decision(7),
            request,
            CheckPolicyResponse::default(),
        ] {
            assert!(decide(other, SOURCE).is_err());
        }
    }

    #[test]
    fn contexts_have_the_names_of_policies() {
        for (address, want) in [
            (
                "https://github.com/a/b.git#main",
                "git://github.com/a/b.git#main",
            ),
            ("https://x.example/a.tar", "https://x.example/a.tar"),
        ] {
            assert_eq!(remote_identifier(address), want);
        }
    }
}
