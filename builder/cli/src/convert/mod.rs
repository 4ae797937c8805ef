//! From a Dockerfile to an equivalent kiln.toml.
//!
//! The Dockerfile is compiled, and its graph is written down: so the steps have the same keys. Its
//! arguments are placeholders meanwhile, which end as `{{ params.NAME }}` wherever they get to.

mod graph;
mod image;
mod mounts;
mod params;
mod source;
mod step;
mod text;

use kiln_engine::Engine;
use kiln_frontend_dockerfile::ast::{Dockerfile, Kind};
use kiln_frontend_dockerfile::{Compiled, ImageTable, Options, parse};
use kiln_frontend_toml as toml_frontend;

use graph::Converter;
use image::Image;
use kiln::{Error, compile_dockerfile};
use params::Params;

/// A kiln.toml made of a Dockerfile.
#[derive(Clone, Debug)]
pub(crate) struct Converted {
    /// The file.
    pub(crate) text: String,
    /// How many `# by hand: ` comments it has: what the language can't say.
    pub(crate) marks: usize,
}

/// Writes a Dockerfile as a kiln.toml.
///
/// # Errors
/// When the Dockerfile can't be read or compiled, or a base image can't be had.
pub(crate) fn convert(engine: &Engine, options: &Options, text: &str) -> Result<Converted, Error> {
    let file = parse(&options.file_name, text)?;
    let mut images = ImageTable::new();
    let mut compile = |params: &Params| {
        let mut options = options.clone();
        for (name, value) in &params.values {
            options
                .build_args
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        compile_dockerfile(engine, &file, &options, &mut images)
    };
    let (params, compiled) = with_placeholders(Params::of(&file), &mut compile)?;
    let mut text = write(&file, &params, &compiled, &images);
    if let Some(error) = unreadable(&text, options) {
        let error = error.replace('\n', " ");
        text.insert_str(
            0,
            &format!("# by hand: kiln doesn't read this file: {error}\n"),
        );
    }
    let text = toml_frontend::format(&text).unwrap_or(text);
    let marks = text.lines().filter(|line| line.starts_with("# by hand: "));
    let marks = marks.count();
    Ok(Converted { text, marks })
}

/// As many placeholders as the file compiles with.
fn with_placeholders(
    mut params: Params,
    compile: &mut dyn FnMut(&Params) -> Result<Compiled, Error>,
) -> Result<(Params, Compiled), Error> {
    if let Ok(compiled) = compile(&params) {
        return Ok((params, compiled));
    }
    let names: Vec<String> = params.values.keys().cloned().collect();
    for name in names {
        let mut alone = Params::default();
        let value = params.values.get(&name).cloned().unwrap_or_default();
        alone.values.insert(name.clone(), value);
        if compile(&alone).is_err() {
            params = params.fixed(&name);
        }
    }
    let compiled = compile(&params)?;
    Ok((params, compiled))
}

fn write(file: &Dockerfile, params: &Params, compiled: &Compiled, images: &ImageTable) -> String {
    let mut out = String::new();
    let unused = unused_stages(file, compiled);
    for mark in params.marks.iter().chain(&unused) {
        out.push_str(&format!("# by hand: {mark}\n"));
    }
    out.push_str("version = 1\n");
    params.write(&mut out);
    let Some(target) = compiled.build.targets.first() else {
        return out;
    };
    let graph = &compiled.build.graph;
    let mut all = Converter::new(graph, target.root, file, images, params);
    all.walk();
    all.sort();
    out.push_str(&all.sources);
    for step in &all.steps {
        step.write(&mut out);
    }
    let name = all.take("app");
    let base = all.base_config(all.root);
    let from = all.names.get(&all.root).cloned().unwrap_or_default();
    Image::of(target, &base).write(&name, &from, &mut out);
    image::layers(&name, &target.history, &all.names, &mut out);
    out
}

/// Stages that the image isn't made of.
fn unused_stages(file: &Dockerfile, compiled: &Compiled) -> Vec<String> {
    let stages = file
        .instructions
        .iter()
        .filter_map(|each| match &each.kind {
            Kind::From(from) => Some(from.name.clone()),
            _ => None,
        });
    let named = stages
        .enumerate()
        .map(|(n, name)| name.unwrap_or_else(|| n.to_string()));
    let is_used = |name: &String| {
        let mut used = compiled.used_stages.iter();
        used.any(|used| used.eq_ignore_ascii_case(name))
    };
    let unused = named.filter(|name| !is_used(name));
    let text = "isn't part of the image: convert it by itself with --target";
    unused
        .map(|name| format!("the stage {name} {text}"))
        .collect()
}

/// Why kiln doesn't read a file, if it doesn't.
fn unreadable(text: &str, options: &Options) -> Option<String> {
    let none = |_: &toml_frontend::Included<'_>| Err(String::new());
    let told = toml_frontend::Options {
        platforms: options.platforms.clone(),
        build_platform: options.build_platform.clone(),
        ..toml_frontend::Options::default()
    };
    let file = match toml_frontend::parse("kiln.toml", text, &none) {
        Ok(file) => file,
        Err(error) => return Some(error.to_string()),
    };
    let compiled = toml_frontend::compile(&file, &told, &ImageTable::new());
    compiled.err().map(|error| error.to_string())
}
