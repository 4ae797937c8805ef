//! A frontend for tests, as images have them: it speaks BuildKit's bridge over its standard streams. The first
//! option `build-arg:DO` says what it does.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a program of tests fails by panicking"
)]

use std::collections::HashMap;
use std::os::fd::AsFd as _;

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use frontend::result::Result as Refs;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::unix::pipe;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

struct Bridge(Channel);

impl Bridge {
    async fn over_standard_streams() -> Self {
        let from = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let to = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
        let from = pipe::Receiver::from_owned_fd(from).unwrap();
        let to = pipe::Sender::from_owned_fd(to).unwrap();
        let streams = tokio::io::join(from, to);
        let mut streams = Some(TokioIo::new(streams));
        let connect = tower_service_fn(move |_: Uri| {
            let streams = streams.take();
            async move { streams.ok_or_else(|| std::io::Error::other("there is one connection")) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        Self(endpoint.connect_with_connector(connect).await.unwrap())
    }

    async fn call<M, T>(&self, method: &str, message: M) -> Result<T, Status>
    where
        M: Message + 'static,
        T: Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        let path = format!("/moby.buildkit.v1.frontend.LLBBridge/{method}");
        let path: PathAndQuery = path.parse().unwrap();
        grpc.ready().await.unwrap();
        let codec = ProstCodec::default();
        let answer = grpc.unary(Request::new(message), path, codec).await;
        answer.map(tonic::Response::into_inner)
    }
}

/// A service made of a function.
fn tower_service_fn<F>(function: F) -> Service<F> {
    Service(function)
}

struct Service<F>(F);

impl<F, W, T> tonic::codegen::Service<Uri> for Service<F>
where
    F: FnMut(Uri) -> W,
    W: Future<Output = std::io::Result<T>> + Send + 'static,
    T: 'static,
{
    type Response = T;
    type Error = std::io::Error;
    type Future = W;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> W {
        (self.0)(uri)
    }
}

/// What it was told.
fn options() -> HashMap<String, String> {
    let told = std::env::vars().filter(|(name, _)| name.starts_with("BUILDKIT_FRONTEND_OPT_"));
    told.filter_map(|(_, text)| {
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    })
    .collect()
}

/// Files of two platforms, each solved by itself.
async fn build(bridge: &Bridge, options: &HashMap<String, String>) -> frontend::Result {
    let mut refs = HashMap::new();
    let mut metadata = HashMap::new();
    let mut platforms = Vec::new();
    for arch in ["amd64", "arm64"] {
        let id = format!("linux/{arch}");
        let text = format!("{arch} {}", options["cmdline"]);
        let solve = frontend::SolveRequest {
            definition: Some(kiln_tests::file_definition("/greeting", &text)),
            allow_result_return: true,
            ..frontend::SolveRequest::default()
        };
        let solved: frontend::SolveResponse = bridge.call("Solve", solve).await.unwrap();
        let Some(Refs::Ref(one)) = solved.result.unwrap().result else {
            panic!("one result");
        };
        let config = format!(
            r#"{{"os":"linux","architecture":"{arch}","config":{{"Labels":{{"of":"{arch}"}}}}}}"#
        );
        metadata.insert(format!("containerimage.config/{id}"), config.into_bytes());
        platforms.push(format!(
            r#"{{"ID":"{id}","Platform":{{"os":"linux","architecture":"{arch}"}}}}"#
        ));
        refs.insert(id, one);
    }
    let platforms = format!(r#"{{"Platforms":[{}]}}"#, platforms.join(","));
    metadata.insert("refs.platforms".to_owned(), platforms.into_bytes());
    frontend::Result {
        metadata,
        result: Some(Refs::Refs(frontend::RefMap { refs })),
        ..frontend::Result::default()
    }
}

#[tokio::main]
async fn main() {
    let options = options();
    let bridge = Bridge::over_standard_streams().await;
    let pong: frontend::PongResponse = bridge
        .call("Ping", frontend::PingRequest::default())
        .await
        .unwrap();
    assert!(!pong.llb_caps.is_empty());
    let returned = match options.get("build-arg:DO").map(String::as_str) {
        Some("end") => {
            eprintln!("it ends here");
            std::process::exit(7);
        }
        Some("refuse") => frontend::ReturnRequest {
            error: Some(rpc::Status {
                code: 2,
                message: "it is refused".to_owned(),
                details: Vec::new(),
            }),
            ..frontend::ReturnRequest::default()
        },
        _ => frontend::ReturnRequest {
            result: Some(build(&bridge, &options).await),
            ..frontend::ReturnRequest::default()
        },
    };
    let _: frontend::ReturnResponse = bridge.call("Return", returned).await.unwrap();
    std::process::exit(0);
}
