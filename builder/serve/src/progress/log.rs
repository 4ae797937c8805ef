//! The status messages of one build, kept for whoever asks for them, now or later.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use tokio::sync::watch;

use crate::grpc::Messages;
use crate::proto::control::StatusResponse;

/// What steps write beyond this isn't kept, in bytes.
const MAX_LOGS: usize = 32 << 20;
/// About how much goes into one message, in bytes of logs.
const BATCH: usize = 256 << 10;

/// The messages so far.
#[derive(Debug)]
pub(crate) struct StatusLog {
    state: Mutex<State>,
    /// Goes up with each message.
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Arc<StatusResponse>>,
    logged: usize,
    is_closed: bool,
}

impl Default for StatusLog {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            version: watch::Sender::new(0),
        }
    }
}

impl StatusLog {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; none after the end.
    pub(crate) fn add(&self, mut message: StatusResponse) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        let size: usize = message.logs.iter().map(|log| log.msg.len()).sum();
        if size > 0 {
            let before = state.logged;
            state.logged += size;
            match (before > MAX_LOGS, state.logged > MAX_LOGS) {
                (true, _) => message.logs.clear(),
                (false, true) => {
                    message.logs.truncate(1);
                    let text = format!("[output clipped, {} MiB reached]\n", MAX_LOGS >> 20);
                    message.logs[0].msg = text.into_bytes();
                }
                _ => {}
            }
        }
        state.messages.push(Arc::new(message));
        drop(state);
        self.version.send_modify(|version| *version += 1);
    }

    /// Ends the messages.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.version.send_modify(|version| *version += 1);
    }

    /// All messages, each behind its length (32 bits, little endian): how BuildKit keeps them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let state = self.lock();
        let mut bytes = Vec::new();
        for message in &state.messages {
            let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&message.encode_to_vec());
        }
        bytes
    }

    /// How many steps there are.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        let (mut all, mut cached, mut completed) =
            <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
        let mut warnings = 0;
        for message in &state.messages {
            warnings += message.warnings.len();
            for vertex in &message.vertexes {
                all.insert(&vertex.digest);
                if vertex.cached {
                    cached.insert(&vertex.digest);
                }
                if vertex.completed.is_some() {
                    completed.insert(&vertex.digest);
                }
            }
        }
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Counts {
            total: number(all.len()),
            cached: number(cached.len()),
            completed: number(completed.len()),
            warnings: number(warnings),
        }
    }

    /// The messages from a position on, as one; with the position after them. Nothing when there
    /// are none; whether there will be more.
    fn after(&self, position: usize) -> (Option<(StatusResponse, usize)>, bool) {
        let state = self.lock();
        let mut all = StatusResponse::default();
        let mut end = position;
        let mut size = 0;
        while end < state.messages.len() && size < BATCH {
            let next = &state.messages[end];
            size += next
                .logs
                .iter()
                .map(|log| log.msg.len() + 64)
                .sum::<usize>();
            size += 128 * (next.vertexes.len() + next.statuses.len());
            all.vertexes.extend(next.vertexes.iter().cloned());
            all.statuses.extend(next.statuses.iter().cloned());
            all.logs.extend(next.logs.iter().cloned());
            all.warnings.extend(next.warnings.iter().cloned());
            end += 1;
        }
        let found = (end > position).then_some((all, end));
        (found, !state.is_closed)
    }
}

/// How many steps a build has, and how many of them are cached and done; its warnings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) total: i32,
    pub(crate) cached: i32,
    pub(crate) completed: i32,
    pub(crate) warnings: i32,
}

/// Messages that [`StatusLog::encode`] wrote, until one can't be read.
pub(crate) fn decode(bytes: &[u8]) -> Vec<StatusResponse> {
    let mut rest = bytes;
    let mut messages = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((message, more)) = more.split_at_checked(length) else {
            break;
        };
        let Ok(message) = StatusResponse::decode(message) else {
            break;
        };
        messages.push(message);
        rest = more;
    }
    messages
}

/// All messages of a log, as they come, until it is closed.
pub(crate) fn follow(log: Arc<StatusLog>) -> Messages<StatusResponse> {
    let changes = log.version.subscribe();
    let stream = futures_util::stream::unfold(
        (log, changes, 0),
        |(log, mut changes, position)| async move {
            loop {
                changes.borrow_and_update();
                match log.after(position) {
                    (Some((message, next)), _) => {
                        return Some((Ok(message), (log, changes, next)));
                    }
                    (None, false) => return None,
                    (None, true) => changes.changed().await.ok()?,
                }
            }
        },
    );
    Box::pin(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::control::VertexLog;
    use futures_util::StreamExt as _;

    fn line(text: &str) -> StatusResponse {
        StatusResponse {
            logs: vec![VertexLog {
                msg: text.as_bytes().to_vec(),
                ..VertexLog::default()
            }],
            ..StatusResponse::default()
        }
    }

    #[tokio::test]
    async fn late_and_early_readers_see_the_same() {
        let log = Arc::new(StatusLog::default());
        let early = follow(log.clone());
        log.add(line("a"));
        log.add(line("b"));
        let reading = tokio::spawn(early.collect::<Vec<_>>());
        log.close();
        log.add(line("after the end"));
        let text = |messages: Vec<Result<StatusResponse, tonic::Status>>| {
            let logs = messages
                .into_iter()
                .flat_map(|message| message.unwrap().logs);
            logs.map(|log| String::from_utf8(log.msg).unwrap())
                .collect::<String>()
        };
        assert_eq!(text(reading.await.unwrap()), "ab");
        assert_eq!(text(follow(log).collect().await), "ab");
    }

    #[test]
    fn messages_come_back_from_the_history() {
        let log = StatusLog::default();
        log.add(line("a"));
        log.add(StatusResponse::default());
        log.add(line("b"));
        let bytes = log.encode();
        assert_eq!(
            decode(&bytes),
            [line("a"), StatusResponse::default(), line("b")]
        );
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).len() < 3);
        }
        assert!(decode(&[0xff; 64]).is_empty());
    }

    #[test]
    fn what_steps_write_is_bounded() {
        let log = StatusLog::default();
        let piece = "x".repeat(1 << 20);
        for _ in 0..40 {
            log.add(line(&piece));
        }
        let kept: usize = log
            .lock()
            .messages
            .iter()
            .flat_map(|m| &m.logs)
            .map(|l| l.msg.len())
            .sum();
        assert!(kept <= MAX_LOGS + 100, "{kept}");
    }
}
