//! Definitions behind the trait that all languages have, to be tried as one.

use kiln_graph::{BlobDigest, Compilation, Frontend, ImageTable, Platform};
use prost::Message as _;

use crate::{LlbError, Outcome, compile, pb};

struct Llb;

impl Frontend for Llb {
    type Input = pb::Definition;
    type Error = LlbError;

    fn compile(
        &self,
        definition: &pb::Definition,
        images: &ImageTable,
    ) -> Result<Compilation, LlbError> {
        let host = Platform::new("linux", "amd64", "");
        Ok(match compile(definition, &host, images)? {
            Outcome::Done(compiled) => Compilation::Done(Box::new(compiled.build)),
            Outcome::Needs(wanted) => Compilation::Needs(wanted),
        })
    }
}

/// The definition of an image by its name.
fn image(identifier: &str) -> pb::Definition {
    let source = pb::SourceOp {
        identifier: identifier.to_owned(),
        ..pb::SourceOp::default()
    };
    let source = pb::Op {
        op: Some(pb::op::Op::Source(source)),
        ..pb::Op::default()
    };
    let source = source.encode_to_vec();
    let result = pb::Input {
        digest: BlobDigest::of(&source).to_string(),
        index: 0,
    };
    let last = pb::Op {
        inputs: vec![result],
        ..pb::Op::default()
    };
    pb::Definition {
        def: vec![source, last.encode_to_vec()],
        ..pb::Definition::default()
    }
}

#[test]
fn it_keeps_what_a_frontend_keeps() {
    let right = image("docker-image://docker.io/library/busybox:latest");
    let mut cut = right.clone();
    _ = cut.def.pop();
    for wrong in [image("blob://nowhere"), cut] {
        kiln_graph::conformance::frontend(&Llb, &right, &wrong).unwrap();
    }
}
