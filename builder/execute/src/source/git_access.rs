//! What git may use to reach a repository.
//!
//! An address that a build file names gets nothing of the user's: no configuration (whose filters
//! run programs and whose helpers give credentials), no `~/.netrc`, no keys, no agent. It gets what
//! the user gives for the build: `--ssh default`, and the secrets `GIT_AUTH_TOKEN` and
//! `GIT_AUTH_HEADER`, each also with `.HOST` behind, as BuildKit names them
//! (<https://docs.docker.com/build/building/secrets/#git-authentication-for-remote-contexts>).
//! An address that the user typed is reached and checked out as the user's own `git` does, with the
//! filters that the user has set up (as for Git LFS).
//!
//! Credentials are handed over in the environment, never in arguments, which every user of the
//! machine can read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_graph::{Entitlements, PROXIES};
use kiln_tree::host;
use zeroize::Zeroizing;

use super::git_remote::{Kind, Remote};
use crate::secret::SecretProvider;

/// Variables of the environment that say how servers are reached, and give away nothing else.
const KEPT: &[&str] = &[
    "PATH",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// OpenSSH without the user's configuration and keys.
const BARE_SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o IdentitiesOnly=no \
    -o ForwardAgent=no -o ClearAllForwardings=yes";

/// What the user's word gives for repositories.
#[derive(Clone)]
pub struct GitOptions {
    /// Whether git may use the user's own configuration, credentials and keys: only where the user
    /// typed the address, never for one that a build file names.
    pub own_git: bool,
    /// What the build file may ask for beyond what every build may.
    pub allowed: Entitlements,
    /// Secrets and SSH agents.
    pub secrets: Arc<dyn SecretProvider>,
}

impl std::fmt::Debug for GitOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitOptions")
            .field("own_git", &self.own_git)
            .finish_non_exhaustive()
    }
}

/// How one repository is reached.
pub(super) struct Access {
    pub(super) remote: Remote,
    /// An `Authorization` header for the repository's host.
    header: Option<Zeroizing<String>>,
    /// The agent that the user gives.
    agent: Option<PathBuf>,
    /// Whether the user's own configuration and credentials count.
    own: bool,
}

impl Access {
    /// What the user's word gives for an address.
    ///
    /// # Errors
    /// In words, when the address isn't one, needs the user's word, or a secret can't be read.
    pub(super) fn of(options: &GitOptions, address: &str) -> Result<Self, String> {
        let remote = Remote::parse(address)?;
        let own = options.own_git || remote.is_local();
        if let Kind::Local(path) = &remote.kind {
            may_read(options, path)?;
        }
        Ok(Self {
            header: header(options, &remote)?,
            agent: options.secrets.ssh_agent("default"),
            own,
            remote,
        })
    }

    /// Whether servers are shown anything that the user gave for this build.
    pub(super) fn has_credentials(&self) -> bool {
        self.header.is_some() || self.agent.is_some()
    }

    /// Git for talking to the repository itself.
    pub(super) fn fetching(&self) -> Command {
        let mut git = match self.own {
            true => own(),
            false => bare(),
        };
        self.give(&mut git);
        git
    }

    /// Git for repositories that the fetched one names.
    pub(super) fn fetching_more(&self) -> Command {
        let mut git = bare();
        self.give(&mut git);
        git
    }

    /// Git for files of the repository itself.
    pub(super) fn checking_out(&self, options: &GitOptions) -> Command {
        match options.own_git {
            true => self.fetching(),
            false => bare(),
        }
    }

    /// Git for what needs no server.
    pub(super) fn local() -> Command {
        bare()
    }

    fn give(&self, git: &mut Command) {
        let allowed = match self.remote.is_local() {
            true => "file",
            false => "http:https:git:ssh",
        };
        git.env("GIT_ALLOW_PROTOCOL", allowed);
        if let Some(agent) = &self.agent {
            git.env("SSH_AUTH_SOCK", agent);
        }
        if let (Some(header), Some(base)) = (&self.header, self.remote.base()) {
            git.env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", format!("http.{base}.extraHeader"))
                .env("GIT_CONFIG_VALUE_0", header.as_str());
        }
    }

    /// What git said, without credentials, and with what the user can do about a refusal.
    pub(super) fn explain(&self, said: &str) -> String {
        let mut text = said.trim().to_owned();
        if let Some(header) = &self.header {
            text = text.replace(header.as_str(), kiln_graph::address::REDACTED);
        }
        let refused = [
            "could not read Username",
            "Authentication failed",
            "Permission denied",
            "Host key verification failed",
        ];
        if !self.own && refused.iter().any(|words| text.contains(words)) {
            text.push_str(match &self.remote.kind {
                Kind::Ssh => {
                    "; a build file's addresses get none of your keys: give --ssh default, and have the host in ~/.ssh/known_hosts"
                }
                _ => {
                    "; a build file's addresses get none of your credentials: give --secret id=GIT_AUTH_TOKEN,env=VARIABLE"
                }
            });
        }
        text
    }
}

fn may_read(options: &GitOptions, path: &Path) -> Result<(), String> {
    let refused = || {
        "a build file may name no repository of this machine: give --build-context NAME=DIR in its place, or --allow fs.read=DIR".to_owned()
    };
    let path = host::canonicalize(path).map_err(|_| refused())?;
    match options.allowed.may_read(&path) {
        true => Ok(()),
        false => Err(refused()),
    }
}

/// The header that lets the user in: from the address itself, else from a secret.
fn header(options: &GitOptions, remote: &Remote) -> Result<Option<Zeroizing<String>>, String> {
    if let Some(user) = &remote.userinfo {
        return Ok(Some(basic(user.as_bytes())));
    }
    let Some(host) = remote.host() else {
        return Ok(None);
    };
    for (name, is_token) in [
        (format!("GIT_AUTH_HEADER.{host}"), false),
        (format!("GIT_AUTH_TOKEN.{host}"), true),
        ("GIT_AUTH_HEADER".to_owned(), false),
        ("GIT_AUTH_TOKEN".to_owned(), true),
    ] {
        let given = options.secrets.secret(&name);
        let given = given.map_err(|reason| format!("the secret '{name}': {reason}"))?;
        let Some(value) = given else { continue };
        let value = std::str::from_utf8(value.expose()).map(str::trim);
        let value = value.map_err(|_| format!("the secret '{name}' isn't text"))?;
        if value.contains(['\n', '\r', '\0']) {
            return Err(format!("the secret '{name}' has several lines"));
        }
        return Ok(Some(match is_token {
            true => basic(&Zeroizing::new(
                format!("x-access-token:{value}").into_bytes(),
            )),
            false => Zeroizing::new(format!("Authorization: {value}")),
        }));
    }
    Ok(None)
}

fn basic(user: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(format!("Authorization: Basic {}", STANDARD.encode(user)))
}

/// Git with the user's configuration and environment.
fn own() -> Command {
    let mut git = Command::new("git");
    common(&mut git);
    git
}

/// Git with nothing of the user's.
fn bare() -> Command {
    let mut git = Command::new("git");
    for (name, _) in std::env::vars_os() {
        let mut kept = KEPT.iter().chain(PROXIES);
        if !kept.any(|kept| name == *kept) {
            git.env_remove(name);
        }
    }
    git.env("HOME", "/dev/null")
        .env("XDG_CONFIG_HOME", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_SSH_COMMAND", BARE_SSH)
        .args(["-c", "credential.helper="]);
    common(&mut git);
    git
}

fn common(git: &mut Command) {
    git.args([
        "-c",
        "advice.detachedHead=false",
        // These run programs.
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "protocol.ext.allow=never",
    ])
    .env("LC_ALL", "C")
    .env("GIT_TERMINAL_PROMPT", "0");
}
