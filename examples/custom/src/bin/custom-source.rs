//! A source of one's own: the context "words" is made when a build needs it. What a version control
//! system or an artifact server has comes in the same way.
#![allow(
    clippy::disallowed_methods,
    reason = "writes a temporary directory of its own"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use kiln::graph::{ImagePath, Op};
use kiln::solve::{Directory, Job, Outcome, ResolvedSource, SourceResolver, StepResult};
use kiln::{BuildRequest, EngineError, GraphBuilder, Kiln, Platform};
use kiln_cache::Store;
use kiln_cache::scan::context::{Decision, Selection, scan};

struct Words {
    store: Store,
    directory: PathBuf,
}

impl SourceResolver<EngineError> for Words {
    fn resolve(&self, job: &Job<'_>) -> Result<ResolvedSource, EngineError> {
        match &job.step.op {
            Op::Context(context) if context.name == "words" => {}
            _ => {
                return Err(EngineError::Impossible {
                    message: format!("{} comes from elsewhere", job.step.name),
                    location: job.step.location.clone(),
                });
            }
        }
        let everything = Selection {
            roots: &[ImagePath::root()],
            filter: &|_, _| Decision::Take,
        };
        // Keys are made of what the files contain: the same files run nothing again.
        let manifest = scan(&self.store, &self.directory, &everything)?;
        Ok(ResolvedSource {
            result: StepResult::Directory(Arc::new(Directory {
                root: self.directory.clone(),
                manifest: Arc::new(manifest),
            })),
            outcome: Outcome::Ran,
            revision: None,
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kiln::run_if_helper();
    let made = tempfile::tempdir()?;
    std::fs::write(made.path().join("greeting"), "hello\n")?;
    let kiln = Kiln::builder().user_store()?.open()?;
    let words = Words {
        store: kiln.engine().store().clone(),
        directory: made.path().to_owned(),
    };
    let kiln = kiln.with_sources(Arc::new(words));
    let mut graph = GraphBuilder::new(Platform::host());
    let source = graph.context("words")?;
    let empty = graph.scratch()?;
    let copied = graph.copy(empty, source, "/greeting", "/greeting")?;
    let digest = kiln.build(BuildRequest::graph(graph.build(copied)))?.digest;
    writeln!(std::io::stdout(), "{digest:?}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln::conformance::{SourceTrial, source};
    use kiln_cache::Options;

    #[test]
    fn it_keeps_what_a_source_keeps() {
        let directories = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let words = Words {
            store: Store::open(directories[0].path(), Options::default()).unwrap(),
            directory: directories[1].path().to_owned(),
        };
        std::fs::write(words.directory.join("greeting"), "hello\n").unwrap();
        let mut graph = GraphBuilder::new(Platform::host());
        let known = graph.context("words").unwrap();
        let other = graph.context("numbers").unwrap();
        let empty = graph.scratch().unwrap();
        let graph = graph.build(empty).graph;
        source(&SourceTrial {
            sources: &words,
            store: &words.store,
            works: graph.step(known),
            missing: graph.step(other),
            foreign: graph.step(empty),
        })
        .unwrap();
    }
}
