//! Loads images into a Docker daemon (Docker Engine API, `POST /images/load`).

use std::path::{Path, PathBuf};

use tokio_util::io::ReaderStream;

use crate::{Client, ImageError};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Loads an archive that [`crate::write_docker_archive`] wrote.
///
/// # Errors
/// When no daemon listens at `$DOCKER_HOST` (default `/var/run/docker.sock`), or it refuses.
pub fn load_into_daemon(client: &Client, archive: &Path) -> Result<(), ImageError> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = PathBuf::from(host.strip_prefix("unix://").unwrap_or(DEFAULT_SOCKET));
    let fail = |reason: String| ImageError::Daemon {
        socket: socket.display().to_string(),
        reason,
    };
    client.http();
    let http = reqwest::Client::builder()
        .unix_socket(socket.as_path())
        .build();
    let http = http.map_err(|error| fail(error.to_string()))?;
    client.runtime().block_on(async {
        let file = tokio::fs::File::open(archive)
            .await
            .map_err(|error| fail(error.to_string()))?;
        let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, 256 * 1024));
        let request = http
            .post("http://docker/images/load?quiet=1")
            .header("content-type", "application/x-tar");
        let answer = request.body(body).send().await.map_err(|error| {
            fail(format!(
                "{error}; is it running, and may you use its socket?"
            ))
        })?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .map_err(|error| fail(error.to_string()))?;
        if !status.is_success() || text.contains("\"error\"") {
            return Err(fail(text));
        }
        Ok(())
    })
}
