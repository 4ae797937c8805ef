//! A program that speaks BuildKit's API, call by call.

use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use bollard_buildkit_proto::pb;
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::Server;

/// A program that speaks BuildKit's API.
#[derive(Debug)]
pub struct Client {
    /// What its calls run on.
    pub runtime: tokio::runtime::Runtime,
    /// Its connection.
    pub channel: Channel,
}

impl Client {
    /// A client of a server.
    #[must_use]
    pub fn of(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let address = format!("unix://{}", server.socket().display());
        let endpoint = Endpoint::from_shared(address).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { runtime, channel }
    }

    /// A call of a build's bridge.
    ///
    /// # Errors
    /// What the server says.
    pub fn bridge<M, T>(&self, method: &str, reference: &str, message: M) -> Result<T, Status>
    where
        M: Message + 'static,
        T: Message + Default + 'static,
    {
        let mut request = Request::new(message);
        let id = reference.parse().unwrap();
        _ = request
            .metadata_mut()
            .insert("buildkit-controlapi-buildid", id);
        self.call(
            &format!("/moby.buildkit.v1.frontend.LLBBridge/{method}"),
            request,
        )
    }

    /// A call.
    ///
    /// # Errors
    /// What the server says.
    pub fn call<M, T>(&self, path: &str, request: Request<M>) -> Result<T, Status>
    where
        M: Message + 'static,
        T: Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let path: PathAndQuery = path.parse().unwrap();
        self.runtime.block_on(async {
            grpc.ready().await.unwrap();
            let answer = grpc.unary(request, path, ProstCodec::default()).await;
            answer.map(tonic::Response::into_inner)
        })
    }

    /// Begins a build whose frontend this client runs, with a session that offers nothing.
    pub fn begin(&self, reference: &str) {
        let build = control::SolveRequest {
            r#ref: reference.to_owned(),
            session: reference.to_owned(),
            internal: true,
            ..control::SolveRequest::default()
        };
        self.session(reference);
        let mut solve = self.grpc();
        self.runtime.spawn(async move {
            solve.ready().await.unwrap();
            let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Solve");
            let codec = ProstCodec::<_, control::SolveResponse>::default();
            _ = solve.unary(Request::new(build), path, codec).await;
        });
    }

    /// Opens a session that offers nothing.
    pub fn session(&self, reference: &str) {
        let mut request = Request::new(futures_util::stream::pending::<control::BytesMessage>());
        let id = reference.parse().unwrap();
        _ = request
            .metadata_mut()
            .insert("x-docker-expose-session-uuid", id);
        let mut session = self.grpc();
        self.runtime.spawn(async move {
            session.ready().await.unwrap();
            let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/Session");
            let codec = ProstCodec::<_, control::BytesMessage>::default();
            let mut answers = session
                .streaming(request, path, codec)
                .await
                .unwrap()
                .into_inner();
            while answers
                .message()
                .await
                .is_ok_and(|message| message.is_some())
            {}
        });
    }

    /// What makes calls by hand.
    #[must_use]
    pub fn grpc(&self) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::new(self.channel.clone())
    }

    /// The result of a definition.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn solved(&self, reference: &str, definition: pb::Definition) -> String {
        let solve = frontend::SolveRequest {
            definition: Some(definition),
            ..frontend::SolveRequest::default()
        };
        let solved: frontend::SolveResponse = self.bridge("Solve", reference, solve).unwrap();
        match solved.result.unwrap().result {
            Some(frontend::result::Result::Ref(result)) => result.id,
            other => panic!("there is one result: {other:?}"),
        }
    }

    /// A file of a result.
    ///
    /// # Errors
    /// What the server answers.
    pub fn file(&self, reference: &str, result: &str, path: &str) -> Result<Vec<u8>, Status> {
        let read = frontend::ReadFileRequest {
            r#ref: result.to_owned(),
            file_path: path.to_owned(),
            ..frontend::ReadFileRequest::default()
        };
        let answer: frontend::ReadFileResponse = self.bridge("ReadFile", reference, read)?;
        Ok(answer.data)
    }

    /// The builds that the history has, or those that are running.
    #[must_use]
    pub fn history(&self, active_only: bool) -> Vec<control::BuildHistoryRecord> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let path = PathAndQuery::from_static("/moby.buildkit.v1.Control/ListenBuildHistory");
        let request = control::BuildHistoryRequest {
            active_only,
            early_exit: true,
            ..control::BuildHistoryRequest::default()
        };
        self.runtime.block_on(async {
            grpc.ready().await.unwrap();
            let codec = ProstCodec::<_, control::BuildHistoryEvent>::default();
            let events = grpc.server_streaming(Request::new(request), path, codec);
            let mut events = events.await.unwrap().into_inner();
            let mut records = Vec::new();
            while let Some(event) = events.message().await.unwrap() {
                records.extend(event.record);
            }
            records
        })
    }
}
