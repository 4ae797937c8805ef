//! Frontends that are images: a container of one, whose process calls its bridge over its standard
//! streams.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kiln::{Error, Provenance};
use kiln_engine::{ContainerProcess, EngineError};
use kiln_graph::address::IMAGE_SCHEME;
use kiln_graph::{Exec, ImageConfig, ImagePath, ImageRequest, Input, Network, Platform};
use kiln_sandbox::{Exit, Streams};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::oneshot;
use tonic::Status;

use super::answer::image_config;
use super::frontend::Foreign;
use super::run::Run;
use super::{Answer, Built, Kept, Returned, container, definition, frontend, returned};
use crate::container::OpenContainer;
use crate::control::workers::worker;
use crate::error::BuildError;
use crate::job::Job;
use crate::listen::frontend as serve;
use crate::proto::frontend::ReturnRequest;
use crate::result_ref::definition_of;

/// An image that wants this has no network.
const NO_NETWORK: &str = "moby.buildkit.frontend.network.none";
/// What an image's frontend knows.
const KNOWS: &str = "moby.buildkit.frontend.caps";
/// How long a frontend may take to end once it has handed its result back.
const GRACE: Duration = Duration::from_secs(5);
/// This much is told of what a frontend that failed has written, in bytes.
const MAX_WRITTEN: usize = 4 << 10;

/// Runs the frontend of an image.
pub(super) fn answer(run: &Run<'_>, wanted: &Foreign) -> Result<Answer, BuildError> {
    let image = ImageRequest {
        name: wanted.image.clone(),
        platform: Platform::host(),
    };
    let found = image_config(run, &image)?;
    let config = super::image_config(&found.config)?;
    let labels = &config.config.labels;
    frontend::knows(run.asked, labels.get(KNOWS).map_or("", String::as_str))?;
    let name = format!(
        "{IMAGE_SCHEME}{}@{}",
        without_digest(&found.name),
        found.digest
    );
    let root = definition::build(run, &definition_of(&name))?.result;
    let facts = facts(run, wanted, root.as_deref())?;
    let root = root.map(|built| Kept { built, number: 0 });
    let mut surroundings = Exec::new(Input(0), Vec::new());
    if labels
        .get(NO_NETWORK)
        .is_some_and(|said| said == "true" || said == "1")
    {
        surroundings.network = Network::None;
    }
    let container = Arc::new(container::of(run, surroundings, vec![root])?);
    let (job, handed_back) = run.job.of_a_frontend(run.asked, facts)?;
    let ending = container.clone();
    let _stop = run.job.cancel.on_cancel(move || ending.container.kill());
    let done = speak(
        run,
        &job,
        command(run, wanted, &config),
        &container,
        handed_back,
    );
    job.containers.end();
    let Returned { first, metadata } = done?;
    Ok(Answer {
        result: first,
        said: metadata,
    })
}

/// What provenance tells of the frontend.
fn facts(run: &Run<'_>, wanted: &Foreign, root: Option<&Built>) -> Result<Provenance, BuildError> {
    let mut dependencies = match root {
        Some(built) => built.solved.dependencies().map_err(Error::from)?,
        None => Vec::new(),
    };
    let above = run.job.frontend.iter();
    dependencies.extend(above.flat_map(|above| above.facts.dependencies.clone()));
    let is_told =
        |key: &str| key.starts_with("build-arg:") || key.starts_with("label:") || key == "target";
    let own = run.asked.attributes.iter().filter(|(key, _)| is_told(key));
    let mut args: BTreeMap<String, String> = own
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    args.insert("source".to_owned(), wanted.image.clone());
    if let Some(syntax) = &wanted.syntax {
        args.insert("cmdline".to_owned(), syntax.clone());
    }
    Ok(Provenance {
        frontend: "gateway.v0".to_owned(),
        args,
        dependencies,
        ..Provenance::default()
    })
}

fn without_digest(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}

/// What the frontend's process runs, and what it is told.
fn command(run: &Run<'_>, wanted: &Foreign, config: &ImageConfig) -> Exec {
    let own = &config.config;
    let args = match own.entrypoint.as_deref() {
        Some([]) | None => vec!["/run".to_owned()],
        Some(entrypoint) => entrypoint.to_vec(),
    };
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    let mut env: Vec<(String, String)> = own.env.iter().map(pair).collect();
    let mut options = run.asked.attributes.clone();
    options.insert("source".to_owned(), wanted.image.clone());
    if let Some(syntax) = &wanted.syntax {
        options.insert("cmdline".to_owned(), syntax.clone());
    }
    for (number, (key, value)) in options.iter().enumerate() {
        let name = format!("BUILDKIT_FRONTEND_OPT_{number}");
        env.push((name, format!("{key}={value}")));
    }
    let worker = worker(run.client.server);
    let host = Platform::host();
    let platform = json!({ "os": host.os, "architecture": host.architecture });
    let workers = json!([{ "ID": worker.id, "Labels": worker.labels, "Platforms": [platform] }]);
    let told = [
        ("BUILDKIT_SESSION_ID", run.client.session.id.clone()),
        ("BUILDKIT_WORKERS", workers.to_string()),
        ("BUILDKIT_EXPORTEDPRODUCT", "kiln".to_owned()),
    ];
    env.extend(told.map(|(name, value)| (name.to_owned(), value)));
    Exec {
        env,
        cwd: ImagePath::new(&own.working_dir),
        ..Exec::new(Input(0), args)
    }
}

/// Runs the process, and answers its calls until it has handed its result back.
fn speak(
    run: &Run<'_>,
    job: &Arc<Job>,
    exec: Exec,
    container: &Arc<OpenContainer>,
    handed_back: oneshot::Receiver<ReturnRequest>,
) -> Result<Returned, BuildError> {
    let server = run.client.server;
    let started = Process::start(exec, container.clone()).map_err(|source| BuildError::Host {
        what: "cannot start a frontend",
        source,
    })?;
    let Process {
        to,
        from,
        mut ended,
        written,
    } = started;
    let result = server.runtime.block_on(async {
        let streams = streams(from, to).map_err(|source| BuildError::Host {
            what: "cannot speak with a frontend",
            source,
        })?;
        let serving = tokio::spawn(serve(streams, server.clone(), job.clone()));
        let handed_back = tokio::select! {
            handed_back = handed_back => handed_back.ok(),
            () = job.cancelled.cancelled() => None,
            exit = &mut ended => return Err(Ended::Early(exit.ok())),
        };
        let result = match handed_back {
            None => Err(Status::cancelled("context canceled")),
            Some(result) => returned(server, result).await,
        };
        // It hears the answer to its last call, and ends.
        _ = tokio::time::timeout(GRACE, ended).await;
        serving.abort();
        result.map_err(|status| Ended::Told(status.into()))
    });
    container.container.kill();
    match result {
        Ok(returned) => Ok(returned),
        Err(Ended::Told(error)) => Err(error),
        Err(Ended::Early(exit)) => Err(early(exit, written)),
    }
}

/// Why there is no result.
enum Ended {
    /// It is told.
    Told(BuildError),
    /// The process ended before.
    Early(Option<Result<Exit, EngineError>>),
}

impl From<BuildError> for Ended {
    fn from(error: BuildError) -> Self {
        Self::Told(error)
    }
}

fn early(exit: Option<Result<Exit, EngineError>>, written: JoinHandle<Vec<u8>>) -> BuildError {
    let how = match exit {
        Some(Err(error)) => return Error::from(error).into(),
        Some(Ok(Exit::Code(code))) => format!("exit code: {code}"),
        Some(Ok(Exit::NotExecuted { reason, .. })) => reason,
        Some(Ok(Exit::Signal(signal))) => format!("signal {signal}"),
        Some(Ok(Exit::OutOfMemory)) => "memory ran out".to_owned(),
        Some(Ok(Exit::Killed)) => return Status::cancelled("context canceled").into(),
        None => "it can't be run".to_owned(),
    };
    let said = written.join().unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let text = format!(
        "the frontend ended without a result: {how}: {}",
        said.trim()
    );
    Status::unknown(text.trim_end_matches(": ").to_owned()).into()
}

/// A frontend's process as it is spoken with.
struct Process {
    to: OwnedFd,
    from: OwnedFd,
    ended: oneshot::Receiver<Result<Exit, EngineError>>,
    /// The last of what it wrote to its standard error.
    written: JoinHandle<Vec<u8>>,
}

impl Process {
    fn start(exec: Exec, container: Arc<OpenContainer>) -> std::io::Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let ((input, to), (from, output), (said, errors)) = (pipe()?, pipe()?, pipe()?);
        let streams = Streams {
            input: Some(input),
            output,
            errors,
        };
        let (told, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("frontend".to_owned());
        thread.spawn(move || {
            let process = ContainerProcess {
                exec: &exec,
                streams,
                terminal: false,
            };
            _ = told.send(container.container.run(process, |_| ()));
        })?;
        let reader = std::thread::Builder::new().name("errors".to_owned());
        let written = reader.spawn(move || last_of(File::from(said)))?;
        Ok(Self {
            to,
            from,
            ended,
            written,
        })
    }
}

/// Reads to the end; the last of it.
fn last_of(mut file: File) -> Vec<u8> {
    let mut last = Vec::new();
    let mut buffer = vec![0; 4 << 10];
    while let Ok(count @ 1..) = file.read(&mut buffer) {
        last.extend_from_slice(&buffer[..count]);
        let surplus = last.len().saturating_sub(MAX_WRITTEN);
        last.drain(..surplus);
    }
    last
}

/// Both directions as one.
fn streams(from: OwnedFd, to: OwnedFd) -> std::io::Result<tokio::io::Join<Receiver, Sender>> {
    Ok(tokio::io::join(
        Receiver::from_owned_fd(from)?,
        Sender::from_owned_fd(to)?,
    ))
}
