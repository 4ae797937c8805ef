//! An S3 server that checks signatures (`s3s`), with its objects in a directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

/// The id of the key that the server knows.
pub const KEY: &str = "AKIDEXAMPLE";
/// The key's secret.
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A server on loopback, for as long as the test's process runs.
#[derive(Debug)]
pub struct S3 {
    address: SocketAddr,
    directory: PathBuf,
}

impl S3 {
    /// Starts a server with one bucket, `bucket`, whose objects lie in `directory/bucket`.
    #[must_use]
    pub fn start(directory: &Path) -> Self {
        std::fs::create_dir_all(directory.join("bucket")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        std::thread::spawn(move || runtime.unwrap().block_on(serve));
        Self {
            address,
            directory: directory.join("bucket"),
        }
    }

    /// Its address as a client wants it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What an object's name stands for on the disk.
    #[must_use]
    pub fn object(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The variables that give a process access.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint()),
        ]
    }
}
