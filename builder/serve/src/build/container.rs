//! Containers of results.

use std::sync::Arc;

use kiln::Error;
use kiln_engine::{Request, Shown};
use kiln_graph::{Build, Exec};
use kiln_llb::surroundings;
use tonic::Status;

use super::answer::apart;
use super::run::{Run, run};
use super::solve::cgroups;
use super::{Asked, Kept, Scratch};
use crate::container::OpenContainer;
use crate::error::{BuildError, of_definition};
use crate::job::Job;
use crate::proto::frontend::NewContainerRequest;
use crate::server::Server;

/// What a container shows, and where the sockets of its agents are.
#[derive(Debug)]
pub(crate) struct Results {
    _kept: Vec<Kept>,
    _scratch: Arc<Scratch>,
}

/// Makes a container.
pub(crate) async fn container(
    server: Arc<Server>,
    job: Arc<Job>,
    request: NewContainerRequest,
) -> Result<OpenContainer, BuildError> {
    let asked = Asked::default();
    apart(move || run(&server, &job, &asked, |run| open(run, &request))).await
}

fn open(run: &Run<'_>, asked: &NewContainerRequest) -> Result<OpenContainer, BuildError> {
    let read = surroundings(&asked.mounts, asked.network).map_err(|error| of_definition(&error))?;
    let mut exec = read.exec;
    exec.hostname = Some(asked.hostname.clone()).filter(|name| !name.is_empty());
    let hosts = asked.extra_hosts.iter();
    exec.extra_hosts = hosts
        .map(|one| (one.host.clone(), one.ip.clone()))
        .collect();
    let kept = read.inputs.iter().map(|id| result(run, id));
    let kept = kept.collect::<Result<Vec<_>, _>>()?;
    of(run, exec, kept)
}

/// Makes a container of results, in the order of its inputs.
pub(super) fn of(
    run: &Run<'_>,
    exec: Exec,
    kept: Vec<Option<Kept>>,
) -> Result<OpenContainer, BuildError> {
    let shown = kept.iter().map(|one| one.as_ref().and_then(Kept::shown));
    let shown: Vec<Shown<'_>> = shown.collect();
    let mut request = Request::new(Build::default());
    request.network = run.network()?;
    request.allowed = run.allowed()?;
    request.secrets = run.secrets.clone();
    request.events = run.progress.clone();
    request.cancel = run.job.cancel.clone();
    request.cgroups = cgroups(run)?;
    let container = run.engine.container(&request, exec, &shown);
    let container = container.map_err(Error::from)?;
    Ok(OpenContainer {
        container,
        _results: Results {
            _kept: kept.into_iter().flatten().collect(),
            _scratch: run.scratch.clone(),
        },
    })
}

/// A result by its identifier; nothing for the empty tree.
fn result(run: &Run<'_>, id: &str) -> Result<Option<Kept>, Status> {
    match id {
        "" => Ok(None),
        id => run.client.server.jobs.result(id).map(Some),
    }
}
