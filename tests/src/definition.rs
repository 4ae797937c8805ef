//! Definitions as clients of BuildKit's API send them, of one operation.

use bollard_buildkit_proto::pb;
use prost::Message as _;

/// The definition whose result an operation is.
#[must_use]
pub fn definition_of(op: pb::op::Op) -> pb::Definition {
    let op = pb::Op {
        op: Some(op),
        ..pb::Op::default()
    };
    let op = op.encode_to_vec();
    let digest = kiln_graph::BlobDigest::of(&op).to_string();
    let last = pb::Op {
        inputs: vec![pb::Input { digest, index: 0 }],
        ..pb::Op::default()
    };
    pb::Definition {
        def: vec![op, last.encode_to_vec()],
        ..pb::Definition::default()
    }
}

/// The definition of a tree with one file.
#[must_use]
pub fn file_definition(path: &str, text: &str) -> pb::Definition {
    let made = pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o644,
        data: text.as_bytes().to_vec(),
        timestamp: -1,
        ..pb::FileActionMkFile::default()
    };
    let action = pb::FileAction {
        input: -1,
        secondary_input: -1,
        output: 0,
        action: Some(pb::file_action::Action::Mkfile(made)),
    };
    definition_of(pb::op::Op::File(pb::FileOp {
        actions: vec![action],
    }))
}
