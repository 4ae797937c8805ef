//! What is told of a source before a build uses it: to the policies of clients, and to clients that ask.

use kiln_graph::BlobDigest;
use kiln_graph::address::file_name;

use crate::proto::frontend::{
    ResolveSourceHttpResponse, ResolveSourceImageResponse, ResolveSourceMetaRequest,
    ResolveSourceMetaResponse,
};
use crate::proto::pb::SourceOp;

/// Whether it is a file at an address.
pub(crate) fn is_http(identifier: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| identifier.starts_with(scheme))
}

/// Whether an image's attestations are asked for.
pub(crate) fn wants_attestations(request: &ResolveSourceMetaRequest) -> bool {
    let image = request.image.as_ref();
    image.is_some_and(|image| image.attestation_chain || !image.resolve_attestations.is_empty())
}

/// Whether another checksum of a file is asked for than its digest.
pub(crate) fn wants_other_sum(request: &ResolveSourceMetaRequest) -> bool {
    let http = request.http.as_ref();
    http.is_some_and(|http| http.checksum_request.is_some())
}

/// What is told of an image.
pub(crate) fn about_image(
    source: SourceOp,
    request: &ResolveSourceMetaRequest,
    digest: &BlobDigest,
    config: Vec<u8>,
) -> ResolveSourceMetaResponse {
    let has_config = !request.image.as_ref().is_some_and(|image| image.no_config);
    ResolveSourceMetaResponse {
        source: Some(source),
        image: Some(ResolveSourceImageResponse {
            digest: digest.to_string(),
            config: if has_config { config } else { Vec::new() },
            attestation_chain: None,
        }),
        ..ResolveSourceMetaResponse::default()
    }
}

/// What is told of a file.
pub(crate) fn about_file(source: SourceOp, digest: &BlobDigest) -> ResolveSourceMetaResponse {
    let http = ResolveSourceHttpResponse {
        checksum: digest.to_string(),
        filename: file_name(&source.identifier).unwrap_or_default(),
        ..ResolveSourceHttpResponse::default()
    };
    ResolveSourceMetaResponse {
        source: Some(source),
        http: Some(http),
        ..ResolveSourceMetaResponse::default()
    }
}
