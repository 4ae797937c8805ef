//! Images to and from a Docker daemon (Docker Engine API: `POST /images/load`,
//! `GET /images/{name}/get`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use kiln_tree::host;
use tokio_util::io::ReaderStream;

use crate::error::cause;
use crate::{Client, ImageError};

/// How often progress is told of.
const INTERVAL: Duration = Duration::from_millis(100);
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
        client.connections().http();
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
            "{}; is it running, and may you use its socket?",
            cause(error)
        ))
    }
}

fn failed(socket: &Path, reason: String) -> ImageError {
    ImageError::Daemon {
        socket: socket.display().to_string(),
        reason,
    }
}

/// Asks whether a Docker daemon is there.
///
/// # Errors
/// When none listens at `$DOCKER_HOST` (default `/var/run/docker.sock`), or it may not be used.
pub fn check_daemon(client: &Client) -> Result<(), ImageError> {
    let daemon = Daemon::find(client)?;
    client.wait_for(async {
        let answer = daemon.http.get("http://docker/_ping").send().await;
        match answer.map_err(|error| daemon.silent(&error))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(daemon.fail(format!("it answers {status}"))),
        }
    })
}

/// Loads an archive that [`crate::write_docker_archive`] wrote; `progress` is told the bytes sent.
///
/// # Errors
/// When no daemon listens at `$DOCKER_HOST` (default `/var/run/docker.sock`), or it refuses.
pub fn load_into_daemon(
    client: &Client,
    archive: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), ImageError> {
    let daemon = Daemon::find(client)?;
    client.wait_for(async {
        let file = host::open(archive).map(tokio::fs::File::from_std);
        let file = file.map_err(|error| daemon.fail(error))?;
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        let chunks = ReaderStream::with_capacity(file, 256 * 1024);
        let counted = chunks.inspect_ok(move |chunk| {
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        });
        let body = reqwest::Body::wrap_stream(counted);
        let request = daemon
            .http
            .post("http://docker/images/load?quiet=1")
            .header("content-type", "application/x-tar");
        let sending = request.body(body).send();
        tokio::pin!(sending);
        let answer = loop {
            match tokio::time::timeout(INTERVAL, &mut sending).await {
                Ok(answer) => break answer.map_err(|error| daemon.silent(&error))?,
                Err(_) => progress(sent.load(Ordering::Relaxed)),
            }
        };
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
