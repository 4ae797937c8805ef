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
/// An operation has no more parts (actions, mounts, arguments, variables), and a definition no more in all: each
/// takes two bytes there and hundreds here.
const MAX_PARTS_OF_OP: usize = 50_000;
const MAX_PARTS: usize = 500_000;

/// An operation of a definition.
#[derive(Debug)]
pub(crate) struct Vertex<'a> {
    pub(crate) digest: String,
    pub(crate) op: pb::Op,
    pub(crate) metadata: Option<&'a pb::OpMetadata>,
}

/// The operations in order, and the result.
#[derive(Debug)]
pub(crate) struct Ordered<'a> {
    pub(crate) vertices: Vec<Vertex<'a>>,
    pub(crate) result: pb::Input,
}

/// Reads a definition.
pub(crate) fn read(definition: &pb::Definition) -> Result<Ordered<'_>, LlbError> {
    if definition.def.len() > MAX_OPS {
        return Err(malformed(format!("more than {MAX_OPS} operations")));
    }
    let mut depths: HashMap<String, usize> = HashMap::new();
    let mut vertices = Vec::new();
    let mut parts = 0;
    let (last, operations) = definition
        .def
        .split_last()
        .ok_or_else(|| malformed("it is empty"))?;
    for bytes in operations {
        let (digest, op) = one(bytes, &mut parts)?;
        if op.op.is_none() {
            return Err(malformed(format!("{digest} is no operation")));
        }
        let depth = depth(&op, &depths)?;
        if depths.insert(digest.clone(), depth).is_some() {
            return Err(malformed(format!("{digest} is there twice")));
        }
        vertices.push(Vertex {
            metadata: definition.metadata.get(&digest),
            digest,
            op,
        });
    }
    let (_, last) = one(last, &mut parts)?;
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

/// How many operations one stands on, one upon the other.
fn depth(op: &pb::Op, depths: &HashMap<String, usize>) -> Result<usize, LlbError> {
    let mut depth = 0;
    for input in &op.inputs {
        let below = depths.get(&input.digest);
        let below = below.ok_or_else(|| malformed("an operation is used before it is there"))?;
        depth = depth.max(below + 1);
    }
    match depth > MAX_DEPTH {
        true => Err(malformed(format!(
            "it is deeper than {MAX_DEPTH} operations"
        ))),
        false => Ok(depth),
    }
}

/// Reads an operation, and adds its parts to the count.
fn one(bytes: &[u8], parts: &mut usize) -> Result<(String, pb::Op), LlbError> {
    if bytes.len() > MAX_OP {
        return Err(malformed(format!(
            "an operation of more than {} MiB",
            MAX_OP >> 20
        )));
    }
    let own = count_parts(bytes, PARTS_DEPTH);
    *parts += own;
    if own > MAX_PARTS_OF_OP || *parts > MAX_PARTS {
        return Err(malformed(format!(
            "an operation of more than {MAX_PARTS_OF_OP} parts, or more than {MAX_PARTS} in all"
        )));
    }
    let op = pb::Op::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    Ok((BlobDigest::of(bytes).to_string(), op))
}

/// Parts lie in the operation, in its kind, and in what that has: a pattern in `Op.file.actions.copy`.
const PARTS_DEPTH: usize = 4;

/// How many fields with a length of their own (messages, texts) a message has, and those in it, before it is
/// decoded. What can't be read ends the count: it can't be decoded, or is a text.
fn count_parts(mut bytes: &[u8], depth: usize) -> usize {
    let mut count = 0;
    while let Some(key) = varint(&mut bytes) {
        let length = match key & 7 {
            0 => varint(&mut bytes).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut bytes),
            // Begins and ends of groups, whose fields are counted with the others.
            3 | 4 => Some(0),
            5 => Some(4),
            _ => None,
        };
        let split = length.and_then(|length| bytes.split_at_checked(length));
        let Some((field, rest)) = split else { break };
        if key & 7 == 2 {
            count += 1;
            if depth > 1 {
                count += count_parts(field, depth - 1);
            }
        }
        bytes = rest;
    }
    count
}

/// A number of the wire format.
fn varint(bytes: &mut &[u8]) -> Option<usize> {
    prost::decode_length_delimiter(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_before_they_are_decoded() {
        use pb::op::Op as Operation;
        let exec = pb::ExecOp {
            meta: Some(pb::Meta {
                args: vec!["a".to_owned(), "b".to_owned()],
                ..pb::Meta::default()
            }),
            mounts: vec![pb::Mount::default(); 5],
            ..pb::ExecOp::default()
        };
        let op = |op| pb::Op {
            op: Some(op),
            ..pb::Op::default()
        };
        let bytes = op(Operation::Exec(exec)).encode_to_vec();
        // The command, its meta with two arguments, its mounts.
        assert_eq!(count_parts(&bytes, PARTS_DEPTH), 1 + 1 + 2 + 5);
        let file = pb::FileOp {
            actions: vec![pb::FileAction::default(); MAX_PARTS_OF_OP],
        };
        let bytes = op(Operation::File(file)).encode_to_vec();
        let error = one(&bytes, &mut 0).unwrap_err();
        assert!(error.to_string().contains("parts"), "{error}");
        // What the decoder passes over hides nothing of what follows.
        let hidden = [&[0xa3, 0x06, 0xa4, 0x06][..], &bytes].concat();
        assert!(one(&hidden, &mut 0).is_err());
        // Data of files isn't looked into.
        let data = vec![0x0a; 1 << 20];
        let file = pb::FileOp {
            actions: vec![pb::FileAction {
                action: Some(pb::file_action::Action::Mkfile(pb::FileActionMkFile {
                    data,
                    ..pb::FileActionMkFile::default()
                })),
                ..pb::FileAction::default()
            }],
        };
        let bytes = op(Operation::File(file)).encode_to_vec();
        assert!(one(&bytes, &mut 0).is_ok());
        assert_eq!(count_parts(&[0xff; 100], PARTS_DEPTH), 0);
    }
}
