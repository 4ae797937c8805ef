//! The action cache of a node: memos of its store. A result counts as long as all that it names is there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use kiln_graph::Digest as Key;
use kiln_graph::encode::Encoder;
use prost::Message as _;
use reapi::action_cache_server::ActionCache;
use tonic::{Request, Response, Status};

use super::blobs::{Asked, failed, missing};
use super::{Answered, ClusterNode, Node, blocking, check};

const KIND: &str = "cluster-action";
/// Bumped whenever memos of other versions would be misunderstood.
const VERSION: u32 = 1;

#[tonic::async_trait]
impl ActionCache for ClusterNode {
    async fn get_action_result(
        &self,
        request: Request<reapi::GetActionResultRequest>,
    ) -> Answered<reapi::ActionResult> {
        let request = request.into_inner();
        check(&request.instance_name, request.digest_function)?;
        let asked = Asked::of(request.action_digest.as_ref())?;
        let node = self.0.clone();
        let result = blocking(move || node.result(asked)).await?;
        Ok(Response::new(result))
    }

    async fn update_action_result(
        &self,
        request: Request<reapi::UpdateActionResultRequest>,
    ) -> Answered<reapi::ActionResult> {
        let request = request.into_inner();
        check(&request.instance_name, request.digest_function)?;
        let asked = Asked::of(request.action_digest.as_ref())?;
        let result = request.action_result;
        let result = result.ok_or_else(|| Status::invalid_argument("there is no result"))?;
        let node = self.0.clone();
        let result = blocking(move || node.note(asked, result)).await?;
        Ok(Response::new(result))
    }
}

impl Node {
    fn result(&self, asked: Asked) -> Result<reapi::ActionResult, Status> {
        let store = &self.parts.trees.store;
        let memo = store.memos().get::<String>(KIND, &key(asked));
        let memo = memo.map_err(|error| failed(&error))?;
        let bytes = memo.and_then(|text| STANDARD.decode(text).ok());
        let result = bytes.and_then(|bytes| reapi::ActionResult::decode(&bytes[..]).ok());
        let result = result.ok_or_else(|| Status::not_found("there is no result"))?;
        self.check_complete(&result)?;
        Ok(result)
    }

    fn note(
        &self,
        asked: Asked,
        result: reapi::ActionResult,
    ) -> Result<reapi::ActionResult, Status> {
        self.check_complete(&result)?;
        let text = STANDARD.encode(result.encode_to_vec());
        let noted = self.parts.trees.store.memos().put(KIND, &key(asked), &text);
        noted.map_err(|error| failed(&error))?;
        Ok(result)
    }

    /// Whether the blobs that a result names are there.
    fn check_complete(&self, result: &reapi::ActionResult) -> Result<(), Status> {
        let files = result.output_files.iter().map(|file| file.digest.as_ref());
        let trees = result.output_directories.iter();
        let trees = trees.map(|directory| directory.tree_digest.as_ref());
        let raw = [&result.stdout_digest, &result.stderr_digest];
        let raw = raw.into_iter().filter_map(Option::as_ref).map(Some);
        for digest in files.chain(trees).chain(raw) {
            let asked = Asked::of(digest)?;
            if !self.blobs.has(asked)? {
                return Err(missing(asked));
            }
        }
        Ok(())
    }
}

fn key(asked: Asked) -> Key {
    let mut out = Encoder::new(KIND, VERSION);
    out.str(&asked.digest.hex());
    out.finish()
}
