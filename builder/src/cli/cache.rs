//! `--cache-from` and `--cache-to`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use indicatif::HumanBytes;
use kiln_cache::remote::{CacheSigner, CacheTrust, FolderRemote, Remote, S3Remote};
use kiln_engine::{CacheSource, Engine, EventSink, RegistryRemote, Solved, Volumes};
use kiln_graph::{MountKind, Op};

use super::cache_spec::{Place, Spec, read};
use super::say;
use crate::Error;

/// One `--cache-to`.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    spec: Spec,
    signer: Option<CacheSigner>,
}

fn open(place: &Place, engine: &Engine) -> Arc<dyn Remote> {
    match place {
        Place::Folder(folder) => Arc::new(FolderRemote::new(folder.clone())),
        Place::Registry(reference) => Arc::new(RegistryRemote::new(
            engine.client().clone(),
            reference.clone(),
        )),
        Place::S3(settings) => Arc::new(S3Remote::new(settings.clone())),
    }
}

/// What `--cache-from` names.
pub(crate) fn sources(
    engine: &Engine,
    specs: &[String],
    trusted: &[String],
) -> Result<Vec<CacheSource>, Error> {
    let mut trust = CacheTrust::default();
    for key in trusted {
        let wrong = |error| Error::Usage(format!("--cache-trust {key}: {error}"));
        trust.add(key).map_err(wrong)?;
    }
    let source = |spec: &String| {
        let spec = read("--cache-from", spec)?;
        let mut source = CacheSource::new(open(&spec.place, engine), trust.clone());
        source.volumes = spec.volumes;
        Ok(source)
    };
    specs.iter().map(source).collect()
}

/// What `--cache-to` names.
pub(crate) fn targets(specs: &[String], key: Option<&Path>) -> Result<Vec<Target>, Error> {
    let signer = key.map(signer).transpose()?;
    let target = |spec: &String| {
        Ok(Target {
            spec: read("--cache-to", spec)?,
            signer: signer.clone(),
        })
    };
    specs.iter().map(target).collect()
}

fn signer(path: &Path) -> Result<CacheSigner, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        what: format!("cannot read {}", path.display()),
        source,
    })?;
    CacheSigner::new(&text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

/// A place as people write it: a spec, a folder, or an image's name.
pub(crate) fn spec(text: &str) -> String {
    let is_folder = text.starts_with(['/', '.']) || Path::new(text).is_dir();
    match is_folder {
        true => format!("type=local,src={text}"),
        false => text.to_owned(),
    }
}

/// The remote at a place.
pub(crate) fn place(engine: &Engine, text: &str) -> Result<Arc<dyn Remote>, Error> {
    Ok(open(&read("volume", &spec(text))?.place, engine))
}

/// The volumes that a build's steps keep, of those that are wanted.
fn volumes_of<'a>(solved: &'a Solved, wanted: &Volumes) -> BTreeSet<&'a str> {
    let steps = solved.build().graph.steps();
    let mounts = steps.filter_map(|(_, step)| match &step.op {
        Op::Exec(exec) => Some(&exec.mounts),
        _ => None,
    });
    let names = mounts.flatten().filter_map(|mount| match &mount.kind {
        MountKind::Cache(cache) => Some(cache.id.as_str()),
        _ => None,
    });
    names.filter(|name| wanted.has(name)).collect()
}

/// Sends what the remotes lack. A good build never fails by it, unless the user wants that.
pub(crate) fn export(
    engine: &Engine,
    solved: &Solved,
    targets: &[Target],
    events: &dyn EventSink,
) -> Result<(), Error> {
    for Target {
        spec: target,
        signer,
    } in targets
    {
        let remote = open(&target.place, engine);
        let signer = signer.as_ref();
        match solved.export_cache(&*remote, target.mode, signer, events) {
            Ok(sent) => say(&format!(
                "cache {}: {} new results, {} sent",
                remote.name(),
                sent.steps,
                HumanBytes(sent.bytes)
            )),
            Err(error) if target.ignore_error => {
                say(&format!(
                    "WARNING: the build's results are not shared: {error}"
                ));
            }
            Err(error) => return Err(error.into()),
        }
        for name in volumes_of(solved, &target.volumes) {
            match engine.export_volume(name, &*remote, signer) {
                Ok(sent) => say(&format!("volume {name}: {} sent", HumanBytes(sent.sent))),
                Err(error) if target.ignore_error => {
                    say(&format!(
                        "WARNING: the volume {name} is not shared: {error}"
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
