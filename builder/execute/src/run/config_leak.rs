//! Looks for secrets in what images say of themselves.

use kiln_cache::Store;
use kiln_graph::{Build, ImageConfig, LayerOrigin, Location, Op, Target};
use kiln_image::Manifest;

use super::leak::{Finder, Hit, found, unsearched};
use super::mask::Hidden;
use crate::EngineError;
use crate::document::document;
use crate::secret::{SecretProvider, unreadable};

/// The secrets that the steps of a build name.
fn named(build: &Build) -> Vec<&str> {
    let steps = build.graph.steps();
    let mounts = steps.filter_map(|(_, step)| match &step.op {
        Op::Exec(exec) => Some(exec.mounts.iter()),
        _ => None,
    });
    let mut ids: Vec<&str> = mounts
        .flatten()
        .filter_map(|mount| match &mount.kind {
            kiln_graph::MountKind::Secret(secret) => Some(secret.id.as_str()),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Searches the configurations and histories of the images that are wanted, for the secrets that are
/// at hand: nobody is asked for one that no step was given. What a base image says of itself already is
/// no leak.
///
/// # Errors
/// When one has a secret, or a secret can't be read.
pub fn check_configurations(
    build: &Build,
    given: &dyn SecretProvider,
    store: &Store,
) -> Result<(), EngineError> {
    let mut secrets = Vec::new();
    for id in named(build) {
        if !given.is_sensitive(id) {
            continue;
        }
        let value = given.at_hand(id);
        let value = value.map_err(unreadable(id, None))?;
        secrets.extend(value.map(|value| Hidden::new(id, value.expose())));
    }
    let Some(finder) = Finder::new(&secrets)? else {
        return Ok(());
    };
    for target in &build.targets {
        let Some(first) = leak(&finder, build, target)? else {
            continue;
        };
        let Some(base) = base_of(build, target, store)? else {
            return Err(first);
        };
        if let Some(finder) = Finder::new(&unknown(&secrets, &base)?)?
            && let Some(leak) = leak(&finder, build, target)?
        {
            return Err(leak);
        }
    }
    Ok(())
}

/// What an image that is wanted says of a secret.
fn leak(
    finder: &Finder,
    build: &Build,
    target: &Target,
) -> Result<Option<EngineError>, EngineError> {
    if let Some(hit) = finder.bytes(&text(&target.config)?) {
        let place = match instruction(finder, &target.config) {
            Some(instruction) => format!("the image's configuration ({instruction})"),
            None => "the image's configuration".to_owned(),
        };
        return Ok(Some(said(hit, &place, None)));
    }
    let mut lines = target.history.iter();
    let hit = lines.find_map(|line| Some((line, finder.bytes(line.created_by.as_bytes())?)));
    Ok(hit.map(|(line, hit)| {
        let step = match line.layer {
            LayerOrigin::Step(id) => Some(build.graph.step(id)),
            LayerOrigin::Base | LayerOrigin::None => None,
        };
        let location = step.and_then(|step| step.location.clone());
        said(hit, "the image's history", location)
    }))
}

/// The configuration of the image that a target is made on, when it is known.
fn base_of(
    build: &Build,
    target: &Target,
    store: &Store,
) -> Result<Option<ImageConfig>, EngineError> {
    let graph = &build.graph;
    let mut at = target.root;
    loop {
        let op = &graph.step(at).op;
        if let Op::Image(image) = op {
            let manifest = document::<Manifest>(store, &image.manifest)?;
            let config = manifest.map(|manifest| manifest.config.digest);
            return config.map_or(Ok(None), |config| document(store, &config));
        }
        match op.base() {
            Some(below) => at = graph.input(at, below),
            None => return Ok(None),
        }
    }
}

/// The secrets that an image doesn't tell.
fn unknown(secrets: &[Hidden], base: &ImageConfig) -> Result<Vec<Hidden>, EngineError> {
    let config = text(base)?;
    let mut left = Vec::new();
    for secret in secrets {
        let finder = Finder::new(std::slice::from_ref(secret))?;
        let tells = |finder: Finder| {
            let mut lines = base.history.iter().map(|line| line.created_by.as_bytes());
            finder.bytes(&config).is_some() || lines.any(|line| finder.bytes(line).is_some())
        };
        if !finder.is_some_and(tells) {
            left.push(secret.clone());
        }
    }
    Ok(left)
}

/// The instruction that has a secret, where its name is none.
fn instruction(finder: &Finder, config: &ImageConfig) -> Option<String> {
    let has = |text: &str| finder.bytes(text.as_bytes()).is_some();
    let env = config
        .config
        .env
        .iter()
        .filter_map(|own| own.split_once('='));
    let env = env.map(|(name, value)| ("ENV", name, value));
    let labels = config.config.labels.iter();
    let labels = labels.map(|(name, value)| ("LABEL", name.as_str(), value.as_str()));
    let mut all = env.chain(labels);
    let found = all.find(|(_, name, value)| has(value) && !has(name));
    found.map(|(kind, name, _)| format!("{kind} {name}"))
}

fn text(config: &ImageConfig) -> Result<Vec<u8>, EngineError> {
    let text = serde_json::to_vec(config);
    text.map_err(|error| unsearched("the image's configuration", &error))
}

/// A leak in what the build file says of an image.
fn said(hit: &Hit, place: &str, location: Option<Location>) -> EngineError {
    let mut leak = found(hit, place, None);
    if let EngineError::Leak { location: own, .. } = &mut leak {
        *own = location;
    }
    leak
}
