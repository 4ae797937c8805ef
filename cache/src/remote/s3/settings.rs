//! Which bucket, and how it is spoken to.

use std::fmt;
use std::sync::Arc;

use kiln_graph::BlobDigest;
use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::path::Path;

/// Where entries and blobs are in a bucket, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What all objects' names begin with: folders, `team/app`.
    pub prefix: String,
    /// Keeps the entries apart from others that use the same blobs.
    pub name: Option<String>,
    /// The region: `eu-central-1`.
    pub region: Option<String>,
    /// A server other than Amazon's: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// Whether the bucket is named in the path, not in the host. Unless said, it is when there is
    /// an endpoint.
    pub path_style: Option<bool>,
    /// Credentials, over those of the environment.
    pub keys: Option<S3Keys>,
}

/// Credentials. They are shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Keys {
    /// The access key's id.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// The token of a temporary key.
    pub token: Option<String>,
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Keys")
    }
}

impl S3Keys {
    pub(super) fn give(&self, builder: AmazonS3Builder) -> AmazonS3Builder {
        // All three at once, so that no token of the environment goes with another key.
        builder.with_credentials(Arc::new(StaticCredentialProvider::new(AwsCredential {
            key_id: self.id.clone(),
            secret_key: self.secret.clone(),
            token: self.token.clone(),
        })))
    }
}

impl fmt::Display for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        match self.prefix.trim_matches('/') {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

impl S3Settings {
    /// `s3://BUCKET/PREFIX`; `None` when the text is something else.
    #[must_use]
    pub fn from_url(text: &str) -> Option<Self> {
        let (bucket, prefix) = text
            .strip_prefix("s3://")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
        (!bucket.is_empty()).then(|| Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            ..Self::default()
        })
    }

    pub(super) fn entry(&self, entry: &str) -> Result<Path, String> {
        let name = self.name.as_deref().unwrap_or_default();
        self.object(&["entries", name, entry])
    }

    pub(super) fn blob(&self, digest: &BlobDigest) -> Result<Path, String> {
        self.object(&["blobs/sha256", &digest.hex()])
    }

    fn object(&self, parts: &[&str]) -> Result<Path, String> {
        let parts = [self.prefix.as_str()]
            .into_iter()
            .chain(parts.iter().copied());
        let parts = parts.map(|part| part.trim_matches('/'));
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        Path::parse(parts.join("/")).map_err(|error| error.to_string())
    }

    /// An endpoint as the client wants it: with the bucket in the host, unless it is in the path.
    pub(super) fn endpoint_url(&self, endpoint: &str, path_style: bool) -> Result<String, String> {
        let endpoint = endpoint.trim_end_matches('/');
        let (scheme, host) = endpoint
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
            .ok_or_else(|| {
                format!("the endpoint {endpoint} begins with neither http:// nor https://")
            })?;
        let named = host.starts_with(&format!("{}.", self.bucket));
        Ok(match path_style || named {
            true => endpoint.to_owned(),
            false => format!("{scheme}://{}.{host}", self.bucket),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_objects() {
        let settings = S3Settings::from_url("s3://bucket/team/app/").unwrap();
        assert_eq!(settings.to_string(), "s3://bucket/team/app");
        let entry = |settings: &S3Settings| settings.entry("step-1").map(|path| path.to_string());
        assert_eq!(entry(&settings), Ok("team/app/entries/step-1".to_owned()));
        let named = S3Settings {
            name: Some("main".to_owned()),
            ..S3Settings::from_url("s3://bucket").unwrap()
        };
        assert_eq!(named.to_string(), "s3://bucket");
        assert_eq!(entry(&named), Ok("entries/main/step-1".to_owned()));
        let up = S3Settings::from_url("s3://bucket/../x").unwrap();
        assert!(entry(&up).is_err());
        for wrong in ["s3://", "s3:///x", "bucket/x", "https://bucket"] {
            assert_eq!(S3Settings::from_url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn endpoints() {
        let settings = S3Settings::from_url("s3://b").unwrap();
        let url = |endpoint, path_style| settings.endpoint_url(endpoint, path_style).ok();
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(url("https://m.example/", true), of("https://m.example"));
        assert_eq!(url("https://m.example", false), of("https://b.m.example"));
        assert_eq!(url("https://b.m.example", false), of("https://b.m.example"));
        assert_eq!(url("m.example", true), None);
    }

    #[test]
    fn keys_are_not_shown() {
        let settings = S3Settings {
            keys: Some(S3Keys {
                id: "the-id".to_owned(),
                secret: "the-secret".to_owned(),
                token: Some("the-token".to_owned()),
            }),
            ..S3Settings::default()
        };
        assert!(!format!("{settings:?}{settings}").contains("the-"));
    }
}
