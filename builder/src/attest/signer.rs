//! Who signs: a key in a file or a variable, a program that asks a key management service, or whom an identity
//! token names.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_attest::SigningKey;
use kiln_attest::bundle::{bundle, to_be_signed};
use kiln_image::Client;

use super::keyless::{Keyless, shown};
use crate::Error;

/// The variable with an encrypted key's password.
const PASSWORD: &str = "COSIGN_PASSWORD";

/// Who signs.
#[derive(Clone, Debug)]
pub struct Signer(std::sync::Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Key(Box<SigningKey>),
    /// A command of the shell, that reads what is to be signed and writes the signature in base64.
    Program(String),
    Keyless(Box<Keyless>),
}

impl Signer {
    /// Reads `key=FILE`, `key=env:NAME`, `key=exec:COMMAND`, or `keyless[,KEY=VALUE…]` (see
    /// [`super::keyless`]). `token` is the identity token that is given beside it.
    ///
    /// # Errors
    /// When it is something else, or the key or the token can't be used.
    pub fn read(spec: &str, token: Option<&str>) -> Result<Self, Error> {
        let usage = |reason: &str| usage(&without_token(spec), reason);
        let (kind, rest) = spec.split_once(',').unwrap_or((spec, ""));
        if kind == "keyless" {
            let keyless = Keyless::read(rest, token).map_err(|reason| usage(&reason))?;
            return Ok(Self(Kind::Keyless(Box::new(keyless)).into()));
        }
        if token.is_some() {
            return Err(usage("an identity token goes with --sign keyless"));
        }
        let place = spec.strip_prefix("key=").filter(|place| !place.is_empty());
        let place = place
            .ok_or_else(|| usage("write key=FILE, key=env:NAME, key=exec:COMMAND or keyless"))?;
        Self::of_key(spec, place)
    }

    fn of_key(spec: &str, place: &str) -> Result<Self, Error> {
        let usage = |reason: &str| usage(spec, reason);
        if let Some(command) = place.strip_prefix("exec:") {
            return Ok(Self(Kind::Program(command.to_owned()).into()));
        }
        let text = match place.strip_prefix("env:") {
            Some(name) => std::env::var(name).map_err(|_| usage("there is no such variable"))?,
            None => std::fs::read_to_string(place).map_err(|source| Error::File {
                what: format!("--sign {spec}: cannot read the key {place}"),
                source,
            })?,
        };
        let password = std::env::var(PASSWORD).ok();
        let key = SigningKey::read(&text, password.as_deref());
        let key = key.map_err(|error| usage(&error.to_string()))?;
        Ok(Self(Kind::Key(Box::new(key)).into()))
    }

    /// The bundle of a statement and its signature. `client` asks the services of whoever has no key.
    ///
    /// # Errors
    /// When the key, the program or the services give no signature.
    pub fn bundle(&self, client: &Client, statement: &[u8]) -> Result<Vec<u8>, Error> {
        let message = to_be_signed(statement);
        match &*self.0 {
            Kind::Key(key) => {
                let signature = key.sign(&message)?;
                Ok(bundle(statement, &signature, &key.public().hint()))
            }
            Kind::Program(command) => Ok(bundle(statement, &ask(command, &message)?, "")),
            Kind::Keyless(keyless) => keyless.bundle(client, statement),
        }
    }
}

fn usage(spec: &str, reason: &str) -> Error {
    Error::Usage(format!("--sign {spec}: {reason}"))
}

/// What was written, without what may be a token.
fn without_token(spec: &str) -> String {
    let part = |part: &str| match part.split_once('=') {
        Some((key, value)) if key.contains("token") && !value.contains(':') => {
            format!("{}=…", shown(key))
        }
        Some(("key" | "fulcio" | "rekor" | "rekor-version" | "timestamp", _)) => part.to_owned(),
        Some((key, value)) => format!("{}={}", shown(key), shown(value)),
        None => shown(part).to_owned(),
    };
    let parts: Vec<String> = spec.split(',').map(part).collect();
    parts.join(",")
}

fn ask(command: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
    let fail = |reason: String| Error::File {
        what: format!("--sign key=exec:{command}"),
        source: std::io::Error::other(reason),
    };
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| fail(error.to_string()))?;
    let mut stdin = child.stdin.take();
    let message = message.to_vec();
    // One that writes before it has read all must not wait for itself.
    let writer = std::thread::spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(&message)));
    let output = child
        .wait_with_output()
        .map_err(|error| fail(error.to_string()))?;
    _ = writer.join();
    if !output.status.success() {
        return Err(fail(format!("it failed ({})", output.status)));
    }
    let text: Vec<u8> = output
        .stdout
        .into_iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let signature = STANDARD
        .decode(text)
        .ok()
        .filter(|bytes| bytes.first() == Some(&0x30));
    signature.ok_or_else(|| fail("its output is not an ECDSA signature (DER in base64)".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_show_no_token() {
        let token = "eyJ".repeat(40);
        for spec in [
            format!("keyless,{token}"),
            format!("keyless,{token}=="),
            format!("keyless,tokn={token}"),
            format!("keyles,token={token}"),
            token.clone(),
        ] {
            let said = Signer::read(&spec, None).unwrap_err().to_string();
            assert!(!said.contains(&token), "{said}");
        }
        let said = Signer::read("cosign.key", None).unwrap_err().to_string();
        assert!(said.contains("--sign cosign.key"), "{said}");
    }
}
