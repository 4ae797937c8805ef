//! One target: its attributes, evaluated, and how they are merged with those it inherits
//! (<https://docs.docker.com/build/bake/reference/#target>).

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};

/// What an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    /// Texts, or objects that stand for `KEY=VALUE,…`.
    List,
    /// Texts by name; a null stands for nothing.
    Map,
}

/// What happens to a list that a target has and inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    /// The target's own counts.
    Replace,
    /// Both, the target's own last.
    Append,
}

/// An attribute that targets have.
#[derive(Debug)]
struct Attribute {
    name: &'static str,
    kind: Kind,
    merge: Merge,
}

const fn attribute(name: &'static str, kind: Kind, merge: Merge) -> Attribute {
    Attribute { name, kind, merge }
}

/// All of them, in the order in which they are printed.
const ATTRIBUTES: &[Attribute] = &[
    attribute("annotations", Kind::List, Merge::Append),
    attribute("attest", Kind::List, Merge::Append),
    attribute("context", Kind::Text, Merge::Replace),
    attribute("contexts", Kind::Map, Merge::Append),
    attribute("dockerfile", Kind::Text, Merge::Replace),
    attribute("dockerfile-inline", Kind::Text, Merge::Replace),
    attribute("args", Kind::Map, Merge::Append),
    attribute("labels", Kind::Map, Merge::Append),
    attribute("tags", Kind::List, Merge::Replace),
    attribute("cache-from", Kind::List, Merge::Append),
    attribute("cache-to", Kind::List, Merge::Replace),
    attribute("target", Kind::Text, Merge::Replace),
    attribute("secret", Kind::List, Merge::Append),
    attribute("ssh", Kind::List, Merge::Append),
    attribute("platforms", Kind::List, Merge::Replace),
    attribute("output", Kind::List, Merge::Replace),
    attribute("pull", Kind::Flag, Merge::Replace),
    attribute("no-cache", Kind::Flag, Merge::Replace),
    attribute("network", Kind::Text, Merge::Replace),
    attribute("no-cache-filter", Kind::List, Merge::Append),
    attribute("shm-size", Kind::Text, Merge::Replace),
    attribute("ulimits", Kind::List, Merge::Append),
    attribute("call", Kind::Text, Merge::Replace),
    attribute("description", Kind::Text, Merge::Replace),
    attribute("entitlements", Kind::List, Merge::Append),
    attribute("extra-hosts", Kind::Map, Merge::Append),
];

fn find(name: &str) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|attribute| attribute.name == name)
}

/// Whether targets have such an attribute.
pub(crate) fn is_known(name: &str) -> bool {
    find(name).is_some()
}

/// Whether an attribute is a list.
pub(crate) fn is_list(name: &str) -> bool {
    find(name).is_some_and(|attribute| attribute.kind == Kind::List)
}

/// A target's attributes by their names. Serialized, it has the form of `docker buildx bake --print`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    attributes: Map<String, Value>,
}

impl Target {
    /// Adds an attribute as a file has it, evaluated; null is none, and so is one that isn't known.
    ///
    /// # Errors
    /// When its value is of another kind.
    pub(crate) fn add(&mut self, name: &str, value: Value) -> Result<(), String> {
        let Some(attribute) = find(name) else {
            return Ok(());
        };
        if !value.is_null() {
            let value = attribute.kind.convert(value);
            let value = value.map_err(|error| format!("{name}: {error}"))?;
            self.attributes.insert(name.to_owned(), value);
        }
        Ok(())
    }

    /// Adds another target's attributes, which win.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (name, value) in &other.attributes {
            self.merge_one(name, value.clone());
        }
    }

    /// Adds an attribute, which wins over the one that is there.
    pub(crate) fn merge_one(&mut self, name: &str, value: Value) {
        let merge = find(name).map_or(Merge::Replace, |attribute| attribute.merge);
        match (merge, self.attributes.get_mut(name), value) {
            (Merge::Append, Some(Value::Array(own)), Value::Array(new)) => own.extend(new),
            (Merge::Append, Some(Value::Object(own)), Value::Object(new)) => {
                own.extend(new.into_iter().filter(|(_, value)| !value.is_null()));
            }
            (_, _, value) => self.set(name, value),
        }
    }

    /// Replaces an attribute.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.attributes.insert(name.to_owned(), value);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.attributes.remove(name);
    }

    /// Adds an entry to a list.
    pub(crate) fn push(&mut self, name: &str, item: &str) {
        match self.attributes.get_mut(name) {
            Some(Value::Array(own)) => own.push(item.into()),
            _ => self.set(name, Value::Array(vec![item.into()])),
        }
    }

    /// Removes what is there twice, empty or null, and what says nothing.
    pub(crate) fn tidy(&mut self) {
        for (name, value) in &mut self.attributes {
            match value {
                Value::Array(items) if name == "attest" => last_of_each_type(items),
                Value::Array(items) => first_of_each(items),
                Value::Object(fields) => {
                    let is_context = name == "contexts";
                    fields.retain(|_, value| {
                        !(value.is_null() || is_context && value.as_str() == Some(""))
                    });
                }
                _ => {}
            }
        }
        self.attributes.retain(|_, value| match value {
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        });
    }

    /// An attribute's text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_str()
    }

    /// Whether an attribute is true.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.attributes.get(name) == Some(&Value::Bool(true))
    }

    /// An attribute's list, each entry as a flag of a build takes it: objects become
    /// `KEY=VALUE,…`, their type first.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.attributes.get(name) {
            Some(Value::Array(items)) => items.iter().map(spec).collect(),
            _ => Vec::new(),
        }
    }

    /// An attribute's pairs.
    #[must_use]
    pub fn pairs(&self, name: &str) -> Vec<(String, String)> {
        match self.attributes.get(name) {
            Some(Value::Object(fields)) => {
                let pair = |(name, value): (&String, &Value)| (name.clone(), spec(value));
                fields.iter().map(pair).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The targets whose results are contexts of this one, in the order of the contexts' names.
    pub fn links(&self) -> impl Iterator<Item = String> {
        let values = self.pairs("contexts").into_iter().map(|(_, value)| value);
        values.filter_map(|value| linked_target(&value).map(str::to_owned))
    }
}

/// The target that a context names: `target:NAME`, or `service:NAME` in a compose file.
#[must_use]
pub fn linked_target(context: &str) -> Option<&str> {
    context
        .strip_prefix("target:")
        .or(context.strip_prefix("service:"))
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for attribute in ATTRIBUTES {
            if let Some(value) = self.attributes.get(attribute.name) {
                map.serialize_entry(attribute.name, value)?;
            }
        }
        map.end()
    }
}

impl Kind {
    fn convert(self, value: Value) -> Result<Value, String> {
        match (self, value) {
            (Self::Text, value) => text(value),
            (Self::Flag, Value::Bool(flag)) => Ok(flag.into()),
            (Self::Flag, Value::String(text)) => match text.as_str() {
                "true" | "1" => Ok(true.into()),
                "false" | "0" => Ok(false.into()),
                other => Err(format!("'{other}' is not true or false")),
            },
            (Self::List, Value::Array(items)) => {
                let one = |item: Value| match item {
                    Value::Object(_) => Ok(item),
                    other => text(other),
                };
                Ok(Value::Array(
                    items.into_iter().map(one).collect::<Result<_, String>>()?,
                ))
            }
            (Self::Map, Value::Object(fields)) => {
                let one = |(name, value): (String, Value)| match value {
                    Value::Null => Ok((name, value)),
                    other => Ok((name, text(other)?)),
                };
                let fields = fields.into_iter().map(one).collect::<Result<_, String>>()?;
                Ok(Value::Object(fields))
            }
            (Self::Flag, other) => Err(format!("{other} is not true or false")),
            (Self::List, other) => Err(format!("{other} is not a list")),
            (Self::Map, other) => Err(format!("{other} is not an object")),
        }
    }
}

/// A text, or what stands for one.
fn text(value: Value) -> Result<Value, String> {
    match value {
        Value::String(_) => Ok(value),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string().into()),
        other => Err(format!("{other} is not a text")),
    }
}

fn first_of_each(items: &mut Vec<Value>) {
    let mut seen: Vec<Value> = Vec::new();
    items.retain(|item| {
        let is_new = item.as_str() != Some("") && !seen.contains(item);
        if is_new {
            seen.push(item.clone());
        }
        is_new
    });
}

/// The last attestation of each type counts, in the place of the first.
fn last_of_each_type(items: &mut Vec<Value>) {
    let kind = |item: &Value| {
        let own = spec(item);
        let named = own.split(',').find(|field| field.starts_with("type="));
        named.map(str::to_owned)
    };
    let mut kept: Vec<Value> = Vec::new();
    for item in items.drain(..) {
        match kept.iter_mut().find(|other| kind(other) == kind(&item)) {
            Some(other) => *other = item,
            None => kept.push(item),
        }
    }
    *items = kept;
}

fn spec(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
    };
    let kind = fields.get_key_value("type").into_iter();
    let rest = fields.iter().filter(|(name, _)| *name != "type");
    let given = kind.chain(rest).filter(|(_, value)| !value.is_null());
    let pairs = given.map(|(name, value)| format!("{name}={}", spec(value)));
    pairs.collect::<Vec<_>>().join(",")
}
