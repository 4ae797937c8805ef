//! Tries sources.

use kiln_cache::Store;
use kiln_graph::conformance::{Nonconforming, rule};
use kiln_graph::{ContentDigest, Fault, ImagePath, Step};
use kiln_solve::{Cancel, Job, LayerRef, Outcome, ResolvedSource, SourceResolver, StepResult};

use super::trial::{Heard, OneStep, Part, in_store, undamaged};
use crate::EngineError;

/// What brings sources, and what it is tried with. The store is read whole several times: it had better be
/// a small one, of the test's own.
#[derive(Clone, Copy)]
pub struct SourceTrial<'a> {
    /// What brings sources.
    pub sources: &'a dyn SourceResolver<EngineError>,
    /// Where it puts trees.
    pub store: &'a Store,
    /// A source that is there, and stays as it is.
    pub works: &'a Step,
    /// A source that is nowhere.
    pub missing: &'a Step,
    /// A step that is no source of this kind.
    pub foreign: &'a Step,
}

impl std::fmt::Debug for SourceTrial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceTrial").finish_non_exhaustive()
    }
}

/// Tries what brings sources.
///
/// # Errors
/// When it doesn't keep what [`SourceResolver`] says.
pub fn source(trial: &SourceTrial<'_>) -> Result<(), Nonconforming> {
    let session = trial.store.session();
    let _session = session.map_err(Nonconforming::failed("open a session of the store"))?;
    let first = trial.works()?;
    trial.kept(&first)?;
    trial.fails()?;
    trial.refuses()?;
    let second = trial.works()?;
    rule(
        content(&first) == content(&second),
        "the same source has another content the second time",
    )?;
    rule(
        first.revision == second.revision,
        "the same source has another revision the second time",
    )?;
    trial.works_at_once(&first)?;
    trial.cancelled_before()?;
    trial.kept(&second)
}

/// What a source contains.
fn content(source: &ResolvedSource) -> ContentDigest {
    match &source.result {
        StepResult::Snapshot(snapshot) => snapshot.content(),
        StepResult::Directory(directory) => directory.content(&ImagePath::root()),
    }
}

impl SourceTrial<'_> {
    fn part(&self) -> Part<'_, impl Fn(&Job<'_>) -> Result<ResolvedSource, EngineError> + Sync> {
        Part {
            inputs: &[],
            work: |job: &Job<'_>| self.sources.resolve(job),
        }
    }

    /// The source that is there is found.
    fn works(&self) -> Result<ResolvedSource, Nonconforming> {
        let step = OneStep::new(self.works, 0)?;
        let (heard, cancel) = (Heard::default(), Cancel::new());
        let found = self.sources.resolve(&step.job(&[], &heard, &cancel));
        let found = found.map_err(Nonconforming::failed("bring the source that is there"))?;
        step.told_alone(&heard)?;
        rule(
            matches!(found.outcome, Outcome::Ran | Outcome::Cached),
            "a source that is there is said to have failed",
        )?;
        rule(
            found.revision.as_deref() != Some(""),
            "a revision is said that is none",
        )?;
        Ok(found)
    }

    /// What was found is where it is said to be.
    fn kept(&self, source: &ResolvedSource) -> Result<(), Nonconforming> {
        if let StepResult::Snapshot(snapshot) = &source.result {
            for layer in snapshot.layers() {
                let LayerRef::Tree(id) = layer else { continue };
                in_store(self.store, id)?;
            }
        }
        let text = "the files aren't what their manifest says";
        undamaged(self.store, std::slice::from_ref(&source.result), text)
    }

    fn fails(&self) -> Result<(), Nonconforming> {
        let found = "the source that is nowhere is found";
        let error = self.part().failed(self.missing, found)?;
        rule(
            error.fault() != Fault::Kiln,
            "a source that isn't there is said to be a defect of kiln",
        )
    }

    fn refuses(&self) -> Result<(), Nonconforming> {
        let found = "a step that is no source of this kind is found";
        self.part().failed(self.foreign, found).map(drop)
    }

    fn works_at_once(&self, first: &ResolvedSource) -> Result<(), Nonconforming> {
        let all = self.part().in_threads(self.works)?;
        rule(
            all.iter().all(|one| content(one) == content(first)),
            "the same source has another content in several threads",
        )
    }

    fn cancelled_before(&self) -> Result<(), Nonconforming> {
        let text = "a source of a cancelled build fails with another error";
        self.part().cancelled_before(self.works, text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kiln_cache::Options;
    use kiln_cache::scan::context::{Decision, Selection, scan};
    use kiln_graph::TreeId;
    use kiln_solve::{Directory, Event, Snapshot, StepRef, Stream};

    use super::super::trial::scratch;
    use super::*;

    /// A way not to be a source.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    enum Wrong {
        #[default]
        Nothing,
        KeepsNoTree,
        ChangesFiles,
        GivesOtherFiles,
        GivesOtherRevisions,
        GivesEmptyRevisions,
        Fails,
        SpeaksForOthers,
        FindsAnything,
        FailsAsCancelled,
        BlamesKiln,
        SaysNothing,
        TakesAnything,
        GivesThreadsOtherFiles,
        FailsWhenCancelled,
    }

    struct Fake<'a> {
        wrong: Wrong,
        store: &'a Store,
        directory: &'a std::path::Path,
        calls: AtomicUsize,
    }

    impl Fake<'_> {
        fn missing(&self) -> EngineError {
            match self.wrong {
                Wrong::FailsAsCancelled => EngineError::Cancelled,
                Wrong::BlamesKiln => EngineError::Defect("it is nowhere".to_owned()),
                Wrong::SaysNothing => EngineError::Refused(String::new()),
                _ => EngineError::Refused("it is nowhere".to_owned()),
            }
        }

        /// A directory of the user's.
        fn files(&self, content: &str) -> StepResult {
            let file = self.directory.join(content);
            std::fs::write(&file, content).unwrap();
            let selection = Selection {
                roots: &[ImagePath::new(content)],
                filter: &|_, _| Decision::Take,
            };
            let manifest = scan(self.store, self.directory, &selection).unwrap();
            if self.wrong == Wrong::ChangesFiles {
                std::fs::write(&file, "other").unwrap();
            }
            StepResult::Directory(Arc::new(Directory {
                root: self.directory.to_owned(),
                manifest: Arc::new(manifest),
            }))
        }

        /// The empty tree, which is in the store.
        fn tree(&self) -> StepResult {
            let tree = match self.wrong {
                Wrong::KeepsNoTree => TreeId(kiln_graph::Digest::of(b"nowhere")),
                _ => self.store.trees().empty().unwrap().id(),
            };
            StepResult::Snapshot(Snapshot::new(vec![LayerRef::Tree(tree)]))
        }
    }

    impl SourceResolver<EngineError> for Fake<'_> {
        fn resolve(&self, job: &Job<'_>) -> Result<ResolvedSource, EngineError> {
            let calls = self.calls.fetch_add(1, Ordering::SeqCst);
            match job.step.name.text.as_str() {
                "missing" if self.wrong != Wrong::FindsAnything => return Err(self.missing()),
                "foreign" if self.wrong != Wrong::TakesAnything => {
                    return Err(EngineError::Defect("it is something else".to_owned()));
                }
                _ if self.wrong == Wrong::FailsWhenCancelled && job.cancel.is_cancelled() => {
                    return Err(EngineError::Defect("broken pipe".to_owned()));
                }
                _ => {}
            }
            if self.wrong == Wrong::SpeaksForOthers {
                job.events.event(Event::Output {
                    step: StepRef(1000),
                    stream: Stream::Stderr,
                    bytes: Vec::new(),
                });
            }
            let thread = format!("{:?}", std::thread::current().id());
            Ok(ResolvedSource {
                result: match self.wrong {
                    Wrong::GivesOtherFiles => self.files(&calls.to_string()),
                    Wrong::GivesThreadsOtherFiles => self.files(&thread.replace(['(', ')'], "")),
                    Wrong::ChangesFiles => self.files("file"),
                    _ => self.tree(),
                },
                outcome: match self.wrong {
                    Wrong::Fails => Outcome::Failed,
                    _ => Outcome::Ran,
                },
                revision: match self.wrong {
                    Wrong::GivesOtherRevisions => Some(calls.to_string()),
                    Wrong::GivesEmptyRevisions => Some(String::new()),
                    _ => None,
                },
            })
        }
    }

    fn tried(wrong: Wrong) -> Result<(), Nonconforming> {
        let directories = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let store = Store::open(directories[0].path(), Options::default()).unwrap();
        let named = |text: &str| {
            let mut step = scratch();
            step.name.text = text.to_owned();
            step
        };
        source(&SourceTrial {
            sources: &Fake {
                wrong,
                store: &store,
                directory: directories[1].path(),
                calls: AtomicUsize::new(0),
            },
            store: &store,
            works: &named("works"),
            missing: &named("missing"),
            foreign: &named("foreign"),
        })
    }

    #[test]
    fn each_fault_is_found() {
        tried(Wrong::Nothing).unwrap();
        let cases = [
            (Wrong::KeepsNoTree, "isn't in the store"),
            (Wrong::ChangesFiles, "aren't what their manifest says"),
            (Wrong::GivesOtherFiles, "another content the second time"),
            (Wrong::GivesOtherRevisions, "another revision"),
            (Wrong::GivesEmptyRevisions, "that is none"),
            (Wrong::Fails, "said to have failed"),
            (Wrong::SpeaksForOthers, "of other steps"),
            (Wrong::FindsAnything, "is found"),
            (Wrong::FailsAsCancelled, "said to be a cancelled build"),
            (Wrong::BlamesKiln, "a defect of kiln"),
            (Wrong::SaysNothing, "says nothing"),
            (Wrong::TakesAnything, "no source of this kind"),
            (Wrong::GivesThreadsOtherFiles, "in several threads"),
            (Wrong::FailsWhenCancelled, "with another error"),
        ];
        for (wrong, want) in cases {
            let said = tried(wrong).unwrap_err().to_string();
            assert!(said.contains(want), "{wrong:?}: {said}");
        }
    }
}
