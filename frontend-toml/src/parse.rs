//! From text to tables, strictly: unknown keys and wrong types are errors with their place.

use crate::error::{TomlError, Wrong, locate};
use crate::model::{BuildFile, Origin};
use crate::suggest::did_you_mean;

/// Reads a file and those it includes. `file` is its name for messages; `read` gives the text of
/// an included file, or says in words why not.
///
/// # Errors
/// When a file isn't one, names something twice, or can't be read.
pub fn parse(
    file: &str,
    text: &str,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<BuildFile, TomlError> {
    let mut whole = parse_one(file, text)?;
    for include in whole.include.clone() {
        let wrong = |message: String| Wrong::at(&include, message).in_file(file, text);
        let path = &include.value;
        let included =
            read(path).map_err(|reason| wrong(format!("cannot include {path}: {reason}")))?;
        let other = parse_one(path, &included)?;
        if !other.include.is_empty() {
            return Err(wrong(format!(
                "{path} includes other files: include them here"
            )));
        }
        merge(&mut whole, other).map_err(wrong)?;
    }
    Ok(whole)
}

fn parse_one(file: &str, text: &str) -> Result<BuildFile, TomlError> {
    let mut parsed: BuildFile =
        toml::from_str(text).map_err(|error| explained(file, text, &error))?;
    if parsed.version != 1 {
        let message = format!(
            "version {} is not known: this kiln reads version 1",
            parsed.version
        );
        return Err(TomlError::whole(format!("{file}: {message}")));
    }
    parsed.main = Origin {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    Ok(parsed)
}

/// Adds the tables of an included file.
fn merge(whole: &mut BuildFile, other: BuildFile) -> Result<(), String> {
    let origin = other.main;
    let twice =
        |kind: &str, name: &str| format!("{}: {kind} '{name}' is there already", origin.file);
    macro_rules! take {
        ($($field:ident: $kind:literal),*) => {$(
            for (name, value) in other.$field {
                if whole.$field.contains_key(&name) {
                    return Err(twice($kind, &name));
                }
                whole.origins.insert(format!("{} {name}", $kind), origin.clone());
                whole.$field.insert(name, value);
            }
        )*};
    }
    take!(params: "parameter", sources: "source", steps: "step", tests: "test", images: "image");
    Ok(())
}

/// The parser's message with its place, and the key that was probably meant.
fn explained(file: &str, text: &str, error: &toml::de::Error) -> TomlError {
    let message = error.message().to_owned();
    TomlError {
        message: format!("{message}{}", hint(&message)),
        location: error.span().map(|span| locate(file, text, &span)),
    }
}

/// ``unknown field `a`, expected one of `b`, `c` ``: the known one nearest to `a`.
fn hint(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown"), names.next()) {
        (true, Some(name)) => did_you_mean(name, names),
        _ => String::new(),
    }
}

/// The language as a JSON schema, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(BuildFile);
    schema.insert("title".to_owned(), "kiln.toml".into());
    schema.to_value()
}
