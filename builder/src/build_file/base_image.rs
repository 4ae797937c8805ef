//! Base images: what their names in a build file stand for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_engine::{Engine, Event, EventSink, Request, parallel};
use kiln_frontend_dockerfile::ast::Dockerfile;
use kiln_frontend_dockerfile::{
    Checked, Compiled, DockerfileError, ImageRequest, ImageTable, Options, Outcome, ResolvedImage,
    check, compile,
};
use kiln_graph::{BlobDigest, ImageConfig, ImageSource, Location};
use kiln_image::{ImageError, Resolved};

use crate::context::{Given, text_of};
use crate::image::source_guard::SourceGuard;
use crate::lock::{Locker, is_mutable};
use crate::{
    Assume, DockerfileRequest, Error, Pull, RequiredSignature, SignatureRule, SourceCheck,
    SourceRules,
};

/// Finds base images out.
pub(crate) struct BaseImages<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) pull: Pull,
    /// Which images are taken to be empty.
    pub(crate) assume: Assume,
    pub(crate) locker: &'a Locker,
    pub(crate) given: &'a Given,
    /// What may be used.
    pub(crate) rules: &'a SourceRules,
    /// What whoever asks for the build says of sources.
    pub(crate) source_check: Option<&'a dyn SourceCheck>,
    /// Is told of what is odd in them.
    pub(crate) events: Arc<dyn EventSink>,
    /// The directory of the build file's own files, such as keys.
    pub(crate) directory: &'a Path,
    /// What names were found to stand for.
    pub(crate) digests: Mutex<BTreeMap<ImageRequest, BlobDigest>>,
}

type Asked = Vec<(ImageRequest, Option<Location>)>;

impl<'a> BaseImages<'a> {
    /// Those of a build file, as a request says.
    pub(crate) fn new(
        engine: &'a Engine,
        request: &'a DockerfileRequest,
        given: &'a Given,
        locker: &'a Locker,
        directory: &'a Path,
    ) -> Self {
        Self {
            engine,
            pull: request.pull,
            assume: request.assume_images,
            locker,
            given,
            rules: &request.source_rules,
            source_check: request.source_check.as_deref(),
            events: request.events(),
            directory,
            digests: Mutex::default(),
        }
    }

    /// Holds an image to the signatures that it must have; `directory` is where files of the rule lie.
    ///
    /// # Errors
    /// When it hasn't, or a file of the rule can't be read.
    pub(crate) fn verify(
        &self,
        request: &ImageRequest,
        rule: &SignatureRule,
        directory: &Path,
        location: Option<&Location>,
    ) -> Result<(), Error> {
        if self.assume != Assume::Nothing {
            return Ok(());
        }
        let read = |path: &Path| text_of(path, super::inside::read(directory, path));
        let wanted = rule.resolve(read)?;
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = digests.get(request).copied();
        drop(digests);
        let digest = digest.ok_or_else(|| {
            Error::Defect(format!(
                "{} was not resolved before it was verified",
                request.name
            ))
        })?;
        let unsigned = self
            .guard()
            .unsigned(&request.name, &digest, &request.platform, &wanted)?;
        unsigned.map_or(Ok(()), |reason| {
            Err(Error::Unsigned {
                image: request.name.clone(),
                reason,
                location: location.cloned(),
            })
        })
    }
}

impl BaseImages<'_> {
    /// Asks for all images, several at once.
    ///
    /// # Errors
    /// When one can't be had, or isn't locked and has to be.
    pub(crate) fn add_to(&self, images: &mut ImageTable, requests: Asked) -> Result<(), Error> {
        let ask = |(request, location): &(_, Option<Location>)| self.ask(request, location.clone());
        let found = parallel::map(&requests, ask)?;
        let requests = requests.into_iter().map(|(request, _)| request);
        images.extend(requests.zip(found));
        Ok(())
    }

    /// Compiles a Dockerfile, asking for what it needs; `images` keeps what is found out.
    ///
    /// # Errors
    /// When it has a mistake, or an image can't be had.
    pub(crate) fn compile(
        &self,
        file: &Dockerfile,
        options: &Options,
        images: &mut ImageTable,
    ) -> Result<Compiled, Error> {
        loop {
            match compile(file, options, images)? {
                Outcome::Done(compiled) => return Ok(*compiled),
                Outcome::Needs(requests) => self.add_to(images, requests)?,
            }
        }
    }

    /// Looks for what is wrong with a Dockerfile, asking for images.
    ///
    /// # Errors
    /// When an image can't be had that has to be.
    pub(crate) fn check(
        &self,
        file: &Dockerfile,
        unread: Option<&DockerfileError>,
        options: &Options,
    ) -> Result<Checked, Error> {
        let mut images = ImageTable::new();
        loop {
            match check(file, unread, options, &images) {
                Outcome::Done(checked) => return Ok(*checked),
                Outcome::Needs(requests) => self.add_to(&mut images, requests)?,
            }
        }
    }

    fn ask(
        &self,
        request: &ImageRequest,
        location: Option<Location>,
    ) -> Result<ResolvedImage, Error> {
        match self.assume {
            Assume::All => Ok(assumed(request)),
            Assume::Nothing => self.resolve(request, location),
            Assume::Missing => {
                let found = self.resolve(request, location);
                Ok(found.unwrap_or_else(|_| assumed(request)))
            }
        }
    }

    fn resolve(
        &self,
        request: &ImageRequest,
        location: Option<Location>,
    ) -> Result<ResolvedImage, Error> {
        if !self.given.has_image(&request.name) {
            let name = request.name.clone();
            return Err(Error::NotGiven { name, location });
        }
        let locked = self.locker.image(&request.name);
        let guard = self.guard();
        let (name, platform) = (&request.name, &request.platform);
        let admitted = guard.image(name, platform, locked, location.as_ref())?;
        if let Some(name) = admitted.instead {
            let other = ImageRequest {
                name,
                platform: platform.clone(),
            };
            return self.admitted(&other, None, admitted.signature, location);
        }
        if locked.is_none() && self.locker.is_required() && is_mutable(&request.name) {
            let what = format!("the image {}", request.name);
            return Err(Error::NotLocked { what, location });
        }
        let locked = locked.or(admitted.digest);
        self.admitted(request, locked, admitted.signature, location)
    }

    /// Finds an image that may be used.
    fn admitted(
        &self,
        request: &ImageRequest,
        locked: Option<BlobDigest>,
        wanted: Option<RequiredSignature>,
        location: Option<Location>,
    ) -> Result<ResolvedImage, Error> {
        let guard = self.guard();
        let (name, platform) = (&request.name, &request.platform);
        let found = self.find(request, locked);
        let found = found.map_err(|source| Error::BaseImage {
            source: Box::new(source),
            location: location.clone(),
        })?;
        let digest = found.named.unwrap_or(found.manifest);
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.insert(request.clone(), digest);
        drop(digests);
        if let Some(rule) = self.locker.signature(&request.name) {
            self.verify(request, rule, self.directory, location.as_ref())?;
        }
        if let Some(wanted) = wanted
            && let Some(rule) = guard.unsigned(name, &digest, platform, &wanted)?
        {
            guard.refuse(name, rule, location.as_ref())?;
        }
        if let (None, Some(named)) = (locked, found.named) {
            self.locker.note_image(&request.name, named);
        }
        let config = self.checked(request, found.config, location)?;
        let source = ImageSource {
            name: match locked {
                Some(digest) => pinned(&request.name, digest),
                None => request.name.clone(),
            },
            manifest: found.manifest,
            layers: found.layers,
        };
        Ok(ResolvedImage {
            source,
            config,
            is_known: true,
        })
    }

    /// Pins what the steps of a build fetch by git and HTTP, and says whether it may be used.
    ///
    /// # Errors
    /// When a source can't be asked for, isn't locked and has to be, or may not be used.
    pub(crate) fn settle(&self, request: &mut Request) -> Result<(), Error> {
        self.locker.settle(self.engine, request)?;
        self.guard().build(&request.build, &mut request.pins)
    }

    pub(crate) fn guard(&self) -> SourceGuard<'_> {
        SourceGuard {
            engine: self.engine,
            rules: self.rules,
            check: self.source_check,
            events: &*self.events,
        }
    }

    /// The configuration, as far as it can be used.
    fn checked(
        &self,
        request: &ImageRequest,
        mut config: ImageConfig,
        location: Option<Location>,
    ) -> Result<ImageConfig, Error> {
        let dropped = config.check().map_err(|reason| Error::BaseImage {
            source: Box::new(ImageError::Document {
                image: request.name.clone(),
                reason: reason.to_string(),
            }),
            location,
        })?;
        if dropped > 0 {
            let message = format!(
                "{}: its configuration has {dropped} entries in Env that are no NAME=VALUE; they are left out",
                request.name
            );
            self.events.event(Event::Warning { message });
        }
        Ok(config)
    }

    fn find(
        &self,
        request: &ImageRequest,
        locked: Option<BlobDigest>,
    ) -> Result<Resolved, ImageError> {
        let wanted = |found: &Resolved| match locked {
            Some(digest) => found.named == Some(digest),
            None => self.pull != Pull::Always || is_in_no_registry(&request.name),
        };
        if let Some(found) = self.stored(request).filter(wanted) {
            return Ok(found);
        }
        let (images, platform) = (self.engine.images(), &request.platform);
        let name = match locked {
            Some(digest) => pinned(&request.name, digest),
            None => request.name.clone(),
        };
        if self.pull == Pull::Never {
            let noted = images.noted(&name, platform).ok().flatten();
            let image = request.name.clone();
            return noted.ok_or(ImageError::NotStored { image });
        }
        let found = self.engine.client().resolve(&name, platform)?;
        // What can't be noted isn't found with `Pull::Never`, and no worse.
        _ = images.note(&name, platform, &found);
        Ok(found)
    }

    /// An image that was built or loaded under this name, when everything it needs is here.
    fn stored(&self, request: &ImageRequest) -> Option<Resolved> {
        let found = self
            .engine
            .images()
            .stored(&request.name, &request.platform);
        found.ok()?
    }
}

/// Whether a name is of a host that can't be: `kiln bake` gives such names to what one target makes for
/// another (RFC 2606, section 2).
fn is_in_no_registry(name: &str) -> bool {
    let host = name.split(['/', ':']).next();
    host.is_some_and(|host| host.ends_with(".invalid"))
}

/// Compiles a Dockerfile, asking registries for the base images it needs; `images` keeps what is
/// found out, for a next call.
///
/// # Errors
/// When the file has a mistake, or an image can't be had.
pub fn compile_dockerfile(
    engine: &Engine,
    file: &Dockerfile,
    options: &Options,
    images: &mut ImageTable,
) -> Result<Compiled, Error> {
    let base = BaseImages {
        engine,
        pull: Pull::Missing,
        assume: Assume::Nothing,
        locker: &Locker::default(),
        given: &Given::default(),
        rules: &SourceRules::default(),
        source_check: None,
        events: Arc::new(|_| {}),
        directory: Path::new(""),
        digests: Mutex::default(),
    };
    base.compile(file, options, images)
}

fn pinned(name: &str, digest: BlobDigest) -> String {
    format!("{name}@{digest}")
}

fn assumed(request: &ImageRequest) -> ResolvedImage {
    let source = ImageSource {
        name: request.name.clone(),
        manifest: BlobDigest::from_sha256([0; 32]),
        layers: Vec::new(),
    };
    let config = ImageConfig::scratch(&request.platform);
    ResolvedImage {
        source,
        config,
        is_known: false,
    }
}
