//! What the user can do about an error: in the words of this command, which the library doesn't know.

use std::path::Path;

use kiln::{Error, ImageError, Location, Prepared, StoreError, Texts};
use kiln_engine::{EngineError, FilesError, Needed};
use kiln_frontend_dockerfile::ast::Kind;
use kiln_graph::Op;
use kiln_graph::pattern::Matcher;
use kiln_sandbox::SandboxError;

/// A sentence to go with any error; `texts` are the build files that were read.
pub(crate) fn of(error: &Error, texts: &Texts) -> Option<String> {
    match error {
        Error::Image(source) | Error::Engine(EngineError::Image(source)) => of_image(source),
        Error::BaseImage { source, .. } => {
            stage(&image_of(source)?, texts).or_else(|| of_image(source))
        }
        Error::NotGiven { name, .. } => Some(format!(
            "give it with --build-context NAME={name} and FROM NAME, or allow what is in its directory with --allow fs.read=DIR"
        )),
        Error::NotLocked { .. } => Some("run 'kiln lock', or build without --locked".to_owned()),
        Error::NoName => Some("give -t NAME".to_owned()),
        Error::Sandbox(SandboxError::NoMounts(_)) => Some(
            "run it as root, or inside of 'unshare --user --map-root-user --mount', or give the command that needs the files ('-- COMMAND'); 'kiln image unpack' writes the files instead".to_owned(),
        ),
        Error::NotMounted { .. } => Some("'kiln image mount' lists what is mounted".to_owned()),
        Error::MountedElsewhere { .. } => Some(
            "if that namespace has ended, --forget drops what was changed in the image".to_owned(),
        ),
        Error::NoSuchStep { .. } => Some("'kiln steps' lists them".to_owned()),
        Error::NoBuildFile { .. } => {
            Some("give another file with -f, or let 'kiln init' write one".to_owned())
        }
        Error::Engine(EngineError::NotAllowed(refused)) => {
            let entitlement = refused.entitlement;
            Some(format!("give --allow {entitlement} if you trust this step"))
        }
        Error::Engine(EngineError::NotGiven { what, .. }) => Some(match what {
            Needed::Context(name) => format!("give --build-context {name}=DIRECTORY"),
            Needed::Secret(id) => format!("give --secret id={id},src=FILE"),
            Needed::Agent(id) => format!("give --ssh {id}"),
        }),
        Error::Engine(EngineError::Checksum(_)) => Some(
            "if the file has changed rightly, change --checksum, or run 'kiln lock --update'"
                .to_owned(),
        ),
        Error::Engine(EngineError::Leak { secret, name, .. }) => Some(match name.as_str() {
            "" => format!("if everybody may know it, give --secret id={secret},…,sensitive=false"),
            _ => "if it belongs there, give --allow-secret-in PATH".to_owned(),
        }),
        Error::Store(StoreError::Damaged(_))
        | Error::Engine(EngineError::Store(StoreError::Damaged(_))) => Some(
            "'kiln fsck --repair' removes what is damaged; 'kiln prune --all' starts afresh"
                .to_owned(),
        ),
        _ => None,
    }
}

fn of_image(error: &ImageError) -> Option<String> {
    match error {
        ImageError::PlainHttp { host, .. } => Some(format!(
            "if that registry has no TLS, say so in kiln.conf ([registries.\"{host}\"] http = true), or for this command with --tls-verify=false"
        )),
        ImageError::Certificate { host, .. } => Some(format!(
            "name its authority in kiln.conf ([registries.\"{host}\"] ca = \"FILE\"), or for this command with --cert-dir DIRECTORY; --tls-verify=false checks nothing"
        )),
        ImageError::NotStored { image } => Some(format!(
            "--pull=never keeps registries from being asked; 'kiln image pull {image}' brings it here"
        )),
        _ => None,
    }
}

/// The image that can't be had.
fn image_of(error: &ImageError) -> Option<String> {
    match error {
        ImageError::NotFound { image, .. }
        | ImageError::Denied { image, .. }
        | ImageError::Unreachable { image, .. }
        | ImageError::NotStored { image } => Some(image.clone()),
        _ => None,
    }
}

/// The image that an error says can't be had.
pub(super) fn missing_image(error: &Error) -> Option<String> {
    match error {
        Error::Image(source) | Error::Engine(EngineError::Image(source)) => image_of(source),
        Error::BaseImage { source, .. } => image_of(source),
        _ => None,
    }
}

/// The stage whose name is nearly that of an image: `COPY --from=bulider`.
fn stage(image: &str, texts: &Texts) -> Option<String> {
    let (file, _) = kiln_frontend_dockerfile::parse_partial("", texts.main());
    let stages = file
        .instructions
        .iter()
        .filter_map(|line| match &line.kind {
            Kind::From(from) => from.name.clone(),
            _ => None,
        });
    // As the build file has it: without what makes it the name of an image.
    let last = image.rsplit('/').next()?;
    let name = last.split([':', '@']).next()?;
    let near = nearest(name, stages)?;
    Some(format!("did you mean the stage {near}?"))
}

/// The name that is nearest to another, when it is near.
pub(crate) fn nearest(name: &str, all: impl Iterator<Item = String>) -> Option<String> {
    let distance = |other: &String| strsim::damerau_levenshtein(name, other);
    let best = all.min_by_key(distance)?;
    let most = if name.chars().count() < 4 { 1 } else { 2 };
    (distance(&best) <= most).then_some(best)
}

/// A sentence that needs the compiled build.
pub(super) fn of_build(error: &Error, prepared: &Prepared) -> Option<String> {
    match error {
        Error::Engine(EngineError::Files {
            source: FilesError::NotFound(path),
            ..
        }) => missing_file(path, prepared),
        _ => None,
    }
}

/// Where the build file asks for a download that failed, which the error itself doesn't say.
pub(super) fn place(error: &Error, prepared: &Prepared) -> Option<Location> {
    let (Error::Engine(EngineError::Image(source)), None) = (error, error.location()) else {
        return None;
    };
    let image = image_of(source)?;
    let steps = prepared.compiled.build.graph.steps();
    let mut wanted = steps.filter(|(_, step)| match &step.op {
        Op::Http(http) => http.url == image,
        Op::Image(base) => base.name == image,
        _ => false,
    });
    wanted.next()?.1.location.clone()
}

/// Why a file of the build context isn't there.
fn missing_file(path: &str, prepared: &Prepared) -> Option<String> {
    let context = prepared.directories.get("context")?;
    let inside = path.trim_start_matches('/');
    if context.join(inside).symlink_metadata().is_ok() {
        let patterns = prepared.options.ignore.get("context")?;
        let pattern = hiding(patterns, inside)?;
        return Some(format!(
            "{inside} is in the build context, but .dockerignore leaves it out ('{pattern}'): add '!{inside}' there"
        ));
    }
    let near = near(context, inside)?;
    Some(format!("did you mean {near}?"))
}

/// The last pattern of an ignore list that hides a path.
fn hiding<'a>(patterns: &'a [String], path: &str) -> Option<&'a str> {
    let shown = patterns.iter().rev();
    let mut own = shown.filter(|pattern| !pattern.starts_with('!'));
    let hides = |pattern: &&String| {
        let list = Matcher::new(std::slice::from_ref(*pattern));
        list.is_ok_and(|list| list.excludes(path.as_bytes()))
    };
    own.find(hides).map(String::as_str)
}

/// The name in the same directory that is nearest to a path's.
fn near(context: &Path, path: &str) -> Option<String> {
    let path = Path::new(path);
    let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
    let names = std::fs::read_dir(context.join(parent)).ok()?;
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let best = nearest(name, names)?;
    Some(parent.join(best).display().to_string())
}

/// Build arguments that no line of the build file declares, each with what was probably meant.
pub(super) fn unused_arguments(given: &[String], prepared: &Prepared) -> Vec<String> {
    let Some(file) = &prepared.file else {
        return Vec::new();
    };
    let lines = file.instructions.iter();
    let args = lines.filter_map(|line| match &line.kind {
        Kind::Arg(args) => Some(args),
        // What a trigger says counts in another build.
        _ => None,
    });
    let args = args.flatten().map(|(name, _)| name.clone());
    let own = prepared.compiled.outline.args.iter();
    let declared: Vec<String> = args.chain(own.map(|arg| arg.name.clone())).collect();
    let is_known = |name: &&String| {
        kiln_graph::PROXIES.contains(&name.as_str())
            || name.starts_with("BUILDKIT_")
            || *name == "SOURCE_DATE_EPOCH"
            || declared.contains(name)
    };
    let unused = given.iter().filter(|name| !is_known(name));
    let say = |name: &String| match nearest(name, declared.iter().cloned()) {
        Some(near) => format!("--build-arg {name}: no ARG has this name; did you mean {near}?"),
        None => format!("--build-arg {name}: no ARG has this name"),
    };
    unused.map(say).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_stages_are_found() {
        let texts = Texts::of("FROM a AS builder\nFROM b AS test\nCOPY --from=bulider x y\n");
        for (image, near) in [
            ("docker.io/library/bulider:latest", Some("builder")),
            ("bulider", Some("builder")),
            ("docker.io/library/tset:latest", Some("test")),
            ("docker.io/library/debian:latest", None),
        ] {
            let hint = stage(image, &texts);
            let want = near.map(|near| format!("did you mean the stage {near}?"));
            assert_eq!(hint, want, "{image}");
        }
    }

    #[test]
    fn short_names_are_less_alike() {
        let near = |name: &str, other: &str| nearest(name, std::iter::once(other.to_owned()));
        assert_eq!(near("ab", "cd"), None);
        assert_eq!(near("app", "apt").as_deref(), Some("apt"));
        assert_eq!(near("verison", "version").as_deref(), Some("version"));
    }
}
