//! Bake files as they stand: blocks with expressions that are still to be evaluated.

use hcl::expr::{Expression, TemplateExpr};
use hcl::{Block, Body, Structure};
use serde_json::Value;

use crate::target::is_known;
use crate::validation::{Validation, unsupported};
use crate::{BakeError, Source};

/// A name with the expressions of its attributes, in the order written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, Expression)>,
}

impl Named {
    /// The expression of an attribute.
    pub(crate) fn attribute(&self, key: &str) -> Option<&Expression> {
        let mut all = self.attributes.iter();
        all.find(|(own, _)| own == key).map(|(_, value)| value)
    }
}

/// A function that a file defines.
#[derive(Clone, Debug)]
pub(crate) struct UserFunction {
    pub(crate) name: String,
    pub(crate) params: Vec<String>,
    /// The parameter that takes all further arguments as a list.
    pub(crate) variadic: Option<String>,
    pub(crate) result: Expression,
}

/// The blocks that are understood.
const KINDS: [&str; 4] = ["variable", "function", "group", "target"];

/// The attributes that blocks have, besides those of targets that are evaluated for all.
const VARIABLE: &[&str] = &["default", "description", "type", "validation"];
const FUNCTION: &[&str] = &["params", "result", "variadic_param", "variadic_params"];
const GROUP: &[&str] = &["description", "matrix", "name", "targets"];
const TARGET: &[&str] = &["inherits", "matrix", "name"];

/// All blocks of all files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    /// Variables with their defaults, and plain attributes, which are variables as well.
    pub(crate) variables: Vec<(String, Option<Expression>)>,
    pub(crate) validations: Vec<Validation>,
    pub(crate) functions: Vec<UserFunction>,
    pub(crate) groups: Vec<Named>,
    pub(crate) targets: Vec<Named>,
    /// What is ignored.
    pub(crate) warnings: Vec<String>,
}

impl Document {
    pub(crate) fn add(&mut self, source: &Source) -> Result<(), BakeError> {
        let wrong = |reason: String| BakeError(format!("{}: {reason}", source.name));
        if source.name.ends_with(".json") {
            let value: Value =
                serde_json::from_str(&source.text).map_err(|error| wrong(error.to_string()))?;
            return self.add_json(&value).map_err(wrong);
        }
        let body: Body = hcl::parse(&source.text).map_err(|error| {
            let text = error.to_string();
            wrong(text.trim_start_matches(" --> ").to_owned())
        })?;
        for structure in body {
            match structure {
                Structure::Attribute(attribute) => {
                    let name = attribute.key().to_owned();
                    self.set_variable(&name, Some(attribute.expr().clone()));
                }
                // Newer versions have more kinds of blocks, and a misspelt one is one more.
                Structure::Block(block) if !KINDS.contains(&block.identifier()) => {
                    let kind = block.identifier();
                    let text = format!(
                        "{}: blocks '{kind}' are not known, and ignored",
                        source.name
                    );
                    self.warnings.push(text);
                }
                Structure::Block(block) => self.add_block(&block).map_err(wrong)?,
            }
        }
        Ok(())
    }

    fn set_variable(&mut self, name: &str, value: Option<Expression>) {
        match self.variables.iter_mut().find(|(own, _)| own == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn add_block(&mut self, block: &Block) -> Result<(), String> {
        let kind = block.identifier();
        let [label] = block.labels() else {
            return Err(format!("a block '{kind}' needs one name"));
        };
        let name = label.as_str().to_owned();
        let attributes = attributes(block.body());
        self.add_named(kind, Named { name, attributes })
    }

    fn add_named(&mut self, kind: &str, named: Named) -> Result<(), String> {
        match kind {
            "variable" => {
                refuse_others(kind, &named, VARIABLE)?;
                self.set_validations(&named)?;
                let default = named.attribute("default").cloned();
                self.set_variable(&named.name, default);
            }
            "function" => {
                refuse_others(kind, &named, FUNCTION)?;
                let function = function(&named)?;
                self.functions.retain(|own| own.name != function.name);
                self.functions.push(function);
            }
            "group" => {
                self.warn_of_others(kind, &named, |key| GROUP.contains(&key));
                merge(&mut self.groups, named);
            }
            // Several with one name are merged when they are evaluated.
            "target" => {
                self.warn_of_others(kind, &named, |key| TARGET.contains(&key) || is_known(key));
                self.targets.push(named);
            }
            _ => {}
        }
        Ok(())
    }

    /// The last block of a variable counts.
    fn set_validations(&mut self, named: &Named) -> Result<(), String> {
        self.validations.retain(|own| own.variable != named.name);
        for (key, blocks) in &named.attributes {
            if key == "validation" {
                let read = Validation::read(&named.name, blocks)?;
                self.validations.extend(read);
            }
        }
        Ok(())
    }

    /// Attributes that newer versions may have are ignored, as buildx ignores them, but not silently.
    fn warn_of_others(&mut self, kind: &str, named: &Named, is_known: impl Fn(&str) -> bool) {
        let others = named.attributes.iter().filter(|(key, _)| !is_known(key));
        let name = &named.name;
        self.warnings.extend(
            others.map(|(key, _)| format!("{kind} {name}: '{key}' is not known, and ignored")),
        );
    }

    fn add_json(&mut self, value: &Value) -> Result<(), String> {
        let Value::Object(top) = value else {
            return Err("an object is needed".to_owned());
        };
        for (kind, value) in top {
            if !KINDS.contains(&kind.as_str()) {
                self.set_variable(kind, Some(expression(value)));
                continue;
            }
            for blocks in one_or_many(value) {
                self.add_json_blocks(kind, blocks)?;
            }
        }
        Ok(())
    }

    fn add_json_blocks(&mut self, kind: &str, blocks: &Value) -> Result<(), String> {
        let Value::Object(blocks) = blocks else {
            return Err(format!("{kind}: an object is needed"));
        };
        for (name, bodies) in blocks {
            for body in one_or_many(bodies) {
                let Value::Object(body) = body else {
                    return Err(format!("{kind} {name}: an object is needed"));
                };
                let attributes = body
                    .iter()
                    .map(|(key, value)| (key.clone(), expression(value)));
                let attributes = attributes.collect();
                let name = name.clone();
                self.add_named(kind, Named { name, attributes })?;
            }
        }
        Ok(())
    }
}

/// Refuses what a block doesn't have, as buildx does.
fn refuse_others(kind: &str, named: &Named, known: &[&str]) -> Result<(), String> {
    let mut keys = named.attributes.iter().map(|(key, _)| key.as_str());
    match keys.find(|key| !known.contains(key)) {
        Some(key) => Err(format!("{kind} {}: {}", named.name, unsupported(key))),
        None => Ok(()),
    }
}

/// Adds a block, or attributes to the block that has the name already.
fn merge(all: &mut Vec<Named>, new: Named) {
    let Some(old) = all.iter_mut().find(|old| old.name == new.name) else {
        all.push(new);
        return;
    };
    for (key, value) in new.attributes {
        match old.attributes.iter_mut().find(|(own, _)| *own == key) {
            Some((_, own)) => *own = value,
            None => old.attributes.push((key, value)),
        }
    }
}

/// What a JSON file writes once, or several times in a list.
fn one_or_many(value: &Value) -> &[Value] {
    value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn function(named: &Named) -> Result<UserFunction, String> {
    let missing = || format!("function {}: 'result' is missing", named.name);
    Ok(UserFunction {
        name: named.name.clone(),
        params: named
            .attribute("params")
            .map(identifiers)
            .unwrap_or_default(),
        variadic: named
            .attribute("variadic_params")
            .or_else(|| named.attribute("variadic_param"))
            .map(identifiers)
            .and_then(|names| names.into_iter().next()),
        result: named.attribute("result").cloned().ok_or_else(missing)?,
    })
}

/// Names written as `[a, b]`, `["a", "b"]` or `a`.
fn identifiers(expression: &Expression) -> Vec<String> {
    match expression {
        Expression::Array(items) => items.iter().flat_map(identifiers).collect(),
        Expression::String(text) => vec![text.clone()],
        Expression::Variable(name) => vec![name.as_str().to_owned()],
        _ => Vec::new(),
    }
}

/// The attributes of a body; a block in it is an object, and several of one kind are a list.
fn attributes(body: &Body) -> Vec<(String, Expression)> {
    let mut all: Vec<(String, Expression)> = body
        .attributes()
        .map(|attribute| (attribute.key().to_owned(), attribute.expr().clone()))
        .collect();
    for block in body.blocks() {
        let inner = attributes(block.body());
        let object = inner
            .into_iter()
            .map(|(key, value)| (hcl::expr::ObjectKey::from(key), value))
            .collect();
        all.push((block.identifier().to_owned(), Expression::Object(object)));
    }
    all
}

/// A JSON value; its strings are templates.
fn expression(value: &Value) -> Expression {
    match value {
        Value::Null => Expression::Null,
        Value::Bool(value) => Expression::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Expression::from(whole),
            (None, Some(float)) => Expression::from(float),
            (None, None) => Expression::Null,
        },
        Value::String(text) if text.contains("${") || text.contains("%{") => {
            Expression::from(TemplateExpr::QuotedString(text.clone()))
        }
        Value::String(text) => Expression::String(text.clone()),
        Value::Array(items) => Expression::Array(items.iter().map(expression).collect()),
        Value::Object(fields) => Expression::Object(
            fields
                .iter()
                .map(|(key, value)| (hcl::expr::ObjectKey::from(key.as_str()), expression(value)))
                .collect(),
        ),
    }
}
