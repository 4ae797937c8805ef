//! The names of objects in a bucket, and the settings as the client wants them.

use std::sync::Arc;

use kiln_graph::BlobDigest;
use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::path::Path;

use super::{S3Keys, S3Settings};

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

impl S3Settings {
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
    fn objects() {
        let settings = S3Settings::from_url("s3://bucket/team/app/").unwrap();
        let entry = |settings: &S3Settings| settings.entry("step-1").map(|path| path.to_string());
        assert_eq!(entry(&settings), Ok("team/app/entries/step-1".to_owned()));
        let named = S3Settings {
            name: Some("main".to_owned()),
            ..S3Settings::from_url("s3://bucket").unwrap()
        };
        assert_eq!(entry(&named), Ok("entries/main/step-1".to_owned()));
        let up = S3Settings::from_url("s3://bucket/../x").unwrap();
        assert!(entry(&up).is_err());
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
}
