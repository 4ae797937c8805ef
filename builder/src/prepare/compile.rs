//! From a build file's text to a graph.

use kiln_engine::{Engine, Pins};
use kiln_frontend_dockerfile::{ImageTable, Outcome, check, parse_partial};
use kiln_frontend_toml::Settings;

use super::epoch::Epochs;
use super::{CheckedFile, Located, Opened, Prepared};
use crate::build_file::base_image::BaseImages;
use crate::build_file::{Texts, kiln_toml};
use crate::context::Given;
use crate::lock::Locker;
use crate::{Assume, DockerfileRequest, Error};

impl Opened {
    /// Looks for what is wrong with a Dockerfile.
    ///
    /// # Errors
    /// When the lock can't be read, or an image can't be had that has to be.
    pub fn check(
        &self,
        engine: &Engine,
        request: &DockerfileRequest,
    ) -> Result<CheckedFile, Located> {
        let texts = Texts::of(self.text.as_str());
        let located = |error: Error| Box::new((error, texts.clone()));
        let locker = self.locker(request).map_err(located)?;
        let given = Given::of(request);
        let images = BaseImages::new(engine, request, &given, &locker, self.directory());
        let mut options = self.options_for(request);
        let (file, unread) = parse_partial(&options.file_name, &self.text);
        let epochs = self.epochs(request, &images);
        epochs.fix(&mut options, Some(&file)).map_err(located)?;
        let checked = images.check(&file, unread.as_ref(), &options);
        Ok(CheckedFile {
            checked: checked.map_err(located)?,
            file_name: options.file_name,
            texts: texts.clone(),
        })
    }

    /// Compiles the file, resolving its base images and pinned sources by `locker`.
    ///
    /// # Errors
    /// When the file has a mistake, or something it needs can't be had or isn't locked and has to be.
    pub fn compile(
        &self,
        engine: &Engine,
        request: &DockerfileRequest,
        locker: &Locker,
    ) -> Result<Prepared, Located> {
        let given = Given::of(request);
        let images = BaseImages::new(engine, request, &given, locker, self.directory());
        let mut prepared = match self.is_toml() {
            true => self.compile_toml(request, &images)?,
            false => self.compile_dockerfile(request, &images)?,
        };
        let mut build = prepared.request();
        match locker.settle(engine, &mut build) {
            Ok(()) => prepared.pins = build.pins,
            Err(error) => return Err(Box::new((error, prepared.texts))),
        }
        if request.assume_images == Assume::Nothing {
            let allowed = images.guard().build(&build.build, &mut prepared.pins);
            allowed.map_err(|error| Box::new((error, prepared.texts.clone())))?;
        }
        Ok(prepared)
    }

    /// What `SOURCE_DATE_EPOCH` may name.
    fn epochs<'a>(
        &'a self,
        request: &'a DockerfileRequest,
        images: &'a BaseImages<'a>,
    ) -> Epochs<'a> {
        Epochs {
            request,
            images,
            times: &self.contexts.times,
        }
    }

    fn compile_toml(
        &self,
        request: &DockerfileRequest,
        images: &BaseImages<'_>,
    ) -> Result<Prepared, Located> {
        let mut options = self.options_for(request);
        let mut texts = Texts::of(self.text.as_str());
        let epochs = self.epochs(request, images);
        let fixed = epochs.fix(&mut options, None);
        fixed.map_err(|error| Box::new((error, texts.clone())))?;
        let main = &self.contexts.directories["context"];
        let read = kiln_toml::read(images, request, &options, main, &mut texts);
        let read = read.map_err(|error| Box::new((error, texts.clone())))?;
        options.platforms = read.platforms;
        let directories = self.contexts.directories.clone();
        Ok(Prepared {
            allowed: request.allowed.clone(),
            texts,
            file: None,
            options,
            compiled: read.compiled,
            layers: read.layers,
            policy: read.policy,
            settings: read.settings,
            directories: directories.into_iter().chain(read.directories).collect(),
            pins: Pins::default(),
            kept: self
                .contexts
                .kept
                .iter()
                .cloned()
                .chain(read.kept)
                .collect(),
        })
    }

    fn compile_dockerfile(
        &self,
        request: &DockerfileRequest,
        images: &BaseImages<'_>,
    ) -> Result<Prepared, Located> {
        let located = |error: Error| Box::new((error, Texts::of(self.text.as_str())));
        let mut options = self.options_for(request);
        let (file, unread) = parse_partial(&options.file_name, &self.text);
        if let Some(error) = unread {
            let checked = check(&file, Some(&error), &options, &ImageTable::new());
            let warnings = match checked {
                Outcome::Done(checked) => checked.warnings,
                Outcome::Needs(_) => Vec::new(),
            };
            return Err(located(error.after(&warnings).into()));
        }
        let epochs = self.epochs(request, images);
        epochs.fix(&mut options, Some(&file)).map_err(located)?;
        let compiled = images.compile(&file, &options, &mut ImageTable::new());
        Ok(Prepared {
            allowed: request.allowed.clone(),
            texts: Texts::of(self.text.as_str()),
            file: Some(file),
            options,
            compiled: compiled.map_err(located)?,
            layers: Vec::new(),
            policy: None,
            settings: Settings::default(),
            directories: self.contexts.directories.clone(),
            pins: Pins::default(),
            kept: self.contexts.kept.clone(),
        })
    }
}
