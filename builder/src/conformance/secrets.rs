//! Tries providers of secrets.

use kiln_engine::{SecretError, SecretProvider, SecretValue};
use kiln_graph::conformance::{Nonconforming, in_threads, rule, says_something};

/// Tries a provider of secrets, which has one named `known` and none named `unknown`.
///
/// # Errors
/// When it doesn't keep what [`SecretProvider`] says.
pub fn secrets(
    provider: &dyn SecretProvider,
    known: &str,
    unknown: &str,
) -> Result<(), Nonconforming> {
    let value = || bytes(provider.secret(known));
    let first = value()?;
    rule(first.is_some(), "the known secret can't be had")?;
    rule(
        first == value()?,
        "a secret is another when it is asked for again",
    )?;
    rule(
        first == bytes(provider.at_hand(known))?,
        "a secret that was given isn't at hand",
    )?;
    rule(
        in_threads(value)?.iter().all(|other| *other == first),
        "a secret is another for another thread",
    )?;
    for none in [provider.secret(unknown), provider.at_hand(unknown)] {
        rule(
            matches!(none, Ok(None)),
            "an unknown secret isn't nothing: what fails is an error of the step",
        )?;
    }
    rule(
        provider.ssh_agent(unknown).is_none(),
        "there is an SSH agent of an unknown name",
    )
}

/// Tries a provider of secrets with one that the user gave and that can't be had. `unsaid` is what no error
/// may say: what was to be the value, or the password for it.
///
/// # Errors
/// When it doesn't keep what [`SecretProvider`] says.
pub fn failing_secret(
    provider: &dyn SecretProvider,
    id: &str,
    unsaid: &str,
) -> Result<(), Nonconforming> {
    for _ in 0..2 {
        let Err(error) = provider.secret(id) else {
            let text = "a secret that can't be had is no error: steps would run without it";
            return Err(Nonconforming::Rule(text));
        };
        let text = error.to_string();
        says_something(&text)?;
        rule(
            !text.contains(unsaid) && !format!("{error:?}").contains(unsaid),
            "an error says what is secret",
        )?;
    }
    rule(
        !matches!(provider.at_hand(id), Ok(Some(_))),
        "a secret that can't be had is at hand",
    )
}

type Given = Result<Option<SecretValue>, SecretError>;

fn bytes(given: Given) -> Result<Option<Vec<u8>>, Nonconforming> {
    let given = given.map_err(Nonconforming::failed("have the known secret"))?;
    Ok(given.map(|value| value.expose().to_vec()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use kiln_engine::NoSecrets;

    /// A way not to be a provider.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Fault {
        None,
        ChangesItsMind,
        Forgets,
        IsOfThreads,
        FailsOnUnknown,
        KnowsEverything,
        HasAllAgents,
    }

    struct Faulty(Fault, AtomicUsize);

    impl SecretProvider for Faulty {
        fn secret(&self, id: &str) -> Given {
            let calls = self.1.fetch_add(1, Ordering::SeqCst);
            let value = match (self.0, id) {
                (Fault::ChangesItsMind, _) => calls.to_string(),
                (Fault::IsOfThreads, _) => format!("{:?}", std::thread::current().id()),
                (Fault::FailsOnUnknown, "unknown") => {
                    return Err(SecretError::NotFound("there is none".to_owned()));
                }
                (Fault::KnowsEverything, _) | (_, "known") => "hunter2".to_owned(),
                _ => return Ok(None),
            };
            Ok(Some(SecretValue::new(value.into_bytes())))
        }

        fn at_hand(&self, id: &str) -> Given {
            match self.0 {
                Fault::Forgets => Ok(None),
                _ => self.secret(id),
            }
        }

        fn ssh_agent(&self, _: &str) -> Option<PathBuf> {
            (self.0 == Fault::HasAllAgents).then(PathBuf::new)
        }
    }

    #[test]
    fn each_fault_is_found() {
        let tried = |fault| secrets(&Faulty(fault, AtomicUsize::new(0)), "known", "unknown");
        tried(Fault::None).unwrap();
        let cases = [
            (Fault::ChangesItsMind, "asked for again"),
            (Fault::Forgets, "isn't at hand"),
            (Fault::IsOfThreads, "another thread"),
            (Fault::FailsOnUnknown, "isn't nothing"),
            (Fault::KnowsEverything, "isn't nothing"),
            (Fault::HasAllAgents, "SSH agent"),
        ];
        for (fault, want) in cases {
            let said = tried(fault).unwrap_err().to_string();
            assert!(said.contains(want), "{want}: {said}");
        }
        let said = secrets(&NoSecrets, "token", "other").unwrap_err();
        assert_eq!(said.to_string(), "the known secret can't be had");
    }

    #[test]
    fn each_wrong_way_to_fail_is_found() {
        /// Fails with a text; gives nothing when there is none.
        struct Fails(Option<&'static str>);
        impl SecretProvider for Fails {
            fn secret(&self, _: &str) -> Given {
                match self.0 {
                    Some(text) => Err(SecretError::Denied(text.to_owned())),
                    None => Ok(None),
                }
            }
            fn ssh_agent(&self, _: &str) -> Option<PathBuf> {
                None
            }
        }
        let tried = |text| failing_secret(&Fails(text), "known", "hunter2");
        tried(Some("the server refuses the token")).unwrap();
        let cases = [
            (None, "is no error"),
            (Some(" "), "says nothing"),
            (Some("the server refuses hunter2"), "says what is secret"),
        ];
        for (text, want) in cases {
            let said = tried(text).unwrap_err().to_string();
            assert!(said.contains(want), "{want}: {said}");
        }
    }
}
