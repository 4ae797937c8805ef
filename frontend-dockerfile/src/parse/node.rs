//! The form of one instruction: keyword, flags, and arguments split as its keyword wants. What
//! they say is looked at later (`instruction`), when all of the file has been split: so does
//! BuildKit, which therefore warns of nothing in a file with a fault of this kind.

use super::words::{self, Json};
use super::{flag, heredoc};

/// One instruction, split.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// The keyword as written.
    pub(super) keyword: &'a str,
    /// `--name=value`, each.
    pub(super) flags: Vec<String>,
    pub(super) args: Args,
}

#[derive(Debug)]
pub(super) enum Args {
    /// None at all.
    None,
    /// Words.
    Words(Vec<String>),
    /// One text.
    Text(String),
    /// A JSON array of strings.
    Json(Vec<String>),
    /// `KEY=VALUE`, or one pair in the old form.
    Pairs {
        pairs: Vec<(String, String)>,
        legacy: bool,
    },
    /// HEALTHCHECK's type, and its command.
    Typed(String, Box<Args>),
}

/// Splits an instruction.
///
/// # Errors
/// When its form is wrong.
pub(super) fn split(text: &str, escape: char) -> Result<Node<'_>, String> {
    let text = text.trim();
    let (keyword, rest) = words::split_first(text).unwrap_or((text, ""));
    let (flags, rest) = flag::take(rest, escape);
    let args = args(&keyword.to_ascii_uppercase(), rest.trim(), escape)?;
    Ok(Node {
        keyword,
        flags,
        args,
    })
}

/// Whether here-documents may follow: RUN, COPY and ADD that aren't in JSON form, also as triggers.
pub(super) fn takes_heredocs(text: &str, escape: char) -> bool {
    let Ok(node) = split(text, escape) else {
        return false;
    };
    match (node.keyword.to_ascii_uppercase().as_str(), &node.args) {
        ("ONBUILD", Args::Text(trigger)) => takes_trigger_heredocs(trigger, escape),
        ("RUN" | "COPY" | "ADD", args) => !matches!(args, Args::Json(_)),
        _ => false,
    }
}

fn takes_trigger_heredocs(text: &str, escape: char) -> bool {
    let node = split(text, escape);
    node.is_ok_and(|node| {
        let keyword = node.keyword.to_ascii_uppercase();
        ["RUN", "COPY", "ADD"].contains(&keyword.as_str()) && !matches!(node.args, Args::Json(_))
    })
}

fn args(keyword: &str, rest: &str, escape: char) -> Result<Args, String> {
    Ok(match keyword {
        "ENV" | "LABEL" => pairs(keyword, rest, escape)?,
        "ARG" => Args::Words(words::split(rest, escape)),
        "EXPOSE" | "FROM" => Args::Words(words::plain(rest)),
        "ADD" | "COPY" | "VOLUME" => match json(rest)? {
            Some(words) => Args::Json(words),
            None => Args::Words(words::plain(rest)),
        },
        "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" => command(rest)?,
        "HEALTHCHECK" => typed(rest)?,
        "ONBUILD" => {
            // Only its form is looked at; what it says matters when it fires.
            if !rest.is_empty() {
                trigger(rest, escape)?;
            }
            text(rest)
        }
        _ => text(rest),
    })
}

/// A trigger's own trigger is refused later, so this needs to go no deeper.
fn trigger(rest: &str, escape: char) -> Result<(), String> {
    let (keyword, inner) = words::split_first(rest).unwrap_or((rest, ""));
    let keyword = keyword.to_ascii_uppercase();
    match keyword.as_str() {
        "ONBUILD" => Ok(()),
        keyword => args(keyword, flag::take(inner, escape).1.trim(), escape).map(|_| ()),
    }
}

fn text(rest: &str) -> Args {
    match rest {
        "" => Args::None,
        rest => Args::Text(rest.to_owned()),
    }
}

fn json(rest: &str) -> Result<Option<Vec<String>>, String> {
    match words::json(rest) {
        Json::Strings(words) => Ok(Some(words)),
        Json::No => Ok(None),
        Json::Others => {
            Err("when using JSON array syntax, arrays must be comprised of strings only".to_owned())
        }
    }
}

fn command(rest: &str) -> Result<Args, String> {
    Ok(json(rest)?.map_or_else(|| text(rest), Args::Json))
}

fn typed(rest: &str) -> Result<Args, String> {
    if rest.is_empty() {
        return Ok(Args::None);
    }
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Ok(Args::Typed(
        kind.to_owned(),
        Box::new(command(rest.trim_start())?),
    ))
}

fn pairs(keyword: &str, rest: &str, escape: char) -> Result<Args, String> {
    let words = words::split(rest, escape);
    let Some(first) = words.first() else {
        return Ok(Args::None);
    };
    if !first.contains('=') {
        let Some((name, value)) = words::split_first(rest) else {
            return Err(format!("{keyword} must have two arguments"));
        };
        return Ok(Args::Pairs {
            pairs: vec![(name.to_owned(), value.to_owned())],
            legacy: true,
        });
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!(
            "Syntax error - can't find = in {}. Must be of the form: name=value",
            crate::quote::quote(word)
        )),
    };
    Ok(Args::Pairs {
        pairs: words.iter().map(pair).collect::<Result<_, _>>()?,
        legacy: false,
    })
}

impl Args {
    /// The arguments as words, whatever their form.
    pub(super) fn words(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Words(words) | Self::Json(words) => words.clone(),
            Self::Text(text) => vec![text.clone()],
            Self::Pairs { pairs, .. } => pairs.iter().map(|(name, _)| name.clone()).collect(),
            Self::Typed(kind, rest) => {
                let mut words = vec![kind.clone()];
                words.extend(rest.words());
                words
            }
        }
    }
}

/// The here-document that a whole command is, when it is nothing else.
pub(crate) fn only_heredoc(text: &str) -> bool {
    matches!(heredoc::parse(text), Ok(Some(_)))
}
