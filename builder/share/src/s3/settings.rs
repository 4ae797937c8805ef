//! Which bucket, and how it is spoken to.

use std::fmt;

/// Where entries and blobs are in a bucket, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What all objects' names begin with: directories, `team/app`.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let settings = S3Settings::from_url("s3://bucket/team/app/").unwrap();
        assert_eq!(settings.to_string(), "s3://bucket/team/app");
        let bare = S3Settings::from_url("s3://bucket").unwrap();
        assert_eq!(bare.to_string(), "s3://bucket");
        for wrong in ["s3://", "s3:///x", "bucket/x", "https://bucket"] {
            assert_eq!(S3Settings::from_url(wrong), None, "{wrong}");
        }
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
