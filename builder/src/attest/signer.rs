//! Who signs: a key in a file or a variable, or a program that asks a key management service.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_attest::SigningKey;

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
}

impl Signer {
    /// Reads `key=FILE`, `key=env:NAME` or `key=exec:COMMAND`.
    ///
    /// # Errors
    /// When it is something else, or the key can't be used.
    pub fn read(spec: &str) -> Result<Self, Error> {
        let usage = |reason: &str| Error::Usage(format!("--sign {spec}: {reason}"));
        let place = spec
            .strip_prefix("key=")
            .filter(|place| !place.is_empty())
            .ok_or_else(|| usage("write key=FILE, key=env:NAME or key=exec:COMMAND"))?;
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

    /// What bundles name the key by; nothing when only a program knows it.
    #[must_use]
    pub fn hint(&self) -> String {
        match &*self.0 {
            Kind::Key(key) => key.public().hint(),
            Kind::Program(_) => String::new(),
        }
    }

    /// The signature of a message, in DER.
    ///
    /// # Errors
    /// When the key or the program gives none.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &*self.0 {
            Kind::Key(key) => Ok(key.sign(message)?),
            Kind::Program(command) => ask(command, message),
        }
    }
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
