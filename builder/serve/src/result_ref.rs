//! Names of results in the shape of a definition: clients hand it back as another build's input, and
//! look into it no further than that it is one.
//!
//! It has one source, `kiln-ref://ID`, and the operation that points at it. The identifier is
//! random: who doesn't know it can't name the result.

use kiln_graph::{BlobDigest, Digest};
use kiln_llb::RESULT;
use prost::Message as _;
use tonic::Status;

use crate::proto::pb::{Definition, Input, Op, OpMetadata, Source, SourceOp, op};

/// A name that nobody can guess.
pub(crate) fn new_id() -> Result<String, Status> {
    let random = kiln_tree::host::random::<32>();
    let random = random.map_err(|error| Status::internal(error.to_string()))?;
    Ok(Digest::of(&random).to_string())
}

fn digest(bytes: &[u8]) -> String {
    BlobDigest::of(bytes).to_string()
}

/// The definition that names a result.
pub(crate) fn definition(id: &str) -> Definition {
    definition_of(&format!("{RESULT}{id}"))
}

/// The definition of one source.
pub(crate) fn definition_of(identifier: &str) -> Definition {
    let source = Op {
        op: Some(op::Op::Source(SourceOp {
            identifier: identifier.to_owned(),
            ..SourceOp::default()
        })),
        ..Op::default()
    }
    .encode_to_vec();
    let last = Op {
        inputs: vec![Input {
            digest: digest(&source),
            index: 0,
        }],
        ..Op::default()
    }
    .encode_to_vec();
    let metadata = [&source, &last].map(|bytes| (digest(bytes), OpMetadata::default()));
    Definition {
        metadata: metadata.into_iter().collect(),
        def: vec![source, last],
        // Clients look into it without asking whether it is there.
        source: Some(Source::default()),
    }
}

/// The result that a definition names; nothing when it is another kind of definition.
pub(crate) fn ref_of(definition: &Definition) -> Option<String> {
    let [source, _] = definition.def.as_slice() else {
        return None;
    };
    match Op::decode(source.as_slice()).ok()?.op? {
        op::Op::Source(source) => source.identifier.strip_prefix(RESULT).map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let (one, other) = (new_id().unwrap(), new_id().unwrap());
        assert_ne!(one, other);
        let definition = definition(&one);
        assert_eq!(ref_of(&definition), Some(one));
        let head = Op::decode(definition.def[1].as_slice()).unwrap();
        assert_eq!(head.inputs[0].digest, digest(&definition.def[0]));
        assert_eq!(ref_of(&Definition::default()), None);
    }
}
