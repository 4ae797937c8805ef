//! Parser directives: `# key=value` at the very top of a file.

use std::sync::Arc;

use crate::DockerfileError;
use crate::ast::Directive;
use crate::error::lines;

const NAMES: &[&str] = &["syntax", "escape", "check"];

pub(super) struct Directives {
    pub(super) escape: char,
    pub(super) found: Vec<Directive>,
    /// How many lines they take.
    pub(super) lines: u32,
}

/// Reads the directives of a file. The first line that is none ends them.
///
/// `escape` may be indented, but not stand behind a `#!` line; with the others it is the other way
/// round. So does BuildKit, which looks for them in two places.
pub(super) fn read(file: &Arc<str>, text: &str) -> Result<Directives, DockerfileError> {
    let mut escape = '\\';
    let mut found: Vec<Directive> = Vec::new();
    let mut count = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let is_shebang = number == 1 && line.starts_with("#!");
        let Some((name, value)) = directive(line.trim_start()).filter(|_| !is_shebang) else {
            break;
        };
        let location = lines(file, number, number);
        if found.iter().any(|known| known.name == name) {
            let text = format!("only one {name} parser directive can be used");
            return Err(DockerfileError::at(location, text));
        }
        if name == "escape" {
            escape = escape_of(&value)
                .map_err(|message| DockerfileError::at(location.clone(), message))?;
        }
        count = number;
        found.push(Directive {
            name,
            value,
            location,
        });
    }
    found.retain(|known| known.name == "escape");
    found.extend(unindented(file, text).filter(|known| known.name != "escape"));
    found.sort_by_key(|known| known.location.line);
    Ok(Directives {
        escape,
        found,
        lines: count,
    })
}

fn unindented<'a>(file: &'a Arc<str>, text: &'a str) -> impl Iterator<Item = Directive> + 'a {
    let lines_of = (1..).zip(text.lines());
    let behind = lines_of.skip_while(|(number, line)| *number == 1 && line.starts_with("#!"));
    let mut seen: Vec<String> = Vec::new();
    behind.map_while(move |(number, line)| {
        let (name, value) = directive(line)?;
        if seen.contains(&name) {
            return None;
        }
        seen.push(name.clone());
        Some(Directive {
            name,
            value,
            location: lines(file, number, number),
        })
    })
}

fn directive(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let name = name.trim_end().to_ascii_lowercase();
    let value = value.trim();
    (NAMES.contains(&name.as_str()) && !value.is_empty()).then(|| (name, value.to_owned()))
}

fn escape_of(value: &str) -> Result<char, String> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        other => Err(format!(
            "invalid escape token '{other}' does not match ` or \\"
        )),
    }
}
