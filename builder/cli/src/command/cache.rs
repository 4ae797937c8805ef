//! `--cache-from` and `--cache-to`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::human::format_size;
use kiln_engine::{
    CacheSource, CacheTarget, Engine, EngineError, InlineCache, InlineRemote, RegistryRemote,
    Solved, Volumes,
};
use kiln_graph::{CacheMount, MountKind, Op};
use kiln_share::{CacheSigner, CacheTrust, DirectoryRemote, GhaRemote, Remote, S3Settings};

use super::cache_spec::{Place, Spec, Wanted, hidden, read};
use super::say;
use kiln::{Error, file_text};

/// Shared caches as somebody writes them.
pub(crate) struct Specs<'a> {
    /// How messages about them begin: the flag, or the build file and its key.
    pub(super) what: String,
    /// Where relative paths begin.
    pub(super) directory: PathBuf,
    pub(super) texts: &'a [String],
}

impl<'a> Specs<'a> {
    /// Those of a flag.
    pub(super) fn of_flag(flag: &str, texts: &'a [String]) -> Self {
        Self {
            what: flag.to_owned(),
            directory: PathBuf::new(),
            texts,
        }
    }

    /// What one of them says.
    pub(super) fn read(&self, text: &str) -> Result<Wanted, Error> {
        let mut wanted = read(&self.what, text)?;
        if let Wanted::Place(spec) = &mut wanted
            && let Place::Directory(directory) = &mut spec.place
        {
            *directory = self.directory.join(&*directory);
        }
        Ok(wanted)
    }

    /// Says that a cache is left out, as buildx leaves it out.
    fn left_out(&self, text: &str, reason: &str) {
        let spec = hidden(text);
        say(&format!(
            "WARNING: {} {spec} is left out: {reason}",
            self.what
        ));
    }

    fn wrong(&self, text: &str, reason: &str) -> Error {
        Error::Usage(format!("{} {}: {reason}", self.what, hidden(text)))
    }
}

/// One `--cache-to`.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    spec: Spec,
    signer: Option<CacheSigner>,
}

/// All of `--cache-to`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    remotes: Vec<Target>,
    /// Whether the image carries a cache itself.
    pub(crate) inline: Option<InlineCache>,
}

fn open(place: &Place, engine: &Engine) -> Result<Arc<dyn Remote>, Error> {
    let client = || engine.client().clone();
    Ok(match place {
        Place::Directory(directory) => Arc::new(DirectoryRemote::new(directory.clone())),
        Place::Registry(name) => Arc::new(RegistryRemote::new(client(), name.clone())),
        Place::S3(settings) => open_s3(settings)?,
        Place::Gha(settings) => Arc::new(GhaRemote::new(client(), settings.clone())),
        #[cfg(feature = "reapi")]
        Place::Reapi(settings) => Arc::new(kiln_cluster::ReapiRemote::new(settings.clone())),
        Place::Inline(name) => Arc::new(InlineRemote::new(client(), name.clone())),
    })
}

fn open_s3(settings: &S3Settings) -> Result<Arc<dyn Remote>, Error> {
    kiln_share::s3_remote(settings).ok_or_else(|| {
        Error::Usage(format!(
            "{settings}: this kiln was built without S3: use a release, or build kiln with '--features s3'"
        ))
    })
}

/// What `--cache-from` names. A name in a registry is looked up as a cache, then as an image that
/// carries one.
pub(crate) fn sources(
    engine: &Engine,
    specs: &Specs<'_>,
    trusted: &[String],
) -> Result<Vec<CacheSource>, Error> {
    let mut trust = CacheTrust::default();
    for key in trusted {
        let wrong = |error| Error::Usage(format!("--cache-trust {key}: {error}"));
        trust.add(key).map_err(wrong)?;
    }
    let mut sources = Vec::new();
    for text in specs.texts {
        let spec = match specs.read(text)? {
            Wanted::Place(spec) => spec,
            Wanted::Inline => return Err(specs.wrong(text, "ref=IMAGE is missing")),
            Wanted::Elsewhere(reason) => {
                specs.left_out(text, &reason);
                continue;
            }
        };
        let mut source = CacheSource::new(open(&spec.place, engine)?, trust.clone());
        source.volumes = spec.volumes;
        sources.push(source);
        if let Place::Registry(name) = spec.place {
            let image = Place::Inline(name);
            sources.push(CacheSource::new(open(&image, engine)?, trust.clone()));
        }
    }
    Ok(sources)
}

/// What `--cache-to` names.
pub(crate) fn targets(specs: &Specs<'_>, key: Option<&Path>) -> Result<Targets, Error> {
    let signer = key.map(signer).transpose()?;
    let mut targets = Targets::default();
    for text in specs.texts {
        let signer = signer.clone();
        match specs.read(text)? {
            Wanted::Inline => targets.inline = Some(InlineCache { signer }),
            Wanted::Elsewhere(reason) => specs.left_out(text, &reason),
            Wanted::Place(spec) if matches!(spec.place, Place::Inline(_)) => {
                let reason = "the image that is built carries it, so there is no ref=";
                return Err(specs.wrong(text, reason));
            }
            Wanted::Place(spec) => targets.remotes.push(Target {
                spec: *spec,
                signer,
            }),
        }
    }
    Ok(targets)
}

fn signer(path: &Path) -> Result<CacheSigner, Error> {
    let text = file_text(path)?;
    CacheSigner::new(&text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

/// A place as people write it: a spec, a directory, or an image's name.
pub(crate) fn spec(text: &str) -> String {
    let is_directory = text.starts_with(['/', '.']) || Path::new(text).is_dir();
    match is_directory {
        true => format!("type=local,src={text}"),
        false => text.to_owned(),
    }
}

/// The remote at a place.
pub(crate) fn place(engine: &Engine, text: &str) -> Result<Arc<dyn Remote>, Error> {
    match read("volume", &spec(text))? {
        Wanted::Place(spec) => open(&spec.place, engine),
        Wanted::Inline => Err(Error::Usage("an image carries no volumes".to_owned())),
        Wanted::Elsewhere(reason) => Err(Error::Usage(format!("{}: {reason}", hidden(text)))),
    }
}

/// The volumes that a build's steps keep, of those that are wanted.
fn volumes_of<'a>(solved: &'a Solved, wanted: &Volumes) -> BTreeMap<String, &'a CacheMount> {
    let steps = solved.build().graph.steps();
    let mounts = steps.flat_map(|(id, step)| {
        let mounts = match &step.op {
            Op::Exec(exec) => exec.mounts.as_slice(),
            _ => &[],
        };
        mounts.iter().map(move |mount| (id, &mount.kind))
    });
    let caches = mounts.filter_map(|(step, kind)| match kind {
        MountKind::Cache(cache) => Some((step, cache)),
        _ => None,
    });
    caches
        .filter(|(_, cache)| wanted.has(&cache.id))
        .map(|(step, cache)| (solved.volume_name(step, cache), cache))
        .collect()
}

/// The remotes that the steps' results are sent to while the build goes on.
///
/// # Errors
/// When this build of the command doesn't know how to reach one.
pub(crate) fn cache_to(engine: &Engine, targets: &Targets) -> Result<Vec<CacheTarget>, Error> {
    let target = |target: &Target| {
        Ok(CacheTarget {
            remote: open(&target.spec.place, engine)?,
            mode: target.spec.mode,
            signer: target.signer.clone(),
        })
    };
    targets.remotes.iter().map(target).collect()
}

/// Waits until the remotes have what they lacked. A good build never fails by it, unless the user
/// wants that.
pub(crate) fn finish(engine: &Engine, solved: &mut Solved, targets: &Targets) -> Result<(), Error> {
    let exported = solved.exported();
    for (target, sent) in targets.remotes.iter().zip(exported) {
        let remote = open(&target.spec.place, engine)?;
        let done = sent.map(|sent| {
            let bytes = format_size(sent.bytes);
            say(&format!(
                "cache {}: {} new results, {bytes} sent",
                remote.name(),
                sent.steps
            ));
        });
        tolerated(target, "the build's results are", done)?;
        for (name, cache) in volumes_of(solved, &target.spec.volumes) {
            let own = solved.keyed_volume_name(&name, cache);
            let signer = target.signer.as_ref();
            let mut sent = engine.export_volume(&own, &*remote, signer);
            if own != name {
                // The newest is found by its name alone; its pieces are there already.
                sent = sent.and(engine.export_volume_as(&own, &name, &*remote, signer));
            }
            let done = sent.map(|sent| {
                say(&format!("volume {name}: {} sent", format_size(sent.sent)));
            });
            tolerated(target, &format!("the volume {name} is"), done)?;
        }
    }
    Ok(())
}

/// A failure of a remote, made a warning where it may be one.
fn tolerated(target: &Target, what: &str, done: Result<(), EngineError>) -> Result<(), Error> {
    match done {
        Err(error) if target.spec.ignore_error => {
            say(&format!("WARNING: {what} not shared: {error}"));
            Ok(())
        }
        other => Ok(other?),
    }
}
