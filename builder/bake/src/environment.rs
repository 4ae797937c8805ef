//! Variables of compose files: `.env` files, and `$NAME` in values (the compose specification,
//! "Interpolation").

use std::collections::BTreeMap;

use serde_json::Value;

/// How deep a default may lie in another's.
const MAX_DEPTH: usize = 16;

/// Looks a variable up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Is told of a variable that isn't set.
pub(crate) type Unset<'a> = &'a dyn Fn(&str);

/// Reads a `.env` file: `NAME=VALUE` lines.
///
/// # Errors
/// When a line is none.
pub(crate) fn read_dotenv(text: &str, env: Lookup<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (name, value) = match line.split_once(['=', ':']) {
            Some((name, value)) => (name.trim(), value.trim()),
            None => continue,
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("line {}: '{line}' is not NAME=VALUE", number + 1));
        }
        let lookup = |name: &str| env(name).or_else(|| all.get(name).cloned());
        let value = dotenv_value(value, &lookup)?;
        all.insert(name.to_owned(), value);
    }
    Ok(all)
}

fn dotenv_value(value: &str, env: Lookup<'_>) -> Result<String, String> {
    let quoted = |quote: char| {
        let inside = value.strip_prefix(quote)?;
        inside.rfind(quote).map(|end| &inside[..end])
    };
    if let Some(text) = quoted('\'') {
        return Ok(text.to_owned());
    }
    if let Some(text) = quoted('"') {
        let text = text.replace("\\n", "\n").replace("\\\"", "\"");
        return interpolate(&text, env);
    }
    let end = value.find(" #").unwrap_or(value.len());
    interpolate(value[..end].trim_end(), env)
}

/// Replaces variables in all texts of a value. `unset` is told of those that aren't set.
///
/// # Errors
/// When a variable that is demanded isn't set, or an expression isn't one.
pub(crate) fn interpolate_all(
    value: &mut Value,
    env: Lookup<'_>,
    unset: Unset<'_>,
) -> Result<(), String> {
    match value {
        Value::String(text) if text.contains('$') => *text = expand(text, env, unset, 0)?,
        Value::Array(items) => {
            for item in items {
                interpolate_all(item, env, unset)?;
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let replaced = interpolate_all(value, env, unset);
                replaced.map_err(|error| format!("{key}: {error}"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Replaces `$NAME`, `${NAME}` and their forms with `-`, `?` and `+`; `$$` is `$`.
pub(crate) fn interpolate(text: &str, env: Lookup<'_>) -> Result<String, String> {
    expand(text, env, &|_| {}, 0)
}

fn expand(text: &str, env: Lookup<'_>, unset: Unset<'_>, depth: usize) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err("variables lie too deep in each other".to_owned());
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| format!("'${{' has no end in '{text}'"))?;
            out.push_str(&braced(&after[..end], env, unset, depth)?);
            rest = &after[end + 1..];
        } else {
            let end = name_length(rest);
            match end {
                0 => return Err(format!("'$' in '{text}' begins no variable: write $$")),
                _ => out.push_str(&value_of(&rest[..end], env, unset)),
            }
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// A variable's value, empty when it isn't set.
fn value_of(name: &str, env: Lookup<'_>, unset: Unset<'_>) -> String {
    env(name).unwrap_or_else(|| {
        unset(name);
        String::new()
    })
}

fn name_length(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let inside = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    match starts {
        true => text.find(inside).unwrap_or(text.len()),
        false => 0,
    }
}

/// Where the brace that was opened ends.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

fn braced(inside: &str, env: Lookup<'_>, unset: Unset<'_>, depth: usize) -> Result<String, String> {
    let (name, rest) = inside.split_at(name_length(inside));
    let wrong = || format!("'${{{inside}}}' is no variable");
    if name.is_empty() {
        return Err(wrong());
    }
    let given = env(name);
    let (filled, form) = match rest.strip_prefix(':') {
        Some(form) => (given.filter(|text| !text.is_empty()), form),
        None => (given, rest),
    };
    let mut form = form.chars();
    let kind = form.next();
    let word = form.as_str();
    match (kind, filled) {
        (None, _) if rest.is_empty() => Ok(value_of(name, env, unset)),
        (Some('-' | '?'), Some(text)) => Ok(text),
        (Some('-'), None) | (Some('+'), Some(_)) => expand(word, env, unset, depth + 1),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let word = expand(word, env, unset, depth + 1)?;
            Err(format!("the variable {name} is required: {word}"))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let all = [("SET", "set"), ("EMPTY", "")];
        let found = all.iter().find(|(own, _)| *own == name);
        found.map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn variables_in_all_their_forms() {
        for (text, want) in [
            ("a", "a"),
            ("$SET-${SET}", "set-set"),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${NOPE-d}${NOPE:-${SET}}", "dset"),
            ("${SET:+v}${EMPTY:+v}${EMPTY+w}", "vw"),
            ("$$SET", "$SET"),
            ("$NOPE.", "."),
        ] {
            assert_eq!(interpolate(text, &env).as_deref(), Ok(want), "{text}");
        }
        for (text, says) in [
            ("${NOPE:?why}", "NOPE is required: why"),
            ("${", "no end"),
            ("${1}", "no variable"),
            ("$ ", "write $$"),
            ("${SET!x}", "no variable"),
        ] {
            assert!(
                interpolate(text, &env).unwrap_err().contains(says),
                "{text}"
            );
        }
        let deep = "${A:-".repeat(100) + &"}".repeat(100);
        assert!(interpolate(&deep, &env).unwrap_err().contains("too deep"));
    }

    #[test]
    fn files_of_variables() {
        let text = "# c\nA=1\nexport B = \"x $A\\n\"\nC='$A'\nD=v # comment\n\nE=${SET}$B\n";
        let all = read_dotenv(text, &env).unwrap();
        let found: Vec<_> = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let wanted = [
            ("A", "1"),
            ("B", "x 1\n"),
            ("C", "$A"),
            ("D", "v"),
            ("E", "setx 1\n"),
        ];
        assert_eq!(found, wanted);
        assert!(read_dotenv("a b=c", &env).is_err());
    }
}
