//! Addresses of git repositories (`git help fetch`, "GIT URLS").

use std::path::PathBuf;

use zeroize::Zeroizing;

/// How a repository is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `http` or `https`.
    Web,
    /// `git`: nobody is asked who they are.
    Git,
    /// `ssh`, or `USER@HOST:PATH`.
    Ssh,
    /// A path of this machine.
    Local(PathBuf),
}

/// A repository's address.
#[derive(Clone)]
pub(super) struct Remote {
    /// The address as it is given to git, without a password.
    pub(super) address: String,
    pub(super) kind: Kind,
    /// `USER:PASSWORD` of an address on the web.
    pub(super) userinfo: Option<Zeroizing<String>>,
}

impl Remote {
    /// Reads an address.
    ///
    /// # Errors
    /// In words, when git would run a helper for it, or it isn't one.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('-') || text.contains(['\0', '\n', '\r']) {
            return Err("this is no address of a git repository".to_owned());
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self::without_scheme(text);
        };
        let plain = |kind| Self {
            address: text.to_owned(),
            kind,
            userinfo: None,
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Ok(Self::web(scheme, rest)),
            "git" => Ok(plain(Kind::Git)),
            "ssh" | "git+ssh" | "ssh+git" => Ok(plain(Kind::Ssh)),
            "file" => Ok(plain(Kind::Local(rest.into()))),
            other => Err(format!(
                "'{other}://' is no address of a git repository: use https, ssh or git"
            )),
        }
    }

    /// A path, `HOST:PATH`, or what names a helper.
    fn without_scheme(text: &str) -> Result<Self, String> {
        let first = text.split('/').next().unwrap_or_default();
        let kind = match first.contains(':') {
            true if text.contains("::") => {
                return Err("git's helpers can't be named in an address".to_owned());
            }
            true => Kind::Ssh,
            false => Kind::Local(text.into()),
        };
        Ok(Self {
            address: text.to_owned(),
            kind,
            userinfo: None,
        })
    }

    fn web(scheme: &str, rest: &str) -> Self {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let userinfo = user.filter(|user| !user.is_empty()).map(|user| {
            let user = percent_decoded(user);
            match user.contains(':') {
                true => user,
                false => Zeroizing::new(format!("{}:", *user)),
            }
        });
        Self {
            address: format!("{}://{host}{path}", scheme.to_ascii_lowercase()),
            kind: Kind::Web,
            userinfo,
        }
    }

    pub(super) fn is_local(&self) -> bool {
        matches!(self.kind, Kind::Local(_))
    }

    /// The server of an address on the web, with its port.
    pub(super) fn host(&self) -> Option<&str> {
        let (_, rest) = self.address.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        (self.kind == Kind::Web).then_some(&rest[..end])
    }

    /// What all addresses of the server begin with.
    pub(super) fn base(&self) -> Option<String> {
        let (scheme, _) = self.address.split_once("://")?;
        Some(format!("{scheme}://{}/", self.host()?))
    }
}

fn percent_decoded(text: &str) -> Zeroizing<String> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = text.as_bytes();
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut at = 0;
    while at < bytes.len() {
        match (
            bytes[at],
            digit(bytes.get(at + 1)),
            digit(bytes.get(at + 2)),
        ) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Zeroizing::new(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let read = |text: &str| {
            Remote::parse(text).map(|remote| {
                let user = remote.userinfo.map(|user| user.to_string());
                (remote.address, remote.kind, user)
            })
        };
        let plain = |text: &str, kind| Ok((text.to_owned(), kind, None));
        let web = |text: &str, user: &str| Ok((text.to_owned(), Kind::Web, Some(user.to_owned())));
        let cases = [
            ("https://h/a.git", plain("https://h/a.git", Kind::Web)),
            ("HTTP://u:p%40w@h:8/a", web("http://h:8/a", "u:p@w")),
            ("https://token@h/a", web("https://h/a", "token:")),
            ("git@h:a/b", plain("git@h:a/b", Kind::Ssh)),
            ("ssh://git@h/a", plain("ssh://git@h/a", Kind::Ssh)),
            ("git://h/a", plain("git://h/a", Kind::Git)),
            ("/srv/a", plain("/srv/a", Kind::Local("/srv/a".into()))),
            ("./a:b", plain("./a:b", Kind::Local("./a:b".into()))),
            ("file:///a", plain("file:///a", Kind::Local("/a".into()))),
        ];
        for (text, want) in cases {
            assert_eq!(read(text), want, "{text}");
        }
        for text in ["", "-x", "ext::sh -c id", "fd::3", "ftp://h/a", "a\nb"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn servers() {
        let base = |text: &str| Remote::parse(text).unwrap().base();
        assert_eq!(base("https://u@h:8/a/b").as_deref(), Some("https://h:8/"));
        assert_eq!(base("https://h").as_deref(), Some("https://h/"));
        assert_eq!(base("ssh://h/a"), None);
    }
}
