//! `if`: names and texts compared with `==` and `!=`, joined by `&&` and `||` (which binds less),
//! negated by `!`, grouped by parentheses; a name alone holds when it is `true`.

use crate::limits::MAX_CONDITION_DEPTH;
use crate::template::{Scope, Unfilled};

/// Whether a condition holds. All of it is looked at, so that a wrong name is never hidden.
pub(crate) fn holds(text: &str, scope: &Scope<'_>) -> Result<bool, Unfilled> {
    let mut reader = Reader {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        scope,
    };
    let held = reader.either()?;
    match reader.next() {
        None => Ok(held),
        Some(token) => Err(format!("{} is too much here", token.shown()).into()),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Sign(&'static str),
    Word(String),
    Quoted(String),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Sign(sign) => format!("'{sign}'"),
            Self::Word(text) | Self::Quoted(text) => format!("'{text}'"),
        }
    }
}

const SIGNS: &[&str] = &["==", "!=", "&&", "||", "(", ")", "!"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        let (token, length) = match (first, sign) {
            ('\'' | '"', _) => quoted(rest, first)?,
            (_, Some(sign)) => (Token::Sign(sign), sign.len()),
            _ => word(rest)?,
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), String> {
    let inner = &text[1..];
    let end = inner
        .find(quote)
        .ok_or_else(|| format!("a {quote} has no {quote} after it"))?;
    Ok((Token::Quoted(inner[..end].to_owned()), end + 2))
}

fn word(text: &str) -> Result<(Token, usize), String> {
    let outside = |c: char| !(c.is_alphanumeric() || "._-@,".contains(c));
    match text.find(outside).unwrap_or(text.len()) {
        0 => Err(format!(
            "'{}' is not known in conditions, which have ==, !=, &&, ||, ! and parentheses",
            text.chars().take(1).collect::<String>()
        )),
        end => Ok((Token::Word(text[..end].to_owned()), end)),
    }
}

struct Reader<'a> {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    scope: &'a Scope<'a>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn either(&mut self) -> Result<bool, Unfilled> {
        let mut held = self.all()?;
        while self.take("||") {
            held |= self.all()?;
        }
        Ok(held)
    }

    fn all(&mut self) -> Result<bool, Unfilled> {
        let mut held = self.one()?;
        while self.take("&&") {
            held &= self.one()?;
        }
        Ok(held)
    }

    fn one(&mut self) -> Result<bool, Unfilled> {
        self.depth += 1;
        if self.depth > MAX_CONDITION_DEPTH {
            let message = format!("the condition is nested more than {MAX_CONDITION_DEPTH} deep");
            return Err(message.into());
        }
        let held = self.nested();
        self.depth -= 1;
        held
    }

    fn nested(&mut self) -> Result<bool, Unfilled> {
        if self.take("!") {
            return Ok(!self.one()?);
        }
        if self.take("(") {
            let held = self.either()?;
            return match self.take(")") {
                true => Ok(held),
                false => Err("a '(' has no ')' after it".into()),
            };
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<bool, Unfilled> {
        let start = self.tokens.get(self.at).cloned();
        let left = self.operand()?;
        if self.take("==") {
            return Ok(left == self.operand()?);
        }
        if self.take("!=") {
            return Ok(left != self.operand()?);
        }
        match (left.as_str(), start) {
            ("true", Some(Token::Word(_))) => Ok(true),
            ("false", Some(Token::Word(_))) => Ok(false),
            (value, start) => Err(format!(
                "{} is '{value}', neither true nor false: compare it with == or !=",
                start.map_or_else(String::new, |start| start.shown())
            )
            .into()),
        }
    }

    fn operand(&mut self) -> Result<String, Unfilled> {
        match self.next() {
            Some(Token::Quoted(text)) => Ok(text),
            Some(Token::Word(word)) => match word.as_str() {
                "true" | "false" => Ok(word),
                number if number.parse::<i64>().is_ok() => Ok(word),
                name => self.scope.get(name),
            },
            Some(token @ Token::Sign(_)) => Err(format!(
                "a name or a text in quotes is missing before {}",
                token.shown()
            )
            .into()),
            None => Err("a name or a text in quotes is missing at the end".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    use kiln_graph::Platform;

    use crate::value::Values;

    fn check(text: &str) -> Result<bool, Unfilled> {
        let pairs = [
            ("profile", "debug"),
            ("on", "true"),
            ("n", "3"),
            ("odd", "a||b == c"),
        ];
        let params = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let arm = Platform::new("linux", "arm64", "");
        let (file, known) = (crate::template::empty_file(), crate::ValueTable::new());
        let values = Rc::new(Values::new(&file, &known));
        holds(text, &Scope::new(&params, &arm, &arm, values))
    }

    #[test]
    fn comparisons() {
        let cases = [
            ("params.profile == 'debug'", true),
            ("params.profile != \"debug\"", false),
            ("params.on", true),
            ("!params.on", false),
            ("!!params.on", true),
            ("!params.n == 4", true),
            ("params.n == 3 && platform.arch == 'arm64'", true),
            ("params.n == 4 || params.on", true),
            ("params.n==4&&params.on||false", false),
            ("params.n == 4 && (params.on || true)", false),
            ("!(params.n == 4) && params.on", true),
            ("params.odd == 'a||b == c'", true),
        ];
        for (text, want) in cases {
            assert_eq!(check(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        let cases = [
            ("params.profile", "'params.profile' is 'debug', neither"),
            ("'true'", "neither true nor false"),
            ("true || params.onn", "did you mean 'params.on'"),
            ("== 'a'", "missing before '=='"),
            ("", "missing at the end"),
            ("true true", "'true' is too much here"),
            ("(true", "a '(' has no ')'"),
            ("params.n == 'x", "a ' has no '"),
            ("params.n < 3", "'<' is not known in conditions"),
            (&"!".repeat(100_000), "nested more than 64 deep"),
            (&"(".repeat(100_000), "nested more than 64 deep"),
        ];
        for (text, want) in cases {
            let error = format!("{:?}", check(text).unwrap_err());
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
