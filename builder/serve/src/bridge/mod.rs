//! `moby.buildkit.v1.frontend.LLBBridge`: calls of a client that runs the frontend from its side.

mod capabilities;
mod files;

use std::collections::HashMap;
use std::sync::Arc;

use hyper::body::Incoming;
use kiln_graph::address::{IMAGE_SCHEME, redact};
use kiln_graph::{ImageRequest, Platform};
use tonic::{Request, Status, Streaming};

use crate::about_source::{about_file, about_image, is_http, wants_attestations, wants_other_sum};
use crate::build::{
    Answer, Asked, Kept, build, container as open_container, resolve_file, resolve_image,
};
use crate::connection::ConnectionId;
use crate::container;
use crate::control::workers::worker;
use crate::entitlement::entitlements;
use crate::grpc::{self, Messages, streaming, unary};
use crate::job::{Bound, Job, StopOnDrop};
use crate::other_api;
use crate::proto::control::{CacheOptionsEntry, StatusResponse, VertexWarning};
use crate::proto::frontend::result::Result as Refs;
use crate::proto::frontend::{
    self, EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse,
    NewContainerRequest, NewContainerResponse, PingRequest, PongResponse, ReleaseContainerRequest,
    ReleaseContainerResponse, ResolveImageConfigRequest, ResolveImageConfigResponse,
    ResolveSourceMetaRequest, ResolveSourceMetaResponse, ReturnRequest, ReturnResponse,
    SolveRequest, SolveResponse, WarnRequest, WarnResponse,
};
use crate::proto::pb;
use crate::result_ref::{self, ref_of};
use crate::server::Server;

/// Answers a call.
pub(crate) fn answer(
    server: Arc<Server>,
    method: &str,
    request: http::Request<Incoming>,
) -> other_api::Answer {
    match method {
        "Ping" => Box::pin(unary(request, move |request| ping(server, request))),
        "Solve" => Box::pin(unary(request, move |request| solve(server, request))),
        "Return" => Box::pin(unary(request, move |request| give_back(server, request))),
        "Evaluate" => Box::pin(unary(request, move |request| evaluate(server, request))),
        "Warn" => Box::pin(unary(request, move |request| warn(server, request))),
        "ResolveSourceMeta" => Box::pin(unary(request, move |request| describe(server, request))),
        "ResolveImageConfig" => Box::pin(unary(request, move |request| resolve(server, request))),
        "Inputs" => Box::pin(unary(request, move |request| inputs(server, request))),
        "NewContainer" => Box::pin(unary(request, move |request| {
            new_container(server, request)
        })),
        "ReleaseContainer" => Box::pin(unary(request, move |request| release(server, request))),
        "ExecProcess" => Box::pin(streaming(request, move |request| {
            exec_process(server, request)
        })),
        "ReadFile" => Box::pin(unary(request, move |request| {
            files::read_file(server, request)
        })),
        "ReadDir" => Box::pin(unary(request, move |request| {
            files::read_dir(server, request)
        })),
        "StatFile" => Box::pin(unary(request, move |request| {
            files::stat_file(server, request)
        })),
        _ => Box::pin(std::future::ready(grpc::unimplemented(
            request.uri().path(),
        ))),
    }
}

async fn ping(server: Arc<Server>, request: Request<PingRequest>) -> Result<PongResponse, Status> {
    _ = job_of(&server, &request).await?;
    Ok(PongResponse {
        frontend_api_caps: capabilities::frontend(),
        llb_caps: capabilities::llb(),
        workers: vec![worker(&server)],
    })
}

async fn give_back(
    server: Arc<Server>,
    request: Request<ReturnRequest>,
) -> Result<ReturnResponse, Status> {
    let job = job_of(&server, &request).await?;
    job.give_back(request.into_inner())?;
    Ok(ReturnResponse {})
}

async fn evaluate(
    server: Arc<Server>,
    request: Request<EvaluateRequest>,
) -> Result<EvaluateResponse, Status> {
    _ = job_of(&server, &request).await?;
    // What is known by a name was built.
    _ = server.jobs.result(&request.into_inner().r#ref)?;
    Ok(EvaluateResponse {})
}

async fn warn(server: Arc<Server>, request: Request<WarnRequest>) -> Result<WarnResponse, Status> {
    let job = job_of(&server, &request).await?;
    job.log.add(warning(request.into_inner()));
    Ok(WarnResponse {})
}

async fn inputs(
    server: Arc<Server>,
    request: Request<InputsRequest>,
) -> Result<InputsResponse, Status> {
    let job = job_of(&server, &request).await?;
    let definitions = job.request.known.frontend_inputs.clone();
    Ok(InputsResponse { definitions })
}

async fn release(
    server: Arc<Server>,
    request: Request<ReleaseContainerRequest>,
) -> Result<ReleaseContainerResponse, Status> {
    let job = job_of(&server, &request).await?;
    job.containers.release(&request.into_inner().container_id)?;
    Ok(ReleaseContainerResponse {})
}

/// Answers `NewContainer`.
async fn new_container(
    server: Arc<Server>,
    request: Request<NewContainerRequest>,
) -> Result<NewContainerResponse, Status> {
    let job = job_of(&server, &request).await?;
    let request = request.into_inner();
    let name = request.container_id.clone();
    if name.is_empty() {
        return Err(Status::invalid_argument("ContainerID required"));
    }
    let made = open_container(server, job.clone(), request).await;
    job.containers
        .add(name, made.map_err(|error| error.status())?)?;
    Ok(NewContainerResponse {})
}

/// Answers `ExecProcess`.
async fn exec_process(
    server: Arc<Server>,
    request: Request<Streaming<ExecMessage>>,
) -> Result<Messages<ExecMessage>, Status> {
    let job = job_of(&server, &request).await?;
    let allowed = entitlements(&job.request.known.entitlements, &server.granted)?;
    let insecure = allowed.security_insecure;
    Ok(container::serve(job, insecure, request.into_inner()))
}

/// A warning of a frontend's as clients are shown it.
fn warning(said: WarnRequest) -> StatusResponse {
    let warning = VertexWarning {
        vertex: said.digest,
        level: said.level,
        short: said.short,
        detail: said.detail,
        url: said.url,
        info: said.info,
        ranges: said.ranges,
    };
    StatusResponse {
        warnings: vec![warning],
        ..StatusResponse::default()
    }
}

/// The platform that is meant; this machine's, when none is named.
fn platform_of(platform: Option<pb::Platform>) -> Platform {
    match platform.filter(|platform| !platform.os.is_empty()) {
        None => Platform::host(),
        Some(one) => {
            Platform::new(&one.os, &one.architecture, &one.variant).with_os_version(&one.os_version)
        }
    }
}

/// Answers `ResolveSourceMeta`: what an image or a file is.
async fn describe(
    server: Arc<Server>,
    request: Request<ResolveSourceMetaRequest>,
) -> Result<ResolveSourceMetaResponse, Status> {
    let job = job_of(&server, &request).await?;
    let mut request = request.into_inner();
    let missing = || Status::invalid_argument("a source is missing");
    let mut source = request.source.take().ok_or_else(missing)?;
    let policies = std::mem::take(&mut request.source_policies);
    let image = source.identifier.strip_prefix(IMAGE_SCHEME);
    if let Some(name) = image.filter(|_| !wants_attestations(&request)) {
        let wanted = ImageRequest {
            name: name.to_owned(),
            platform: platform_of(request.platform.clone()),
        };
        let mode = request.resolve_mode.clone();
        let found = resolve_image(server, job, mode, policies, wanted).await;
        let found = found.map_err(|error| error.status())?;
        source.identifier = format!("{IMAGE_SCHEME}{}", found.name);
        return Ok(about_image(source, &request, &found.digest, found.config));
    }
    if is_http(&source.identifier) && !wants_other_sum(&request) {
        let url = source.identifier.clone();
        let found = resolve_file(server, job, policies, url).await;
        let found = found.map_err(|error| error.status())?;
        return Ok(about_file(source, &found));
    }
    Err(Status::unimplemented(format!(
        "what the source {:?} is, or is attested of it, is not told by kiln",
        redact(&source.identifier)
    )))
}

/// Answers `ResolveImageConfig`.
async fn resolve(
    server: Arc<Server>,
    request: Request<ResolveImageConfigRequest>,
) -> Result<ResolveImageConfigResponse, Status> {
    let job = job_of(&server, &request).await?;
    let request = request.into_inner();
    let wanted = ImageRequest {
        name: request.r#ref.clone(),
        platform: platform_of(request.platform),
    };
    let (mode, policies) = (request.resolve_mode, request.source_policies);
    let found = resolve_image(server, job, mode, policies, wanted).await;
    let found = found.map_err(|error| error.status())?;
    Ok(ResolveImageConfigResponse {
        digest: found.digest.to_string(),
        config: found.config,
        r#ref: found.name,
    })
}

/// The build that a call belongs to: one of the same connection, whose frontend the client runs. References
/// are no secrets, the history shows them.
async fn job_of<T>(server: &Server, request: &Request<T>) -> Result<Arc<Job>, Status> {
    if let Some(Bound(job)) = request.extensions().get() {
        return Ok(job.clone());
    }
    let id = request.metadata().get("buildkit-controlapi-buildid");
    let id = id.and_then(|id| id.to_str().ok());
    let id = id.ok_or_else(|| Status::invalid_argument("no buildid found in context"))?;
    server.jobs.open(id, ConnectionId::of(request)?).await
}

async fn solve(
    server: Arc<Server>,
    request: Request<SolveRequest>,
) -> Result<SolveResponse, Status> {
    let job = job_of(&server, &request).await?;
    let request = request.into_inner();
    let definition = request.definition.filter(|it| !it.def.is_empty());
    if let Some(id) = definition.as_ref().and_then(ref_of) {
        return solved(&server, id);
    }
    if definition.is_none() && request.frontend.is_empty() {
        // Nothing is the empty tree.
        let empty = Refs::Ref(frontend::Ref::default());
        return Ok(answered(frontend::Result {
            result: Some(empty),
            ..frontend::Result::default()
        }));
    }
    let imports = request
        .cache_imports
        .into_iter()
        .map(|entry| CacheOptionsEntry {
            r#type: entry.r#type,
            attrs: entry.attrs,
        });
    let asked = Asked {
        frontend: request.frontend,
        attributes: request.frontend_opt,
        inputs: request.frontend_inputs,
        imports: imports.collect(),
        definition,
        policies: request.source_policies,
    };
    // The client may take back what it asked for.
    let stop = StopOnDrop::new(job.clone());
    let answer = build(server.clone(), job.clone(), asked).await;
    stop.disarm();
    let answer = answer.map_err(|error| error.status())?;
    Ok(answered(result(&server, &job, &answer)?))
}

fn answered(result: frontend::Result) -> SolveResponse {
    SolveResponse {
        r#ref: String::new(),
        result: Some(result),
    }
}

/// A definition that names a result of this server stands for that result.
fn solved(server: &Server, id: String) -> Result<SolveResponse, Status> {
    _ = server.jobs.result(&id)?;
    let known = frontend::Ref {
        // As whole as it was: clients that marshal it anew leave out what is empty, and then miss it.
        def: Some(result_ref::definition(&id)),
        id,
    };
    Ok(answered(frontend::Result {
        result: Some(Refs::Ref(known)),
        ..frontend::Result::default()
    }))
}

/// The result as the client gets it: names for what stays here.
fn result(server: &Server, job: &Job, answer: &Answer) -> Result<frontend::Result, Status> {
    let keep = |number| {
        let Some(built) = &answer.result else {
            return Ok(frontend::Ref::default());
        };
        let built = built.clone();
        let id = server.jobs.keep(job, Kept { built, number })?;
        Ok::<_, Status>(frontend::Ref {
            def: Some(result_ref::definition(&id)),
            id,
        })
    };
    let refs = match answer.platforms() {
        platforms if answer.is_map() => {
            let refs = platforms.into_iter().enumerate();
            let refs = refs.map(|(number, name)| Ok((name, keep(number)?)));
            let refs = refs.collect::<Result<HashMap<_, _>, Status>>()?;
            Refs::Refs(frontend::RefMap { refs })
        }
        _ => Refs::Ref(keep(0)?),
    };
    Ok(frontend::Result {
        metadata: answer.metadata(),
        attestations: HashMap::new(),
        result: Some(refs),
    })
}
