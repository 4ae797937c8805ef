//! `if`: comparisons of names and texts with `==` and `!=`, joined by `&&` and `||` (which binds
//! less), negated by `!`; a name alone holds when it is `true`.

use crate::template::Scope;

/// Whether a condition holds.
pub(crate) fn holds(text: &str, scope: &Scope) -> Result<bool, String> {
    let mut any = false;
    for alternative in text.split("||") {
        let mut all = true;
        for part in alternative.split("&&") {
            all &= comparison(part.trim(), scope)?;
        }
        any |= all;
    }
    Ok(any)
}

fn comparison(text: &str, scope: &Scope) -> Result<bool, String> {
    if let Some((left, right)) = text.split_once("==") {
        return Ok(operand(left, scope)? == operand(right, scope)?);
    }
    if let Some((left, right)) = text.split_once("!=") {
        return Ok(operand(left, scope)? != operand(right, scope)?);
    }
    if let Some(negated) = text.strip_prefix('!') {
        return Ok(!comparison(negated.trim(), scope)?);
    }
    match operand(text, scope)?.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!(
            "'{text}' is '{other}', neither true nor false: compare it with == or !="
        )),
    }
}

fn operand(text: &str, scope: &Scope) -> Result<String, String> {
    let text = text.trim();
    for quote in ['\'', '"'] {
        if let Some(inner) = text
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            return Ok(inner.to_owned());
        }
    }
    if text.is_empty() {
        return Err("a side of a comparison is missing".to_owned());
    }
    if text == "true" || text == "false" || text.parse::<i64>().is_ok() {
        return Ok(text.to_owned());
    }
    scope.get(text).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::Platform;

    #[test]
    fn comparisons() {
        let pairs = [("profile", "debug"), ("on", "true"), ("n", "3")];
        let params = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let scope = Scope::new(&params, &Platform::new("linux", "arm64", ""));
        let cases = [
            ("params.profile == 'debug'", Ok(true)),
            ("params.profile != \"debug\"", Ok(false)),
            ("params.on", Ok(true)),
            ("!params.on", Ok(false)),
            ("params.n == 3 && platform.arch == 'arm64'", Ok(true)),
            ("params.n == 4 || params.on", Ok(true)),
            ("params.n == 4 && params.on || false", Ok(false)),
        ];
        for (text, want) in cases {
            assert_eq!(holds(text, &scope), want, "{text}");
        }
        for wrong in ["params.profile", "params.x", "== 'a'", ""] {
            assert!(holds(wrong, &scope).is_err(), "{wrong}");
        }
    }
}
