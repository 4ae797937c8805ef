//! What sources are resolved to, and the keys under which that is remembered.

use kiln_cache::Tree;
use kiln_graph::Digest;
use kiln_graph::encode::Encoder;
use kiln_solve::{LayerRef, Outcome, ResolvedSource, Snapshot, StepResult};

pub(super) fn resolved(tree: &Tree, outcome: Outcome) -> ResolvedSource {
    let snapshot = Snapshot::new(vec![LayerRef::Tree(tree.id())]);
    ResolvedSource {
        result: StepResult::Snapshot(snapshot),
        outcome,
        revision: None,
    }
}

pub(super) fn memo_key(parts: &[&str]) -> Digest {
    let mut out = Encoder::new("kiln-source", 1);
    out.seq(parts, |out, part| {
        out.str(part);
    });
    out.finish()
}
