//! SSH agents of the client's: a socket here, whose connections are streams to the client.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_tree::host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::Session;
use crate::proto::sshforward::{BytesMessage, CheckAgentRequest, CheckAgentResponse};

const CHECK: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
/// Bytes in one message.
const PIECE: usize = 32 << 10;

/// The agents that a build has asked for.
pub(super) struct Agents {
    runtime: Handle,
    session: Arc<Session>,
    scratch: PathBuf,
    open: Mutex<HashMap<String, Option<PathBuf>>>,
    /// Ends the sockets with the build.
    ended: CancellationToken,
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

impl Agents {
    pub(super) fn new(runtime: Handle, session: Arc<Session>, scratch: PathBuf) -> Self {
        let ended = session.ended.child_token();
        Self {
            runtime,
            session,
            scratch,
            open: Mutex::default(),
            ended,
        }
    }

    /// The socket of an agent; nothing when the client has none of that name.
    pub(super) fn socket(&self, id: &str) -> Option<PathBuf> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = open.get(id) {
            return socket.clone();
        }
        let socket = match self.is_there(id) {
            true => self.listen(id, open.len()).ok(),
            false => None,
        };
        open.insert(id.to_owned(), socket.clone());
        socket
    }

    fn is_there(&self, id: &str) -> bool {
        if !self.session.offers(FORWARD) {
            return false;
        }
        let request = CheckAgentRequest { id: id.to_owned() };
        let answer = self.session.unary(CHECK, request);
        let answer: Result<CheckAgentResponse, _> = self.runtime.block_on(answer);
        answer.is_ok()
    }

    fn listen(&self, id: &str, number: usize) -> std::io::Result<PathBuf> {
        let path = self.scratch.join(format!("agent.{number}"));
        let listener = {
            let _entered = self.runtime.enter();
            bind(&path)?
        };
        let (session, id, ended) = (self.session.clone(), id.to_owned(), self.ended.clone());
        self.runtime.spawn(async move {
            loop {
                let connection = tokio::select! {
                    next = listener.accept() => next,
                    () = ended.cancelled() => return,
                };
                let Ok((connection, _)) = connection else {
                    return;
                };
                let (session, id, ended) = (session.clone(), id.clone(), ended.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = relay(&session, &id, connection) => {}
                        () = ended.cancelled() => {}
                    }
                });
            }
        });
        Ok(path)
    }
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    host::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Carries one connection to the client's agent and back.
async fn relay(session: &Session, id: &str, connection: UnixStream) {
    let mut metadata = MetadataMap::new();
    if let Ok(id) = MetadataValue::try_from(id) {
        metadata.insert("buildkit.ssh.id", id);
    }
    let (reader, mut writer) = connection.into_split();
    let messages = futures_util::stream::unfold(reader, |mut reader| async {
        let mut data = vec![0; PIECE];
        match reader.read(&mut data).await {
            Ok(count @ 1..) => {
                data.truncate(count);
                Some((BytesMessage { data }, reader))
            }
            _ => None,
        }
    });
    let answers = session.streaming(FORWARD, metadata, messages).await;
    let Ok(mut answers) = answers else {
        return;
    };
    while let Ok(Some(message)) = answers.message().await {
        let message: BytesMessage = message;
        if writer.write_all(&message.data).await.is_err() {
            return;
        }
    }
}
