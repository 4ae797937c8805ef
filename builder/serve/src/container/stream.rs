//! `ExecProcess`: a client's messages about its processes, several at once over one stream.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_graph::{Exec, Security};
use kiln_llb::process as command;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::process::{Answers, Ended, Process};
use super::signal;
use crate::error::of_definition;
use crate::grpc::{self, Messages};
use crate::job::Job;
use crate::proto::frontend::exec_message::Input;
use crate::proto::frontend::{ExecMessage, InitMessage};

/// Messages that wait for the client.
const WAITING: usize = 64;

/// How many processes one stream runs at once.
const MAX_PROCESSES: usize = 64;

/// The processes of one stream. They end with it.
struct Processes {
    job: Arc<Job>,
    /// Whether processes may have all capabilities.
    allows_insecure: bool,
    answers: Answers,
    known: HashMap<String, Process>,
    /// How many of them run.
    running: usize,
    /// What they tell of their ends to, and where it is heard.
    ended: (Ended, mpsc::UnboundedReceiver<String>),
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in self.known.values() {
            process.kill();
        }
    }
}

/// Serves a stream. Gives the messages to the client.
pub(crate) fn serve(
    job: Arc<Job>,
    allows_insecure: bool,
    messages: Streaming<ExecMessage>,
) -> Messages<ExecMessage> {
    let (answers, receiver) = mpsc::channel(WAITING);
    let processes = Processes {
        job,
        allows_insecure,
        answers,
        known: HashMap::new(),
        running: 0,
        ended: mpsc::unbounded_channel(),
    };
    tokio::spawn(processes.run(messages));
    Box::pin(grpc::messages(receiver))
}

impl Processes {
    async fn run(mut self, mut messages: Streaming<ExecMessage>) {
        let answers = self.answers.clone();
        let done = tokio::select! {
            done = self.heed_all(&mut messages) => done,
            () = answers.closed() => return,
        };
        match done {
            Err(status) => _ = answers.send(Err(status)).await,
            // The client has nothing more to say, and may want to hear of what still runs.
            Ok(()) => {
                for process in self.known.values_mut() {
                    process.end_input();
                }
                let cancelled = self.job.cancelled.clone();
                tokio::select! {
                    () = answers.closed() => {}
                    () = cancelled.cancelled() => {}
                    () = self.all_ended() => {}
                }
            }
        }
    }

    async fn heed_all(&mut self, messages: &mut Streaming<ExecMessage>) -> Result<(), Status> {
        loop {
            tokio::select! {
                Some(id) = self.ended.1.recv() => self.end(&id),
                message = messages.message() => match message? {
                    Some(message) => self.heed(message).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Waits until no process runs.
    async fn all_ended(&mut self) {
        while self.running > 0
            && let Some(id) = self.ended.1.recv().await
        {
            self.end(&id);
        }
    }

    fn end(&mut self, id: &str) {
        self.running = self.running.saturating_sub(1);
        if let Some(process) = self.known.get_mut(id) {
            process.end();
        }
    }

    async fn heed(&mut self, message: ExecMessage) -> Result<(), Status> {
        let id = message.process_id;
        if id.is_empty() {
            return Err(Status::invalid_argument("ProcessID required"));
        }
        match message.input {
            Some(Input::Init(init)) => self.begin(id, &init),
            Some(Input::File(data)) => {
                self.find(&id)?.write(data).await;
                Ok(())
            }
            Some(Input::Resize(size)) => {
                self.find(&id)?.resize(size.rows, size.cols);
                Ok(())
            }
            Some(Input::Signal(said)) => {
                let unknown = || Status::invalid_argument(format!("Unknown signal {}", said.name));
                let number = signal::number(&said.name).ok_or_else(unknown)?;
                self.find(&id)?.signal(number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn find(&mut self, id: &str) -> Result<&mut Process, Status> {
        let missing = || Status::not_found(format!("IO for process {id:?} not found"));
        self.known.get_mut(id).ok_or_else(missing)
    }

    fn begin(&mut self, id: String, init: &InitMessage) -> Result<(), Status> {
        if self.known.contains_key(&id) {
            let text = format!("Process {id} already exists");
            return Err(Status::already_exists(text));
        }
        if self.running >= MAX_PROCESSES {
            let text = format!("more than {MAX_PROCESSES} processes run at once");
            return Err(Status::resource_exhausted(text));
        }
        let container = self.job.containers.get(&init.container_id)?;
        let exec = exec(init)?;
        if exec.security == Security::Insecure && !self.allows_insecure {
            return Err(Status::permission_denied(
                "security.insecure is not allowed",
            ));
        }
        let told = (&self.answers, &self.ended.0);
        let process = Process::start(&id, init, exec, container, told)?;
        self.running += 1;
        self.known.insert(id, process);
        Ok(())
    }
}

fn exec(init: &InitMessage) -> Result<Exec, Status> {
    let meta = init.meta.clone().unwrap_or_default();
    if meta.args.is_empty() {
        return Err(Status::invalid_argument("a process without arguments"));
    }
    let exec = command(&meta, init.security, &init.secretenv);
    exec.map_err(|error| of_definition(&error))
}
