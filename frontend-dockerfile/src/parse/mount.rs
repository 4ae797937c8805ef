//! `RUN --mount`: comma-separated fields, as CSV. What they say is looked at when their variables
//! are known.

use crate::ast::Mount;

/// Reads the fields of a mount.
pub(super) fn parse(text: &str) -> Result<Mount, String> {
    let mut fields = Vec::new();
    for field in csv(text)? {
        let (name, value) = match field.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (field, None),
        };
        if let Some(value) = value
            .as_deref()
            .filter(|_| name.eq_ignore_ascii_case("from"))
        {
            let variable = value.find('$');
            if variable.is_some_and(|at| at + 1 < value.len()) {
                return Err(format!(
                    "'{}' doesn't support variable expansion, define alias stage instead",
                    name.to_ascii_lowercase()
                ));
            }
        }
        fields.push((name, value));
    }
    Ok(Mount { fields })
}

/// One line of comma-separated values; a field in double quotes may hold commas, and doubled
/// quotes.
pub(crate) fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted, text)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err(bad_csv(text, "bare \" in non-quoted-field"));
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(fields),
            None => return Err(bad_csv(text, "extraneous or missing \" in quoted-field")),
        }
    }
}

/// The field behind an opening quote, and what is behind the closing one.
fn quoted_field<'a>(text: &'a str, whole: &str) -> Result<(String, &'a str), String> {
    let mut field = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('"') {
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, after)),
        }
    }
    Err(bad_csv(whole, "extraneous or missing \" in quoted-field"))
}

fn bad_csv(text: &str, reason: &str) -> String {
    format!("failed to parse csv mounts: '{text}': {reason}")
}

#[cfg(test)]
mod tests {
    use super::csv;

    #[test]
    fn fields_as_csv_has_them() {
        let cases: [(&str, &[&str]); 5] = [
            ("a,b=c", &["a", "b=c"]),
            (r#""a,b",c"#, &["a,b", "c"]),
            (r#""a""b""#, &["a\"b"]),
            ("a,,b", &["a", "", "b"]),
            ("", &[""]),
        ];
        for (text, want) in cases {
            assert_eq!(csv(text).unwrap(), want, "{text}");
        }
        for bad in [r#"a"b"#, r#""a"#, r#""a"b"#] {
            assert!(csv(bad).is_err(), "{bad}");
        }
    }
}
