//! Arguments of functions, and what they become.

use hcl::eval::FuncArgs;
use hcl::{Map, Number, Value};

/// The longest text that an expression makes, in bytes.
pub(super) const MAX_TEXT: usize = 1 << 18;

/// The longest list that a function makes.
pub(super) const MAX_ITEMS: usize = 10_000;

/// What a function gives, or why it gives nothing.
pub(super) type Outcome = Result<Value, String>;

pub(super) fn any(args: &FuncArgs, at: usize) -> Result<&Value, String> {
    args.get(at)
        .ok_or_else(|| format!("argument {} is missing", at + 1))
}

pub(super) fn text(args: &FuncArgs, at: usize) -> Result<String, String> {
    match any(args, at)? {
        Value::Array(_) | Value::Object(_) => Err(format!("argument {} is not a string", at + 1)),
        value => Ok(shown(value)),
    }
}

pub(super) fn float(args: &FuncArgs, at: usize) -> Result<f64, String> {
    let value = any(args, at)?;
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.ok_or_else(|| format!("argument {} is not a number", at + 1))
}

pub(super) fn flag(args: &FuncArgs, at: usize) -> Result<bool, String> {
    match any(args, at)? {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(format!("argument {} is not true or false", at + 1)),
    }
}

pub(super) fn list(args: &FuncArgs, at: usize) -> Result<Vec<Value>, String> {
    let found = any(args, at)?.as_array().cloned();
    found.ok_or_else(|| format!("argument {} is not a list", at + 1))
}

pub(super) fn object(args: &FuncArgs, at: usize) -> Result<Map<String, Value>, String> {
    match any(args, at)? {
        Value::Object(fields) => Ok(fields.clone()),
        _ => Err(format!("argument {} is not an object", at + 1)),
    }
}

/// A number, whole where it is.
pub(super) fn number(value: f64) -> Outcome {
    let whole = value as i64;
    if (whole as f64 - value).abs() < f64::EPSILON {
        return Ok(Value::from(whole));
    }
    let number = Number::from_f64(value).ok_or("the result is not a number")?;
    Ok(Value::Number(number))
}

/// A value as text, as templates show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
