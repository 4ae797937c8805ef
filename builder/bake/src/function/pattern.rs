//! Functions of regular expressions.

use hcl::Value;
use hcl::eval::FuncArgs;

use super::value::{Outcome, text};

pub(super) fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::Regex::new(pattern).map_err(|error| error.to_string())
}

/// The whole match, or what its groups matched: a list, or an object by their names.
fn matched(pattern: &regex::Regex, found: &regex::Captures<'_>) -> Value {
    let value =
        |part: Option<regex::Match<'_>>| part.map_or(Value::Null, |part| part.as_str().into());
    let group = |at: usize| value(found.get(at));
    let names: Vec<&str> = pattern.capture_names().flatten().collect();
    if !names.is_empty() {
        let own = names.iter();
        let own = own.map(|name| ((*name).to_owned(), value(found.name(name))));
        return Value::Object(own.collect());
    }
    match pattern.captures_len() {
        1 => group(0),
        count => Value::Array((1..count).map(group).collect()),
    }
}

pub(super) fn regex_first(args: &FuncArgs) -> Outcome {
    let (pattern, text) = (regex(&text(args, 0)?)?, text(args, 1)?);
    let found = pattern.captures(&text).ok_or("regex: there is no match")?;
    Ok(matched(&pattern, &found))
}

pub(super) fn regex_all(args: &FuncArgs) -> Outcome {
    let (pattern, text) = (regex(&text(args, 0)?)?, text(args, 1)?);
    let all = pattern.captures_iter(&text);
    Ok(Value::Array(
        all.map(|found| matched(&pattern, &found)).collect(),
    ))
}
