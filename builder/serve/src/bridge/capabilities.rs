//! What a client may ask for. A list is never empty: clients take that for an old server that can
//! do what servers could in 2018.

use crate::proto::apicaps::ApiCap;

/// What the bridge can (`frontend/gateway/pb/caps.go`).
const FRONTEND: [&str; 18] = [
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "reference.output",
    "gateway.evaluate",
    "gateway.solve.evaluate",
    "gateway.solve.metadata",
    "gateway.exec",
    "gateway.exec.extrahosts",
    "gateway.exec.secretenv",
    "gateway.exec.signals",
    "frontend.inputs",
    "importcaches",
    "readfile",
    "readdir",
    "statfile",
    "source.metaresolver",
];

/// What builds can (`solver/pb/caps.go`).
const LLB: [&str; 44] = [
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.git",
    "source.git.keepgitdir",
    "source.git.fullurl",
    "source.git.httpauth",
    "source.git.subdir",
    "source.git.checksum",
    "source.git.skipsubmodules",
    "source.http",
    "source.http.checksum",
    "exec.meta.base",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.secretenv",
    "exec.validexitcode",
    "file.base",
    "file.copy.modestring",
    "file.symlink.create",
    "mergeop",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
];

/// What exporters, caches and policies can.
const OTHERS: [&str; 8] = [
    "exporter.multiple",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.sourcedateepoch",
    "cache.s3",
    "cache.gha",
    "gc.freespacefilter",
    "source.policy.session",
];

fn list(names: impl IntoIterator<Item = &'static str>) -> Vec<ApiCap> {
    let one = |name: &str| ApiCap {
        id: name.to_owned(),
        enabled: true,
        ..ApiCap::default()
    };
    names.into_iter().map(one).collect()
}

/// What the bridge can.
pub(super) fn frontend() -> Vec<ApiCap> {
    list(FRONTEND)
}

/// What builds can.
pub(super) fn llb() -> Vec<ApiCap> {
    list(LLB.into_iter().chain(OTHERS))
}
