//! YAML text to values, as compose files use it: one document, aliases, merge keys (`<<`), the scalars
//! of the core schema (YAML 1.2.2, chapter 10.3).

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// How many values a document may have, those that aliases repeat included.
const MAX_VALUES: usize = 100_000;
/// How deep values may lie in each other.
const MAX_DEPTH: usize = 64;

/// Reads the first document of a text.
///
/// # Errors
/// When the text is no YAML, or its aliases make too much of it.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        count: 0,
    };
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(Value::Null),
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            event => return reader.value(event, 0),
        }
    }
}

struct Reader<'input> {
    events: Parser<'input, StrInput<'input>>,
    /// What anchors name, with how many values that is.
    anchors: BTreeMap<usize, (Value, usize)>,
    count: usize,
}

impl<'input> Reader<'input> {
    fn next(&mut self) -> Result<Event<'input>, String> {
        match self.events.next() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(Event::StreamEnd),
        }
    }

    /// The value that begins with an event.
    fn value(&mut self, event: Event<'_>, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!(
                "values lie more than {MAX_DEPTH} deep in each other"
            ));
        }
        let before = self.count;
        self.add(1)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text =
                    style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str");
                let value = match is_text {
                    true => Value::from(text.as_ref()),
                    false => plain(&text),
                };
                (value, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let (value, count) = known.ok_or("an alias has no anchor before it")?;
                self.add(count)?;
                return Ok(value);
            }
            _ => return Err("a value is missing".to_owned()),
        };
        if anchor > 0 {
            let count = self.count - before;
            self.anchors.insert(anchor, (value.clone(), count));
        }
        Ok(value)
    }

    fn add(&mut self, count: usize) -> Result<(), String> {
        self.count += count;
        match self.count > MAX_VALUES {
            true => Err(format!("it has more than {MAX_VALUES} values")),
            false => Ok(()),
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::Array(items)),
                event => items.push(self.value(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let (mut own, mut merged) = (Map::new(), Map::new());
        loop {
            let key = match self.next()? {
                Event::MappingEnd => break,
                event => self.value(event, depth + 1)?,
            };
            let key = match key {
                Value::String(text) => text,
                Value::Array(_) | Value::Object(_) => {
                    return Err("a key is a list or a mapping".to_owned());
                }
                other => other.to_string(),
            };
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            match key.as_str() {
                "<<" => merge(&mut merged, value)?,
                _ if own.contains_key(&key) => return Err(format!("the key {key} is there twice")),
                _ => _ = own.insert(key, value),
            }
        }
        merged.extend(own);
        Ok(Value::Object(merged))
    }
}

/// What a merge key names: of several mappings the first that has a key counts.
fn merge(into: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    let all = match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    for one in all {
        let Value::Object(fields) = one else {
            return Err("'<<' names no mapping".to_owned());
        };
        for (key, value) in fields {
            into.entry(key).or_insert(value);
        }
    }
    Ok(())
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let whole = text.strip_prefix('+').unwrap_or(text).parse::<i64>().ok();
    let float = || text.parse::<f64>().ok().filter(|float| float.is_finite());
    match (starts, whole) {
        (true, Some(whole)) => whole.into(),
        (true, None) => float().map_or_else(|| text.into(), Value::from),
        (false, _) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_collections_aliases_and_merge_keys() {
        let text = "
a: &one {x: 1, y: 'two'}
b:
  <<: *one
  y: three
c: [true, ~, 1.5, \"1\", 1.2.3, -x, 0]
d: *one
e: |
  line
";
        let expected = json!({
            "a": {"x": 1, "y": "two"},
            "b": {"x": 1, "y": "three"},
            "c": [true, null, 1.5, "1", "1.2.3", "-x", 0],
            "d": {"x": 1, "y": "two"},
            "e": "line\n",
        });
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("").unwrap(), Value::Null);
    }

    #[test]
    fn hostile_documents_end_in_words() {
        let laughs = (1..12).fold(
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(),
            |text, n| {
                let alias = format!("*a{}", n - 1);
                text + &format!("a{n}: &a{n} [{}]\n", vec![alias; 9].join(", "))
            },
        );
        assert!(parse(&laughs).unwrap_err().contains("more than"));
        assert!(parse(&"[".repeat(5000)).is_err());
        for text in ["a: [", "a: *b", "a: 1\na: 2", "<<: 1", "{[a]: b}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
