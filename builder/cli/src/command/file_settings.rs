//! What a kiln.toml says of where its image goes, as far as the command line says nothing else and
//! lets it: a build file may be a stranger's.

use std::path::{Component, Path, PathBuf};

use kiln::output::{self, Output};
use kiln::{CacheSource, Engine, Error, Prepared};
use kiln_graph::Entitlements;
use kiln_image::Reference;

use super::build_args::{BuildArgs, image_name};
use super::cache::{self, Specs, Targets};
use super::cache_spec::{Place, Wanted};
use super::say;

/// A build file's settings, and what they may do.
#[derive(Clone, Copy)]
pub(super) struct FileSettings<'a> {
    args: &'a BuildArgs,
    prepared: &'a Prepared,
    allowed: &'a Entitlements,
}

impl<'a> FileSettings<'a> {
    pub(super) fn new(
        args: &'a BuildArgs,
        prepared: &'a Prepared,
        allowed: &'a Entitlements,
    ) -> Self {
        Self {
            args,
            prepared,
            allowed,
        }
    }

    /// How messages begin.
    fn what(&self, key: &str) -> String {
        let file = &self.prepared.options.file_name;
        format!(
            "{file}: {key} of the image '{}':",
            self.prepared.settings.image
        )
    }

    /// The image's names.
    pub(super) fn tags(&self) -> Result<Vec<Reference>, Error> {
        let what = self.what("tags");
        let tags = self.prepared.settings.tags.iter();
        tags.map(|text| image_name(&what, text)).collect()
    }

    /// Where the image goes besides the store.
    pub(super) fn outputs(&self) -> Result<Vec<Output>, Error> {
        let texts = self.prepared.settings.outputs.iter();
        let outputs: Vec<Output> = texts
            .map(|text| self.output(text))
            .collect::<Result<_, _>>()?;
        output::check(&outputs)?;
        Ok(outputs)
    }

    fn output(&self, text: &str) -> Result<Output, Error> {
        let what = self.what("outputs");
        let wrong = |reason: &str| Error::Usage(format!("{what} {text}: {reason}"));
        let output: Output = text.parse().map_err(|error: String| wrong(&error))?;
        if output.pushes() || output.loads() {
            return Err(wrong(
                "whether an image is pushed or loaded is said on the command line: --push, --load",
            ));
        }
        let Some(dest) = output.dest() else {
            return Ok(output);
        };
        if dest == Path::new("-") {
            return Err(wrong(
                "what is written to standard output is said on the command line",
            ));
        }
        let dest = self.directory().join(dest);
        let real = real(&dest).ok_or_else(|| wrong("the path can't be followed"))?;
        if !self.allowed.may_write(&real) {
            let directory = dest.parent().unwrap_or(&dest);
            let directory = match directory.as_os_str().is_empty() {
                true => Path::new("."),
                false => directory,
            };
            return Err(wrong(&format!(
                "a build file writes nowhere by itself: allow it with --allow fs.write={}, or give -o",
                directory.display()
            )));
        }
        Ok(output.with_dest(real))
    }

    /// Where relative paths begin: at the context, if that is a directory of this machine.
    fn directory(&self) -> PathBuf {
        let context = Path::new(&self.args.source.context);
        match context.is_dir() && context != Path::new(".") {
            true => context.to_owned(),
            false => PathBuf::new(),
        }
    }

    /// The shared caches that the file names, if they are allowed and the command line names none.
    pub(super) fn cache_from(&self, engine: &Engine) -> Result<Option<Vec<CacheSource>>, Error> {
        let own = &self.prepared.settings.cache_from;
        let Some(specs) = self.caches("cache_from", own, &self.args.cache_from) else {
            return Ok(None);
        };
        check_directories(&specs, "fs.read", |path| self.allowed.may_read(path))?;
        cache::sources(engine, &specs, &self.args.cache_trust).map(Some)
    }

    /// The same of those that are written.
    pub(super) fn cache_to(&self) -> Result<Option<Targets>, Error> {
        let own = &self.prepared.settings.cache_to;
        let Some(specs) = self.caches("cache_to", own, &self.args.cache_to) else {
            return Ok(None);
        };
        check_directories(&specs, "fs.write", |path| self.allowed.may_write(path))?;
        cache::targets(&specs, self.args.cache_sign_key.as_deref()).map(Some)
    }

    /// The shared caches under a key of the file, unless the flags name some; says so if they are left
    /// out because nobody allowed them.
    fn caches(&self, key: &str, texts: &'a [String], flags: &[String]) -> Option<Specs<'a>> {
        if texts.is_empty() || !flags.is_empty() {
            return None;
        }
        let what = self.what(key);
        if !self.allowed.cache {
            say(&format!(
                "WARNING: {what} shared caches of a build file are used only with --allow cache"
            ));
            return None;
        }
        Some(Specs {
            what,
            directory: self.directory(),
            texts,
        })
    }
}

/// Caches in directories need the user's word for these.
fn check_directories(
    specs: &Specs<'_>,
    entitlement: &str,
    may: impl Fn(&Path) -> bool,
) -> Result<(), Error> {
    for text in specs.texts {
        let Wanted::Place(spec) = specs.read(text)? else {
            continue;
        };
        let Place::Directory(directory) = &spec.place else {
            continue;
        };
        if !real(directory).is_some_and(|real| may(&real)) {
            return Err(Error::Usage(format!(
                "{} {text}: allow it with --allow {entitlement}={}",
                specs.what,
                directory.display()
            )));
        }
    }
    Ok(())
}

/// A path without links, of something that need not be there.
pub(super) fn real(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let mut missing = Vec::new();
    let mut there = absolute.as_path();
    loop {
        // A link to nothing would be followed by whoever writes there.
        if there.symlink_metadata().is_ok() {
            let mut real = there.canonicalize().ok()?;
            real.extend(missing.iter().rev());
            return Some(real);
        }
        match there.components().next_back()? {
            Component::Normal(name) => missing.push(name.to_owned()),
            _ => return None,
        }
        there = there.parent()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_say() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        let at = |name: &str| top.join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::os::unix::fs::symlink("/etc", at("etc")).unwrap();
        std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
        for (path, want) in [
            ("d", Some(at("d"))),
            ("d/new/file", Some(at("d/new/file"))),
            ("etc/new", Some("/etc/new".into())),
            ("d/../etc/x", Some("/etc/x".into())),
            ("none/../../x", None),
            ("dangling", None),
            ("dangling/x", None),
        ] {
            assert_eq!(real(&at(path)), want, "{path}");
        }
    }
}
