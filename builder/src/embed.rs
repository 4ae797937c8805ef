//! The front door for programs: open a store, ask for a build, get a digest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::{Options as StoreOptions, OverlayXattrs, Store};
use kiln_engine::{Engine, EngineError, parallel};
use kiln_graph::{Build, Compilation, Frontend, ImageRequest, ImageTable, Platform, ResolvedImage};
use kiln_image::{Client, ClientOptions, CredentialSource, ImageError, Logins};
use kiln_sandbox::{Identity, IsolationChoice, Privileges, Sandbox, enter_user_namespace};
use kiln_solve::{Executor, SourceResolver};

use crate::open::StoredDocuments;
use crate::{BuildOutcome, BuildRequest, Config, Error};

/// Builds images. Cheap to clone; any number of threads and processes may use one store.
///
/// The methods block, and may be called inside of an async runtime: [`Kiln::build_async`] lets its
/// threads go on meanwhile.
#[derive(Clone, Debug)]
pub struct Kiln {
    engine: Engine,
}

impl Kiln {
    /// Settings to open a store with.
    #[must_use]
    pub fn builder() -> KilnBuilder {
        KilnBuilder::default()
    }

    /// Has commands run by an executor of the caller's, in place of sandboxes of this machine.
    #[must_use]
    pub fn with_executor(self, executor: Arc<dyn Executor<EngineError>>) -> Self {
        Self {
            engine: self.engine.with_executor(executor),
        }
    }

    /// Has sources resolved by the caller, in place of this machine's directories, git and HTTP.
    #[must_use]
    pub fn with_sources(self, sources: Arc<dyn SourceResolver<EngineError>>) -> Self {
        Self {
            engine: self.engine.with_sources(sources),
        }
    }

    /// Runs a build, and writes what it was asked for.
    ///
    /// # Errors
    /// When the request can't be met: see [`Error::fault`] for whose fault that is.
    pub fn build(&self, request: BuildRequest) -> Result<BuildOutcome, Error> {
        off_runtime(|| request.run(&self.engine))
    }

    /// Like [`Kiln::build`], on a thread of its own. Dropping the future doesn't stop the build:
    /// [`BuildRequest::cancel`] does.
    ///
    /// # Errors
    /// As [`Kiln::build`].
    pub async fn build_async(&self, request: BuildRequest) -> Result<BuildOutcome, Error> {
        let engine = self.engine.clone();
        let (done, outcome) = tokio::sync::oneshot::channel();
        let work = move || _ = done.send(request.run(&engine));
        let thread = std::thread::Builder::new().name("kiln build".to_owned());
        let started = thread.spawn(work);
        started.map_err(|source| Error::File {
            what: "cannot start a thread".to_owned(),
            source,
        })?;
        outcome.await.unwrap_or(Err(Error::Defect(
            "the build's thread ended without an outcome".to_owned(),
        )))
    }

    /// Compiles a build file with a frontend of the caller's, finding out the images that it asks for;
    /// [`BuildRequest::graph`] takes the build.
    ///
    /// # Errors
    /// When the frontend refuses the file, or an image can't be had.
    pub fn compile<F: Frontend>(&self, frontend: &F, input: &F::Input) -> Result<Build, Error> {
        let mut images = ImageTable::new();
        loop {
            let compilation = frontend.compile(input, &images);
            let compilation = compilation.map_err(|error| Error::Frontend(Box::new(error)))?;
            let wanted = match compilation {
                Compilation::Done(build) => return Ok(*build),
                Compilation::Needs(wanted) => wanted,
            };
            let known = images.len();
            let find = |wanted: &ImageRequest| self.image(&wanted.name, &wanted.platform);
            let found = off_runtime(|| parallel::map(&wanted, find))?;
            images.extend(wanted.into_iter().zip(found));
            if images.len() == known {
                let text = "the frontend asks again for what it was told";
                return Err(Error::Frontend(text.into()));
            }
        }
    }

    /// What a name of an image stands for, as [`GraphBuilder::image`](kiln_graph::GraphBuilder::image)
    /// takes it: asked of the store, then of the image's registry.
    ///
    /// # Errors
    /// When it can't be had, or its configuration can't be used.
    pub fn image(&self, name: &str, platform: &Platform) -> Result<ResolvedImage, Error> {
        off_runtime(|| {
            let mut found = match self.engine.images().stored(name, platform) {
                Ok(Some(found)) => found,
                _ => self.engine.client().resolve(name, platform)?,
            };
            let checked = found.config.check();
            _ = checked.map_err(|reason| ImageError::Document {
                image: name.to_owned(),
                reason: reason.to_string(),
            })?;
            Ok(ResolvedImage {
                source: kiln_graph::ImageSource {
                    name: name.to_owned(),
                    manifest: found.manifest,
                    layers: found.layers,
                },
                config: found.config,
                is_known: true,
            })
        })
    }

    /// The engine below, for what these methods don't do.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Runs what waits for a runtime of its own, which a thread of another runtime can't.
fn off_runtime<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    std::thread::scope(|scope| {
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Settings to open a store with. Nothing of the user's is read unless a method says so.
#[derive(Debug)]
pub struct KilnBuilder {
    store: Option<PathBuf>,
    config: Config,
    credentials: CredentialSource,
    logins: Logins,
    certificates: Option<PathBuf>,
    insecure: bool,
    isolation: IsolationChoice,
    privileges: Option<Privileges>,
    helper: Option<PathBuf>,
    notice: fn(&str),
}

impl Default for KilnBuilder {
    fn default() -> Self {
        Self {
            store: None,
            config: Config::default(),
            credentials: CredentialSource::None,
            logins: Logins::new(),
            certificates: None,
            insecure: false,
            isolation: IsolationChoice::Auto,
            privileges: None,
            helper: None,
            notice: |_| {},
        }
    }
}

/// The directory of the store that the `kiln` command uses.
///
/// # Errors
/// When there is no home directory.
pub fn user_store_root() -> Result<PathBuf, Error> {
    let is_root = rustix::process::geteuid().is_root();
    Ok(Store::default_root(is_root)?)
}

impl KilnBuilder {
    /// The directory of the store; it is made when it isn't there.
    #[must_use]
    pub fn store(mut self, directory: impl AsRef<Path>) -> Self {
        self.store = Some(directory.as_ref().to_owned());
        self
    }

    /// The store that the `kiln` command uses: `$KILN_ROOT`, else `/var/lib/kiln` for root and
    /// `$XDG_DATA_HOME/kiln` for others.
    ///
    /// # Errors
    /// When there is no home directory.
    pub fn user_store(mut self) -> Result<Self, Error> {
        self.store = Some(user_store_root()?);
        Ok(self)
    }

    /// Settings of registries.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where credentials for registries come from; without this, there are none.
    #[must_use]
    pub fn credentials(mut self, source: CredentialSource) -> Self {
        self.credentials = source;
        self
    }

    /// Credentials that come before those.
    #[must_use]
    pub fn logins(mut self, logins: Logins) -> Self {
        self.logins = logins;
        self
    }

    /// A directory of certificates: authorities (`*.crt`) to trust besides the usual ones, and a
    /// certificate (`NAME.cert`) with its key (`NAME.key`) to show to registries.
    #[must_use]
    pub fn certificates(mut self, directory: Option<PathBuf>) -> Self {
        self.certificates = directory;
        self
    }

    /// Whether registries' certificates are not checked, and plain HTTP is spoken to those without
    /// TLS.
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// How steps are kept apart from the machine.
    #[must_use]
    pub fn isolation(mut self, choice: IsolationChoice) -> Self {
        self.isolation = choice;
        self
    }

    /// A program that calls [`run_if_helper`](crate::run_if_helper) first thing in `main`, such as
    /// the `kiln` command, to be run around each step. Without this it is the calling program,
    /// which then has to call it itself, before it starts a thread or an async runtime.
    #[must_use]
    pub fn helper(mut self, program: impl AsRef<Path>) -> Self {
        self.helper = Some(program.as_ref().to_owned());
        self
    }

    /// Is told what the user should know of the store, such as an upgrade of its format.
    #[must_use]
    pub fn notice(mut self, notice: fn(&str)) -> Self {
        self.notice = notice;
        self
    }

    /// The privileges of this process, when it has entered a user namespace already.
    #[must_use]
    pub fn privileges(mut self, privileges: Privileges) -> Self {
        self.privileges = Some(privileges);
        self
    }

    /// Opens the store. An ordinary user's process moves into a user namespace, for which it must
    /// have one thread: see [`crate::enter`] for programs with an async runtime.
    ///
    /// # Errors
    /// When no store was named, or it can't be opened.
    pub fn open(self) -> Result<Kiln, Error> {
        let privileges = match self.privileges.or_else(crate::open::entered) {
            Some(privileges) => privileges,
            None => enter_user_namespace(self.isolation)?,
        };
        let root = self.store.ok_or(Error::NoStore)?;
        let xattrs = match privileges.identity {
            Identity::Root => OverlayXattrs::Trusted,
            _ => OverlayXattrs::User,
        };
        let options = StoreOptions {
            xattrs,
            notice: self.notice,
        };
        let store = Store::open(&root, options)?;
        let client = Client::new(ClientOptions {
            registries: self.config.registries,
            credentials: self.credentials,
            logins: self.logins,
            certificates: self.certificates,
            insecure: self.insecure,
            documents: Some(Arc::new(StoredDocuments::new(store.clone()))),
            ..ClientOptions::default()
        });
        let sandbox = match self.helper {
            Some(program) => Sandbox::of_program(program),
            None => Sandbox::of_this_program(),
        };
        let engine = Engine::new(store, sandbox, client, privileges);
        Ok(Kiln { engine })
    }
}
