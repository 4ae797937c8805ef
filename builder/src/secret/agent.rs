//! SSH agents for steps: the user's own, or one that holds given keys for the time of the build.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kiln_graph::Fault;

/// How long ssh-agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why an SSH agent can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// There is no agent at the socket, or none of these keys.
    #[error("no agent is running: start ssh-agent, or give {id}=SOCKET or {id}=KEYFILE")]
    NotRunning {
        /// The agent's id.
        id: String,
    },
    /// There is no directory for the socket of an agent of our own.
    #[error("{}: {source}", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// OpenSSH's programs can't be run.
    #[error("{program} can't be run: {source} (Debian: openssh-client)")]
    Program {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// ssh-agent was started and doesn't answer.
    #[error("ssh-agent doesn't answer")]
    Silent,
    /// The agent doesn't take the keys.
    #[error("the keys can't be added to an agent: {0}")]
    Keys(String),
}

impl AgentError {
    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotRunning { .. } | Self::Keys(_) => Fault::User,
            Self::Directory { .. } | Self::Program { .. } | Self::Silent => Fault::Environment,
        }
    }
}

/// An agent's socket, and the agent when it is ours.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
    own: Option<(Child, PathBuf)>,
}

impl Agent {
    /// `default`, `ID=SOCKET` or `ID=KEY[,KEY…]`.
    pub(super) fn open(text: &str) -> Result<(String, Self), AgentError> {
        let (id, paths) = match text.split_once('=') {
            Some((id, paths)) => (id, paths.split(',').map(PathBuf::from).collect()),
            None => {
                let socket = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from);
                (text, socket.into_iter().collect::<Vec<_>>())
            }
        };
        let missing = paths.iter().find(|path| !path.exists());
        if paths.is_empty() || missing.is_some() {
            return Err(AgentError::NotRunning { id: id.to_owned() });
        }
        let agent = match &paths[..] {
            [only] if is_socket(only) => Self {
                socket: only.clone(),
                own: None,
            },
            keys => Self::with_keys(keys)?,
        };
        Ok((id.to_owned(), agent))
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Starts OpenSSH's agent and gives it keys.
    fn with_keys(keys: &[PathBuf]) -> Result<Self, AgentError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        let name = format!("kiln-agent-{}-{now}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        // One that is there already is somebody else's.
        let private =
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
                .create(&directory);
        private.map_err(|source| AgentError::Directory {
            directory: directory.clone(),
            source,
        })?;
        let socket = directory.join("socket");
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .map_err(not_run("ssh-agent"))?;
        let agent = Self {
            socket,
            own: Some((child, directory)),
        };
        agent.wait()?;
        let added = Command::new("ssh-add")
            .arg("-q")
            .args(keys)
            .env("SSH_AUTH_SOCK", &agent.socket)
            .stdin(Stdio::null())
            .output()
            .map_err(not_run("ssh-add"))?;
        if added.status.success() {
            return Ok(agent);
        }
        let reason = String::from_utf8_lossy(&added.stderr).trim().to_owned();
        Err(AgentError::Keys(reason))
    }

    fn wait(&self) -> Result<(), AgentError> {
        let started = Instant::now();
        while !self.socket.exists() {
            if started.elapsed() > PATIENCE {
                return Err(AgentError::Silent);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

fn not_run(program: &'static str) -> impl FnOnce(std::io::Error) -> AgentError {
    move |source| AgentError::Program { program, source }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|about| about.file_type().is_socket())
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some((child, directory)) = &mut self.own {
            _ = child.kill();
            _ = child.wait();
            _ = std::fs::remove_dir_all(directory);
        }
    }
}
