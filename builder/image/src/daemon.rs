//! Images to and from a Docker daemon (Docker Engine API: `POST /images/load`,
//! `GET /images/{name}/get`, `GET /images/{name}/json`).

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use kiln_graph::BlobDigest;
use kiln_tree::host;
use tokio_util::io::ReaderStream;

use crate::daemon_address::DaemonAddress;
use crate::error::cause;
use crate::{Client, ImageError};

/// How often progress is told of.
const INTERVAL: Duration = Duration::from_millis(100);

/// A daemon.
struct Daemon {
    address: DaemonAddress,
    http: reqwest::Client,
}

impl Daemon {
    /// The one at `$DOCKER_HOST`, or the usual place.
    fn find(client: &Client) -> Result<Self, ImageError> {
        let fail = |place: String, reason| ImageError::Daemon { place, reason };
        let found = DaemonAddress::of_environment(|name| std::env::var(name).ok());
        let address = found.map_err(|reason| {
            let host = std::env::var("DOCKER_HOST").unwrap_or_default();
            fail(host, reason)
        })?;
        // Installs what TLS needs, which the builder asks for even here.
        client.connections().http();
        let builder = address.connect(reqwest::Client::builder());
        match builder.and_then(|builder| builder.build().map_err(|error| error.to_string())) {
            Ok(http) => Ok(Self { address, http }),
            Err(reason) => Err(fail(address.to_string(), reason)),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address.base())
    }

    fn fail(&self, reason: impl std::fmt::Display) -> ImageError {
        ImageError::Daemon {
            place: self.address.to_string(),
            reason: reason.to_string(),
        }
    }

    fn silent(&self, error: &reqwest::Error) -> ImageError {
        self.fail(format!(
            "{}; is it running, and may you use it?",
            cause(error)
        ))
    }
}

/// Asks whether a Docker daemon is there.
///
/// # Errors
/// When none listens at `$DOCKER_HOST` (default `/var/run/docker.sock`), or it may not be used.
pub fn check_daemon(client: &Client) -> Result<(), ImageError> {
    let daemon = Daemon::find(client)?;
    client.wait_for(async {
        let answer = daemon.http.get(daemon.url("/_ping")).send().await;
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
            .post(daemon.url("/images/load?quiet=1"))
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

/// The first of some digests that the daemon knows an image by: one that keeps images as containerd does
/// calls them by their manifests, not by their configurations.
///
/// # Errors
/// When it doesn't answer.
pub fn daemon_id(client: &Client, ids: &[BlobDigest]) -> Result<Option<BlobDigest>, ImageError> {
    let daemon = Daemon::find(client)?;
    client.wait_for(async {
        for id in ids {
            let asked = daemon.http.get(daemon.url(&format!("/images/{id}/json")));
            let answer = asked.send().await;
            let answer = answer.map_err(|error| daemon.silent(&error))?;
            if answer.status().is_success() {
                return Ok(Some(*id));
            }
        }
        Ok(None)
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
        let url = daemon.url(&format!("/images/{name}/get"));
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
