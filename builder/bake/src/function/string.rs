//! Functions of texts.

use hcl::Value;
use hcl::eval::FuncArgs;

use super::value::{MAX_TEXT, Outcome, float, list, shown, text};

/// An error for a text of this length that is too long to be made.
pub(crate) fn fits(length: usize) -> Result<(), String> {
    match length > MAX_TEXT {
        true => Err(format!("a text is longer than {MAX_TEXT} bytes")),
        false => Ok(()),
    }
}

pub(super) fn replace(own: &str, what: &str, by: &str) -> Outcome {
    let most = own.matches(what).count().saturating_mul(by.len());
    fits(most.saturating_add(own.len()))?;
    Ok(own.replace(what, by).into())
}

pub(super) fn texts<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
}

pub(super) fn title(text: &str) -> String {
    let mut out = String::new();
    let mut starts = true;
    for c in text.chars() {
        match starts {
            true => out.extend(c.to_uppercase()),
            false => out.push(c),
        }
        starts = !c.is_alphanumeric();
    }
    out
}

pub(super) fn substr(args: &FuncArgs) -> Outcome {
    let chars: Vec<char> = text(args, 0)?.chars().collect();
    let count = chars.len() as f64;
    let offset = float(args, 1)?;
    let from = if offset < 0.0 { count + offset } else { offset }.clamp(0.0, count);
    let length = float(args, 2)?;
    let to = if length < 0.0 {
        count
    } else {
        (from + length).min(count)
    };
    Ok(chars[from as usize..to as usize]
        .iter()
        .collect::<String>()
        .into())
}

pub(super) fn join(args: &FuncArgs) -> Outcome {
    let separator = text(args, 0)?;
    let mut all = Vec::new();
    for at in 1..args.len() {
        all.extend(list(args, at)?.iter().map(shown));
    }
    let texts: usize = all.iter().map(String::len).sum();
    fits(texts.saturating_add(separator.len().saturating_mul(all.len())))?;
    Ok(all.join(&separator).into())
}

pub(super) fn urlencode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

pub(super) fn parseint(args: &FuncArgs) -> Outcome {
    let (text, base) = (text(args, 0)?, float(args, 1)?);
    if !(2.0..=36.0).contains(&base) {
        return Err("parseint: the base is from 2 to 36".to_owned());
    }
    let number = i64::from_str_radix(&text, base as u32);
    let number = number.map_err(|_| format!("parseint: '{text}' is no number of base {base}"))?;
    Ok(number.into())
}

/// A text in which only letters, digits, `-` and `_` are left.
pub(super) fn sanitize(text: &str) -> String {
    let keep = |c: char| match c.is_ascii_alphanumeric() || "-_".contains(c) {
        true => c,
        false => '_',
    };
    text.chars().map(keep).collect()
}
