//! A build on its way from the flags to the engine: what is asked for (`Plan`), what all images of a
//! build file share (`Session`), and an image that is compiled and ready to be built (`Ready`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_engine::{Annotations, Cancel, Engine, EventSink, ImageOptions};
use kiln_image::Reference;

use super::Failed;
use super::build_args::BuildArgs;
use super::build_report::{show_warnings, tell};
use super::cache::{Specs, Targets};
use super::deliver::Delivery;
use super::export::Exports;
use super::file_settings::FileSettings;
use super::say;
use crate::display::{Style, display};
use kiln::output::{self, DeltaOptions, Output};
use kiln::{
    AttestOptions, BuildOutcome, CacheSource, Configure, DockerfileRequest, Error, Opened, Policy,
    Prepared, Secrets, open_build_file,
};

/// Where the result goes and what it is held to, read before anything is done.
pub(super) struct Plan {
    pub(super) outputs: Vec<Output>,
    pub(super) tags: Vec<Reference>,
    pub(super) secrets: Arc<Secrets>,
    pub(super) options: ImageOptions,
    pub(super) targets: Targets,
    /// The shared caches of the build file, in place of those of the command line.
    cache_from: Option<Vec<CacheSource>>,
    pub(super) policies: Vec<Policy>,
    pub(super) exports: Exports,
    pub(super) attest: AttestOptions,
    pub(super) deltas: DeltaOptions,
}

impl Plan {
    pub(super) fn read(args: &BuildArgs) -> Result<Self, Error> {
        let specs = Specs::of_flag("--cache-to", &args.cache_to);
        let targets = super::cache::targets(&specs, args.cache_sign_key.as_deref())?;
        let mut options = args.image_options()?;
        options.inline.clone_from(&targets.inline);
        let policy = args.policy.as_deref().map(Policy::read).transpose()?;
        let names = args.names()?;
        let outputs = args.outputs()?;
        args.check_places(&outputs)?;
        let is_pushed = outputs.iter().any(Output::pushes);
        Ok(Self {
            attest: args.attest.options(is_pushed)?,
            deltas: args.deltas.options(is_pushed)?,
            outputs,
            tags: names,
            secrets: Arc::new(args.secrets()?),
            options,
            targets,
            cache_from: None,
            policies: policy.into_iter().collect(),
            exports: Exports::default(),
        })
    }

    /// Whether everything that is pushed has a name.
    pub(super) fn check_names(&self) -> Result<(), Error> {
        output::check_names(&self.outputs, &self.tags)
    }

    /// The names under which images are pushed.
    pub(super) fn pushed_names(&self) -> Vec<Reference> {
        let pushed = self.outputs.iter().filter(|output| output.pushes());
        let names = pushed.flat_map(|output| self.tags.iter().chain(output.names()));
        names.cloned().collect()
    }

    /// Whether the registries and the daemon that are to get the image take it.
    fn check_remotes(&self, engine: &Engine) -> Result<(), Error> {
        output::allow_insecure(engine.client(), &self.outputs, &self.tags);
        let names = self.pushed_names();
        let repositories: BTreeMap<_, _> = names
            .iter()
            .map(|name| ((&name.host, &name.repository), name))
            .collect();
        for name in repositories.into_values() {
            engine.client().check_push(name)?;
        }
        if self.outputs.iter().any(Output::loads) {
            kiln_image::check_daemon(engine.client())?;
        }
        Ok(())
    }

    /// Adds what the build file says, and compares what the flags want with it.
    fn suit(
        &mut self,
        engine: &Engine,
        file: FileSettings<'_>,
        prepared: &Prepared,
    ) -> Result<(), Error> {
        let own = self.outputs.iter().map(Output::annotations);
        let mut all = std::iter::once(&self.options.annotations).chain(own);
        if all.any(Annotations::want_index) && prepared.compiled.build.targets.len() < 2 {
            let text = "--annotation: only an image of several platforms has an index";
            return Err(Error::Usage(text.to_owned()));
        }
        kiln::suit_options(&mut self.options, prepared);
        self.policies.extend(prepared.policy.clone());
        self.cache_from = file.cache_from(engine)?;
        if let Some(targets) = file.cache_to()? {
            self.options.inline.clone_from(&targets.inline);
            self.targets = targets;
        }
        if self.outputs.is_empty() {
            self.outputs = file.outputs()?;
        }
        if self.tags.is_empty() {
            self.tags = file.tags()?;
            if !self.tags.is_empty() {
                self.check_remotes(engine)?;
            }
        }
        self.check_names()
    }
}

/// What the images of a build file share.
pub(super) struct Session<'a> {
    pub(super) engine: &'a Engine,
    cancel: &'a Cancel,
    /// Is told whether something in the store may be damaged.
    damage: &'a Cell<bool>,
}

impl<'a> Session<'a> {
    pub(super) fn new(engine: &'a Engine, cancel: &'a Cancel, damage: &'a Cell<bool>) -> Self {
        Self {
            engine,
            cancel,
            damage,
        }
    }

    /// What is asked of the frontend.
    pub(super) fn request(&self, args: &BuildArgs, plan: &Plan) -> Result<Asked, Error> {
        let events = show(args);
        let configure = args.configurer(self.engine, &plan.secrets, self.cancel)?;
        let mut request = args.source.request()?;
        request.events = Some(events.clone());
        request.configure = Some(configure.clone());
        request.secrets = Some(plan.secrets.clone());
        if let Some(policy) = plan.policies.first() {
            request.source_rules = Arc::new(policy.sources().clone());
        }
        Ok(Asked {
            request,
            events,
            configure,
        })
    }

    /// Fetches the contexts, and reads the build file.
    pub(super) fn open(&self, request: &DockerfileRequest) -> Result<Opened, Failed> {
        open_build_file(self.engine, request).map_err(|error| {
            self.damage.set(error.may_be_damage());
            error.into()
        })
    }

    /// Compiles the build file, and asks meanwhile whether the result can go where it is to go.
    pub(super) fn compile(
        &self,
        args: &BuildArgs,
        mut plan: Plan,
        opened: &Opened,
        asked: Asked,
    ) -> Result<Ready, Failed> {
        let engine = self.engine;
        let (prepared, reachable) = std::thread::scope(|scope| {
            let plan = &plan;
            let reachable = scope.spawn(move || plan.check_remotes(engine));
            (opened.prepare(engine, &asked.request), reachable.join())
        });
        let prepared = prepared.map_err(|at| {
            self.damage.set(at.0.may_be_damage());
            if let Error::Dockerfile(error) = &at.0 {
                show_warnings(args, &error.warnings);
            }
            Failed::of(&at.0, &at.1)
        })?;
        reachable.unwrap_or(Ok(()))?;
        show_warnings(args, &prepared.compiled.warnings);
        let names = args.source.argument_names();
        for text in super::hint::unused_arguments(&names, &prepared) {
            say(&format!("WARNING: {text}"));
        }
        super::call::refuse_warnings(&prepared)?;
        let file = FileSettings::new(args, &prepared, &asked.request.allowed);
        plan.suit(engine, file, &prepared)?;
        plan.exports = Exports::read(&args.exports, &prepared.compiled.build)?;
        Ok(Ready {
            args: args.clone(),
            plan,
            asked,
            prepared,
        })
    }
}

/// A display of what is done.
fn show(args: &BuildArgs) -> Arc<dyn EventSink> {
    display(match args.quiet {
        true => Style::Quiet,
        false => args.progress,
    })
}

/// A request to the frontend, and what goes into the engine's.
pub(super) struct Asked {
    pub(super) request: DockerfileRequest,
    events: Arc<dyn EventSink>,
    configure: Arc<Configure>,
}

/// An image that is ready to be built.
pub(super) struct Ready {
    args: BuildArgs,
    pub(super) plan: Plan,
    asked: Asked,
    prepared: Prepared,
}

impl Ready {
    /// Builds it, and says what came out.
    pub(super) fn build(self, session: &Session<'_>) -> Result<BuildOutcome, Failed> {
        let Self {
            args,
            plan,
            asked,
            prepared,
        } = &self;
        let engine = session.engine;
        // A display is of one build: what was compiled before had another.
        let events = match args.one_of_several {
            true => show(args),
            false => asked.events.clone(),
        };
        let journal = Arc::new(args.journal(engine, prepared, events));
        let mut build = args.engine_request(prepared)?;
        for target in &mut build.build.targets {
            args.source.set_environment(&mut target.config.config.env);
        }
        (asked.configure)(&mut build)?;
        if let Some(sources) = &plan.cache_from {
            build.cache_from.clone_from(sources);
        }
        build.events = journal.clone();
        let delivery = Delivery {
            engine,
            args,
            plan,
            request: &asked.request,
            prepared,
            journal: &journal,
        };
        let result = delivery.run(build);
        let error = result.as_ref().err().map(ToString::to_string);
        journal.finish(error.map(|text| kiln_graph::address::redact(&text).into_owned()));
        tell(engine, args, &journal)?;
        let result = result.map_err(|error| {
            session.damage.set(error.may_be_damage());
            args.failure(engine, prepared, plan.secrets.clone(), &error)
        })?;
        args.show(&result);
        Ok(result)
    }
}
