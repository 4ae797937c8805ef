//! The engine's events as vertexes, statuses and logs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_engine::{Event, EventSink, Outcome, StepRef, Stream};
use kiln_frontend_dockerfile::Diagnostic;
use kiln_graph::address::redact;
use kiln_graph::{Build, Op, StepId};
use kiln_image::Reference;

use super::numbering::Numbering;
use super::{StatusLog, Vertex, digest_of, now};
use crate::proto::control::{
    StatusResponse, Vertex as Message, VertexLog, VertexStatus, VertexWarning,
};
use crate::proto::pb::{Position, Range, SourceInfo};

/// How a cancelled vertex ends: clients show it as cancelled, not as failed.
const CANCELLED: &str = "context canceled";

/// The vertexes of contexts, by the contexts' names: their steps are not shown beside them.
pub(crate) type Contexts = BTreeMap<String, String>;

/// Tells of one build.
pub(crate) struct Progress {
    log: Arc<StatusLog>,
    /// Sets the build's own vertexes apart from those of others.
    build: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: HashMap<StepRef, Vertex>,
    /// Steps whose outcome needs the build's error.
    failed: Vec<StepRef>,
    running: Vec<StepRef>,
    /// What transfers are shown below, while there is something of its own.
    current: Option<Vertex>,
    /// The vertex that read the build file, which warnings belong to.
    definition: Option<String>,
}

impl Progress {
    /// Tells `log` of the build of this name.
    pub(crate) fn new(log: Arc<StatusLog>, build: &str) -> Self {
        Self {
            log,
            build: build.to_owned(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, vertexes: Vec<Message>) {
        self.log.add(StatusResponse {
            vertexes,
            ..StatusResponse::default()
        });
    }

    /// Does something that has a line of its own.
    pub(crate) fn during<T, E: std::fmt::Display>(
        &self,
        name: &str,
        work: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut vertex = self.begin(name);
        let done = work(&vertex.digest);
        let error = done.as_ref().err().map(ToString::to_string);
        self.end(&mut vertex, error);
        done
    }

    /// Begins something that has a line of its own.
    pub(crate) fn begin(&self, name: &str) -> Vertex {
        let mut vertex = Vertex {
            digest: digest_of([self.build.as_str(), name]),
            name: redact(name).into_owned(),
            ..Vertex::default()
        };
        let mut state = self.lock();
        if name.starts_with("[internal] load build definition") {
            state.definition = Some(vertex.digest.clone());
        }
        self.tell(vec![vertex.start()]);
        state.current = Some(vertex.clone());
        vertex
    }

    /// Ends it.
    pub(crate) fn end(&self, vertex: &mut Vertex, error: Option<String>) {
        self.lock().current = None;
        let error = error.unwrap_or_default();
        self.tell(vec![vertex.complete(false, redact(&error).into_owned())]);
    }

    /// Says how much of something is done, below a vertex.
    pub(crate) fn transferred(&self, vertex: &Vertex, what: &str, bytes: u64, is_over: bool) {
        self.log.add(StatusResponse {
            statuses: vec![status(
                &vertex.digest,
                vertex.started,
                what,
                (bytes, None),
                is_over,
            )],
            ..StatusResponse::default()
        });
    }

    /// Names the steps of a build that is about to be solved.
    pub(crate) fn plan(&self, build: &Build, contexts: &Contexts, several: bool) {
        let mut state = self.lock();
        let mut digests: HashMap<StepId, String> = HashMap::new();
        let numbering = Numbering::of(build);
        for id in build.graph.ids() {
            let step = build.graph.step(id);
            let inputs = build.graph.inputs(id);
            let inputs: Vec<String> = inputs
                .iter()
                .filter_map(|input| digests.get(input).cloned())
                .collect();
            let context = match &step.op {
                Op::Context(context) => contexts.get(&context.name),
                _ => None,
            };
            let definition = build.graph.definition(id).to_string();
            let parts =
                std::iter::once(definition.as_str()).chain(inputs.iter().map(String::as_str));
            let digest = context.cloned().unwrap_or_else(|| digest_of(parts));
            digests.insert(id, digest.clone());
            if context.is_some() || step.op == Op::Scratch {
                continue;
            }
            let vertex = Vertex {
                digest,
                name: name_of(id, step, &numbering, several),
                inputs,
                started: None,
            };
            state.steps.insert(id.into(), vertex);
        }
    }

    /// Ends what failed or was left, with the build's error.
    pub(crate) fn finish(&self, error: Option<&str>) -> Option<String> {
        let mut state = self.lock();
        let failed = std::mem::take(&mut state.failed);
        let running = std::mem::take(&mut state.running);
        let mut ended = Vec::new();
        for step in &failed {
            if let Some(vertex) = state.steps.get_mut(step) {
                ended.push(vertex.complete(false, error.unwrap_or("failed").to_owned()));
            }
        }
        for step in running {
            if let Some(vertex) = state.steps.get_mut(&step) {
                ended.push(vertex.complete(false, CANCELLED.to_owned()));
            }
        }
        let first = failed.first().and_then(|step| state.steps.get(step));
        let digest = first.map(|vertex| vertex.digest.clone());
        if !ended.is_empty() {
            self.tell(ended);
        }
        digest
    }

    /// Tells of what the build file is warned of.
    pub(crate) fn warn(&self, warnings: &[Diagnostic], file: &str, text: &str) {
        let vertex = self.lock().definition.clone().unwrap_or_default();
        let info = SourceInfo {
            filename: file.to_owned(),
            data: text.as_bytes().to_vec(),
            definition: None,
            language: "Dockerfile".to_owned(),
        };
        let warning = |found: &Diagnostic| {
            let short = format!(
                "{}: {} (line {})",
                found.rule.name(),
                redact(&found.message),
                found.location.line
            );
            VertexWarning {
                vertex: vertex.clone(),
                level: 1,
                short: short.into_bytes(),
                detail: vec![found.rule.description().as_bytes().to_vec()],
                url: found.rule.url(),
                info: Some(info.clone()),
                ranges: vec![range(&found.location)],
            }
        };
        if !warnings.is_empty() {
            self.log.add(StatusResponse {
                warnings: warnings.iter().map(warning).collect(),
                ..StatusResponse::default()
            });
        }
    }

    fn note(&self, message: &str) {
        let vertex = self.lock().definition.clone().unwrap_or_default();
        self.log.add(StatusResponse {
            warnings: vec![VertexWarning {
                vertex,
                level: 1,
                short: message.as_bytes().to_vec(),
                ..VertexWarning::default()
            }],
            ..StatusResponse::default()
        });
    }

    fn started(&self, step: StepRef) {
        let mut state = self.lock();
        let Some(vertex) = state.steps.get_mut(&step) else {
            return;
        };
        let message = vertex.start();
        // A step that ran along with one before it begins twice.
        if !state.running.contains(&step) {
            state.running.push(step);
            self.tell(vec![message]);
        }
    }

    fn finished(&self, step: StepRef, outcome: Outcome) {
        let mut state = self.lock();
        state.running.retain(|running| *running != step);
        // It may have failed before, for want of what a damaged cache should have had.
        state.failed.retain(|failed| *failed != step);
        let Some(vertex) = state.steps.get_mut(&step) else {
            return;
        };
        let message = match outcome {
            Outcome::Ran => vertex.complete(false, String::new()),
            Outcome::Cached => vertex.complete(true, String::new()),
            Outcome::Cancelled if vertex.started.is_none() => return,
            Outcome::Cancelled => vertex.complete(false, CANCELLED.to_owned()),
            Outcome::Failed => {
                state.failed.push(step);
                return;
            }
        };
        self.tell(vec![message]);
    }

    fn written(&self, step: StepRef, stream: Stream, bytes: Vec<u8>) {
        let state = self.lock();
        let Some(vertex) = state.steps.get(&step) else {
            return;
        };
        let log = VertexLog {
            vertex: vertex.digest.clone(),
            timestamp: Some(now()),
            stream: match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            },
            msg: bytes,
        };
        self.log.add(StatusResponse {
            logs: vec![log],
            ..StatusResponse::default()
        });
    }

    /// Says that something was done, below the vertex that is running.
    pub(crate) fn did(&self, what: &str) {
        self.moved(what, (0, None), true);
    }

    fn moved(&self, name: &str, bytes: (u64, Option<u64>), is_over: bool) {
        // What is written into a pipe goes to the client.
        let name = match name.starts_with("write /proc/self/fd/") {
            true => "sending tarball",
            false => name,
        };
        let state = self.lock();
        let running = state.running.last().and_then(|step| state.steps.get(step));
        if let Some(vertex) = state.current.as_ref().or(running) {
            let status = status(&vertex.digest, vertex.started, name, bytes, is_over);
            self.log.add(StatusResponse {
                statuses: vec![status],
                ..StatusResponse::default()
            });
        }
    }
}

impl EventSink for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::Planned { steps } => {
                let state = self.lock();
                let planned = steps.iter().filter_map(|step| state.steps.get(&step.step));
                self.tell(planned.map(Vertex::planned).collect());
            }
            Event::Started { step } => self.started(step),
            Event::Output {
                step,
                stream,
                bytes,
            } => self.written(step, stream, bytes),
            Event::Finished { step, outcome, .. } => self.finished(step, outcome),
            Event::Transfer {
                name,
                done,
                total,
                finished,
            } => self.moved(&redact(&name), (done, total), finished),
            Event::Warning { message } => self.note(&redact(&message)),
            _ => {}
        }
    }
}

fn status(
    vertex: &str,
    started: Option<crate::proto::Timestamp>,
    what: &str,
    (done, total): (u64, Option<u64>),
    is_over: bool,
) -> VertexStatus {
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let time = now();
    VertexStatus {
        id: what.to_owned(),
        vertex: vertex.to_owned(),
        name: "transferring".to_owned(),
        current: number(done),
        total: number(total.unwrap_or_default()),
        timestamp: Some(time),
        started: started.or(Some(time)),
        completed: is_over.then_some(time),
    }
}

/// An image's name with its registry and tag, as BuildKit shows it.
fn whole_name(name: &str) -> String {
    let whole: Result<Reference, _> = name.parse();
    match whole {
        Ok(reference) if !name.contains("oci:") => reference.to_string(),
        _ => redact(name).into_owned(),
    }
}

/// A step's name in BuildKit's form.
fn name_of(id: StepId, step: &kiln_graph::Step, numbering: &Numbering, several: bool) -> String {
    let name = &step.name;
    let text = redact(&name.text);
    let platform = match several {
        true => format!("{} ", step.platform),
        false => String::new(),
    };
    match (&step.op, name.number) {
        (Op::Image(image), 0) => match numbering.base(id) {
            Some((stage, of)) => {
                format!(
                    "[{platform}{stage} 1/{of}] FROM {}",
                    whole_name(&image.name)
                )
            }
            None => format!("[{platform}base] FROM {}", whole_name(&image.name)),
        },
        (Op::Context(context), _) => {
            format!("[{platform}context {}] load from client", context.name)
        }
        (_, 0) if name.stage.is_empty() => match several {
            true => format!("[{}] {text}", step.platform),
            false => text.into_owned(),
        },
        (_, 0) => format!("[{platform}{}] {text}", name.stage),
        (_, number) => {
            let of = usize::try_from(name.of).unwrap_or_default();
            let own = (usize::try_from(number).unwrap_or_default(), of);
            let (number, of) = numbering.step(step).unwrap_or(own);
            format!("[{platform}{} {number}/{of}] {text}", name.stage)
        }
    }
}

/// A place in a build file as BuildKit has it.
pub(crate) fn range(location: &kiln_graph::Location) -> Range {
    let line = |line: u32| i32::try_from(line).unwrap_or(i32::MAX);
    let position = |at: u32| Position {
        line: line(at),
        character: 0,
    };
    Range {
        start: Some(position(location.line)),
        end: Some(position(location.end_line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::decode;

    #[test]
    fn no_line_has_what_is_secret_in_an_address() {
        let log = Arc::new(StatusLog::default());
        let progress = Progress::new(log.clone(), "build");
        let url = "https://user:hunter2@files.example/a?X-Amz-Signature=hunter2";
        let failed = progress.during(&format!("load {url}"), |_| {
            Err::<(), _>(format!("{url}: gone"))
        });
        assert!(failed.is_err());
        let told = format!("{:?}", decode(&log.encode()));
        assert!(told.contains("files.example/a"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
