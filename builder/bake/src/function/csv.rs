//! `csvdecode`.

use hcl::Value;

use super::value::Outcome;

/// Rows of comma-separated values (RFC 4180), as objects by the names in the first.
pub(super) fn csv(text: &str) -> Outcome {
    let mut rows = csv_rows(text).into_iter();
    let head = rows.next().unwrap_or_default();
    let rows = rows.map(|row| {
        let own = head.iter().cloned().zip(row.into_iter().map(Value::from));
        Value::Object(own.collect())
    });
    Ok(Value::Array(rows.collect()))
}

fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let mut quoted = false;
    let mut rest = text.trim_end_matches(['\n', '\r']).chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quoted) {
            ('"', true) if rest.next_if_eq(&'"').is_some() => push(&mut rows, '"'),
            ('"', _) => quoted = !quoted,
            (',', false) => {
                if let Some(row) = rows.last_mut() {
                    row.push(String::new());
                }
            }
            ('\r', false) if rest.peek() == Some(&'\n') => {}
            ('\n', false) => rows.push(vec![String::new()]),
            (c, _) => push(&mut rows, c),
        }
    }
    rows
}

fn push(rows: &mut [Vec<String>], c: char) {
    if let Some(field) = rows.last_mut().and_then(|row| row.last_mut()) {
        field.push(c);
    }
}
