//! `RUN --mount`: comma-separated fields, as CSV.

use super::flag::truth;
use crate::ast::Mount;
use crate::suggest::did_you_mean;

const TYPES: &[&str] = &["bind", "cache", "tmpfs", "secret", "ssh"];
const FIELDS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];
const TRUTHS: &[&str] = &["readonly", "readwrite", "required"];

/// Reads a mount; checks what needs no variables.
pub(crate) fn parse(text: &str) -> Result<Mount, String> {
    let mut mount = Mount::default();
    for field in csv(text) {
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        add(&mut mount, &name, value, text)?;
    }
    check(&mount, text)?;
    Ok(mount)
}

fn add(mount: &mut Mount, name: &str, value: Option<&str>, text: &str) -> Result<(), String> {
    if !FIELDS.contains(&name) {
        let hint = did_you_mean(name, FIELDS.iter().copied());
        return Err(format!("unexpected key '{name}' in mount '{text}'{hint}"));
    }
    let name = match name {
        "src" => "source",
        "dst" | "destination" => "target",
        "ro" => "readonly",
        "rw" => "readwrite",
        other => other,
    };
    let value = match (value, TRUTHS.contains(&name)) {
        (Some(value), true) if !value.contains('$') => {
            let bad = || format!("invalid value for {name} in mount '{text}': {value}");
            truth(value).ok_or_else(bad)?.to_string()
        }
        (Some(value), _) => value.to_owned(),
        (None, true) => "true".to_owned(),
        (None, false) => {
            return Err(format!(
                "invalid field '{name}' in mount '{text}': must be a key=value pair"
            ));
        }
    };
    if name == "from" && value.contains('$') {
        return Err(format!(
            "'{value}' doesn't support variable expansion, define alias stage instead: from in mount '{text}'"
        ));
    }
    if name != "type" {
        mount.fields.push((name.to_owned(), value));
    } else if TYPES.contains(&value.to_ascii_lowercase().as_str()) {
        mount.kind = value.to_ascii_lowercase();
    } else {
        let hint = did_you_mean(&value, TYPES.iter().copied());
        return Err(format!("unsupported mount type '{value}'{hint}"));
    }
    Ok(())
}

fn check(mount: &Mount, text: &str) -> Result<(), String> {
    let kind = if mount.kind.is_empty() {
        "bind"
    } else {
        &mount.kind
    };
    let needs_target = ["cache", "tmpfs"].contains(&kind);
    if needs_target && mount.get("target").is_none() {
        return Err(format!("target is required for mount '{text}'"));
    }
    if kind == "secret"
        && mount.get("id").is_none()
        && mount.get("target").is_none()
        && mount.get("source").is_none()
    {
        return Err(format!(
            "invalid secret mount '{text}': one of id, source or target is required"
        ));
    }
    if let Some(mode) = mount.get("mode").filter(|mode| !mode.contains('$')) {
        u32::from_str_radix(mode, 8).map_err(|_| {
            format!("invalid value '{mode}' for mode in mount '{text}': write an octal number")
        })?;
    }
    let sharing = mount
        .get("sharing")
        .filter(|sharing| !sharing.contains('$'));
    if let Some(sharing) = sharing.filter(|s| !["shared", "private", "locked"].contains(s)) {
        return Err(format!(
            "unsupported sharing value '{sharing}' in mount '{text}': use shared, private or locked"
        ));
    }
    Ok(())
}

/// One line of comma-separated values; a field in double quotes may hold commas.
fn csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => {
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    fields.retain(|field| !field.is_empty());
    fields
}
