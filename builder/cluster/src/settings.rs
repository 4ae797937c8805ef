//! Which server, and how it is spoken to.

use std::fmt;
use std::path::PathBuf;

use url::Url;

/// The words that resource names give a meaning to, so that no part of an instance's name may be
/// one (REAPI, `ContentAddressableStorage`).
const KEYWORDS: [&str; 8] = [
    "blobs",
    "uploads",
    "actions",
    "actionResults",
    "operations",
    "capabilities",
    "compressed-blobs",
    "chunks",
];

/// What is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSettings {
    /// The address is none of a server.
    #[error("'{0}' is not the address of a server: write grpc://HOST:PORT or grpcs://HOST:PORT")]
    Address(String),
    /// A word of the API's own in the instance's name.
    #[error("an instance can't be named '{0}': the part '{1}' has a meaning of its own")]
    Instance(String, String),
    /// A header that can't be sent.
    #[error("a header is NAME:VALUE, in ASCII")]
    Header,
    /// One of a client's certificate and its key without the other.
    #[error("cert and key go together")]
    HalfIdentity,
}

/// A server of the Remote Execution API. Headers are shown nowhere: they carry credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ReapiSettings {
    /// `HOST:PORT`.
    authority: String,
    /// Whether the connection is encrypted.
    tls: bool,
    /// The name of the server's instance; most servers have one without a name.
    pub instance: String,
    /// Sent with every call: `authorization: Bearer …`.
    headers: Vec<(String, String)>,
    /// Authorities to trust instead of the machine's, a file of PEM certificates.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key, PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A program that gives headers for an address, as Bazel's `--credential_helper`.
    pub credential_helper: Option<PathBuf>,
}

impl ReapiSettings {
    /// Whether files or programs of this machine are named.
    #[must_use]
    pub fn names_files(&self) -> bool {
        self.ca.is_some() || self.identity.is_some() || self.credential_helper.is_some()
    }

    /// The server at `grpc://HOST:PORT` (not encrypted) or `grpcs://HOST:PORT` (TLS); without a
    /// port 80 or 443.
    ///
    /// # Errors
    /// When the text is no such address.
    pub fn from_url(text: &str) -> Result<Self, BadSettings> {
        let bad = || BadSettings::Address(text.to_owned());
        let url = Url::parse(text).map_err(|_| bad())?;
        let (tls, port) = match url.scheme() {
            "grpc" => (false, 80),
            "grpcs" => (true, 443),
            _ => return Err(bad()),
        };
        let plain = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str().filter(|host| plain && !host.is_empty());
        let host = host.ok_or_else(bad)?;
        let port = url.port().unwrap_or(port);
        Ok(Self {
            authority: format!("{host}:{port}"),
            tls,
            ..Self::default()
        })
    }

    /// The same, of the named instance.
    ///
    /// # Errors
    /// When an instance can't have this name.
    pub fn with_instance(mut self, name: &str) -> Result<Self, BadSettings> {
        let name = name.trim_matches('/');
        if let Some(part) = name.split('/').find(|part| KEYWORDS.contains(part)) {
            return Err(BadSettings::Instance(name.to_owned(), part.to_owned()));
        }
        name.clone_into(&mut self.instance);
        Ok(self)
    }

    /// The same, with a header: `NAME:VALUE` or `NAME=VALUE`.
    ///
    /// # Errors
    /// When it can't be sent.
    pub fn with_header(mut self, header: &str) -> Result<Self, BadSettings> {
        let (name, value) = header.split_once([':', '=']).ok_or(BadSettings::Header)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = !name.is_empty()
            && name.chars().all(is_token)
            && !name.ends_with("-bin")
            && value.bytes().all(|b| matches!(b, b' '..=b'~'));
        if !good {
            return Err(BadSettings::Header);
        }
        self.headers.push((name, value.to_owned()));
        Ok(self)
    }

    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls
    }

    pub(crate) fn host(&self) -> &str {
        let (host, _port) = self.authority.rsplit_once(':').unwrap_or_default();
        host.trim_matches(['[', ']'])
    }

    /// As HTTP/2 has it.
    pub(crate) fn http_url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }
}

impl fmt::Display for ReapiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "grpcs" } else { "grpc" };
        write!(f, "{scheme}://{}", self.authority)?;
        match self.instance.as_str() {
            "" => Ok(()),
            instance => write!(f, "/{instance}"),
        }
    }
}

impl fmt::Debug for ReapiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReapiSettings({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let shown = |text| ReapiSettings::from_url(text).map(|settings| settings.to_string());
        for (text, want) in [
            ("grpc://localhost:8980", "grpc://localhost:8980"),
            ("grpc://[::1]:8980/", "grpc://[::1]:8980"),
            ("grpcs://cache.example", "grpcs://cache.example:443"),
            ("grpc://cache.example", "grpc://cache.example:80"),
        ] {
            assert_eq!(shown(text), Ok(want.to_owned()));
        }
        for wrong in [
            "localhost:8980",
            "http://h",
            "grpc://",
            "grpc://u:p@h",
            "grpc://h/path",
            "grpc://h?q",
            "grpc://h:x",
        ] {
            assert_eq!(shown(wrong), Err(BadSettings::Address(wrong.to_owned())));
        }
        let six = ReapiSettings::from_url("grpcs://[::1]:8980").unwrap();
        assert_eq!(
            (six.host(), six.http_url().as_str()),
            ("::1", "https://[::1]:8980")
        );
    }

    #[test]
    fn instances() {
        let named = |name| {
            let settings = ReapiSettings::from_url("grpc://h:1").unwrap();
            settings
                .with_instance(name)
                .map(|settings| settings.to_string())
        };
        assert_eq!(named("main/eu/"), Ok("grpc://h:1/main/eu".to_owned()));
        assert_eq!(named(""), Ok("grpc://h:1".to_owned()));
        assert!(named("main/blobs").is_err());
    }

    #[test]
    fn headers_are_read_and_not_shown() {
        let with = |header| {
            ReapiSettings::from_url("grpc://h:1")
                .unwrap()
                .with_header(header)
        };
        let settings = with("Authorization: Bearer a:b=c").unwrap();
        let want = ("authorization".to_owned(), "Bearer a:b=c".to_owned());
        assert_eq!(settings.headers(), [want]);
        assert_eq!(with("x-key=v").unwrap().headers()[0].1, "v");
        assert!(!format!("{settings:?}{settings}").contains("Bearer"));
        for wrong in ["x", ":v", "a b:c", "x:\u{e9}", "x:a\nb", "y-bin:v"] {
            assert_eq!(with(wrong), Err(BadSettings::Header), "{wrong}");
        }
    }
}
