//! Solves a build, and delivers what comes out.

use kiln_attest::provenance::Provenance;
use kiln_engine::{DefaultNetwork, Engine, EngineError, Event, EventSink as _, Request, Solved};

use kiln_graph::Platform;

use super::build::BuildArgs;
use super::ready::Plan;
use super::{result, say};
use kiln::output::{self, Attester, DeltaSources, Wanted};
use kiln::{BuildFacts, BuildOutcome, DockerfileRequest, Error, Journal, Prepared};

/// A build that is ready to be solved.
#[derive(Clone, Copy)]
pub(super) struct Delivery<'a> {
    pub(super) engine: &'a Engine,
    pub(super) args: &'a BuildArgs,
    pub(super) plan: &'a Plan,
    pub(super) request: &'a DockerfileRequest,
    pub(super) prepared: &'a Prepared,
    pub(super) journal: &'a Journal,
}

impl Delivery<'_> {
    /// Builds; again without the shared caches when one turns out to be damaged only while what
    /// comes out is written.
    pub(super) fn run(&self, mut build: Request) -> Result<BuildOutcome, Error> {
        match self.deliver(build.clone()) {
            Err(Error::Engine(error @ EngineError::RemoteCache { .. }))
                if build.does_without_remotes() =>
            {
                let message = format!("{error}; building without it");
                self.journal.event(Event::Warning { message });
                self.deliver(build)
            }
            done => done,
        }
    }

    /// Solves a build, and writes what comes out.
    fn deliver(&self, mut build: Request) -> Result<BuildOutcome, Error> {
        let Self {
            engine,
            args,
            plan,
            journal,
            ..
        } = *self;
        let exports = &plan.exports;
        let plain = build.clone();
        build.cache_to = super::cache::cache_to(engine, &plan.targets)?;
        let mut solved = match engine.solve(build) {
            Ok(solved) => solved,
            Err(error) => {
                // The failure itself is what the user must see.
                if let Err(other) =
                    exports.write_failed(engine, &plain, &journal.outcomes(), journal)
                {
                    say(&format!("WARNING: nothing was exported: {other}"));
                }
                return Err(error.into());
            }
        };
        let network = plain.network;
        exports.write(&solved, journal)?;
        if args.verify_reproducible {
            super::checks::reproducible(engine, &solved, plain.clone())?;
        }
        for policy in &plan.policies {
            super::checks::policy(policy, &solved, &plan.options, journal)?;
        }
        let facts = self.facts(network, &solved)?;
        let wanted = Wanted {
            outputs: &plan.outputs,
            tags: &plan.tags,
            options: &plan.options,
            attester: Attester {
                options: &plan.attest,
                facts: &facts,
            },
            digests: wants_digests(args),
            cancel: &plain.cancel,
        };
        let deltas = DeltaSources::find(
            engine,
            &plan.deltas,
            &plan.pushed_names(),
            &platforms(&solved),
            journal,
        );
        let written = output::write(&solved, &wanted, journal)?;
        deltas.push(&solved, &written, journal);
        let result = BuildOutcome::of(&solved, &written)?;
        write_ids(args, &result)?;
        super::cache::finish(engine, &mut solved, &plan.targets)?;
        Ok(result)
    }

    /// What is known of the build, if provenance is wanted.
    fn facts(&self, network: DefaultNetwork, solved: &Solved) -> Result<Provenance, Error> {
        if self.plan.attest.provenance.is_none() {
            return Ok(Provenance::default());
        }
        let record = self.journal.record();
        let facts = BuildFacts {
            source: Some((self.request, self.prepared)),
            solved,
            network,
            invocation: record.id,
            started: record.began,
            steps: &self.journal.results(),
            reproducible: self.args.verify_reproducible,
        };
        facts.provenance()
    }
}

fn platforms(solved: &Solved) -> Vec<Platform> {
    let targets = solved.build().targets.iter();
    targets.map(|target| target.platform.clone()).collect()
}

/// Whether the image's digests are asked for, whatever else is.
fn wants_digests(args: &BuildArgs) -> bool {
    args.quiet || args.iidfile.is_some() || args.metadata_file.is_some()
}

fn write_ids(args: &BuildArgs, result: &BuildOutcome) -> Result<(), Error> {
    if let (Some(path), Some(id)) = (&args.iidfile, result.image_id()) {
        std::fs::write(path, id.to_string()).map_err(Error::file("write", path))?;
    }
    if let Some(path) = args.metadata_file.as_ref().filter(|_| !args.one_of_several) {
        result::write_metadata(path, &result::metadata(result))?;
    }
    Ok(())
}
