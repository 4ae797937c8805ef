//! From a folder with a kiln.toml to a compiled build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_engine::Engine;
use kiln_frontend_dockerfile::{Compiled, Options};
use kiln_frontend_toml as toml_frontend;
use kiln_graph::{ImageRequest, ImageTable};

use crate::dockerfile::{ask, resolve_all};
use crate::{DockerfileRequest, Error, PathRule};

/// The build, its layers by path, and the folders it names.
type Read = (Compiled, Vec<PathRule>, BTreeMap<String, PathBuf>);

/// Compiles a kiln.toml, asking about base images.
pub(crate) fn read(
    engine: &Engine,
    request: &DockerfileRequest,
    options: &Options,
    context: &Path,
    text: &str,
) -> Result<Read, Error> {
    let include = |path: &str| {
        let bytes = crate::inside::read(context, Path::new(path));
        let bytes = bytes.map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|error| error.to_string())
    };
    let file = toml_frontend::parse(&options.file_name, text, &include)?;
    let told = toml_frontend::Options {
        params: options.build_args.clone(),
        target: options.target.clone(),
        platforms: options.platforms.clone(),
        build_platform: options.build_platform.clone(),
        ignore: options.ignore.get("context").cloned().unwrap_or_default(),
        labels: options.labels.clone(),
    };
    let mut images = ImageTable::new();
    loop {
        match toml_frontend::compile(&file, &told, &images)? {
            toml_frontend::Outcome::Needs(requests) => {
                let ask = |image: &ImageRequest| ask(engine, request, image);
                for (image, found) in resolve_all(&ask, requests) {
                    images.insert(image, found?);
                }
            }
            toml_frontend::Outcome::Done(compiled) => return finish(*compiled, context),
        }
    }
}

fn finish(compiled: toml_frontend::Compiled, context: &Path) -> Result<Read, Error> {
    let mut folders = BTreeMap::new();
    for (name, folder) in compiled.folders {
        let path = context.join(&folder);
        let is_inside = |path: &PathBuf| {
            let (path, context) = (path.canonicalize().ok()?, context.canonicalize().ok()?);
            Some(path.is_dir() && path.starts_with(context))
        };
        if is_inside(&path) != Some(true) {
            let text = format!("the source '{name}': there is no folder {folder} in the context");
            return Err(toml_frontend::TomlError::whole(text).into());
        }
        folders.insert(name, path);
    }
    let rule = |rule: toml_frontend::LayerRule| PathRule {
        name: rule.name,
        paths: rule.paths,
    };
    let layers = compiled.layers.into_iter().map(rule).collect();
    let compiled = Compiled {
        build: compiled.build,
        warnings: Vec::new(),
        warnings_are_errors: false,
        used_stages: Vec::new(),
    };
    Ok((compiled, layers, folders))
}
