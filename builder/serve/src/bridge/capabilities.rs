//! What a client may ask for. A list is never empty: clients take that for an old server that can
//! do what servers could in 2018.

use crate::proto::apicaps::ApiCap;

/// What the bridge can (`frontend/gateway/pb/caps.go`).
const FRONTEND: [&str; 9] = [
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "reference.output",
    "gateway.evaluate",
    "gateway.solve.metadata",
    "frontend.inputs",
    "importcaches",
];

/// What builds can (`solver/pb/caps.go`).
const LLB: [&str; 10] = [
    // What a definition has that names a result.
    "constraints",
    "platform",
    "meta.description",
    "exporter.multiple",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.sourcedateepoch",
    "cache.s3",
    "gc.freespacefilter",
    "source.policy.session",
];

fn list(names: &[&str]) -> Vec<ApiCap> {
    let one = |name: &&str| ApiCap {
        id: (*name).to_owned(),
        enabled: true,
        ..ApiCap::default()
    };
    names.iter().map(one).collect()
}

/// What the bridge can.
pub(super) fn frontend() -> Vec<ApiCap> {
    list(&FRONTEND)
}

/// What builds can.
pub(super) fn llb() -> Vec<ApiCap> {
    list(&LLB)
}
