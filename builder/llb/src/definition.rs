//! A definition's operations: marshalled one by one in topological order, each named by the SHA-256 of
//! its bytes. The last one is no operation and points at the result.

use std::collections::HashMap;

use bollard_buildkit_proto::pb;
use kiln_graph::BlobDigest;
use prost::Message as _;

use crate::error::{LlbError, malformed};

/// A definition has no more operations.
const MAX_OPS: usize = 10_000;
/// An operation isn't larger, in bytes.
const MAX_OP: usize = 4 << 20;
/// An operation doesn't stand on more others, one upon the other.
const MAX_DEPTH: usize = 2_000;

/// An operation of a definition.
#[derive(Debug)]
pub(crate) struct Vertex {
    pub(crate) digest: String,
    pub(crate) op: pb::Op,
    pub(crate) metadata: pb::OpMetadata,
}

/// The operations in order, and the result.
#[derive(Debug)]
pub(crate) struct Ordered {
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) result: pb::Input,
}

/// Reads a definition.
pub(crate) fn read(definition: &pb::Definition) -> Result<Ordered, LlbError> {
    if definition.def.len() > MAX_OPS {
        return Err(malformed(format!("more than {MAX_OPS} operations")));
    }
    let mut depths: HashMap<String, usize> = HashMap::new();
    let mut vertices = Vec::new();
    let (last, operations) = definition
        .def
        .split_last()
        .ok_or_else(|| malformed("it is empty"))?;
    for bytes in operations {
        let (digest, op) = one(bytes)?;
        if op.op.is_none() {
            return Err(malformed(format!("{digest} is no operation")));
        }
        let mut depth = 0;
        for input in &op.inputs {
            let below = depths.get(&input.digest);
            let below = below
                .ok_or_else(|| malformed(format!("{} is used before it is there", input.digest)))?;
            depth = depth.max(below + 1);
        }
        if depth > MAX_DEPTH {
            return Err(malformed(format!(
                "it is deeper than {MAX_DEPTH} operations"
            )));
        }
        depths.insert(digest.clone(), depth);
        let metadata = definition.metadata.get(&digest).cloned();
        vertices.push(Vertex {
            digest,
            op,
            metadata: metadata.unwrap_or_default(),
        });
    }
    let (_, last) = one(last)?;
    let [result] = &last.inputs[..] else {
        return Err(malformed("its last operation doesn't point at one result"));
    };
    if last.op.is_some() || !depths.contains_key(&result.digest) {
        return Err(malformed("its last operation doesn't point at a result"));
    }
    Ok(Ordered {
        vertices,
        result: result.clone(),
    })
}

fn one(bytes: &[u8]) -> Result<(String, pb::Op), LlbError> {
    if bytes.len() > MAX_OP {
        return Err(malformed(format!(
            "an operation of more than {} MiB",
            MAX_OP >> 20
        )));
    }
    let op = pb::Op::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    Ok((BlobDigest::of(bytes).to_string(), op))
}
