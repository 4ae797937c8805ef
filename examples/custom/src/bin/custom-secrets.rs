//! Secrets from the program itself: `RUN --mount=type=secret,id=token` gets one. Values from a vault of
//! one's own look the same.

use std::path::PathBuf;
use std::sync::Arc;

use kiln::{BuildRequest, Kiln, SecretError, SecretProvider, SecretValue};

struct Own;

impl SecretProvider for Own {
    fn secret(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        Ok((id == "token").then(|| SecretValue::new(b"hunter2".to_vec())))
    }

    fn ssh_agent(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kiln::run_if_helper();
    let build = BuildRequest::dockerfile(".").secrets(Arc::new(Own));
    _ = Kiln::builder().user_store()?.open()?.build(build)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Own;

    #[test]
    fn it_keeps_what_a_provider_keeps() {
        kiln::conformance::secrets(&Own, "token", "other").unwrap();
    }
}
