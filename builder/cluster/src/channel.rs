//! The connection, and what is sent with every call.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use bazel_remote_apis::build::bazel::remote::execution::v2::{RequestMetadata, ToolDetails};
use kiln_tree::host;
use prost::Message as _;
use tonic::metadata::{Ascii, Binary, MetadataKey, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::credentials;
use crate::{ClusterError, ReapiSettings};

/// What calls are made through.
pub(crate) type Service = InterceptedService<Channel, Headers>;

/// As the API names it.
const METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Some proxies end connections that are silent for a minute.
const PING: Duration = Duration::from_secs(30);

/// A connection, made at the first call; to be opened on the network's runtime.
pub(crate) fn open(settings: &ReapiSettings) -> Result<Service, ClusterError> {
    let endpoint = Endpoint::from_shared(settings.http_url())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(CONNECT_TIMEOUT)
        .keep_alive_while_idle(true)
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))?;
    let endpoint = match settings.is_encrypted() {
        true => endpoint.tls_config(tls(settings)?)?,
        false => endpoint,
    };
    let headers = Headers::new(settings)?;
    Ok(InterceptedService::new(endpoint.connect_lazy(), headers))
}

fn tls(settings: &ReapiSettings) -> Result<ClientTlsConfig, ClusterError> {
    let config = ClientTlsConfig::new().domain_name(settings.host());
    let config = match &settings.ca {
        Some(path) => config.ca_certificate(Certificate::from_pem(read(path)?)),
        None => config.ca_certificates(kiln_image::authorities_der().iter().map(pem)),
    };
    let Some((certificate, key)) = &settings.identity else {
        return Ok(config);
    };
    Ok(config.identity(Identity::from_pem(read(certificate)?, read(key)?)))
}

fn pem(der: &Vec<u8>) -> Certificate {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    Certificate::from_pem(format!(
        "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    ))
}

fn read(path: &Path) -> Result<Vec<u8>, ClusterError> {
    host::read(path).map_err(|error| ClusterError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The user's headers, and who calls.
#[derive(Clone)]
pub(crate) struct Headers {
    given: Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>,
    metadata: MetadataValue<Binary>,
}

impl Headers {
    fn new(settings: &ReapiSettings) -> Result<Self, ClusterError> {
        let mut headers = settings.headers().to_vec();
        if let Some(program) = &settings.credential_helper {
            headers.extend(credentials::ask(program, &settings.http_url())?);
        }
        let given = headers.iter().map(|(name, value)| {
            let name = MetadataKey::from_bytes(name.as_bytes()).ok()?;
            let mut value = MetadataValue::try_from(value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let given: Option<_> = given.collect();
        let metadata = RequestMetadata {
            tool_details: Some(ToolDetails {
                tool_name: "kiln".to_owned(),
                tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            ..RequestMetadata::default()
        };
        Ok(Self {
            given: given.ok_or(ClusterError::Refused("a header can't be sent".to_owned()))?,
            metadata: MetadataValue::from_bytes(&metadata.encode_to_vec()),
        })
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let sent = request.metadata_mut();
        for (name, value) in &self.given {
            _ = sent.append(name.clone(), value.clone());
        }
        _ = sent.insert_bin(METADATA, self.metadata.clone());
        Ok(request)
    }
}
