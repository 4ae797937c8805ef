//! The values of parameters.

use std::collections::BTreeMap;

use kiln_graph::PROXIES;

use crate::error::Wrong;
use crate::model::{BuildFile, Param, ParamType, Scalar};
use crate::suggest::{did_you_mean, one_of};
use crate::text::Name;

/// What can be given without being a parameter of the file.
fn is_builders_own(name: &str) -> bool {
    name == "SOURCE_DATE_EPOCH" || PROXIES.contains(&name)
}

/// Every parameter's value: the one given, or the default.
pub(crate) fn values(
    file: &BuildFile,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Wrong> {
    for name in given.keys() {
        if !file.params.contains_key(name.as_str()) && !is_builders_own(name) {
            let hint = did_you_mean(name, file.params.keys().map(Name::as_str));
            let message = format!("there is no parameter '{name}'{hint}");
            return Err(Wrong::whole(message));
        }
    }
    let mut values = BTreeMap::new();
    for (name, param) in &file.params {
        let given = given.get(name.as_str()).map(String::as_str);
        values.insert(name.to_string(), value(name, param, given)?);
    }
    Ok(values)
}

fn value(name: &Name, param: &Param, given: Option<&str>) -> Result<String, Wrong> {
    let kind = kind(param);
    for known in param.default.iter().chain(&param.choices) {
        if known.value.kind() != kind {
            let (is, not) = (kind.shown(), known.value.kind().shown());
            let message = format!("the parameter '{name}' is {is}, but this is {not}");
            return Err(Wrong::at(&known.span, message));
        }
    }
    let choices: Vec<String> = param.choices.iter().map(|c| c.value.to_string()).collect();
    let allowed = |value: &String| choices.is_empty() || choices.contains(value);
    let default = param
        .default
        .as_ref()
        .map(|text| (text, text.value.to_string()));
    if let Some((placed, default)) = &default
        && !allowed(default)
    {
        let message = format!("the default is no choice: write {}", one_of(&choices));
        return Err(Wrong::at(&placed.span, message));
    }
    let value = match (given, default) {
        (Some(given), _) => read(name, kind, given)?,
        (None, Some((_, default))) => default,
        (None, None) => return Err(missing(name, &choices)),
    };
    match allowed(&value) {
        true => Ok(value),
        false => {
            let message = format!("{name}={value}: it may be {}", one_of(&choices));
            Err(Wrong::at(name.span(), message))
        }
    }
}

fn missing(name: &Name, choices: &[String]) -> Wrong {
    let value = match choices {
        [] => String::new(),
        choices => format!(", which may be {}", one_of(choices)),
    };
    let message =
        format!("the parameter '{name}' has no default: give --build-arg {name}=VALUE{value}");
    Wrong::at(name.span(), message)
}

fn kind(param: &Param) -> ParamType {
    let shown = param.default.as_ref().or(param.choices.first());
    let guessed = shown.map_or(ParamType::String, |value| value.value.kind());
    param.kind.unwrap_or(guessed)
}

/// What the command line says, as the file would say it.
fn read(name: &Name, kind: ParamType, given: &str) -> Result<String, Wrong> {
    kind.read(given).ok_or_else(|| {
        let message = format!("{name}={given}: it must be {}", kind.shown());
        Wrong::at(name.span(), message)
    })
}

impl Scalar {
    fn kind(&self) -> ParamType {
        match self {
            Self::Truth(_) => ParamType::Boolean,
            Self::Number(_) => ParamType::Integer,
            Self::Text(_) => ParamType::String,
        }
    }
}

impl ParamType {
    /// A value of this type, as the file would say it.
    pub(crate) fn read(self, given: &str) -> Option<String> {
        match self {
            Self::String => Some(given.to_owned()),
            Self::Integer => given.parse::<i64>().ok().map(|number| number.to_string()),
            Self::Boolean => given.parse::<bool>().ok().map(|truth| truth.to_string()),
        }
    }

    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Boolean => "true or false",
        }
    }
}
