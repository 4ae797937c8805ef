//! The socket of an SSH agent as a step wants it: with an owner and a mode of its own. What connects to it is
//! connected to the socket that the user has.

use std::io::copy;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use kiln_graph::SshMount;
use kiln_tree::host;

/// A step has no more connections at once: each takes threads of this process.
const MAX_CONNECTIONS: usize = 64;

/// A socket that is there until this is dropped.
pub(super) struct AgentSocket {
    listener: UnixListener,
    accepting: Option<JoinHandle<()>>,
}

impl AgentSocket {
    /// Whether a step can be given the user's own socket.
    pub(super) fn is_needed(ssh: &SshMount) -> bool {
        (ssh.mode, ssh.uid.get(), ssh.gid.get()) != (0o600, 0, 0)
    }

    /// Listens at `path` for what wants to reach the agent.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub(super) fn open(path: &Path, agent: PathBuf, ssh: &SshMount) -> std::io::Result<Self> {
        let listener = host::listen(path)?;
        let owner = (
            rustix::fs::Uid::from_raw(ssh.uid.get()),
            rustix::fs::Gid::from_raw(ssh.gid.get()),
        );
        match rustix::fs::chown(path, Some(owner.0), Some(owner.1)) {
            // Where there is one id, every owner is that one.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        host::set_permissions(path, std::fs::Permissions::from_mode(ssh.mode & 0o7777))?;
        let accepted = listener.try_clone()?;
        let accept = move || accept(&accepted, &Arc::new(agent));
        let accepting = Builder::new().name("ssh agent".to_owned()).spawn(accept)?;
        Ok(Self {
            listener,
            accepting: Some(accepting),
        })
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        // This wakes the thread up.
        _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            _ = accepting.join();
        }
    }
}

fn accept(listener: &UnixListener, agent: &Arc<PathBuf>) {
    let open = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        let Ok(connection) = connection else {
            return;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            _ = open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (agent, counted) = (agent.clone(), open.clone());
        let carry = move || {
            // What fails ends the connection, as an agent that goes away does.
            _ = carry(&connection, &agent);
            _ = counted.fetch_sub(1, Ordering::Relaxed);
        };
        if Builder::new().spawn(carry).is_err() {
            _ = open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Carries a connection to the agent and back, until both sides have ended.
fn carry(client: &UnixStream, agent: &Path) -> std::io::Result<()> {
    let agent = host::connect(agent)?;
    std::thread::scope(|scope| {
        _ = scope.spawn(|| one_way(client, &agent));
        one_way(&agent, client);
    });
    Ok(())
}

fn one_way(mut from: &UnixStream, mut to: &UnixStream) {
    _ = copy(&mut from, &mut to);
    _ = to.shutdown(Shutdown::Write);
    // Nobody reads what else comes.
    _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::UnixId;
    use std::io::{Read as _, Write as _};

    /// An agent that answers each connection with what it was sent.
    fn echo(path: &Path) {
        let listener = host::listen(path).unwrap();
        _ = std::thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = connection.unwrap();
                _ = copy(&mut &connection, &mut &connection);
            }
        });
    }

    #[test]
    fn steps_reach_the_agent_until_they_end() {
        let directory = tempfile::tempdir().unwrap();
        // Longer than a socket's address may be.
        let long = directory.path().join("d".repeat(150));
        host::create_dir(&long).unwrap();
        let (agent, path) = (long.join("agent"), long.join("socket"));
        echo(&agent);
        let ssh = SshMount {
            id: "default".to_owned(),
            required: true,
            mode: 0o741,
            uid: UnixId::try_from(rustix::process::geteuid().as_raw()).unwrap(),
            gid: UnixId::try_from(rustix::process::getegid().as_raw()).unwrap(),
        };
        let socket = AgentSocket::open(&path, agent, &ssh).unwrap();
        let mode = host::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o741);
        for _ in 0..2 * MAX_CONNECTIONS {
            let mut client = host::connect(&path).unwrap();
            client.write_all(b"sign this").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            _ = client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "sign this");
        }
        drop(socket);
        assert!(host::connect(&path).is_err());
    }
}
