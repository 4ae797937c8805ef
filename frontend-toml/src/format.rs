//! The canonical layout of a kiln.toml. Comments, the order of keys, and all values stay.
//!
//! One blank line before each table and none after its header, one at most between keys; no
//! indentation; `key = value`; plain quotes where they say the same; lists on one line, or, when
//! that is longer than 100 columns, an item on each. A list with comments inside is left alone.

use toml_edit::{
    Array, Decor, DocumentMut, Formatted, InlineTable, Item, Key, KeyMut, Table, Value,
};

use crate::error::TomlError;

const COLUMNS: usize = 100;

/// Lays a kiln.toml out.
///
/// # Errors
/// When the text is no TOML.
pub fn format(text: &str) -> Result<String, TomlError> {
    let parsed: Result<DocumentMut, _> = text.parse();
    let mut document = parsed.map_err(|error| TomlError::whole(error.to_string()))?;
    let trailing = comments(document.trailing().as_str().unwrap_or_default());
    document.set_trailing(trailing);
    table(document.as_table_mut());
    let out = format!("{}\n", document.to_string().trim_matches('\n'));
    let same = |text: &str| toml::from_str::<toml::Table>(text).ok();
    match same(&out) == same(text) {
        true => Ok(out),
        false => Err(TomlError::whole(
            "formatting would change what the file says; this is a bug in kiln: the file is left alone",
        )),
    }
}

fn table(own: &mut Table) {
    let mut is_first = true;
    for (mut key, item) in own.iter_mut() {
        match item {
            Item::Value(value) => {
                pair(&mut key, value, is_first);
                is_first = false;
            }
            // Keys with dots have their comments in places of their own.
            Item::Table(inner) if inner.is_dotted() => is_first = false,
            Item::Table(inner) => {
                header(inner.decor_mut());
                table(inner);
            }
            Item::ArrayOfTables(all) => {
                for inner in all.iter_mut() {
                    header(inner.decor_mut());
                    table(inner);
                }
            }
            Item::None => {}
        }
    }
}

fn header(decor: &mut Decor) {
    let before = comments(
        decor
            .prefix()
            .and_then(|raw| raw.as_str())
            .unwrap_or_default(),
    );
    decor.set_prefix(format!("\n{}", before.trim_start_matches('\n')));
    let after = behind(decor);
    decor.set_suffix(after);
}

fn pair(key: &mut KeyMut<'_>, value: &mut Value, is_first: bool) {
    let decor = key.leaf_decor_mut();
    let before = comments(
        decor
            .prefix()
            .and_then(|raw| raw.as_str())
            .unwrap_or_default(),
    );
    let before = match is_first {
        true => before.trim_start_matches('\n'),
        false => &before,
    };
    decor.set_prefix(before);
    decor.set_suffix(" ");
    let after = behind(value.decor());
    if !has_comments(value) {
        flatten(value);
        let start = key.display_repr().chars().count() + " = ".len();
        if let Value::Array(array) = value
            && start + longest_line(array) > COLUMNS
        {
            break_up(array);
        }
    }
    let decor = value.decor_mut();
    decor.set_prefix(" ");
    decor.set_suffix(after);
}

/// What stands before a key or header: comments, and one blank line at most in a row.
fn comments(text: &str) -> String {
    let mut out = String::new();
    let mut is_blank = false;
    let whole = text.rsplit_once('\n').map_or_else(
        || if text.contains('#') { text } else { "" },
        |(whole, last)| if last.contains('#') { text } else { whole },
    );
    let has_lines = !whole.is_empty() || text.contains('\n');
    for line in whole.split('\n').filter(|_| has_lines).map(str::trim) {
        if line.is_empty() {
            is_blank = true;
            continue;
        }
        if std::mem::take(&mut is_blank) {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
    }
    if is_blank {
        out.push('\n');
    }
    out
}

/// A comment behind a value or header.
fn behind(decor: &Decor) -> String {
    let text = decor.suffix().and_then(|raw| raw.as_str());
    match text.unwrap_or_default().trim() {
        "" => String::new(),
        comment => format!(" {comment}"),
    }
}

fn in_decor(decor: &Decor) -> bool {
    let sides = [decor.prefix(), decor.suffix()];
    let mut texts = sides.into_iter().flatten().filter_map(|raw| raw.as_str());
    texts.any(|text| text.contains('#'))
}

/// Whether there are comments inside of a value.
fn has_comments(value: &Value) -> bool {
    let one = |value: &Value| in_decor(value.decor()) || has_comments(value);
    match value {
        Value::Array(array) => {
            let trailing = array.trailing().as_str().unwrap_or_default();
            trailing.contains('#') || array.iter().any(one)
        }
        Value::InlineTable(table) => {
            let trailing = table.trailing().as_str().unwrap_or_default();
            let key = |name: &str| table.key(name).is_some_and(in_key);
            let mut pairs = table.iter();
            trailing.contains('#') || pairs.any(|(name, value)| key(name) || one(value))
        }
        _ => false,
    }
}

fn in_key(key: &Key) -> bool {
    in_decor(key.leaf_decor()) || in_decor(key.dotted_decor())
}

/// Lays a value out on one line.
fn flatten(value: &mut Value) {
    match value {
        Value::Array(array) => {
            array.iter_mut().for_each(flatten);
            array.fmt();
            array.set_trailing("");
            array.set_trailing_comma(false);
        }
        Value::InlineTable(table) if !has_dots(table) => {
            table.iter_mut().for_each(|(_, value)| flatten(value));
            table.fmt();
            table.set_trailing("");
            table.set_trailing_comma(false);
        }
        Value::String(text) => requote(text),
        _ => {}
    }
}

fn has_dots(table: &InlineTable) -> bool {
    let mut values = table.iter();
    values.any(|(_, value)| matches!(value, Value::InlineTable(inner) if inner.is_dotted()))
}

/// `'text'` as `"text"`, where nothing in it asks for the former.
fn requote(text: &mut Formatted<String>) {
    let shown = text.display_repr();
    let is_literal = shown.starts_with('\'') && !shown.starts_with("'''");
    let is_plain = !text.value().contains(['"', '\\']) && !text.value().contains(char::is_control);
    if is_literal && is_plain {
        let decor = text.decor().clone();
        *text = Formatted::new(text.value().clone());
        *text.decor_mut() = decor;
    }
}

fn longest_line(array: &Array) -> usize {
    let text = array.to_string();
    let lines = text.trim().lines().map(|line| line.chars().count());
    lines.max().unwrap_or(0)
}

fn break_up(array: &mut Array) {
    for value in array.iter_mut() {
        value.decor_mut().set_prefix("\n  ");
        value.decor_mut().set_suffix("");
    }
    array.set_trailing("\n");
    array.set_trailing_comma(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    const UGLY: &str = r#"

# about the file
  version=1   # the only one


[params.a]

default='x'
[steps.build] # a step
from   = 'docker.io/library/busybox:1'


# what it runs
run = """
  a
"""
copy=[{from="context",paths=["aaaaaaaaaaaaaaaaaaaaaaaa","bbbbbbbbbbbbbbbbbbbbbbbbbbb"],to="/src/"},{text='say "x"',to="/y"}]
  caches = [
    { target = "/c" }, # kept
  ]
env = {A="1",  B = "2",}

   [[images.app.layers]]
name="n"
# the end
"#;

    #[test]
    fn the_layout() {
        insta::assert_snapshot!(format(UGLY).unwrap());
    }

    #[test]
    fn errors_are_kept() {
        assert!(format("a = ").is_err());
    }

    fn line() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "",
            "  ",
            "# c",
            "  # d  ",
            "k = 1",
            "k='a'",
            "k = [ 1,2 , ]",
            "k = [1, # c\n 2]",
            "k = {a=1, b = [ 'x' ]}",
            "k = \"\"\"\n # no\n\n  x\"\"\"",
            "[t]",
            " [ t ] # c",
            "[[a]]",
            "d.e = 1",
            "d . e=2 # x",
            "\"q r\" = 'it\"s'",
            "k = ''' y\n\n # z '''",
            "[t.u]",
        ])
        .prop_map(str::to_owned)
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_and_comments_stay_and_twice_is_once(lines in prop::collection::vec(line(), 0..12)) {
            let mut text = String::new();
            for (n, line) in lines.iter().enumerate() {
                let line = line.replace("k =", &format!("k{n} =")).replace("k=", &format!("k{n}="));
                let line = line.replace("[t", &format!("[t{n}")).replace("[ t", &format!("[ t{n}"));
                let line = line.replace("d.e", &format!("d{n}.e")).replace("d .", &format!("d{n} ."));
                text += &(line.replace("q r", &format!("q {n}")) + "\n");
            }
            prop_assume!(toml::from_str::<toml::Table>(&text).is_ok());
            let once = format(&text).unwrap();
            prop_assert_eq!(
                toml::from_str::<toml::Table>(&once).unwrap(),
                toml::from_str::<toml::Table>(&text).unwrap()
            );
            prop_assert_eq!(once.matches('#').count(), text.matches('#').count());
            prop_assert_eq!(format(&once).unwrap(), once);
        }
    }
}
