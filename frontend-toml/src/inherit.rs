//! `extends` and `[defaults]`: tables that have the keys of others, where they don't say otherwise.
//!
//! It is done with the tables as they are written, before they become steps and images: so a list
//! that is empty is told from one that isn't there, and every value keeps its place. A table's own
//! value counts first, then that of what it extends (the last one first), then that of its file's
//! defaults. Tables of names ([`JOINED`]) are joined, name by name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::error::Wrong;
use crate::limits::{MAX_EXTENDS, MAX_INHERITED};
use crate::model::{BuildFile, Image, Step};
use crate::suggest::did_you_mean;
use crate::text::Text;

/// Keys whose tables are joined.
const JOINED: [&str; 5] = ["env", "hosts", "labels", "limits", "policy"];

/// Keys that are of one table only.
const OWN: [&str; 3] = ["exports", "extends", "template"];

/// A key that takes another's value away.
const INSTEAD: [(&str, &str); 2] = [("run", "script"), ("script", "run")];

/// What is written about one step or image.
struct Entry<'t> {
    table: &'t DeTable<'t>,
    span: Range<usize>,
    /// What its file says for all of its kind.
    defaults: Option<&'t DeTable<'t>>,
}

/// The keys of a table and of all it extends, and how many extend each other for it in a row.
#[derive(Clone, Default)]
struct Extended<'t> {
    table: DeTable<'t>,
    depth: usize,
}

/// All entries that may extend each other.
struct Entries<'t> {
    /// What one is, in words.
    kind: &'static str,
    by_name: BTreeMap<&'t str, Entry<'t>>,
    /// Those whose `extends` has been followed.
    done: BTreeMap<&'t str, Extended<'t>>,
    /// Bytes that were inherited so far.
    inherited: usize,
}

/// Whether something in a file inherits from something else.
pub(crate) fn is_used(file: &BuildFile) -> bool {
    let mut steps = file.steps.values().chain(file.tests.values());
    file.defaults.is_some()
        || steps.any(|step| !step.extends.is_empty())
        || file.images.values().any(|image| !image.extends.is_empty())
}

/// Gives every step, test and image what it inherits. `texts` are the files, each behind as many
/// line feeds as [`crate::files::Files::add`] says.
pub(crate) fn resolve(file: &mut BuildFile, texts: &[String]) -> Result<(), Wrong> {
    let parsed = texts.iter().map(|text| DeTable::parse(text));
    let roots: Vec<Spanned<DeTable<'_>>> = parsed
        .collect::<Result<_, _>>()
        .map_err(|error| Wrong::whole(error.message()))?;
    let mut steps = Entries::of("step", &["steps", "tests"], &roots);
    for (name, step) in file.steps.iter_mut().chain(&mut file.tests) {
        *step = steps.step(name.as_str())?;
    }
    let mut images = Entries::of("image", &["images"], &roots);
    for (name, image) in &mut file.images {
        *image = images.image(name.as_str())?;
    }
    Ok(())
}

impl<'t> Entries<'t> {
    fn of(kind: &'static str, keys: &[&'static str], roots: &'t [Spanned<DeTable<'t>>]) -> Self {
        let mut by_name = BTreeMap::new();
        for root in roots.iter().map(Spanned::get_ref) {
            let defaults = table(root, "defaults").and_then(|all| table(all, kind));
            let tables = keys.iter().filter_map(|key| table(root, key));
            for (name, value) in tables.flatten() {
                if let DeValue::Table(table) = value.get_ref() {
                    let span = value.span();
                    let entry = Entry {
                        table,
                        span,
                        defaults,
                    };
                    by_name.insert(name.get_ref().as_ref(), entry);
                }
            }
        }
        Self {
            kind,
            by_name,
            done: BTreeMap::new(),
            inherited: 0,
        }
    }

    /// A step with all that it inherits, but for keys of commands when it has none.
    fn step(&mut self, name: &str) -> Result<Step, Wrong> {
        let mut whole = self.whole(name)?;
        let entry = &self.by_name[name];
        let step: Step = read(&whole, &entry.span)?;
        let useless = step.keys_without_command();
        let useless = useless.filter(|key| !entry.table.contains_key(*key));
        let useless: Vec<&str> = useless.collect();
        if useless.is_empty() {
            return Ok(step);
        }
        for key in useless {
            whole.remove(key);
        }
        read(&whole, &entry.span)
    }

    fn image(&mut self, name: &str) -> Result<Image, Wrong> {
        let whole = self.whole(name)?;
        read(&whole, &self.by_name[name].span)
    }

    /// All keys of a table.
    fn whole(&mut self, name: &str) -> Result<DeTable<'t>, Wrong> {
        let extended = self.extended(name, &mut Vec::new())?.table;
        let Some(entry) = self.by_name.get(name) else {
            return Ok(extended);
        };
        let Some(defaults) = entry.defaults else {
            return Ok(extended);
        };
        let span = entry.span.clone();
        let mut whole = defaults.clone();
        for key in OWN {
            whole.remove(key);
        }
        self.count(&whole, &span)?;
        lay_over(&mut whole, extended);
        Ok(whole)
    }

    /// The keys of a table and of all it extends. `way` are the tables that are being followed.
    fn extended(&mut self, name: &str, way: &mut Vec<&'t str>) -> Result<Extended<'t>, Wrong> {
        if let Some(done) = self.done.get(name) {
            return Ok(done.clone());
        }
        let Some((own, entry)) = self.by_name.get_key_value(name) else {
            return Ok(Extended::default());
        };
        let (own, table) = (*own, entry.table);
        way.push(own);
        let mut whole = Extended::default();
        for base in names(table, "extends") {
            self.check(&base, way)?;
            let mut other = self.extended(&base.value, way)?;
            whole.depth = whole.depth.max(other.depth + 1);
            if whole.depth > MAX_EXTENDS {
                return Err(too_deep(&base));
            }
            for key in OWN {
                other.table.remove(key);
            }
            self.count(&other.table, &base.span)?;
            lay_over(&mut whole.table, other.table);
        }
        way.pop();
        lay_over(&mut whole.table, table.clone());
        self.done.insert(own, whole.clone());
        Ok(whole)
    }

    /// Whether a name can be extended by the last of `way`.
    fn check(&self, base: &Text, way: &[&str]) -> Result<(), Wrong> {
        let (kind, name) = (self.kind, base.value.as_str());
        let message = match way.iter().position(|own| *own == name) {
            Some(first) => {
                let way = way[first..].join("' extends '");
                format!("the {kind} '{way}' extends '{name}': leave one of these out")
            }
            None if way.len() > MAX_EXTENDS => return Err(too_deep(base)),
            None if !self.by_name.contains_key(name) => {
                let hint = did_you_mean(name, self.by_name.keys().copied());
                format!("there is no {kind} '{name}' to extend{hint}")
            }
            None => return Ok(()),
        };
        Err(Wrong::at(&base.span, message))
    }

    fn count(&mut self, table: &DeTable<'_>, at: &Range<usize>) -> Result<(), Wrong> {
        self.inherited += size(table);
        match self.inherited <= MAX_INHERITED {
            true => Ok(()),
            false => Err(Wrong::at(
                at,
                format!("more than {MAX_INHERITED} bytes are inherited: extend less"),
            )),
        }
    }
}

fn too_deep(base: &Text) -> Wrong {
    let message = format!("more than {MAX_EXTENDS} extend each other in a row: leave some out");
    Wrong::at(&base.span, message)
}

/// A table's own keys, over others.
fn lay_over<'t>(whole: &mut DeTable<'t>, above: DeTable<'t>) {
    for (key, other) in INSTEAD {
        if above.contains_key(key) {
            whole.remove(other);
        }
    }
    for (key, value) in above {
        let is_joined = JOINED.contains(&key.get_ref().as_ref());
        let below = whole.get_mut(key.get_ref().as_ref());
        match (below.map(Spanned::get_mut), value.get_ref()) {
            (Some(DeValue::Table(below)), DeValue::Table(above)) if is_joined => {
                for (name, value) in above.clone() {
                    replace(below, name, value);
                }
            }
            _ => replace(whole, key, value),
        }
    }
}

/// Inserts a value with its key's place: a map keeps the key that it has.
fn replace<'t>(table: &mut DeTable<'t>, key: Spanned<Cow<'t, str>>, value: Spanned<DeValue<'t>>) {
    table.remove(key.get_ref().as_ref());
    table.insert(key, value);
}

fn read<T: DeserializeOwned>(table: &DeTable<'_>, span: &Range<usize>) -> Result<T, Wrong> {
    let value = Spanned::new(span.clone(), DeValue::Table(table.clone()));
    let read = T::deserialize(ValueDeserializer::from(value));
    // Each table was read by itself before, so only a defect leads here.
    read.map_err(|error| Wrong::at(&error.span().unwrap_or(span.clone()), error.message()))
}

fn table<'t>(of: &'t DeTable<'t>, key: &str) -> Option<&'t DeTable<'t>> {
    of.get(key)?.get_ref().as_table()
}

/// The texts of a list.
fn names(table: &DeTable<'_>, key: &str) -> Vec<Text> {
    let list = table.get(key).and_then(|value| value.get_ref().as_array());
    let text = |value: &Spanned<DeValue<'_>>| {
        Some(Text {
            value: value.get_ref().as_str()?.to_owned(),
            span: value.span(),
        })
    };
    list.into_iter()
        .flat_map(|list| list.iter())
        .filter_map(text)
        .collect()
}

/// About how many bytes a table takes as text.
fn size(table: &DeTable<'_>) -> usize {
    let pairs = table.iter();
    pairs
        .map(|(key, value)| key.get_ref().len() + value_size(value.get_ref()))
        .sum()
}

fn value_size(value: &DeValue<'_>) -> usize {
    match value {
        DeValue::String(text) => text.len(),
        DeValue::Array(list) => list
            .iter()
            .map(|value| 8 + value_size(value.get_ref()))
            .sum(),
        DeValue::Table(table) => size(table),
        _ => 8,
    }
}
