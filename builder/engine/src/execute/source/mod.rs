//! Sources from elsewhere: files over HTTP, commits of git repositories. Each becomes a tree.

pub(crate) mod context;
mod git;
mod git_access;
mod git_remote;
mod http;

use kiln_cache::Tree;
use kiln_graph::Digest;
use kiln_graph::encode::Encoder;

use crate::Outcome;
use crate::solve::snapshot::{LayerRef, Snapshot, StepResult};
use crate::solve::step::{Done, Shared};
pub(crate) use git::Git;
pub(crate) use http::known_download;

impl Shared<'_> {
    fn tree_done(&self, tree: &Tree, outcome: Outcome) -> Done {
        let snapshot = Snapshot::new(vec![LayerRef::Tree(tree.id())], Some(self.empty));
        Done {
            result: StepResult::Snapshot(snapshot),
            outcome,
            filed: None,
        }
    }
}

fn memo_key(parts: &[&str]) -> Digest {
    let mut out = Encoder::new("kiln-source", 1);
    out.seq(parts, |out, part| {
        out.str(part);
    });
    out.finish()
}
