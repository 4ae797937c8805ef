//! The messages: the crate `bollard-buildkit-proto`'s under shorter names, and fields that are newer
//! than it.

pub(crate) use bollard_buildkit_proto::fsutil::types as fsutil;
pub(crate) use bollard_buildkit_proto::google::protobuf::{Any, Timestamp};
pub(crate) use bollard_buildkit_proto::google::rpc::Status as RpcStatus;
pub(crate) use bollard_buildkit_proto::moby::buildkit::secrets::v1 as secrets;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1 as control;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1::{apicaps, frontend, types};
pub(crate) use bollard_buildkit_proto::moby::filesync::v1 as filesync;
pub(crate) use bollard_buildkit_proto::moby::sshforward::v1 as sshforward;
pub(crate) use bollard_buildkit_proto::pb;

/// Fields of `SolveRequest` that restrict a build, and that the crate's message would drop unseen.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Restrictions {
    /// The version of BuildKit to behave like; 0: this one.
    #[prost(int64, tag = "16")]
    pub(crate) compatibility_version: i64,
    /// Whether steps may reach the network through a proxy only.
    #[prost(bool, tag = "17")]
    pub(crate) proxy_network: bool,
}

/// `SolveRequest` with all of its fields.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct SolveRequest {
    pub(crate) known: control::SolveRequest,
    pub(crate) newer: Restrictions,
}
