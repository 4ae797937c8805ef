//! The worker.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::longrunning as operations;
use bazel_remote_apis::google::protobuf::{Any, Empty};
use bazel_remote_apis::google::rpc;
use futures_util::{Stream, StreamExt as _, stream as streams};
use operations::operation::Result as Outcome;
use operations::operations_server::Operations;
use prost::Message as _;
use reapi::execution_server::Execution;
use reapi::execution_stage::Value as Stage;
use tonic::{Code, Request, Response, Status};

use super::{Answer, Fault, Log, Shared, State};

type Progress = Pin<Box<dyn Stream<Item = Result<operations::Operation, Status>> + Send>>;

/// What an action is called while it runs; the one that is run last.
const NAME: &str = "operations/1";
const WORKER: &str = "worker-1";

fn operation(stage: Stage, result: Option<Outcome>) -> operations::Operation {
    of_metadata(
        &reapi::ExecuteOperationMetadata {
            stage: stage.into(),
            ..reapi::ExecuteOperationMetadata::default()
        },
        result,
    )
}

/// An action that runs, whose standard output is streamed.
fn executing() -> operations::Operation {
    let metadata = reapi::ExecuteOperationMetadata {
        stage: Stage::Executing.into(),
        stdout_stream_name: super::storage::LOG.to_owned(),
        partial_execution_metadata: Some(reapi::ExecutedActionMetadata {
            worker: WORKER.to_owned(),
            ..reapi::ExecutedActionMetadata::default()
        }),
        ..reapi::ExecuteOperationMetadata::default()
    };
    of_metadata(&metadata, None)
}

fn of_metadata(
    metadata: &reapi::ExecuteOperationMetadata,
    result: Option<Outcome>,
) -> operations::Operation {
    operations::Operation {
        name: NAME.to_owned(),
        metadata: Some(Any {
            value: metadata.encode_to_vec(),
            ..Any::default()
        }),
        done: result.is_some(),
        result,
    }
}

fn response(result: Result<reapi::ActionResult, (Code, &str)>) -> operations::Operation {
    let response = match result {
        Ok(result) => reapi::ExecuteResponse {
            result: Some(result),
            ..reapi::ExecuteResponse::default()
        },
        Err((code, message)) => reapi::ExecuteResponse {
            status: Some(rpc::Status {
                code: code as i32,
                message: message.to_owned(),
                details: Vec::new(),
            }),
            ..reapi::ExecuteResponse::default()
        },
    };
    let any = Any {
        value: response.encode_to_vec(),
        ..Any::default()
    };
    operation(Stage::Completed, Some(Outcome::Response(any)))
}

fn of<T: prost::Message + Default>(state: &State, digest: Option<&reapi::Digest>) -> Option<T> {
    let blobs = state.blobs.lock().unwrap();
    T::decode(&blobs.get(&digest?.hash)?[..]).ok()
}

#[tonic::async_trait]
impl Execution for Shared {
    type ExecuteStream = Progress;
    type WaitExecutionStream = Progress;

    async fn execute(&self, request: Request<reapi::ExecuteRequest>) -> Answer<Progress> {
        self.0.check(&request)?;
        let nth = self.0.actions.fetch_add(1, Ordering::SeqCst);
        let digest = request.into_inner().action_digest.unwrap_or_default();
        let action: reapi::Action = of(&self.0, Some(&digest)).unwrap_or_default();
        let platform = action.platform.clone().unwrap_or_default();
        let wants_pool = platform.properties.iter().any(|one| one.name == "pool");
        let asked = platform.properties.iter();
        let asked = asked.map(|one| format!("{}={}", one.name, one.value));
        self.0.asked.lock().unwrap().push(asked.collect());
        match self.0.fault {
            Fault::KnowsNoPool if wants_pool => {
                return Err(Status::failed_precondition("properties are: OSFamily, ISA"));
            }
            Fault::IsAwayOnce if nth == 0 => return Err(Status::unavailable("restarting")),
            Fault::OnlyQueues => {
                let queued = streams::iter([Ok(operation(Stage::Queued, None))]);
                return Ok(Response::new(Box::pin(queued.chain(streams::pending()))));
            }
            Fault::Fails => {
                let failed = response(Err((Code::Internal, "out of order")));
                return Ok(Response::new(Box::pin(streams::iter([Ok(failed)]))));
            }
            Fault::LosesAnInput if nth == 0 => {
                _ = self.0.blobs.lock().unwrap().remove(&digest.hash);
                let lost = response(Err((Code::FailedPrecondition, "an input is missing")));
                return Ok(Response::new(Box::pin(streams::iter([Ok(lost)]))));
            }
            Fault::LosesResults if nth == 2 => {
                self.0.forget_outputs();
                let lost = response(Err((Code::FailedPrecondition, "an input is missing")));
                return Ok(Response::new(Box::pin(streams::iter([Ok(lost)]))));
            }
            Fault::BreaksStreams => {
                let begun = streams::iter([Ok(operation(Stage::Executing, None))]);
                *PENDING.lock().unwrap() = Some((self.0.clone(), action));
                return Ok(Response::new(Box::pin(begun)));
            }
            _ => {}
        }
        Ok(Response::new(progress(self.0.clone(), action)))
    }

    async fn wait_execution(&self, _: Request<reapi::WaitExecutionRequest>) -> Answer<Progress> {
        match PENDING.lock().unwrap().take() {
            Some((state, action)) => Ok(Response::new(progress(state, action))),
            None => Err(Status::not_found("no such operation")),
        }
    }
}

impl State {
    /// Forgets what actions gave.
    pub(super) fn forget_outputs(&self) {
        let mut blobs = self.blobs.lock().unwrap();
        for hash in self.outputs.lock().unwrap().drain(..) {
            _ = blobs.remove(&hash);
        }
    }

    /// Kills what runs.
    pub(super) fn kill_all(&self) {
        for process in self.running.lock().unwrap().drain(..) {
            let number = process.to_string();
            _ = std::process::Command::new("kill")
                .args(["-KILL", &number])
                .status();
        }
    }
}

/// The action whose stream broke.
static PENDING: std::sync::Mutex<Option<(Arc<State>, reapi::Action)>> = std::sync::Mutex::new(None);

fn progress(state: Arc<State>, action: reapi::Action) -> Progress {
    let queued = Ok(operation(Stage::Queued, None));
    let begun = streams::iter([queued, Ok(executing())]);
    let done = streams::once(async move {
        let work = tokio::task::spawn_blocking(move || run(&state, &action));
        Ok(response(Ok(work.await.unwrap())))
    });
    Box::pin(begun.chain(done))
}

/// Runs an action in a directory of its own.
fn run(state: &State, action: &reapi::Action) -> reapi::ActionResult {
    let place = tempfile::tempdir().unwrap();
    let root = of::<reapi::Directory>(state, action.input_root_digest.as_ref());
    stage(state, &root.unwrap_or_default(), place.path());
    let command: reapi::Command = of(state, action.command_digest.as_ref()).unwrap_or_default();
    let mut words = command.arguments;
    if state.fault == Fault::DoesNothing {
        words = vec!["false".to_owned()];
    }
    if let Some(user) = &state.user {
        let own = [
            "setpriv".to_owned(),
            format!("--reuid={user}"),
            format!("--regid={user}"),
            "--init-groups".to_owned(),
        ];
        words = own.into_iter().chain(words).collect();
        _ = crate::run("chown", &["-R", user, place.path().to_str().unwrap()]).ok();
    }
    let variables = command.environment_variables.into_iter();
    *state.log.lock().unwrap() = Log::default();
    let mut child = std::process::Command::new(&words[0])
        .args(&words[1..])
        .env_clear()
        .envs(variables.map(|one| (one.name, one.value)))
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let process = child.id();
    state.running.lock().unwrap().push(process);
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = std::io::Read::read(&mut stdout, &mut buffer) {
        let mut log = state.log.lock().unwrap();
        log.bytes.extend_from_slice(&buffer[..count]);
    }
    let ended = child.wait_with_output().unwrap();
    state.log.lock().unwrap().is_whole = true;
    state.running.lock().unwrap().retain(|one| *one != process);
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().flatten().collect();
    let was_killed = ended.status.code().is_none();
    assert!(
        was_killed || !left.iter().any(|entry| entry.file_name() == "kiln-scratch"),
        "the helper leaves something behind"
    );
    reapi::ActionResult {
        exit_code: ended.status.code().unwrap_or(-1),
        output_directories: output(state, &place.path().join("out"))
            .into_iter()
            .collect(),
        stderr_raw: ended.stderr,
        execution_metadata: Some(reapi::ExecutedActionMetadata {
            worker: WORKER.to_owned(),
            ..reapi::ExecutedActionMetadata::default()
        }),
        ..reapi::ActionResult::default()
    }
}

fn stage(state: &State, directory: &reapi::Directory, place: &Path) {
    std::fs::create_dir_all(place).unwrap();
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    for file in &directory.files {
        let hash = &file.digest.as_ref().unwrap().hash;
        let bytes = state.blobs.lock().unwrap().get(hash).cloned();
        let path = place.join(&file.name);
        std::fs::write(&path, bytes.unwrap_or_default()).unwrap();
        let mode = if file.is_executable { 0o555 } else { 0o444 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for below in &directory.directories {
        let found = of(state, below.digest.as_ref()).unwrap_or_default();
        stage(state, &found, &place.join(&below.name));
    }
}

/// The directory of outputs, as a tree.
fn output(state: &State, out: &Path) -> Option<reapi::OutputDirectory> {
    let mut children = Vec::new();
    let root = out.is_dir().then(|| directory(state, out, &mut children))?;
    let tree = reapi::Tree {
        root: Some(root),
        children,
    };
    Some(reapi::OutputDirectory {
        path: "out".to_owned(),
        tree_digest: Some(state.put(tree.encode_to_vec())),
        ..reapi::OutputDirectory::default()
    })
}

fn directory(state: &State, path: &Path, children: &mut Vec<reapi::Directory>) -> reapi::Directory {
    let mut found = reapi::Directory::default();
    for entry in std::fs::read_dir(path).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            let below = directory(state, &entry.path(), children);
            let digest = Some(state.put(below.encode_to_vec()));
            children.push(below);
            found
                .directories
                .push(reapi::DirectoryNode { name, digest });
            continue;
        }
        let digest = state.put(std::fs::read(entry.path()).unwrap());
        // What says which outputs there are is whole; lies are about these.
        if name != "report.json" {
            state.outputs.lock().unwrap().push(digest.hash.clone());
        }
        found.files.push(reapi::FileNode {
            name,
            digest: Some(digest),
            ..reapi::FileNode::default()
        });
    }
    found
}

#[tonic::async_trait]
impl Operations for Shared {
    async fn list_operations(
        &self,
        _: Request<operations::ListOperationsRequest>,
    ) -> Answer<operations::ListOperationsResponse> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_operation(
        &self,
        _: Request<operations::GetOperationRequest>,
    ) -> Answer<operations::Operation> {
        Err(Status::unimplemented("not here"))
    }

    async fn delete_operation(
        &self,
        _: Request<operations::DeleteOperationRequest>,
    ) -> Answer<Empty> {
        Err(Status::unimplemented("not here"))
    }

    async fn cancel_operation(
        &self,
        _: Request<operations::CancelOperationRequest>,
    ) -> Answer<Empty> {
        _ = self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        self.0.kill_all();
        Ok(Response::new(Empty {}))
    }

    async fn wait_operation(
        &self,
        _: Request<operations::WaitOperationRequest>,
    ) -> Answer<operations::Operation> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err(Status::unimplemented("not here"))
    }
}
