//! How registries are spoken to and logged in to: `--tls-verify`, `--creds`, `--cert-dir` and
//! `--authfile`, as buildah and skopeo have them.

use std::path::PathBuf;

use clap::Args;
use kiln::{CredentialSource, Error, Login, Logins, Reference};

/// Flags of commands that speak to registries.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessArgs {
    /// Check the certificates of registries; with false, those without TLS are spoken to in plain
    /// HTTP
    #[arg(long, help_heading = "Registries", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set, global = true)]
    tls_verify: bool,
    /// Log in to the registries that the command line names, or to HOST alone (repeatable)
    #[arg(
        long,
        help_heading = "Registries",
        value_name = "[HOST=]USER:PASSWORD",
        global = true
    )]
    creds: Vec<String>,
    /// Trust the authorities in DIRECTORY/*.crt, and show registries DIRECTORY/NAME.cert with
    /// NAME.key
    #[arg(
        long,
        help_heading = "Registries",
        value_name = "DIRECTORY",
        global = true
    )]
    cert_dir: Option<PathBuf>,
    /// Credentials from this file instead of Docker's config.json, in the same form
    #[arg(
        long,
        help_heading = "Registries",
        value_name = "FILE",
        env = "REGISTRY_AUTH_FILE",
        global = true
    )]
    authfile: Option<PathBuf>,
}

/// What the flags say.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) insecure: bool,
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) credentials: CredentialSource,
    pub(crate) logins: Logins,
}

impl AccessArgs {
    /// Reads the flags; `named` are the images that the command line names.
    ///
    /// # Errors
    /// When a directory or file isn't there, or credentials are for no registry in particular.
    pub(crate) fn read(&self, named: &[Reference]) -> Result<Access, Error> {
        if let Some(directory) = self.cert_dir.as_ref().filter(|path| !path.is_dir()) {
            let text = format!(
                "--cert-dir {}: there is no such directory",
                directory.display()
            );
            return Err(Error::Usage(text));
        }
        if let Some(file) = self.authfile.as_ref().filter(|path| !path.is_file()) {
            let text = format!("--authfile {}: there is no such file", file.display());
            return Err(Error::Usage(text));
        }
        let mut logins = Logins::new();
        for text in &self.creds {
            let (host, login) = read_login(text)?;
            let hosts: Vec<String> = match host {
                Some(host) => vec![host],
                None => named.iter().map(|name| name.host.clone()).collect(),
            };
            if hosts.is_empty() {
                let text =
                    "--creds: the command line names no registry: write --creds HOST=USER:PASSWORD";
                return Err(Error::Usage(text.to_owned()));
            }
            logins.extend(hosts.into_iter().map(|host| (host, login.clone())));
        }
        Ok(Access {
            insecure: !self.tls_verify,
            certificates: self.cert_dir.clone(),
            credentials: match &self.authfile {
                Some(file) => CredentialSource::File(file.clone()),
                None => CredentialSource::User,
            },
            logins,
        })
    }
}

/// `[HOST=]USER:PASSWORD`. Errors don't repeat it.
fn read_login(text: &str) -> Result<(Option<String>, Login), Error> {
    let (host, rest) = match text.split_once('=') {
        Some((host, rest)) if is_host(host) && rest.contains(':') => (Some(host), rest),
        _ => (None, text),
    };
    let Some((user, password)) = rest.split_once(':').filter(|(user, _)| !user.is_empty()) else {
        let text = "--creds: write USER:PASSWORD or HOST=USER:PASSWORD; to be asked for it, use 'docker login'";
        return Err(Error::Usage(text.to_owned()));
    };
    let login = Login::new(user.to_owned(), password.to_owned());
    Ok((host.map(str::to_owned), login))
}

/// Whether a text is `HOST[:PORT]`.
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    !host.is_empty() && host.bytes().all(letters) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(creds: &[&str]) -> AccessArgs {
        AccessArgs {
            tls_verify: true,
            creds: creds.iter().map(|text| (*text).to_owned()).collect(),
            cert_dir: None,
            authfile: None,
        }
    }

    #[test]
    fn credentials_are_for_named_registries_only() {
        let named = ["r.example:5000/a".parse().unwrap()];
        let hosts = |creds: &[&str], named: &[Reference]| {
            let access = args(creds).read(named);
            access.map(|access| access.logins.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(hosts(&["u:p"], &named).unwrap(), ["r.example:5000"]);
        assert_eq!(hosts(&["q.example=u:p"], &named).unwrap(), ["q.example"]);
        assert_eq!(
            hosts(&["localhost:5000=u:p=:q"], &[]).unwrap(),
            ["localhost:5000"]
        );
        // The password has what looks like a field.
        assert_eq!(hosts(&["u:a=b:c"], &named).unwrap(), ["r.example:5000"]);
        assert!(hosts(&["u:p"], &[]).is_err());
    }

    #[test]
    fn mistakes_repeat_no_password() {
        for text in ["hunter2", ":hunter2", "r.example=hunter2"] {
            let error = args(&[text]).read(&[]).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", args(&["a.b=u:hunter2"]).read(&[]).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
