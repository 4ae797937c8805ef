//! The parts of this machine keep what parts of a program's own have to keep.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kiln::conformance::{ExecutorTrial, SourceTrial, executor, source};
use kiln::solve::{Executed, Executor, Job, Snapshot, SourceResolver, StepResult};
use kiln::{Engine, EngineError, Event, GraphBuilder, Kiln, NoSecrets, Platform};
use kiln_cluster::{ClusterExecutor, ExecutorSettings, ReapiSettings};
use kiln_execute::{
    Around, AtOnce, CommandExecutor, CommandOptions, ContextResolver, DefaultNetwork, Elsewhere,
    ElsewhereExecutor, FileExecutor, GitOptions, GitResolver, HttpResolver, LocalSources, Pins,
    SharedSources, Snapshotter, There, VolumeFinder,
};
use kiln_graph::{Entitlements, GitSource, Graph, HttpSource, ImagePath, Op, Step, StepId};
use kiln_tests::{BUSYBOX, CasdWorker, GIT, Space, Web, kiln_binary, shell};

fn engine(space: &Space) -> Kiln {
    let builder = Kiln::builder().store(space.path("store"));
    builder.helper(kiln_binary()).open().unwrap()
}

/// Steps that end in one way or another, and what they are made from.
struct Steps {
    graph: Graph,
    inputs: Vec<StepResult>,
    works: StepId,
    fails: StepId,
    long: StepId,
    writes: StepId,
    copies: StepId,
}

impl Steps {
    fn new(kiln: &Kiln) -> Self {
        let base = kiln.image(BUSYBOX, &Platform::host()).unwrap();
        let layers = Snapshot::of_image(&base.source.layers, BUSYBOX);
        let mut graph = GraphBuilder::new(Platform::host());
        let root = graph.image(&base).unwrap();
        let mut run = |words: &str| graph.run(root, ["sh", "-c", words]).unwrap();
        let works =
            run("echo hello; mkdir /d; echo content >/d/file; ln -s file /d/link; rm -r /tmp");
        let (fails, long) = (run("echo oh no; exit 3"), run("sleep 100"));
        let writes = graph.write(root, "/d/file", "content").unwrap();
        let copies = graph.copy(root, root, "/no/such/file", "/d/").unwrap();
        Self {
            graph: graph.build(root).graph,
            inputs: vec![StepResult::Snapshot(layers); 2],
            works,
            fails,
            long,
            writes,
            copies,
        }
    }

    fn try_commands(&self, engine: &Engine, commands: &dyn Executor<EngineError>) {
        let step = |id: StepId| self.graph.step(id);
        executor(&ExecutorTrial {
            executor: commands,
            store: engine.store(),
            inputs: &self.inputs,
            works: step(self.works),
            says: "hello",
            fails: step(self.fails),
            foreign: step(self.root()),
            long: Some(step(self.long)),
        })
        .unwrap();
    }

    fn try_files(&self, engine: &Engine, files: &dyn Executor<EngineError>) {
        let step = |id: StepId| self.graph.step(id);
        executor(&ExecutorTrial {
            executor: files,
            store: engine.store(),
            inputs: &self.inputs,
            works: step(self.writes),
            says: "",
            fails: step(self.copies),
            foreign: step(self.root()),
            long: None,
        })
        .unwrap();
    }

    /// A step that nobody executes: the image.
    fn root(&self) -> StepId {
        self.graph.inputs(self.works)[0]
    }
}

/// Has the executors of this machine.
fn with_local(
    engine: &Engine,
    work: impl FnOnce(&Snapshotter, &CommandExecutor<'_>, &FileExecutor<'_>),
) {
    let (trees, events) = (engine.trees(), |_: Event| {});
    let options = CommandOptions {
        network: DefaultNetwork::default(),
        cgroups: None,
        secrets: Arc::new(NoSecrets),
        allow_secrets_in: Vec::new(),
        refuse_ids: false,
    };
    let shared = SharedSources::new(Vec::new(), Arc::default(), Arc::new(|_: Event| {}));
    let volumes = VolumeFinder {
        trees,
        keys: &BTreeMap::new(),
        shared: &shared,
        events: &events,
    };
    let (sandbox, selection) = (engine.sandbox(), engine.selection());
    let commands = CommandExecutor::new(trees, sandbox, selection, &options, volumes, &events);
    work(trees, &commands, &FileExecutor(trees));
}

#[test]
fn executors_of_this_machine() {
    let space = Space::new();
    let kiln = engine(&space);
    let steps = Steps::new(&kiln);
    with_local(kiln.engine(), |_, commands, files| {
        steps.try_commands(kiln.engine(), commands);
        steps.try_files(kiln.engine(), files);
    });
}

/// A cluster that runs nothing.
struct Nowhere;

impl Elsewhere for Nowhere {
    fn slots(&self) -> usize {
        1
    }

    fn stays(&self, _: &Job<'_>, _: &Around<'_>) -> Option<String> {
        None
    }

    fn early(&self, _: &Job<'_>, _: &Around<'_>) -> Result<Option<Executed>, EngineError> {
        Ok(None)
    }

    fn execute(&self, _: &Job<'_>, _: &Around<'_>) -> Result<There, EngineError> {
        Ok(There::Not("it runs nothing".to_owned()))
    }
}

#[test]
fn executors_of_this_machine_for_a_cluster_that_runs_nothing() {
    let space = Space::new();
    let kiln = engine(&space);
    let steps = Steps::new(&kiln);
    with_local(kiln.engine(), |trees, commands, files| {
        let around = Around {
            trees,
            network: DefaultNetwork::default(),
        };
        let at_once = AtOnce { here: 4, there: 4 };
        let both = ElsewhereExecutor::new(&Nowhere, commands, files, around, at_once);
        steps.try_commands(kiln.engine(), &both);
        steps.try_files(kiln.engine(), &both);
    });
}

/// A step that brings a source.
fn brings(op: Op) -> Step {
    Step::plain("source", op, Platform::host())
}

fn git(address: &str, reference: &str) -> Step {
    brings(Op::Git(GitSource {
        remote: address.to_owned(),
        reference: reference.to_owned(),
        subdir: ImagePath::root(),
        keep_git_dir: false,
        checksum: None,
        submodules: true,
    }))
}

fn http(address: String) -> Step {
    brings(Op::Http(HttpSource {
        url: address,
        checksum: None,
        file_name: None,
        request: kiln_graph::HttpRequest::default(),
    }))
}

#[test]
fn an_executor_of_a_cluster() {
    let Some(worker) = CasdWorker::start() else {
        return;
    };
    let space = Space::new();
    let kiln = engine(&space);
    let steps = Steps::new(&kiln);
    let mut settings = ExecutorSettings::new(ReapiSettings::from_url(&worker.url()).unwrap());
    settings.properties = worker.properties();
    settings.helpers = vec![kiln_binary()];
    settings.required = true;
    // What the suite looks at is here.
    settings.brings_outputs = true;
    let cluster = ClusterExecutor::new(settings);
    with_local(kiln.engine(), |trees, commands, files| {
        let around = Around {
            trees,
            network: DefaultNetwork::default(),
        };
        let at_once = AtOnce { here: 4, there: 4 };
        let both = ElsewhereExecutor::new(&cluster, commands, files, around, at_once);
        steps.try_commands(kiln.engine(), &both);
        steps.try_files(kiln.engine(), &both);
    });
}

fn context(name: &str) -> Step {
    brings(Op::Context(kiln_graph::ContextSource {
        name: name.to_owned(),
        ignore: vec!["ignored".to_owned()],
    }))
}

fn try_sources(
    engine: &Engine,
    contexts: &BTreeMap<String, PathBuf>,
    works: &Step,
    missing: &Step,
) {
    let store = engine.store();
    let options = GitOptions {
        own_git: false,
        allowed: Entitlements::default(),
        secrets: Arc::new(NoSecrets),
    };
    let (graph, pins) = (Graph::new(), Pins::default());
    let sources = LocalSources {
        contexts: ContextResolver::new(store, &graph, contexts),
        git: GitResolver {
            store,
            sandbox: engine.sandbox(),
            options: &options,
        },
        http: HttpResolver {
            store,
            client: engine.client(),
            gives_away: engine.trees().gives_away,
            secrets: &NoSecrets,
        },
        pins: &pins,
    };
    let sources: &dyn SourceResolver<EngineError> = &sources;
    source(&SourceTrial {
        sources,
        store,
        works,
        missing,
        foreign: &brings(Op::Scratch),
    })
    .unwrap();
}

#[test]
fn sources_of_this_machine() {
    let space = Space::new();
    let script = format!(
        "mkdir -p srv/work context/d; echo x >context/d/file; echo y >context/ignored; echo z >srv/file; cd srv/work
         {GIT} init -q; echo 1 >file; git add .; {GIT} commit -qm one
         cd ..; {GIT} clone -q --bare work repo.git; git -C repo.git update-server-info"
    );
    _ = shell(&space.path(""), &script);
    let web = Web::serve(&space.path("srv"));
    let kiln = engine(&space);
    let engine = kiln.engine();
    let contexts = BTreeMap::from([("main".to_owned(), space.path("context"))]);
    let tried = |works: &Step, missing: &Step| try_sources(engine, &contexts, works, missing);
    tried(&context("main"), &context("other"));
    tried(&http(web.url("file")), &http(web.url("none")));
    let (repository, none) = (web.url("repo.git"), web.url("none.git"));
    tried(&git(&repository, "main"), &git(&repository, "none"));
    tried(&git(&repository, ""), &git(&none, ""));
}
