//! Evaluates what bake files define: variables first, then groups, then targets.

use hcl::expr::Expression;

use crate::BakeError;
use crate::document::{Document, Named};
use crate::environment::Lookup;
use crate::function::shown;
use crate::overrides::flag;
use crate::project::Project;
use crate::scope::Scope;
use crate::target::{Target, is_known};

/// How many targets a matrix may make.
const MAX_COMBINATIONS: usize = 1000;

/// Adds what files define to a project.
pub(crate) fn evaluate(
    project: &mut Project,
    document: Document,
    env: Lookup<'_>,
) -> Result<(), BakeError> {
    let mut scope = Scope::new(document.functions).map_err(BakeError)?;
    let own = [
        ("BAKE_CMD_CONTEXT", "cwd://".to_owned()),
        ("BAKE_LOCAL_PLATFORM", local_platform()),
    ];
    for (name, value) in own {
        scope.vars.insert(name.to_owned(), value.into());
    }
    variables(&mut scope, &document.variables, env)?;
    for validation in &document.validations {
        let wrong = |error| BakeError(format!("variable {}: {error}", validation.variable));
        validation.check(&scope).map_err(wrong)?;
    }
    for group in &document.groups {
        let attributes = evaluated(&scope, group)?;
        let targets = attributes.get("targets").map(names).unwrap_or_default();
        project.groups.insert(group.name.clone(), targets);
    }
    targets(project, &scope, &document.targets)
}

fn local_platform() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{machine}")
}

/// Adds all targets. One may speak of another's attributes (`target.NAME.KEY`), in any order.
fn targets(project: &mut Project, scope: &Scope, all: &[Named]) -> Result<(), BakeError> {
    let mut open: Vec<&Named> = all.iter().collect();
    let mut known = hcl::Map::new();
    loop {
        let before = open.len();
        let mut failed = None;
        let mut left = Vec::new();
        let others = ("target".to_owned(), hcl::Value::Object(known.clone()));
        let scope = scope.with([others]);
        for named in open {
            match add_target(project, &scope, named) {
                Ok(attributes) => _ = known.insert(named.name.clone(), attributes),
                Err(error) => {
                    failed = failed.or(Some(error));
                    left.push(named);
                }
            }
        }
        open = left;
        match failed {
            None => return Ok(()),
            Some(error) if open.len() == before => return Err(error),
            Some(_) => {}
        }
    }
}

/// Adds a target, or those of its matrix; its attributes, for others to speak of.
fn add_target(
    project: &mut Project,
    scope: &Scope,
    named: &Named,
) -> Result<hcl::Value, BakeError> {
    let wrong = |reason: String| BakeError(format!("target {}: {reason}", named.name));
    let (matrix, name) = (named.attribute("matrix"), named.attribute("name"));
    let (Some(matrix), Some(name)) = (matrix, name) else {
        if name.is_some() {
            return Err(wrong(
                "only a target with a matrix has a name in it".to_owned(),
            ));
        }
        let own = insert(project, scope, named, &named.name)?;
        return Ok(hcl::Value::Object(own));
    };
    let matrix = scope.evaluate(matrix).map_err(wrong)?;
    let mut made: Vec<String> = Vec::new();
    for combination in combinations(&matrix).map_err(wrong)? {
        let scope = scope.with(combination);
        let own = shown(&scope.evaluate(name).map_err(wrong)?);
        if made.contains(&own) {
            return Err(wrong(format!("its matrix makes two targets {own}")));
        }
        insert(project, &scope, named, &own)?;
        made.push(own);
    }
    if made != [named.name.as_str()] {
        project.groups.insert(named.name.clone(), made);
    }
    Ok(hcl::Value::Null)
}

fn insert(
    project: &mut Project,
    scope: &Scope,
    named: &Named,
    name: &str,
) -> Result<hcl::Map<String, hcl::Value>, BakeError> {
    if !is_name(name) {
        return Err(BakeError(format!(
            "invalid target name '{name}': use letters, digits, '-' and '_'"
        )));
    }
    let values = evaluated(scope, named)?;
    let mut target = Target::default();
    for (key, value) in &values {
        let value = serde_json::to_value(value).unwrap_or_default();
        let added = target.add(key, value);
        added.map_err(|error| BakeError(format!("target {name}: {error}")))?;
    }
    // A service of a compose file has the block's attributes as well.
    let own = project.targets.entry(name.to_owned()).or_default();
    own.inherits
        .extend(values.get("inherits").map(names).unwrap_or_default());
    own.target.merge(&target);
    Ok(values)
}

/// Evaluates variables, which may speak of each other in any order.
fn variables(
    scope: &mut Scope,
    all: &[(String, Option<Expression>)],
    env: Lookup<'_>,
) -> Result<(), BakeError> {
    let mut open: Vec<&(String, Option<Expression>)> = all.iter().collect();
    loop {
        let before = open.len();
        let (mut left, mut failed) = (Vec::new(), Vec::new());
        for one in open {
            let (name, default) = one;
            let wrong = |error: String| BakeError(format!("variable {name}: {error}"));
            match default
                .as_ref()
                .map(|default| scope.evaluate(default))
                .transpose()
            {
                Err(error) => {
                    failed.push((name.as_str(), error));
                    left.push(one);
                }
                Ok(default) => {
                    let value = from_env(env(name), default).map_err(wrong)?;
                    scope.vars.insert(name.clone(), value);
                }
            }
        }
        open = left;
        match failed.first() {
            None => return Ok(()),
            Some((first, _)) if open.len() == before => return Err(cause(&failed, first)),
            Some(_) => {}
        }
    }
}

/// Why a variable can't be evaluated: what is wrong with the last of those that need each other, or
/// that it needs one before it. `failed` are all that can't be, with their errors.
fn cause(failed: &[(&str, String)], first: &str) -> BakeError {
    let mut followed = vec![first];
    loop {
        let name = followed.last().copied().unwrap_or(first);
        let error = failed.iter().find(|(own, _)| *own == name);
        let error = error.map_or("", |(_, error)| error);
        let needed = undefined(error).and_then(|needed| {
            let mut all = failed.iter().map(|(own, _)| *own);
            all.find(|own| *own == needed)
        });
        match needed {
            None => return BakeError(format!("variable {name}: {error}")),
            Some(needed) if followed.contains(&needed) => {
                return BakeError(format!(
                    "variable {name}: variable cycle not allowed for {needed}"
                ));
            }
            Some(needed) => followed.push(needed),
        }
    }
}

/// The variable that the evaluator says it doesn't know.
fn undefined(error: &str) -> Option<&str> {
    let (_, rest) = error.split_once("undefined variable `")?;
    rest.split_once('`').map(|(name, _)| name)
}

/// The environment's value, of the default's type.
fn from_env(given: Option<String>, default: Option<hcl::Value>) -> Result<hcl::Value, String> {
    let Some(text) = given else {
        // A variable without a default is empty, one whose default is null is null.
        return Ok(default.unwrap_or_else(|| "".into()));
    };
    let wrong = |what: &str| format!("the environment's value '{text}' is not {what}");
    match default {
        Some(hcl::Value::Bool(_)) => {
            let flag = flag(&text).map(hcl::Value::from);
            flag.map_err(|_| wrong("true or false"))
        }
        Some(hcl::Value::Number(_)) => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => Ok(whole.into()),
            (_, Ok(float)) if float.is_finite() => Ok(float.into()),
            _ => Err(wrong("a number")),
        },
        Some(hcl::Value::Array(_) | hcl::Value::Object(_)) => Err(wrong("a list or an object")),
        _ => Ok(text.into()),
    }
}

fn evaluated(scope: &Scope, named: &Named) -> Result<hcl::Map<String, hcl::Value>, BakeError> {
    let mut all = hcl::Map::new();
    for (key, expression) in &named.attributes {
        // Attributes of newer versions may speak of what isn't known here; a matrix and its name have
        // their own scopes.
        if !is_known(key) && !["inherits", "targets"].contains(&key.as_str()) {
            continue;
        }
        let value = scope.evaluate(expression);
        let value = value.map_err(|error| BakeError(format!("{}.{key}: {error}", named.name)))?;
        all.insert(key.clone(), value);
    }
    Ok(all)
}

fn names(value: &hcl::Value) -> Vec<String> {
    match value {
        hcl::Value::Array(items) => items.iter().map(shown).collect(),
        hcl::Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

type Combination = Vec<(String, hcl::Value)>;

/// All combinations of a matrix's values, the first name (by the alphabet) changing fastest.
fn combinations(matrix: &hcl::Value) -> Result<Vec<Combination>, String> {
    let hcl::Value::Object(axes) = matrix else {
        return Err("a matrix is an object of lists".to_owned());
    };
    let mut names: Vec<&String> = axes.keys().collect();
    names.sort();
    let mut all: Vec<Combination> = vec![Vec::new()];
    for name in names {
        let Some(hcl::Value::Array(values)) = axes.get(name) else {
            return Err(format!("matrix.{name} is not a list"));
        };
        if all.len().saturating_mul(values.len()) > MAX_COMBINATIONS {
            return Err(format!(
                "the matrix makes more than {MAX_COMBINATIONS} targets"
            ));
        }
        let longer = values.iter().flat_map(|value| {
            all.iter().map(|one| {
                let mut own = one.clone();
                own.push((name.clone(), value.clone()));
                own
            })
        });
        all = longer.collect();
    }
    Ok(all)
}

fn is_name(name: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !name.is_empty() && name.bytes().all(inside)
}
