//! The bucket as a remote.

use std::io::{Read, Write};
use std::path::Path as File;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kiln_graph::BlobDigest;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    Certificate, ClientOptions, Error, ObjectStoreExt as _, RetryConfig, WriteMultipart,
};
use tokio::runtime::Runtime;

use super::S3Settings;
use super::profile::Profile;
use crate::{Remote, RemoteBlob, RemoteError};

/// Blobs from this length on are sent in parts, in bytes.
const PART: usize = 16 << 20;
/// How many parts of one blob are on their way at once.
const PARTS: usize = 4;
/// How many blobs are sent at once.
const BLOBS: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// A build waits for a store that is away, but not long.
const TRIES: usize = 4;
const TRY_FOR: Duration = Duration::from_secs(30);

/// A bucket that stores share. Nothing is read or connected to before its first use.
#[derive(Debug)]
pub struct S3Remote {
    settings: S3Settings,
    open: OnceLock<Result<Bucket, RemoteError>>,
}

#[derive(Debug)]
struct Bucket {
    objects: AmazonS3,
    runtime: Runtime,
}

impl S3Remote {
    /// The remote in a bucket. What the settings leave open is taken from `AWS_*` variables, then
    /// from the profile `$AWS_PROFILE` of `~/.aws/credentials` and `~/.aws/config`, then from what
    /// the machine is given (ECS, EKS, EC2).
    #[must_use]
    pub fn new(settings: S3Settings) -> Self {
        Self {
            settings,
            open: OnceLock::new(),
        }
    }

    fn bucket(&self) -> Result<&Bucket, RemoteError> {
        let open = || Bucket::open(&self.settings).map_err(|error| self.fail(error));
        self.open.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    fn fail(&self, error: RemoteError) -> RemoteError {
        error.at(&self.name())
    }
}

impl Bucket {
    fn open(settings: &S3Settings) -> Result<Self, RemoteError> {
        // Another provider may be installed by the embedding program: then that one serves.
        _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        Ok(Self {
            runtime: runtime.map_err(|error| RemoteError::local(&error))?,
            objects: builder(settings)
                .map_err(RemoteError::Unsupported)?
                .build()
                .map_err(|error| said(&error))?,
        })
    }

    /// Sends a blob unless it is there; gives the bytes sent.
    async fn send(&self, path: &Path, blob: &RemoteBlob<'_>) -> Result<u64, RemoteError> {
        match self.objects.head(path).await {
            Ok(there) if there.size == blob.size => return Ok(0),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(said(&error)),
        }
        if blob.size < PART as u64 {
            let bytes = std::fs::read(blob.path).map_err(|error| RemoteError::local(&error))?;
            let put = self.objects.put(path, bytes.into()).await;
            put.map_err(|error| said(&error))?;
        } else {
            self.send_parts(path, blob.path).await?;
        }
        Ok(blob.size)
    }

    async fn send_parts(&self, path: &Path, file: &File) -> Result<(), RemoteError> {
        let mut file = std::fs::File::open(file).map_err(|error| RemoteError::local(&error))?;
        let upload = self.objects.put_multipart(path).await;
        let upload = upload.map_err(|error| said(&error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let ready = upload.wait_for_capacity(PARTS).await;
            ready.map_err(|error| said(&error))?;
            match file
                .read(&mut buffer)
                .map_err(|error| RemoteError::local(&error))?
            {
                0 => break,
                count => upload.write(&buffer[..count]),
            }
        }
        let finished = upload.finish().await;
        finished.map(drop).map_err(|error| said(&error))
    }

    async fn fetch(&self, path: &Path, size: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        let answer = self.objects.get(path).await.map_err(|error| said(&error))?;
        let mut body = answer.into_stream();
        let mut done = 0;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| said(&error))?;
            done += bytes.len() as u64;
            if done > size {
                break;
            }
            out.write_all(&bytes)
                .map_err(|error| RemoteError::local(&error))?;
        }
        match done == size {
            true => Ok(()),
            false => Err(RemoteError::Damaged(format!(
                "{path} has {done} bytes or more instead of {size}"
            ))),
        }
    }
}

impl Remote for S3Remote {
    fn name(&self) -> String {
        self.settings.to_string()
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let bucket = self.bucket()?;
        let path = self
            .settings
            .entry(name)
            .map_err(RemoteError::Unsupported)?;
        let read = async { bucket.objects.get(&path).await?.bytes().await };
        match bucket.runtime.block_on(read) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(error @ Error::NotFound { .. }) if is_bucket_missing(&error) => {
                Err(self.fail(said(&error)))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fail(said(&error))),
        }
    }

    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        let bucket = self.bucket()?;
        let path = self
            .settings
            .entry(name)
            .map_err(RemoteError::Unsupported)?;
        let sent = bucket.runtime.block_on(async {
            let sends = stream::iter(blobs).map(|blob| async move {
                let path = self.settings.blob(&blob.digest);
                let path = path.map_err(RemoteError::Unsupported)?;
                bucket.send(&path, blob).await
            });
            let sent: Vec<u64> = sends.buffer_unordered(BLOBS).try_collect().await?;
            let put = bucket.objects.put(&path, entry.to_vec().into()).await;
            put.map_err(|error| said(&error))?;
            Ok::<u64, RemoteError>(sent.iter().sum())
        });
        sent.map(|bytes| bytes + entry.len() as u64)
            .map_err(|error| self.fail(error))
    }

    fn blob(&self, digest: &BlobDigest, size: u64, out: &mut dyn Write) -> Result<(), RemoteError> {
        let bucket = self.bucket()?;
        let path = self
            .settings
            .blob(digest)
            .map_err(RemoteError::Unsupported)?;
        let fetch = bucket.fetch(&path, size, out);
        let fetched = bucket.runtime.block_on(fetch);
        fetched.map_err(|error| self.fail(error))
    }
}

/// What the settings say, over what the environment and the profile say.
fn builder(settings: &S3Settings) -> Result<AmazonS3Builder, String> {
    let options = with_authorities(ClientOptions::new())
        .with_allow_http(true)
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT);
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(options)
        .with_bucket_name(&settings.bucket)
        .with_retry(RetryConfig {
            max_retries: TRIES,
            retry_timeout: TRY_FOR,
            ..RetryConfig::default()
        });
    let profile = Profile::load()?;
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Some(keys) = settings.keys.as_ref() {
        builder = keys.give(builder);
    } else if let Some(keys) = profile.keys()
        && !set("AWS_ACCESS_KEY_ID")
        && !set("AWS_WEB_IDENTITY_TOKEN_FILE")
    {
        builder = keys.give(builder);
    }
    let region_set = set("AWS_REGION") || set("AWS_DEFAULT_REGION");
    let region = (!region_set).then(|| profile.get("region")).flatten();
    if let Some(region) = settings.region.as_deref().or(region) {
        builder = builder.with_region(region);
    }
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let own = settings.endpoint.clone();
    let endpoint = own
        .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .or_else(|| profile.get("endpoint_url").map(str::to_owned))
        .filter(|endpoint| !endpoint.is_empty());
    // Most stores besides Amazon's have no names for buckets in their DNS.
    let path_style = settings.path_style.unwrap_or(endpoint.is_some());
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(settings.endpoint_url(&endpoint, path_style)?);
    }
    Ok(builder.with_virtual_hosted_style_request(!path_style))
}

/// Where the machine has no certificates of authorities, those of Mozilla's that were compiled in.
fn with_authorities(options: ClientOptions) -> ClientOptions {
    if !rustls_native_certs::load_native_certs().certs.is_empty() {
        return options;
    }
    let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    let read = all.iter().filter_map(|der| Certificate::from_der(der).ok());
    read.fold(options, ClientOptions::with_root_certificate)
}

fn is_bucket_missing(error: &Error) -> bool {
    causes(error).contains("NoSuchBucket")
}

/// A failure in few words: the store's own, where it has any.
fn said(error: &Error) -> RemoteError {
    let all = causes(error);
    let element = |name: &str| {
        let (_, rest) = all.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text.to_owned())
    };
    let refused = [
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "NotSignedUp",
        "AccessDenied",
    ];
    let code = element("Code").unwrap_or_default();
    let is_refusal = matches!(
        error,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
    );
    if is_refusal || refused.contains(&code.as_str()) {
        let code = if code.is_empty() { "403" } else { &code };
        return RemoteError::Denied(format!(
            "access is refused ({code}); check the credentials and their rights"
        ));
    }
    if all.contains("169.254.") {
        let text =
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";
        return RemoteError::Denied(text.to_owned());
    }
    RemoteError::Unreachable(match (element("Message"), error) {
        (Some(message), _) => format!("{code}: {message}"),
        (None, Error::NotFound { path, .. }) => format!("{path} is missing"),
        (None, _) => innermost(error),
    })
}

/// All that an error and its causes say.
fn causes(error: &Error) -> String {
    let mut all = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        all.push_str(&inner.to_string());
        cause = inner.source();
    }
    all
}

fn innermost(error: &Error) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_in_few_words() {
        let missing = |body: &str| Error::NotFound {
            path: "entries/a".to_owned(),
            source: body.to_owned().into(),
        };
        let bucket = missing("<Code>NoSuchBucket</Code><Message>There is none</Message>");
        assert!(is_bucket_missing(&bucket));
        assert_eq!(said(&bucket).to_string(), "NoSuchBucket: There is none");
        assert_eq!(said(&missing("")).to_string(), "entries/a is missing");
        let refused = Error::Generic {
            store: "S3",
            source: "<Code>InvalidAccessKeyId</Code><Key>AKID</Key>".into(),
        };
        let said = said(&refused);
        assert!(matches!(said, RemoteError::Denied(_)), "{said:?}");
        assert!(
            said.to_string()
                .starts_with("access is refused (InvalidAccessKeyId);")
        );
    }
}
