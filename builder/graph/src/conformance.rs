//! What frontends of one's own have to keep to, as a function that tries them: to be called from the tests
//! of whoever wrote one.

use std::error::Error;

use crate::encode::Encoder;
use crate::{
    BlobDigest, Build, Compilation, DefinitionDigest, Digest, Frontend, ImageConfig, ImageRequest,
    ImageSource, ImageTable, LayerOrigin, Op, ResolvedImage, StepId,
};

/// A frontend that has asked for images this often isn't coming to an end.
const MAX_ROUNDS: usize = 100;

/// What a part doesn't keep to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Nonconforming {
    /// It doesn't do what its trait says.
    #[error("{0}")]
    Rule(&'static str),
    /// It failed where it must not.
    #[error("{doing}: {source}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Nonconforming {
    /// A part failed at something.
    pub fn failed<E: Error + Send + Sync + 'static>(doing: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::Failed {
            doing,
            source: Box::new(source),
        }
    }
}

/// Tries whether a rule holds.
///
/// # Errors
/// When it doesn't.
pub fn rule(holds: bool, text: &'static str) -> Result<(), Nonconforming> {
    match holds {
        true => Ok(()),
        false => Err(Nonconforming::Rule(text)),
    }
}

/// How many threads ask at once, where several do.
const THREADS: usize = 4;

/// What several threads get that do the same at once.
///
/// # Errors
/// With the first error of theirs, or when one panics.
pub fn in_threads<T: Send>(
    work: impl Fn() -> Result<T, Nonconforming> + Sync,
) -> Result<Vec<T>, Nonconforming> {
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..THREADS).map(|_| scope.spawn(&work)).collect();
        let done = working.into_iter().map(|thread| {
            let panics = |_| Err(Nonconforming::Rule("it panics in several threads"));
            thread.join().unwrap_or_else(panics)
        });
        done.collect()
    })
}

/// Tries whether an error says anything.
///
/// # Errors
/// When it doesn't.
pub fn says_something(error: &str) -> Result<(), Nonconforming> {
    rule(!error.trim().is_empty(), "an error says nothing")
}

/// Tries a frontend with an input that is right, preferably one that names images, and with one that is
/// wrong.
///
/// # Errors
/// When it doesn't keep what [`Frontend`] says.
pub fn frontend<F: Frontend>(
    frontend: &F,
    right: &F::Input,
    wrong: &F::Input,
) -> Result<(), Nonconforming> {
    let (build, images) = compiled(frontend, right)?;
    whole(&build, &images)?;
    let again = compiled(frontend, right)?.0;
    rule(
        fingerprint(&build) == fingerprint(&again),
        "the same input gives another build",
    )?;
    unmoved_by_others(frontend, right, &build, images)?;
    refused(frontend, wrong)
}

/// Images that nobody asked for change nothing.
fn unmoved_by_others<F: Frontend>(
    frontend: &F,
    right: &F::Input,
    build: &Build,
    mut images: ImageTable,
) -> Result<(), Nonconforming> {
    for name in ["conformance.invalid/first", "conformance.invalid/last"] {
        let unasked = ImageRequest {
            name: name.to_owned(),
            platform: build.targets[0].platform.clone(),
        };
        let known = image(&unasked);
        images.insert(unasked, known);
    }
    let failed = Nonconforming::failed("compile with images that nobody asked for");
    match frontend.compile(right, &images).map_err(failed)? {
        Compilation::Done(other) => rule(
            fingerprint(build) == fingerprint(&other),
            "images that nobody asked for change the build",
        ),
        Compilation::Needs(_) => rule(false, "an image is asked for that was given"),
    }
}

/// Compiles the input that is right to the end.
fn compiled<F: Frontend>(
    frontend: &F,
    input: &F::Input,
) -> Result<(Build, ImageTable), Nonconforming> {
    let (end, images) = to_the_end(frontend, input)?;
    let build = end.map_err(Nonconforming::failed("compile the input that is right"))?;
    Ok((build, images))
}

/// What an input compiles to, with images that are made up, and those.
fn to_the_end<F: Frontend>(
    frontend: &F,
    input: &F::Input,
) -> Result<(Result<Build, F::Error>, ImageTable), Nonconforming> {
    let mut images = ImageTable::new();
    for _ in 0..MAX_ROUNDS {
        let wanted = match frontend.compile(input, &images) {
            Ok(Compilation::Done(build)) => return Ok((Ok(*build), images)),
            Ok(Compilation::Needs(wanted)) => wanted,
            Err(error) => return Ok((Err(error), images)),
        };
        rule(!wanted.is_empty(), "no images are needed before others")?;
        rule(
            !wanted.iter().any(|request| images.contains_key(request)),
            "an image is asked for that was given",
        )?;
        let made = wanted.into_iter().map(|request| {
            let known = image(&request);
            (request, known)
        });
        images.extend(made);
    }
    let text = "there is no end to the images it asks for";
    Err(Nonconforming::Rule(text))
}

/// An image of a name, as nobody else's.
fn image(request: &ImageRequest) -> ResolvedImage {
    let text = format!("{} {}", request.name, request.platform);
    let mut config = ImageConfig::scratch(&request.platform);
    config.config.env = vec![format!("OF={text}")];
    ResolvedImage {
        source: ImageSource {
            name: request.name.clone(),
            manifest: BlobDigest::of(text.as_bytes()),
            layers: Vec::new(),
        },
        config,
        is_known: true,
    }
}

/// Whether a build hangs together.
fn whole(build: &Build, images: &ImageTable) -> Result<(), Nonconforming> {
    rule(!build.targets.is_empty(), "a build has no target")?;
    let ids: Vec<StepId> = build.graph.ids().collect();
    let is_there = |id: &StepId| ids.contains(id);
    rule(
        build.roots().iter().all(is_there),
        "a target's root is no step of the graph",
    )?;
    let lines = build.targets.iter().flat_map(|target| &target.history);
    let mut steps = lines.filter_map(|line| match line.layer {
        LayerOrigin::Step(id) => Some(id),
        _ => None,
    });
    rule(
        steps.all(|id| is_there(&id)),
        "a line of a history is of no step of the graph",
    )?;
    let was_given = |source: &ImageSource| {
        let mut given = images.values();
        given.any(|image| image.source.manifest == source.manifest)
    };
    let mut operations = ids.iter().map(|id| &build.graph.step(*id).op);
    rule(
        operations.all(|op| match op {
            Op::Image(source) => was_given(source),
            _ => true,
        }),
        "the graph has an image that wasn't asked for",
    )
}

/// What two builds have in common that are the same: definitions of all steps with what they are called, the
/// roots, configurations and histories of the targets.
fn fingerprint(build: &Build) -> Digest {
    let mut out = Encoder::new("kiln-conformance-build", 1);
    let ids: Vec<StepId> = build.graph.ids().collect();
    out.seq(&ids, |out, id| {
        let DefinitionDigest(definition) = build.graph.definition(*id);
        out.digest(&definition);
        out.str(&build.graph.step(*id).name.to_string());
    });
    out.seq(&build.targets, |out, target| {
        let DefinitionDigest(root) = build.graph.definition(target.root);
        out.digest(&root);
        out.str(&serde_json::to_string(&target.config).unwrap_or_default());
        out.str(&format!("{:?}", target.history));
    });
    out.finish()
}

/// The input that is wrong fails, twice with the same text.
fn refused<F: Frontend>(frontend: &F, wrong: &F::Input) -> Result<(), Nonconforming> {
    let error = || match to_the_end(frontend, wrong)?.0 {
        Ok(_) => Err(Nonconforming::Rule("the input that is wrong is compiled")),
        Err(error) => Ok(error.to_string()),
    };
    let first = error()?;
    says_something(&first)?;
    rule(
        first == error()?,
        "the same input fails with another text the second time",
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{GraphBuilder, Platform};

    /// A way not to be a frontend.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    enum Fault {
        #[default]
        None,
        HasNoTarget,
        AsksForNothing,
        AsksAgain,
        AsksForever,
        MakesImagesUp,
        LooksAtAClock,
        LooksAtOtherImages,
        TakesEverything,
        SaysNothing,
        SaysSomethingElse,
        Fails,
    }

    /// `FROM IMAGE`, and commands.
    #[derive(Default)]
    struct Lines {
        fault: Fault,
        calls: Cell<usize>,
    }

    impl Frontend for Lines {
        type Input = str;
        type Error = std::io::Error;

        fn compile(&self, input: &str, images: &ImageTable) -> Result<Compilation, Self::Error> {
            let calls = self.calls.replace(self.calls.get() + 1);
            let mut lines = input.lines();
            let name = lines.next().and_then(|line| line.strip_prefix("FROM "));
            let name = match name {
                Some(name) if self.fault != Fault::Fails => name,
                None if self.fault == Fault::TakesEverything => "image",
                _ => {
                    return Err(std::io::Error::other(match self.fault {
                        Fault::SaysNothing => " ".to_owned(),
                        Fault::SaysSomethingElse => calls.to_string(),
                        _ => "no FROM".to_owned(),
                    }));
                }
            };
            let request = |name: String| ImageRequest {
                name,
                platform: Platform::new("linux", "amd64", ""),
            };
            let wanted = request(name.to_owned());
            let found = images.get(&wanted).cloned();
            let found = match (self.fault, found) {
                (Fault::AsksForNothing, None) => return Ok(Compilation::Needs(Vec::new())),
                (Fault::AsksForever, Some(_)) => {
                    return Ok(Compilation::Needs(vec![request(format!("{calls}"))]));
                }
                (Fault::AsksAgain, Some(_)) => return Ok(Compilation::Needs(vec![wanted])),
                (Fault::MakesImagesUp, None) => image(&request("another".to_owned())),
                (_, Some(found)) => found,
                (_, None) => return Ok(Compilation::Needs(vec![wanted])),
            };
            let mut graph = GraphBuilder::new(wanted.platform.clone());
            let mut state = graph.image(&found).unwrap();
            for line in lines {
                state = graph.run(state, ["sh", "-c", line]).unwrap();
            }
            match self.fault {
                Fault::LooksAtAClock => {
                    state = graph.write(state, "/calls", calls.to_string()).unwrap();
                }
                Fault::LooksAtOtherImages => {
                    state = graph.write(state, "/n", images.len().to_string()).unwrap();
                }
                _ => {}
            }
            let mut build = graph.build(state);
            if self.fault == Fault::HasNoTarget {
                build.targets.clear();
            }
            Ok(Compilation::Done(Box::new(build)))
        }
    }

    #[test]
    fn each_fault_is_found() {
        let tried = |fault: Fault| {
            let lines = Lines {
                fault,
                ..Lines::default()
            };
            frontend(&lines, "FROM image\ntrue\nfalse", "RUN true")
        };
        tried(Fault::None).unwrap();
        let cases = [
            (Fault::HasNoTarget, "no target"),
            (Fault::AsksForNothing, "no images are needed"),
            (Fault::AsksAgain, "asked for that was given"),
            (Fault::AsksForever, "no end"),
            (Fault::MakesImagesUp, "wasn't asked for"),
            (Fault::LooksAtAClock, "gives another build"),
            (Fault::LooksAtOtherImages, "nobody asked for"),
            (Fault::TakesEverything, "is compiled"),
            (Fault::SaysNothing, "says nothing"),
            (Fault::SaysSomethingElse, "another text"),
            (Fault::Fails, "no FROM"),
        ];
        for (fault, want) in cases {
            let said = tried(fault).unwrap_err().to_string();
            assert!(said.contains(want), "{want}: {said}");
        }
    }
}
