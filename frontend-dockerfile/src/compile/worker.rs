//! `# remote: pool=large`: what an instruction asks of a worker, where it runs on a cluster. Other
//! builders ignore it.

use kiln_graph::WorkerProperties;

use crate::DockerfileError;
use crate::ast::Instruction;
use crate::error::fault;

/// What a directive's comment begins with.
pub(crate) const DIRECTIVE: &str = "remote:";

/// What the comments above an instruction ask. One without `=` is a remark.
pub(super) fn properties_of(at: &Instruction) -> Result<WorkerProperties, DockerfileError> {
    let mut all = WorkerProperties::none();
    let comments = at.comments.iter();
    let texts = comments.filter_map(|comment| comment.strip_prefix(DIRECTIVE));
    for text in texts.filter(|text| text.contains('=')) {
        let properties = text.parse();
        all.extend(properties.map_err(|error: kiln_graph::BadWorkerProperty| {
            fault(at, &format!("# {DIRECTIVE} {error}"))
        })?);
    }
    Ok(all)
}
