//! `--cache-from` and `--cache-to`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::HumanBytes;
use kiln_cache::remote::{CacheSigner, CacheTrust, FolderRemote, Remote};
use kiln_engine::{CacheMode, CacheSource, Engine, EventSink, RegistryRemote, Solved, Volumes};
use kiln_graph::{MountKind, Op};
use kiln_image::Reference;

use super::say;
use crate::Error;

/// Where a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    Registry(Reference),
}

/// One `--cache-to`.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    place: Place,
    mode: CacheMode,
    ignore_error: bool,
    volumes: Volumes,
    signer: Option<CacheSigner>,
}

fn open(place: &Place, engine: &Engine) -> Arc<dyn Remote> {
    match place {
        Place::Folder(folder) => Arc::new(FolderRemote::new(folder.clone())),
        Place::Registry(reference) => Arc::new(RegistryRemote::new(
            engine.client().clone(),
            reference.clone(),
        )),
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
        let target = read("--cache-from", spec)?;
        let mut source = CacheSource::new(open(&target.place, engine), trust.clone());
        source.volumes = target.volumes;
        Ok(source)
    };
    specs.iter().map(source).collect()
}

/// What `--cache-to` names.
pub(crate) fn targets(specs: &[String], key: Option<&Path>) -> Result<Vec<Target>, Error> {
    let signer = key.map(signer).transpose()?;
    let target = |spec: &String| {
        Ok(Target {
            signer: signer.clone(),
            ..read("--cache-to", spec)?
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

/// `type=local,src=FOLDER`, `type=registry,ref=NAME`, or a name alone.
fn read(flag: &str, spec: &str) -> Result<Target, Error> {
    let wrong = |reason: String| Error::Usage(format!("{flag} {spec}: {reason}"));
    let name = |text: &str| {
        let reference = text.parse::<Reference>();
        reference
            .map(Place::Registry)
            .map_err(|error| wrong(error.to_string()))
    };
    let (mut kind, mut place) = (None, None);
    let mut target = Target {
        place: Place::Folder(PathBuf::new()),
        mode: CacheMode::Min,
        ignore_error: true,
        volumes: Volumes::None,
        signer: None,
    };
    for field in spec.split(',') {
        match field.split_once('=') {
            None => place = Some(name(field)?),
            Some(("type", "local" | "registry")) => kind = Some(field),
            Some(("type", other)) => {
                return Err(wrong(format!("type '{other}': use local or registry")));
            }
            Some(("src" | "dest", folder)) => place = Some(Place::Folder(folder.into())),
            Some(("ref", text)) => place = Some(name(text)?),
            Some(("mode", "min")) => target.mode = CacheMode::Min,
            Some(("mode", "max")) => target.mode = CacheMode::Max,
            Some(("ignore-error", value)) => target.ignore_error = value != "false",
            Some(("volumes", "all")) => target.volumes = Volumes::All,
            Some(("volumes", names)) => {
                let names = names.split('+').map(str::to_owned);
                target.volumes = Volumes::Named(names.collect());
            }
            Some((key, _)) => {
                return Err(wrong(format!(
                    "unknown key '{key}': use type, src, dest, ref, mode, volumes or ignore-error"
                )));
            }
        }
    }
    let fits = |place: &Place| match kind {
        Some("type=local") => matches!(place, Place::Folder(_)),
        Some(_) => matches!(place, Place::Registry(_)),
        None => true,
    };
    target.place = place
        .filter(fits)
        .ok_or_else(|| wrong("write type=local,src=FOLDER or type=registry,ref=NAME".to_owned()))?;
    Ok(target)
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
    for target in targets {
        let remote = open(&target.place, engine);
        let signer = target.signer.as_ref();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let place = |spec| read("--cache-to", spec).map(|target| target.place).ok();
        assert_eq!(place("type=local,dest=a"), Some(Place::Folder("a".into())));
        let registry = place("type=registry,ref=r.example/a:b");
        assert!(matches!(registry, Some(Place::Registry(_))));
        assert_eq!(place("r.example/a:b"), registry);
        assert_eq!(
            read("--cache-to", "type=local,dest=a,mode=max")
                .unwrap()
                .mode,
            CacheMode::Max
        );
        for wrong in [
            "type=local",
            "type=gha",
            "type=registry,dest=a",
            "type=local,to=a",
        ] {
            assert!(read("--cache-to", wrong).is_err(), "{wrong}");
        }
    }
}
