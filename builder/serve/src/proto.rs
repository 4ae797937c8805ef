//! The messages: the crate `bollard-buildkit-proto`'s under shorter names, and fields that are newer
//! than it.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use bollard_buildkit_proto::fsutil::types as fsutil;
pub(crate) use bollard_buildkit_proto::google::protobuf::{Any, Timestamp};
pub(crate) use bollard_buildkit_proto::google::rpc::Status as RpcStatus;
pub(crate) use bollard_buildkit_proto::moby::buildkit::secrets::v1 as secrets;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1 as control;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1::{
    apicaps, frontend, sourcepolicy, types,
};
pub(crate) use bollard_buildkit_proto::moby::filesync::v1 as filesync;
pub(crate) use bollard_buildkit_proto::moby::sshforward::v1 as sshforward;
pub(crate) use bollard_buildkit_proto::pb;

/// A time as messages have it; 1970 for what is before.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

/// A platform as BuildKit writes it.
pub(crate) fn platform(platform: &kiln_graph::Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        ..pb::Platform::default()
    }
}

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

/// `moby.buildkit.v1.sourcepolicy.policysession`, which the crate lacks.
pub(crate) mod policy {
    use super::frontend::{ResolveSourceMetaRequest, ResolveSourceMetaResponse};
    use super::pb::{Platform, SourceOp};

    /// Asks whether a source may be used.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct CheckPolicyRequest {
        #[prost(message, optional, tag = "1")]
        pub(crate) platform: Option<Platform>,
        #[prost(message, optional, tag = "2")]
        pub(crate) source: Option<ResolveSourceMetaResponse>,
    }

    /// The answer.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct CheckPolicyResponse {
        #[prost(oneof = "PolicyResult", tags = "1, 2")]
        pub(crate) result: Option<PolicyResult>,
    }

    /// What an answer is.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum PolicyResult {
        #[prost(message, tag = "1")]
        Decision(Decision),
        /// More must be known of the source first.
        #[prost(message, tag = "2")]
        Request(Box<ResolveSourceMetaRequest>),
    }

    /// A decision.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Decision {
        #[prost(int32, tag = "1")]
        pub(crate) action: i32,
        #[prost(message, repeated, tag = "2")]
        pub(crate) deny_messages: Vec<DenyMessage>,
        /// What takes the source's place.
        #[prost(message, optional, tag = "3")]
        pub(crate) update: Option<SourceOp>,
    }

    impl Decision {
        pub(crate) const ALLOW: i32 = 0;
        pub(crate) const DENY: i32 = 1;
        pub(crate) const CONVERT: i32 = 2;
    }

    /// Why a source may not be used.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct DenyMessage {
        #[prost(string, tag = "1")]
        pub(crate) message: String,
    }
}

/// `containerd.services.content.v1`, which the crate lacks.
pub(crate) mod content {
    use super::Timestamp;

    /// What is known of a blob.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Info {
        #[prost(string, tag = "1")]
        pub(crate) digest: String,
        #[prost(int64, tag = "2")]
        pub(crate) size: i64,
        #[prost(message, optional, tag = "3")]
        pub(crate) created_at: Option<Timestamp>,
        #[prost(message, optional, tag = "4")]
        pub(crate) updated_at: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct InfoRequest {
        #[prost(string, tag = "1")]
        pub(crate) digest: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct InfoResponse {
        #[prost(message, optional, tag = "1")]
        pub(crate) info: Option<Info>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ListContentRequest {
        #[prost(string, repeated, tag = "1")]
        pub(crate) filters: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ListContentResponse {
        #[prost(message, repeated, tag = "1")]
        pub(crate) info: Vec<Info>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ReadContentRequest {
        #[prost(string, tag = "1")]
        pub(crate) digest: String,
        #[prost(int64, tag = "2")]
        pub(crate) offset: i64,
        /// 0: to the end.
        #[prost(int64, tag = "3")]
        pub(crate) size: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ReadContentResponse {
        #[prost(int64, tag = "1")]
        pub(crate) offset: i64,
        #[prost(bytes = "vec", tag = "2")]
        pub(crate) data: Vec<u8>,
    }

    /// What a message of a write does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
    #[repr(i32)]
    pub(crate) enum WriteAction {
        /// Asks how much is there.
        Stat = 0,
        Write = 1,
        /// Ends the blob, which is checked.
        Commit = 2,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct WriteContentRequest {
        #[prost(enumeration = "WriteAction", tag = "1")]
        pub(crate) action: i32,
        /// The name of the write.
        #[prost(string, tag = "2")]
        pub(crate) r#ref: String,
        #[prost(int64, tag = "3")]
        pub(crate) total: i64,
        #[prost(string, tag = "4")]
        pub(crate) expected: String,
        #[prost(int64, tag = "5")]
        pub(crate) offset: i64,
        #[prost(bytes = "vec", tag = "6")]
        pub(crate) data: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct WriteContentResponse {
        #[prost(enumeration = "WriteAction", tag = "1")]
        pub(crate) action: i32,
        #[prost(int64, tag = "4")]
        pub(crate) offset: i64,
        #[prost(int64, tag = "5")]
        pub(crate) total: i64,
        #[prost(string, tag = "6")]
        pub(crate) digest: String,
    }
}

/// `InfoResponse` with fields that are newer than the crate.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) buildkit_version: Option<Version>,
}

/// `BuildkitVersion`, likewise.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Version {
    #[prost(string, tag = "1")]
    pub(crate) package: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(string, tag = "3")]
    pub(crate) revision: String,
    /// The version of Dockerfiles' syntax that the built-in frontend knows.
    #[prost(string, tag = "4")]
    pub(crate) dockerfile_version: String,
}
