//! One process of a client's: its streams, its signals, its end.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use kiln::Error;
use kiln_engine::{ContainerProcess, EngineError, Started};
use kiln_graph::Exec;
use kiln_sandbox::{Exit, Streams};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::OpenContainer;
use super::terminal::Terminal;
use crate::error::BuildError;
use crate::proto::RpcStatus;
use crate::proto::frontend::exec_message::Input;
use crate::proto::frontend::{
    DoneMessage, ExecMessage, ExitMessage, FdMessage, InitMessage, StartedMessage,
};

/// Bytes in one message.
const PIECE: usize = 32 << 10;
/// Pieces of input that wait for a process.
const WAITING: usize = 16;
/// The status of a process that has none of its own, to clients.
const UNKNOWN_STATUS: u32 = 255;

/// Is told the processes that have ended, by their names.
pub(super) type Ended = mpsc::UnboundedSender<String>;

/// Where messages to the client go.
pub(super) type Answers = mpsc::Sender<Result<ExecMessage, Status>>;

/// A process as the client's messages reach it.
#[derive(Debug)]
pub(super) struct Process {
    /// What it is to read; nothing once that has ended.
    input: Option<mpsc::Sender<Vec<u8>>>,
    terminal: Option<Terminal>,
    started: Arc<OnceLock<Started>>,
    /// Nobody wants it any more.
    unwanted: Arc<AtomicBool>,
}

/// The client's sides of a process's streams.
struct Ends {
    input: Option<File>,
    /// What is read from it, by the numbers that it has in the process; and whether the client wants it.
    outputs: Vec<(u32, File)>,
    terminal: Option<Terminal>,
}

/// Tells the client of one process.
#[derive(Clone)]
struct Voice {
    id: String,
    answers: Answers,
    ended: Ended,
}

impl Voice {
    /// Whether the client is still there.
    fn say(&self, input: Input) -> bool {
        let message = ExecMessage {
            process_id: self.id.clone(),
            input: Some(input),
        };
        self.answers.blocking_send(Ok(message)).is_ok()
    }

    fn said(&self, fd: u32, data: Vec<u8>) -> bool {
        let eof = data.is_empty();
        self.say(Input::File(FdMessage { fd, eof, data }))
    }
}

impl Process {
    /// Starts a process; what becomes of it is told by messages.
    pub(super) fn start(
        id: &str,
        init: &InitMessage,
        exec: Exec,
        container: Arc<OpenContainer>,
        (answers, ended): (&Answers, &Ended),
    ) -> Result<Self, Status> {
        let opened = match init.tty {
            true => with_terminal(init),
            false => with_pipes(init),
        };
        let (streams, ends) = opened.map_err(|error| host(&error))?;
        let voice = Voice {
            id: id.to_owned(),
            answers: answers.clone(),
            ended: ended.clone(),
        };
        let started = Arc::new(OnceLock::new());
        let process = Self {
            input: ends
                .input
                .map(fed)
                .transpose()
                .map_err(|error| host(&error))?,
            terminal: ends.terminal,
            started: started.clone(),
            unwanted: Arc::default(),
        };
        let unwanted = process.unwanted.clone();
        let (terminal, outputs) = (init.tty, ends.outputs);
        let work = move || {
            let process = ContainerProcess {
                exec: &exec,
                streams,
                terminal,
            };
            run(
                &container,
                process,
                (outputs, &voice),
                (&started, &unwanted),
            );
        };
        let thread = std::thread::Builder::new().name("process".to_owned());
        thread.spawn(work).map_err(|error| host(&error))?;
        Ok(process)
    }

    /// Gives it what the client sends.
    pub(super) async fn write(&mut self, message: FdMessage) {
        if let Some(input) = &self.input
            && message.fd == 0
            && !message.data.is_empty()
        {
            for piece in message.data.chunks(PIECE) {
                // What has ended reads nothing.
                _ = input.send(piece.to_vec()).await;
            }
        }
        if message.fd == 0 && message.eof {
            self.end_input();
        }
    }

    /// It has ended: only its name is taken from now on.
    pub(super) fn end(&mut self) {
        self.input = None;
        self.terminal = None;
    }

    /// Ends what it reads.
    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    pub(super) fn resize(&self, rows: u32, columns: u32) {
        if let Some(terminal) = &self.terminal {
            terminal.resize(rows, columns);
        }
    }

    pub(super) fn signal(&self, number: u8) {
        if let Some(started) = self.started.get() {
            started.signal(number);
        }
    }

    /// Ends it, also when it hasn't begun yet.
    pub(super) fn kill(&self) {
        self.unwanted.store(true, Ordering::SeqCst);
        if let Some(started) = self.started.get() {
            started.kill();
        }
    }
}

fn host(error: &io::Error) -> Status {
    Status::unknown(format!("cannot start a process: {error}"))
}

/// A terminal for all of a process's streams.
fn with_terminal(init: &InitMessage) -> io::Result<(Streams, Ends)> {
    let (terminal, other) = Terminal::open()?;
    let streams = Streams {
        input: None,
        errors: other.try_clone()?,
        output: other,
    };
    let ends = Ends {
        input: init.fds.contains(&0).then(|| terminal.file()).transpose()?,
        outputs: vec![(1, terminal.file()?)],
        terminal: Some(terminal),
    };
    Ok((streams, ends))
}

fn with_pipes(init: &InitMessage) -> io::Result<(Streams, Ends)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let (output, output_end) = pipe()?;
    let (errors, errors_end) = pipe()?;
    let (input, input_end) = match init.fds.contains(&0) {
        true => Some(pipe()?).unzip(),
        false => (None, None),
    };
    let streams = Streams {
        input,
        output: output_end,
        errors: errors_end,
    };
    let ends = Ends {
        input: input_end.map(OwnedFd::into),
        outputs: vec![(1, output.into()), (2, errors.into())],
        terminal: None,
    };
    Ok((streams, ends))
}

/// Writes to a file what is sent, on a thread of its own, for a process reads when it likes.
fn fed(mut file: File) -> io::Result<mpsc::Sender<Vec<u8>>> {
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(WAITING);
    let thread = std::thread::Builder::new().name("input".to_owned());
    thread.spawn(move || {
        while let Some(data) = receiver.blocking_recv() {
            if file.write_all(&data).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

/// Runs a process to its end, and tells the client of it.
fn run(
    container: &OpenContainer,
    process: ContainerProcess<'_>,
    (outputs, voice): (Vec<(u32, File)>, &Voice),
    (started, unwanted): (&OnceLock<Started>, &AtomicBool),
) {
    let mut readers = Vec::new();
    let done = container.container.run(process, |process| {
        _ = started.set(process.clone());
        if unwanted.load(Ordering::SeqCst) {
            process.kill();
        }
        _ = voice.say(Input::Started(StartedMessage {}));
        readers = outputs
            .into_iter()
            .filter_map(|(fd, file)| read(voice.clone(), fd, file).ok())
            .collect();
    });
    if started.get().is_none() {
        _ = voice.say(Input::Started(StartedMessage {}));
    }
    _ = voice.say(Input::Exit(exit(done)));
    for reader in readers {
        _ = reader.join();
    }
    _ = voice.say(Input::Done(DoneMessage {}));
    // Whoever served the stream may be gone.
    _ = voice.ended.send(voice.id.clone());
}

/// Sends the client what a process writes. What nobody takes is read all the same: a full pipe
/// would stop the process.
fn read(voice: Voice, fd: u32, mut file: File) -> io::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("output".to_owned());
    thread.spawn(move || {
        let mut is_there = true;
        let mut data = vec![0; PIECE];
        while let Ok(count @ 1..) = file.read(&mut data) {
            is_there = is_there && voice.said(fd, data[..count].to_vec());
        }
        _ = voice.said(fd, Vec::new());
    })
}

/// How a process ended, as clients are told.
fn exit(done: Result<Exit, EngineError>) -> ExitMessage {
    let (code, message) = match done {
        Ok(Exit::Code(0)) => return ExitMessage::default(),
        Ok(Exit::Code(code)) => (code, format!("exit code: {code}")),
        Ok(Exit::Signal(signal)) => (128 + signal, format!("exit code: {}", 128 + signal)),
        Ok(Exit::NotExecuted { reason, code }) => (code, format!("{reason}: exit code: {code}")),
        Ok(Exit::OutOfMemory) => (137, "exit code: 137: memory ran out".to_owned()),
        Ok(Exit::Killed) => (137, "exit code: 137".to_owned()),
        Err(error) => {
            let status = BuildError::from(Error::from(error)).status();
            return failed(UNKNOWN_STATUS, status.code(), status.message());
        }
    };
    let code = u32::try_from(code).unwrap_or(UNKNOWN_STATUS);
    failed(code, Code::Unknown, &message)
}

fn failed(code: u32, kind: Code, message: &str) -> ExitMessage {
    ExitMessage {
        code,
        error: Some(RpcStatus {
            code: kind.into(),
            message: message.to_owned(),
            details: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_by_statuses() {
        assert_eq!(exit(Ok(Exit::Code(0))), ExitMessage::default());
        for (end, code, text) in [
            (Exit::Code(99), 99, "exit code: 99"),
            (Exit::Signal(15), 143, "exit code: 143"),
            (Exit::Killed, 137, "exit code: 137"),
        ] {
            let told = exit(Ok(end));
            assert_eq!(told.code, code);
            assert_eq!(told.error.unwrap().message, text);
        }
    }
}
