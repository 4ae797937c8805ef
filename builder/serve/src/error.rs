//! Failures as gRPC statuses, with the details that BuildKit's clients understand: `google.rpc.Status`
//! whose details have types of their own and JSON for values.

use base64::Engine as _;
use kiln::{Error, Texts};
use kiln_engine::{EngineError, FilesError, Needed};
use kiln_graph::Location;
use kiln_graph::address::redact;
use kiln_image::ImageError;
use kiln_llb::LlbError;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::about_source::is_http;
use crate::build::Foreign;
use crate::proto::{Any, RpcStatus};
use crate::result_ref::definition_of;
use crate::session::ReceiveError;

/// A build file is sent with an error up to this length, in bytes: errors travel in headers.
const MAX_SOURCE: usize = 256 << 10;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The build itself failed.
    #[error("{}", message(.error))]
    Kiln {
        /// Why.
        error: Box<Error>,
        /// The build files that were read.
        texts: Texts,
        /// The name of the build file.
        file: String,
        /// The vertex that failed.
        vertex: Option<String>,
        /// What the step that failed left behind, as a detail.
        state: Option<Box<Any>>,
    },
    /// What was asked for can't be done.
    #[error("{}", .0.message())]
    Status(Box<Status>),
    /// Another frontend reads the build file: an image.
    #[error("the build file is for another frontend")]
    Frontend(Box<Foreign>),
    /// The client's files can't be had.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// A file of the server's can't be read or written.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What clients are told of a definition that can't be used.
pub(crate) fn of_definition(error: &LlbError) -> Status {
    let code = match error {
        LlbError::Unsupported(_) => Code::Unimplemented,
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

impl From<Status> for BuildError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<Error> for BuildError {
    fn from(error: Error) -> Self {
        Self::Kiln {
            error: Box::new(error),
            texts: Texts::default(),
            file: String::new(),
            vertex: None,
            state: None,
        }
    }
}

/// An error in BuildKit's words where it has some.
fn message(error: &Error) -> String {
    let text = match error {
        Error::Dockerfile(error) => error.tool_message(),
        // A definition's, which has no lines.
        Error::Engine(EngineError::Files {
            source: FilesError::NotFound(path),
            location: None,
        }) => format!("lstat {path}: no such file or directory"),
        Error::Engine(EngineError::Image(ImageError::NotFound { image, .. })) if is_http(image) => {
            format!("{image}: invalid response status 404")
        }
        Error::Engine(EngineError::Image(ImageError::Answer { image, status, .. }))
            if is_http(image) =>
        {
            format!("{image}: invalid response status {status}")
        }
        Error::Engine(EngineError::Files {
            source: FilesError::NotFound(path),
            ..
        }) => format!(
            "failed to compute cache key: failed to calculate checksum of ref kiln::context: \"{path}\": not found"
        ),
        Error::Engine(EngineError::NotGiven {
            what: Needed::Secret(id),
            ..
        }) => format!("secret {id}: not found"),
        Error::Engine(EngineError::NotGiven {
            what: Needed::Agent(id),
            ..
        }) => format!("no SSH key {id:?} forwarded from the client"),
        other => other.to_string(),
    };
    redact(&text).into_owned()
}

impl BuildError {
    /// An error of a build file that was read.
    pub(crate) fn of(error: Error, texts: Texts, file: &str) -> Self {
        Self::Kiln {
            error: Box::new(error),
            texts,
            file: file.to_owned(),
            vertex: None,
            state: None,
        }
    }

    /// Whether the build was stopped.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Self::Kiln { error, .. } => matches!(**error, Error::Engine(EngineError::Cancelled)),
            Self::Status(status) => status.code() == Code::Cancelled,
            _ => false,
        }
    }

    /// The status that a client gets.
    pub(crate) fn status(&self) -> Status {
        if self.is_cancelled() {
            return Status::cancelled("context canceled");
        }
        match self {
            Self::Status(status) => (**status).clone(),
            Self::Receive(ReceiveError::Call(status)) => (**status).clone(),
            Self::Kiln {
                error,
                texts,
                file,
                vertex,
                state,
            } => {
                let mut details = Vec::new();
                details.extend(state.as_deref().cloned());
                if let Some(digest) = vertex {
                    details.push(detail("errdefs.Vertex", &json!({ "digest": digest })));
                }
                if let Some(location) = error.location() {
                    details.extend(source(location, texts.at(location), file));
                }
                with_details(message(error), details)
            }
            other => with_details(other.to_string(), Vec::new()),
        }
    }
}

/// A status of a failed build: its code is the one whose message clients show bare.
pub(crate) fn with_details(message: String, details: Vec<Any>) -> Status {
    rpc_status(RpcStatus {
        code: Code::Unknown.into(),
        message,
        details,
    })
}

/// The status that another one holds.
pub(crate) fn rpc_status(inner: RpcStatus) -> Status {
    let details = inner.encode_to_vec();
    let (code, message) = (Code::from_i32(inner.code), inner.message);
    Status::with_details(code, message, details.into())
}

/// A detail.
pub(crate) fn detail(name: &str, value: &Value) -> Any {
    Any {
        type_url: format!("github.com/moby/buildkit/{name}+json"),
        value: value.to_string().into_bytes(),
    }
}

/// The lines of the build file that an error is about.
fn source(location: &Location, text: &str, file: &str) -> Option<Any> {
    if text.is_empty() || text.len() > MAX_SOURCE {
        return None;
    }
    let name = match file.is_empty() {
        true => location.file.as_ref(),
        false => file,
    };
    let data = base64::engine::general_purpose::STANDARD.encode(text);
    let ranges: Vec<Value> = (location.line..=location.end_line.max(location.line))
        .map(|line| json!({ "start": { "line": line }, "end": { "line": line } }))
        .collect();
    let value = json!({
        "info": {
            "filename": name,
            "data": data,
            "language": "Dockerfile",
            "definition": definition_of_build_file(),
        },
        "ranges": ranges,
    });
    Some(detail("errdefs.Source", &value))
}

/// Where build files come from, as Go writes the message: clients take it for the source of what they
/// show.
fn definition_of_build_file() -> Value {
    let definition = definition_of("local://dockerfile");
    let base64 = |bytes: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(bytes);
    let operations: Vec<String> = definition.def.iter().map(base64).collect();
    json!({ "def": operations })
}

/// Says where in the server a failure was answered, as BuildKit's statuses do: clients keep it with what
/// they report.
pub(crate) fn traced(status: Status, file: &str, line: u32) -> Status {
    let Ok(mut inner) = RpcStatus::decode(status.details()) else {
        return status;
    };
    if inner.message.is_empty() {
        inner.code = status.code().into();
        inner.message = status.message().to_owned();
    }
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    let frame = json!({ "Name": "kiln_serve::control::solve", "File": file, "Line": line });
    let stack = json!({
        "frames": [frame],
        "cmdline": ["kiln", "serve"],
        "pid": std::process::id(),
        "version": version,
    });
    inner.details.push(detail("stack.Stack", &stack));
    rpc_status(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_frontend_dockerfile::DockerfileError;

    #[test]
    fn what_is_missing_is_said_in_buildkits_words() {
        let location = Location {
            file: "Dockerfile".into(),
            line: 2,
            column: 1,
            end_line: 3,
        };
        let copied = |location| {
            let source = FilesError::NotFound("/foo".to_owned());
            Error::Engine(EngineError::Files { location, source })
        };
        let fetched = |image: &str| {
            let (image, host) = (image.to_owned(), "h".to_owned());
            Error::Engine(EngineError::Image(ImageError::NotFound { image, host }))
        };
        for (error, want) in [
            (copied(Some(location)), "\"/foo\": not found"),
            (copied(None), "lstat /foo: no such file or directory"),
            (fetched("http://h/a?sig=b"), "invalid response status 404"),
            (fetched("h/a:1"), "h/a:1: not found on h"),
        ] {
            let said = message(&error);
            assert!(said.contains(want), "{said}");
            assert!(!said.contains("sig=b"), "{said}");
        }
    }

    #[test]
    fn an_error_brings_the_lines_it_is_about() {
        let location = Location {
            file: "Dockerfile".into(),
            line: 2,
            column: 1,
            end_line: 3,
        };
        let error = DockerfileError::at(location, "no such thing");
        let texts = Texts::of("FROM scratch\nFOO\n");
        let status = BuildError::of(error.into(), texts, "Dockerfile").status();
        assert_eq!(status.code(), Code::Unknown);
        let inner = RpcStatus::decode(status.details()).unwrap();
        assert_eq!((inner.code, inner.message.as_str()), (2, status.message()));
        let source: Value = serde_json::from_slice(&inner.details[0].value).unwrap();
        assert_eq!(
            inner.details[0].type_url,
            "github.com/moby/buildkit/errdefs.Source+json"
        );
        // Each line is a range of its own.
        assert_eq!(source["ranges"][0]["end"]["line"], 2);
        assert_eq!(source["ranges"][1]["start"]["line"], 3);
        assert!(source["info"]["definition"]["def"][1].is_string());
        assert_eq!(source["info"]["filename"], "Dockerfile");
    }
}
