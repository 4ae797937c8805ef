//! `exec:COMMAND`: what a command of the user's writes, such as a password manager.

use std::process::{Command, Stdio};

use kiln_engine::{SecretError, SecretValue};

use super::SecretSource;

pub(super) struct Exec;

impl SecretSource for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    /// The command's standard output, without the line's end. Errors don't repeat the command, which
    /// may hold a credential itself.
    fn fetch(&self, command: &str) -> Result<SecretValue, SecretError> {
        let output = Command::new("/bin/sh")
            .args(["-c", command])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| SecretError::Program {
                program: "/bin/sh".to_owned(),
                source,
            })?;
        if !output.status.success() {
            return Err(SecretError::CommandFailed(output.status));
        }
        let mut bytes = output.stdout;
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        Ok(SecretValue::new(bytes))
    }
}
