//! One build on this machine: everything that the solver works with, put together.

use std::sync::Arc;

use kiln_execute::{
    Around, AtOnce, CommandExecutor, CommandOptions, ContentReader, ContextResolver, Elsewhere,
    ElsewhereExecutor, EngineError, FileExecutor, GitOptions, GitResolver, HttpResolver,
    LocalSources, Records, SharedSources, Snapshotter, VolumeFinder,
};
use kiln_export::Exports;
use kiln_graph::{Step, StepId, StepKey};
use kiln_sandbox::{Sandbox, Selection};
use kiln_solve::{
    Backend, Executor, Filed, Part, SharedCaches, SolveOptions, Solver, SourceResolver, Usable,
};

use crate::request::Request;

/// What an embedder brings in place of this machine's own.
#[derive(Clone, Default)]
pub(crate) struct Custom {
    pub(crate) commands: Option<Arc<dyn Executor<EngineError>>>,
    pub(crate) sources: Option<Arc<dyn SourceResolver<EngineError>>>,
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Custom")
            .field("commands", &self.commands.is_some())
            .field("sources", &self.sources.is_some())
            .finish()
    }
}

/// What one build needs of this machine.
pub(crate) struct Machine<'a> {
    request: &'a Request,
    pub(crate) trees: Snapshotter,
    sandbox: &'a Sandbox,
    selection: &'a Selection,
    solve: SolveOptions,
    commands: CommandOptions,
    git: GitOptions,
    shared: SharedSources,
    custom: &'a Custom,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(
        request: &'a Request,
        trees: &Snapshotter,
        sandbox: &'a Sandbox,
        selection: &'a Selection,
        custom: &'a Custom,
    ) -> Self {
        let trees = trees.for_build();
        let sources = request.cache_from.clone();
        let shared = SharedSources::new(sources, trees.distant.clone(), request.events.clone());
        Self {
            request,
            trees,
            sandbox,
            selection,
            solve: request.solve_options(max_steps()),
            commands: request.command_options(),
            git: request.git_options(),
            shared,
            custom,
        }
    }

    /// Has a solver work with this machine.
    pub(crate) fn with_solver<R>(
        &self,
        exports: &Exports,
        work: impl FnOnce(&Solver<'_, EngineError>) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let events = &*self.request.events;
        let (own_commands, own_sources) = (self.command_executor(), self.sources());
        let own_files = FileExecutor(&self.trees);
        let elsewhere = self.elsewhere(&own_commands, &own_files);
        let (commands, files): (&dyn Executor<EngineError>, &dyn Executor<EngineError>) =
            match &elsewhere {
                Some(elsewhere) => (elsewhere, elsewhere),
                None => (&own_commands, &own_files),
            };
        let backend = Backend {
            store: &Records(&self.trees.store),
            contents: &ContentReader {
                trees: &self.trees,
                shared: &self.shared,
                secrets: &*self.request.secrets,
                events,
            },
            commands: self.custom.commands.as_deref().unwrap_or(commands),
            files,
            sources: self.custom.sources.as_deref().unwrap_or(&own_sources),
            shared: &Sharing {
                sources: &self.shared,
                exports,
                elsewhere: self.request.elsewhere.as_deref(),
                around: self.around(),
            },
        };
        let graph = &self.request.build.graph;
        work(&Solver::new(
            graph,
            &self.solve,
            backend,
            events,
            &self.request.cancel,
        ))
    }

    /// What runs commands.
    pub(crate) fn command_executor(&self) -> CommandExecutor<'_> {
        let events = &*self.request.events;
        let volumes = VolumeFinder {
            trees: &self.trees,
            keys: &self.request.volume_keys,
            shared: &self.shared,
            events,
        };
        CommandExecutor::new(
            &self.trees,
            self.sandbox,
            self.selection,
            &self.commands,
            volumes,
            events,
        )
    }

    /// What has commands run on other machines, where the user wants that.
    fn elsewhere<'b>(
        &'b self,
        commands: &'b dyn Executor<EngineError>,
        files: &'b dyn Executor<EngineError>,
    ) -> Option<ElsewhereExecutor<'b>> {
        let there = self.request.elsewhere.as_deref()?;
        let around = self.around();
        let at_once = AtOnce {
            here: self.solve.jobs,
            there: there.slots().min(max_steps()),
        };
        let executor = ElsewhereExecutor::new(there, commands, files, around, at_once);
        Some(executor)
    }

    fn around(&self) -> Around<'_> {
        Around {
            trees: &self.trees,
            network: self.request.network,
        }
    }

    fn sources(&self) -> LocalSources<'_> {
        let store = &self.trees.store;
        let request = self.request;
        LocalSources {
            contexts: ContextResolver::new(store, &request.build.graph, &request.contexts),
            git: GitResolver {
                store,
                sandbox: self.sandbox,
                options: &self.git,
            },
            http: HttpResolver {
                store,
                client: &self.trees.client,
                gives_away: self.trees.gives_away,
                secrets: &*request.secrets,
            },
            pins: &request.pins,
        }
    }
}

/// Takes results from shared caches, and offers them new ones.
struct Sharing<'a> {
    sources: &'a SharedSources,
    exports: &'a Exports,
    elsewhere: Option<&'a dyn Elsewhere>,
    around: Around<'a>,
}

impl SharedCaches for Sharing<'_> {
    /// What was left where it was made comes first.
    fn find(&self, key: &StepKey, usable: Usable) -> Option<Filed> {
        let left = self
            .elsewhere
            .and_then(|there| there.find(key, &self.around));
        let left = left.filter(|filed| usable.allows(filed.created, filed.stdout.is_some()));
        left.or_else(|| self.sources.find(key, usable))
    }

    fn offer(&self, id: StepId, step: &Step, filed: &Filed, parts: &[Part]) {
        if let Some(there) = self.elsewhere {
            there.note(filed, &self.around);
        }
        self.exports.offer(id, step, filed, parts);
    }
}

/// How many steps can run at once with the descriptors there are: each has pipes, locks and files,
/// and others wait for it with theirs.
fn max_steps() -> usize {
    (kiln_sandbox::descriptors().saturating_sub(64) / 24).max(1)
}
