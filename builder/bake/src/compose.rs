//! Compose files as bake files: each service with a `build` is a target (the compose specification,
//! "Compose Build Specification", and `x-bake`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::compose_keys::{BUILD, SERVICE, TOP, refuse_others};
use crate::environment::{Lookup, interpolate_all, read_dotenv};
use crate::path::clean;
use crate::{BakeError, ReadFile, Source, yaml};

/// Keys whose lists of `NAME=VALUE` are maps as well.
const MAPS: &[&str] = &[
    "additional_contexts",
    "args",
    "environment",
    "extra_hosts",
    "labels",
];

/// How services may extend each other.
const MAX_EXTENDS: usize = 32;

/// A target of a compose file: its name and attributes.
pub(crate) type Service = (String, Map<String, Value>);

/// Reads the services of compose files, which are one project together. `dotenv` is the text of the
/// `.env` file beside them, `files` reads others that they name, and `warnings` get what is probably a
/// mistake.
///
/// # Errors
/// When one can't be read, or says what no build can have.
pub(crate) fn read(
    sources: &[&Source],
    dotenv: Option<&str>,
    env: Lookup<'_>,
    files: ReadFile<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Service>, BakeError> {
    let names = RefCell::new(BTreeSet::new());
    let unset = |name: &str| _ = names.borrow_mut().insert(name.to_owned());
    let file = dotenv.map(|text| read_dotenv(text, env)).transpose();
    let file = file.map_err(|error| BakeError(format!(".env: {error}")))?;
    let lookup = |name: &str| env(name).or_else(|| file.as_ref()?.get(name).cloned());
    let mut project = Value::Null;
    for source in sources {
        let wrong = |error: String| BakeError(format!("{}: {error}", source.name));
        let mut own = yaml::parse(&source.text).map_err(wrong)?;
        interpolate_all(&mut own, &lookup, &unset).map_err(wrong)?;
        let own = normal(own).map_err(wrong)?;
        merge(&mut project, own);
    }
    let named = sources
        .first()
        .map_or("compose file", |source| &source.name);
    let wrong = |error: String| BakeError(format!("{named}: {error}"));
    let told = |name: &String| {
        format!("The \"{name}\" variable is not set. Defaulting to a blank string.")
    };
    warnings.extend(names.borrow().iter().map(told));
    services(&project, &lookup, files).map_err(wrong)
}

/// A project whose builds and maps have one form each.
fn normal(mut project: Value) -> Result<Value, String> {
    let Value::Object(top) = &mut project else {
        return Err("a mapping with services is needed".to_owned());
    };
    if top.contains_key("include") {
        return Err("include: name the other files with -f".to_owned());
    }
    refuse_others(top, TOP)?;
    let services = match top.get_mut("services") {
        Some(Value::Object(services)) => services,
        None | Some(Value::Null) => return Ok(project),
        Some(_) => return Err("services: a mapping is needed".to_owned()),
    };
    for (name, service) in services {
        let place = |error| format!("services.{name}{error}");
        let Value::Object(service) = service else {
            return Err(place(": a mapping is needed".to_owned()));
        };
        refuse_others(service, SERVICE).map_err(|error| place(format!(": {error}")))?;
        if let Some(Value::String(file)) = service.get("env_file") {
            let files = json!([file]);
            service.insert("env_file".to_owned(), files);
        }
        match service.get_mut("build") {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(Value::String(context)) => {
                let build = json!({ "context": context });
                service.insert("build".to_owned(), build);
            }
            Some(_) => return Err(place(".build: write a directory or a mapping".to_owned())),
        }
        as_map(service, "environment").map_err(place)?;
        if let Some(Value::Object(build)) = service.get_mut("build") {
            for key in MAPS {
                as_map(build, key).map_err(|error| place(format!(".build{error}")))?;
            }
        }
    }
    Ok(project)
}

/// Turns a list of `NAME=VALUE` into a map.
fn as_map(fields: &mut Map<String, Value>, key: &str) -> Result<(), String> {
    let Some(Value::Array(items)) = fields.get(key) else {
        return match fields.get(key) {
            None | Some(Value::Null | Value::Object(_)) => Ok(()),
            Some(_) => Err(format!(".{key}: a list or a mapping is needed")),
        };
    };
    let pair = |item: &Value| {
        let text = plain_text(item).ok_or_else(|| format!(".{key}: write NAME=VALUE"))?;
        Ok(match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Value::from(value)),
            None => match (key, text.split_once(':')) {
                ("extra_hosts", Some((name, value))) => (name.to_owned(), Value::from(value)),
                _ => (text, Value::Null),
            },
        })
    };
    let map: Map<String, Value> = items.iter().map(pair).collect::<Result<_, String>>()?;
    fields.insert(key.to_owned(), Value::Object(map));
    Ok(())
}

/// Adds another file's values: maps by key, lists behind each other, the rest replaced.
fn merge(into: &mut Value, other: Value) {
    match (into, other) {
        (Value::Object(own), Value::Object(other)) => {
            for (key, value) in other {
                merge(own.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(own), Value::Array(other)) => {
            for item in other {
                if !own.contains(&item) {
                    own.push(item);
                }
            }
        }
        (_, Value::Null) => {}
        (own, other) => *own = other,
    }
}

fn services(project: &Value, env: Lookup<'_>, files: ReadFile<'_>) -> Result<Vec<Service>, String> {
    let Some(Value::Object(all)) = project.get("services") else {
        return Ok(Vec::new());
    };
    let mut services = Vec::new();
    for name in all.keys() {
        let service = extended(all, name, 0)?;
        if let Some(Value::Object(build)) = service.get("build") {
            let place = |error| format!("services.{name}.build{error}");
            let given = of_env_files(&service, env, files);
            let given = given.map_err(|error| format!("services.{name}.env_file: {error}"))?;
            let env = |name: &str| match service.get("environment").and_then(|all| all.get(name)) {
                Some(own) => plain_text(own).or_else(|| env(name)),
                None => given.get(name).cloned().or_else(|| env(name)),
            };
            let target = target(&service, build, project, &env).map_err(place)?;
            services.push((name.replace('.', "_"), target));
        }
    }
    Ok(services)
}

/// A service with what it extends.
fn extended(all: &Map<String, Value>, name: &str, depth: usize) -> Result<Value, String> {
    let own = all.get(name);
    let own = own.ok_or_else(|| format!("services.{name} is extended, but isn't there"))?;
    let from = match own.get("extends") {
        None | Some(Value::Null) => return Ok(own.clone()),
        Some(Value::String(from)) => Some(from.as_str()),
        Some(fields) if fields.get("file").is_some_and(|file| !file.is_null()) => None,
        Some(fields) => fields.get("service").and_then(Value::as_str),
    };
    let place = format!("services.{name}.extends");
    let from = from.ok_or_else(|| format!("{place}: name a service of this project"))?;
    if depth > MAX_EXTENDS {
        return Err(format!("{place}: services extend each other in a circle"));
    }
    let mut base = extended(all, from, depth + 1)?;
    merge(&mut base, own.clone());
    Ok(base)
}

/// The attributes of the target of a service.
fn target(
    service: &Value,
    build: &Map<String, Value>,
    project: &Value,
    env: Lookup<'_>,
) -> Result<Map<String, Value>, String> {
    refuse_others(build, BUILD).map_err(|error| format!(": {error}"))?;
    let mut target = Map::new();
    for (key, attribute) in [
        ("dockerfile", "dockerfile"),
        ("dockerfile_inline", "dockerfile-inline"),
        ("target", "target"),
        ("network", "network"),
        ("labels", "labels"),
        ("extra_hosts", "extra-hosts"),
        ("cache_from", "cache-from"),
        ("cache_to", "cache-to"),
        ("tags", "tags"),
        ("platforms", "platforms"),
        ("entitlements", "entitlements"),
        ("no_cache", "no-cache"),
        ("no_cache_filter", "no-cache-filter"),
        ("pull", "pull"),
    ] {
        if let Some(value) = build.get(key).filter(|value| !value.is_null()) {
            target.insert(attribute.to_owned(), value.clone());
        }
    }
    if let Some(Value::Object(labels)) = target.get_mut("labels") {
        // In a bake file a null is no label.
        let empty = labels.values_mut().filter(|value| value.is_null());
        empty.for_each(|value| *value = "".into());
    }
    if let Some(context) = build.get("context").and_then(Value::as_str) {
        target.insert("context".to_owned(), clean(context).into());
    }
    target.insert("args".to_owned(), args(build, env));
    if let Some(contexts) = contexts(build) {
        target.insert("contexts".to_owned(), contexts);
    }
    target.insert("secret".to_owned(), Value::Array(secrets(build, project)?));
    target.insert("ssh".to_owned(), Value::Array(agents(build)?));
    target.insert("ulimits".to_owned(), Value::Array(limits(build)?));
    if let Some(size) = build.get("shm_size").and_then(plain_text) {
        target.insert("shm-size".to_owned(), in_units(&size).into());
    }
    target.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
    if let Some(Value::Object(own)) = build.get("x-bake") {
        extend(&mut target, own);
    }
    if let (None, Some(image)) = (target.get("tags"), service.get("image")) {
        target.insert("tags".to_owned(), json!([image]));
    }
    Ok(target)
}

/// The variables of the files that a service's environment has; those of later files win.
fn of_env_files(
    service: &Value,
    env: Lookup<'_>,
    files: ReadFile<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let items = service.get("env_file").and_then(Value::as_array);
    for item in items.into_iter().flatten() {
        let path = item.as_str().or_else(|| item.get("path")?.as_str());
        let path = path.ok_or("name a file")?;
        let is_required = item.get("required") != Some(&Value::Bool(false));
        match files(&clean(path)).map_err(|error| error.0)? {
            Some(text) => {
                let lookup = |name: &str| env(name).or_else(|| all.get(name).cloned());
                let own = read_dotenv(&text, &lookup);
                all.extend(own.map_err(|error| format!("{path}: {error}"))?);
            }
            None if is_required => return Err(format!("the file {path} is not there")),
            None => {}
        }
    }
    Ok(all)
}

/// Build arguments; `env` has the values of those that have none here.
fn args(build: &Map<String, Value>, env: Lookup<'_>) -> Value {
    let Some(Value::Object(args)) = build.get("args") else {
        return json!({});
    };
    let value = |name: &String, value: &Value| match value {
        Value::Null => env(name),
        other => plain_text(other),
    };
    let given = args
        .iter()
        .filter_map(|(name, own)| Some((name.clone(), value(name, own)?.into())));
    Value::Object(given.collect())
}

fn contexts(build: &Map<String, Value>) -> Option<Value> {
    let place = |value: &Value| {
        value
            .as_str()
            .map_or(Value::Null, |text| clean(text).into())
    };
    let all = build.get("additional_contexts")?.as_object()?.iter();
    let all = all.map(|(name, value)| (name.clone(), place(value)));
    Some(Value::Object(all.collect()))
}

fn secrets(build: &Map<String, Value>, project: &Value) -> Result<Vec<Value>, String> {
    let items = list(build, "secrets");
    let one = |item: &Value| {
        let (source, target) = match item {
            Value::String(name) => (Some(name.as_str()), None),
            other => {
                let field = |name: &str| other.get(name).and_then(Value::as_str);
                (field("source"), field("target"))
            }
        };
        let source = source.ok_or(".secrets: name a secret")?;
        let own = project.get("secrets").and_then(|all| all.get(source));
        let field = |name: &str| own.and_then(|own| own.get(name)).and_then(Value::as_str);
        let from = match (field("environment"), field("file")) {
            (Some(variable), _) => format!(",env={variable}"),
            (_, Some(file)) => format!(",src={}", clean(file)),
            _ => return Err(format!(".secrets: {source} has no file and no environment")),
        };
        Ok(format!("id={}{from}", target.unwrap_or(source)).into())
    };
    items.iter().map(one).collect()
}

fn agents(build: &Map<String, Value>) -> Result<Vec<Value>, String> {
    let mut all: Vec<String> = match build.get("ssh") {
        Some(Value::Object(fields)) => {
            let own = fields.iter();
            own.map(|(id, path)| match path.as_str() {
                Some(path) if !path.is_empty() => format!("{id}={path}"),
                _ => id.clone(),
            })
            .collect()
        }
        _ => list(build, "ssh").iter().filter_map(plain_text).collect(),
    };
    all.sort();
    Ok(all.into_iter().map(Value::from).collect())
}

fn limits(build: &Map<String, Value>) -> Result<Vec<Value>, String> {
    let Some(Value::Object(all)) = build.get("ulimits") else {
        return Ok(Vec::new());
    };
    let one = |(name, limit): (&String, &Value)| {
        let number = |value: Option<&Value>| value.and_then(plain_text);
        let (soft, hard) = match limit {
            Value::Object(fields) => (number(fields.get("soft")), number(fields.get("hard"))),
            other => (plain_text(other), plain_text(other)),
        };
        let wrong = || format!(".ulimits.{name}: write a number, or soft and hard");
        Ok(format!(
            "{name}={}:{}",
            soft.ok_or_else(wrong)?,
            hard.ok_or_else(wrong)?
        )
        .into())
    };
    all.iter().map(one).collect()
}

/// Adds the attributes of `x-bake`: to lists of names and caches, in place of the rest.
fn extend(target: &mut Map<String, Value>, own: &Map<String, Value>) {
    for (key, value) in own {
        let key = match key.as_str() {
            "secrets" => "secret",
            "outputs" => "output",
            "platform" => "platforms",
            other => other,
        };
        let value = match (crate::target::is_list(key), value) {
            (true, Value::String(text)) => json!([text]),
            _ => value.clone(),
        };
        match (target.get_mut(key), value) {
            (Some(Value::Array(own)), Value::Array(more)) => {
                own.extend(more);
                if key == "ssh" {
                    own.sort_by_key(ToString::to_string);
                }
            }
            (Some(Value::Object(own)), Value::Object(more)) => own.extend(more),
            (_, value) => _ = target.insert(key.to_owned(), value),
        }
    }
}

fn list<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    fields
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A size as buildx prints it: `128MiB`.
fn in_units(text: &str) -> String {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[number.len()..].to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return text.to_owned(),
    };
    let Ok(number) = number.parse::<f64>() else {
        return text.to_owned();
    };
    let mut size = number * 1024_f64.powi(power);
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].iter();
    let mut name = units.next();
    while size >= 1024.0
        && let Some(next) = units.next()
    {
        size /= 1024.0;
        name = Some(next);
    }
    format!(
        "{}{}",
        (size * 1000.0).round() / 1000.0,
        name.unwrap_or(&"")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services_of(text: &str) -> Result<Vec<Service>, BakeError> {
        told(text, &mut Vec::new())
    }

    fn told(text: &str, warnings: &mut Vec<String>) -> Result<Vec<Service>, BakeError> {
        let source = Source {
            name: "compose.yaml".to_owned(),
            text: text.to_owned(),
        };
        let env = |name: &str| (name == "FROM_ENV").then(|| "e".to_owned());
        let files = |name: &str| {
            Ok(match name {
                "a.env" => Some("X=1\nQ=\"a b\"\n".to_owned()),
                "b.env" => Some("X=2\nY=${X}\n".to_owned()),
                _ => None,
            })
        };
        read(&[&source], Some("FROM_FILE=f\n"), &env, &files, warnings)
    }

    #[test]
    fn files_of_variables_labels_and_what_is_not_set_are_as_with_buildx() {
        let text = "
services:
  a:
    env_file: [a.env, {path: ./b.env}, {path: nope.env, required: false}]
    environment: {Q: own}
    image: \"x:${NOPE}${NOPE}${ALSO:-d}\"
    x-anything: 1
    build: {args: [X, Q, Y, Z], labels: [A, B=1]}
";
        let mut warnings = Vec::new();
        let all = told(text, &mut warnings).unwrap();
        let target = Value::Object(all[0].1.clone());
        assert_eq!(target["args"], json!({"X": "2", "Q": "own", "Y": "1"}));
        assert_eq!(target["labels"], json!({"A": "", "B": "1"}));
        assert_eq!(
            warnings,
            ["The \"NOPE\" variable is not set. Defaulting to a blank string."]
        );
    }

    #[test]
    fn services_with_a_build_are_targets() {
        let text = "
services:
  web:
    build: ./web/
    image: me/web:${FROM_FILE}
  api.v1:
    extends: {service: base}
    environment: [C=own]
    build:
      args: [A=1, C, FROM_ENV, NOT_SET]
      shm_size: 128m
      ulimits: {nofile: 7, nproc: {soft: 1, hard: 2}}
      secrets: [{source: tok, target: t}]
      additional_contexts: {base: 'service:web'}
      x-bake: {platforms: linux/arm64, tags: [t2]}
      tags: [t1]
  base:
    build: {context: ., args: {B: 2}}
  other: {image: x}
secrets: {tok: {environment: TOK}}
";
        let all = services_of(text).unwrap();
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["api_v1", "base", "web"]);
        let expected = json!({
            "context": ".",
            "args": {"A": "1", "B": "2", "C": "own", "FROM_ENV": "e"},
            "contexts": {"base": "service:web"},
            "platforms": ["linux/arm64"],
            "secret": ["id=t,env=TOK"],
            "shm-size": "128MiB",
            "tags": ["t1", "t2"],
            "ulimits": ["nofile=7:7", "nproc=1:2"],
        });
        assert_eq!(Value::Object(all[0].1.clone()), expected);
        assert_eq!(all[2].1["context"], "web");
        assert_eq!(all[2].1["tags"], json!(["me/web:f"]));
    }

    #[test]
    fn mistakes_name_their_place() {
        for (text, says) in [
            ("services: [a]", "services: a mapping"),
            ("services: {a: {build: 7}}", "services.a.build"),
            (
                "services: {a: {build: {contxt: x}}}",
                "unknown key 'contxt'",
            ),
            ("services: {a: {build: {args: 7}}}", "services.a.build.args"),
            (
                "services: {a: {imagee: x}}",
                "services.a: unknown key 'imagee'",
            ),
            ("servicess: {}", "unknown key 'servicess'"),
            (
                "services: {a: {env_file: nope.env, build: .}}",
                "services.a.env_file: the file nope.env is not there",
            ),
            ("services: {a: {extends: b}}", "services.b is extended"),
            ("services: {a: {extends: a}}", "in a circle"),
            ("services: {a: {build: {secrets: [x]}}}", "no file"),
            (
                "services: {a: {build: '${X:?set it}'}}",
                "X is required: set it",
            ),
            ("include: [x]", "-f"),
            ("services: [", "compose.yaml"),
        ] {
            let error = services_of(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
