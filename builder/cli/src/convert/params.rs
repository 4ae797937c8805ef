//! ARG: which arguments become parameters, and which are taken at their default.

use std::collections::{BTreeMap, BTreeSet};

use kiln_frontend_dockerfile::ast::{Dockerfile, Kind};

use super::text::{list, placeholder, quote};

/// What becomes of a file's arguments.
#[derive(Default)]
pub(super) struct Params {
    /// Parameters and their defaults.
    pub(super) defaults: BTreeMap<String, String>,
    /// What compilation is told: placeholders.
    pub(super) values: BTreeMap<String, String>,
    /// What the language can't say.
    pub(super) marks: Vec<String>,
}

/// What the file says of one argument.
#[derive(Default)]
struct Said {
    defaults: BTreeSet<String>,
    in_stage: bool,
    in_from: bool,
}

const PLATFORM: &[(&str, &str)] = &[
    ("TARGETOS", "platform.os"),
    ("TARGETARCH", "platform.arch"),
    ("TARGETVARIANT", "platform.variant"),
    ("BUILDOS", "build.os"),
    ("BUILDARCH", "build.arch"),
    ("BUILDVARIANT", "build.variant"),
];

impl Params {
    pub(super) fn of(file: &Dockerfile) -> Self {
        let mut params = Self::default();
        for (name, said) in said(file) {
            if let Some((_, own)) = PLATFORM.iter().find(|(known, _)| *known == name) {
                if !said.in_from && !is_edited(file, &name) {
                    params.values.insert(name, placeholder(own));
                }
                continue;
            }
            if is_predefined(&name) {
                continue;
            }
            match refusal(file, &name, &said) {
                Some(reason) => params.marks.push(format!("ARG {name}: {reason}")),
                None => params.add(&name, &said),
            }
        }
        params
    }

    fn add(&mut self, name: &str, said: &Said) {
        let default = said.defaults.first().cloned().unwrap_or_default();
        self.defaults.insert(name.to_owned(), default);
        if !said.in_from {
            let value = placeholder(&format!("params.{name}"));
            self.values.insert(name.to_owned(), value);
        }
    }

    /// Takes the arguments at their defaults, because something can't be compiled without.
    pub(super) fn fixed(mut self, name: &str) -> Self {
        if self.defaults.remove(name).is_some() {
            let reason = "its value decides how other instructions are read; its default is taken";
            self.marks.push(format!("ARG {name}: {reason}"));
        }
        self.values.remove(name);
        self
    }

    /// An image's name in FROM with placeholders, and with defaults.
    pub(super) fn in_from(&self, text: &str) -> Option<(String, String)> {
        let (mut named, mut plain) = (text.to_owned(), text.to_owned());
        for (name, default) in &self.defaults {
            for written in [format!("${{{name}}}"), format!("${name}")] {
                named = named.replace(&written, &placeholder(&format!("params.{name}")));
                plain = plain.replace(&written, default);
            }
        }
        (!named.contains('$')).then_some((named, plain))
    }

    pub(super) fn write(&self, out: &mut String) {
        for (name, default) in &self.defaults {
            let default = quote(default);
            out.push_str(&format!("\n[params.{name}]\ndefault = {default}\n"));
        }
    }
}

fn said(file: &Dockerfile) -> BTreeMap<String, Said> {
    let mut all: BTreeMap<String, Said> = BTreeMap::new();
    let mut in_stage = false;
    for instruction in &file.instructions {
        match &instruction.kind {
            Kind::From(_) => in_stage = true,
            Kind::Arg(args) => {
                for (name, default) in args {
                    let said = all.entry(name.clone()).or_default();
                    said.in_stage |= in_stage;
                    said.defaults
                        .extend(default.clone().map(|text| unquoted(&text)));
                }
            }
            _ => {}
        }
    }
    for (name, said) in &mut all {
        let froms = file.instructions.iter();
        let mut froms = froms.filter(|each| matches!(each.kind, Kind::From(_)));
        said.in_from = froms.any(|from| uses(&from.text, name));
    }
    all
}

/// Why an argument can't be a parameter.
fn refusal(file: &Dockerfile, name: &str, said: &Said) -> Option<String> {
    let fixed = "its default is taken";
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(is_name) || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Some(format!("this is no name for a parameter; {fixed}"));
    }
    let Some(default) = said.defaults.first() else {
        let text =
            "without a default it is unset unless it is given, but a parameter must be given";
        return Some(format!("{text}; it is left out"));
    };
    if said.defaults.len() > 1 {
        let all = list(&said.defaults);
        return Some(format!(
            "it has several defaults ({all}); each is taken in its place"
        ));
    }
    if default.contains(['$', '\\', '"', '\'', '`']) || default.is_empty() {
        return Some(format!("its default is no plain text; {fixed}"));
    }
    if is_edited(file, name) {
        return Some(format!(
            "${{{name}:…}} can't be said with a parameter; {fixed}"
        ));
    }
    (said.in_from && said.in_stage)
        .then(|| format!("it is used in FROM and inside of a stage; {fixed}"))
}

/// Whether an instruction other than RUN, whose shell does it, uses more than the bare value.
fn is_edited(file: &Dockerfile, name: &str) -> bool {
    let start = format!("${{{name}");
    let own = file.instructions.iter();
    own.filter(|each| !matches!(each.kind, Kind::Run(_)))
        .any(|each| {
            let after = each.text.split(&start).skip(1);
            after
                .into_iter()
                .any(|rest| rest.starts_with([':', '-', '+', '?', '#', '%', '/']))
        })
}

fn uses(text: &str, name: &str) -> bool {
    let mut after = text.split('$').skip(1);
    after.any(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        &rest[..end] == name
    })
}

fn is_predefined(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let starts = ["BUILDKIT_", "TARGET", "BUILDPLATFORM", "SOURCE_DATE_EPOCH"];
    lower.ends_with("_proxy") || starts.iter().any(|start| name.starts_with(start))
}

fn unquoted(text: &str) -> String {
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    inner.unwrap_or(text).to_owned()
}
