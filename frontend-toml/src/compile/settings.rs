//! What a file says of where its images go: names, platforms, outputs, shared caches.

use std::collections::BTreeMap;
use std::rc::Rc;

use kiln_graph::{BadPlatform, Platform};

use super::compiler::{Compiler, View, unfilled};
use super::{Options, Settings, image};
use crate::error::{TomlError, Wrong};
use crate::model::{BuildFile, Image};
use crate::params;
use crate::suggest::did_you_mean;
use crate::template::{Scope, Unfilled};
use crate::text::{Name, Text};
use crate::value::Values;

impl Compiler<'_> {
    /// Notes where an image goes.
    pub(super) fn note_settings(
        &mut self,
        name: &Name,
        image: &Image,
        view: &View<'_>,
    ) -> Result<(), Wrong> {
        let mut view = view.clone();
        view.scope = view.scope.with_image(name.as_str());
        let settings = Settings {
            image: name.to_string(),
            tags: view.fill_all(&image.tags)?,
            outputs: view.fill_all(&image.outputs)?,
            cache_from: view.fill_all(&image.cache_from)?,
            cache_to: view.fill_all(&image.cache_to)?,
        };
        // Mistakes are found whether or not the command line says something else.
        all_platforms(image, &platform_scope(self.file, self.options, self.params))?;
        let before = self.settings.replace(settings.clone());
        match before.filter(|before| before.image == settings.image && *before != settings) {
            None => Ok(()),
            Some(_) => {
                let message = format!(
                    "the tags, outputs and caches of '{name}' must be the same for all its platforms: don't name platform.… in them"
                );
                Err(Wrong::at(name.span(), message))
            }
        }
    }
}

/// The platforms that the image wanted is built for: those of the file, else those of `options`.
///
/// # Errors
/// When the file has a mistake that can be seen by now.
pub fn platforms(file: &BuildFile, options: &Options) -> Result<Vec<Platform>, TomlError> {
    let found = params::values(file, &options.params).and_then(|params| {
        let target = image::target(file, options)?;
        let image = file.images.get(target.as_str());
        let scope = platform_scope(file, options, &params);
        image.map_or(Ok(Vec::new()), |image| all_platforms(image, &scope))
    });
    let found = found.map_err(|wrong| file.files.error(wrong))?;
    Ok(match found.is_empty() {
        true => options.platforms.clone(),
        false => found,
    })
}

/// What the names of platforms may be made of: not of themselves.
fn platform_scope<'a>(
    file: &'a BuildFile,
    options: &'a Options,
    params: &BTreeMap<String, String>,
) -> Scope<'a> {
    let build = &options.build_platform;
    let values = Rc::new(Values::new(file, &options.values));
    Scope::new(params, build, build, values).without("platform.")
}

fn all_platforms(image: &Image, scope: &Scope<'_>) -> Result<Vec<Platform>, Wrong> {
    let mut all = Vec::new();
    for text in &image.platforms {
        let platform = platform(text, scope)?;
        if !all.contains(&platform) {
            all.push(platform);
        }
    }
    Ok(all)
}

fn platform(text: &Text, scope: &Scope<'_>) -> Result<Platform, Wrong> {
    let filled = scope.fill(&text.value).map_err(|error| match error {
        Unfilled::Waits => Unfilled::from("a platform can't be what a step writes"),
        Unfilled::Wrong(message) => Unfilled::Wrong(message),
    });
    let filled = filled.map_err(|error| unfilled(text, error))?;
    let wrong = |message: String| Wrong::at(&text.span, message);
    let platform: Platform = filled
        .parse()
        .map_err(|error: BadPlatform| wrong(error.to_string()))?;
    match platform.unknown_part() {
        None => Ok(platform),
        Some((part, known)) => Err(wrong(format!(
            "no machine is known by '{part}'{}",
            did_you_mean(part, known.iter().copied())
        ))),
    }
}
