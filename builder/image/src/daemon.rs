//! Images to and from a Docker daemon (Docker Engine API: `POST /images/load`,
//! `GET /images/{name}/get`).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use tokio_util::io::ReaderStream;

use crate::{Client, ImageError};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// A daemon.
struct Daemon {
    socket: PathBuf,
    http: reqwest::Client,
}

impl Daemon {
    /// The one at `$DOCKER_HOST`, or the usual place.
    fn find(client: &Client) -> Result<Self, ImageError> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = PathBuf::from(host.strip_prefix("unix://").unwrap_or(DEFAULT_SOCKET));
        // Installs what TLS needs, which the builder asks for even here.
        client.http();
        let builder = reqwest::Client::builder().unix_socket(socket.as_path());
        match builder.build() {
            Ok(http) => Ok(Self { socket, http }),
            Err(error) => Err(failed(&socket, error.to_string())),
        }
    }

    fn fail(&self, reason: impl std::fmt::Display) -> ImageError {
        failed(&self.socket, reason.to_string())
    }

    fn silent(&self, error: &reqwest::Error) -> ImageError {
        self.fail(format!(
            "{error}; is it running, and may you use its socket?"
        ))
    }
}

fn failed(socket: &Path, reason: String) -> ImageError {
    ImageError::Daemon {
        socket: socket.display().to_string(),
        reason,
    }
}

/// Loads an archive that [`crate::write_docker_archive`] wrote.
///
/// # Errors
/// When no daemon listens at `$DOCKER_HOST` (default `/var/run/docker.sock`), or it refuses.
pub fn load_into_daemon(client: &Client, archive: &Path) -> Result<(), ImageError> {
    let daemon = Daemon::find(client)?;
    client.wait_for(async {
        let file = tokio::fs::File::open(archive).await;
        let file = file.map_err(|error| daemon.fail(error))?;
        let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, 256 * 1024));
        let request = daemon
            .http
            .post("http://docker/images/load?quiet=1")
            .header("content-type", "application/x-tar");
        let answer = request.body(body).send().await;
        let answer = answer.map_err(|error| daemon.silent(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| daemon.fail(error))?;
        if !status.is_success() || text.contains("\"error\"") {
            return Err(daemon.fail(text));
        }
        Ok(())
    })
}

/// Writes an image of the daemon's to a file, as `docker save` does.
pub(crate) fn save_from_daemon(
    client: &Client,
    name: &str,
    out: &mut std::fs::File,
) -> Result<(), ImageError> {
    let daemon = Daemon::find(client)?;
    client.wait_for(async {
        let url = format!("http://docker/images/{name}/get");
        let answer = daemon.http.get(url).send().await;
        let answer = answer.map_err(|error| daemon.silent(&error))?;
        if answer.status().as_u16() == 404 {
            return Err(ImageError::NotFound {
                image: name.to_owned(),
                host: "the Docker daemon".to_owned(),
            });
        }
        let answer = answer.error_for_status();
        let mut body = answer.map_err(|error| daemon.fail(error))?.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| daemon.fail(error))?;
            out.write_all(&chunk).map_err(|error| daemon.fail(error))?;
        }
        Ok(())
    })
}
