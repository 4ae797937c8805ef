//! One instruction.

use std::sync::Arc;

use super::flag::{self, Flags};
use super::line::{Line, heredoc_word};
use super::{healthcheck, mount, words};
use crate::DockerfileError;
use crate::ast::{Command, Copy, From, Instruction, Kind, Pairs, Run};
use crate::error::{Wrong, lines};
use crate::suggest::did_you_mean;

const KEYWORDS: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads an instruction.
pub(crate) fn parse(
    file: &Arc<str>,
    line: &Line,
    escape: char,
) -> Result<Instruction, DockerfileError> {
    let location = lines(file, line.first, line.last);
    let (keyword, rest) = line
        .text
        .split_once(char::is_whitespace)
        .unwrap_or((&line.text, ""));
    let kind = kind(keyword, rest.trim(), line, escape)
        .map_err(|wrong| DockerfileError::at(location.clone(), wrong.message).about(wrong.word))?;
    Ok(Instruction {
        kind,
        keyword: keyword.to_owned(),
        text: line.text.clone(),
        location,
        comments: line.comments.clone(),
    })
}

fn kind(keyword: &str, rest: &str, line: &Line, escape: char) -> Result<Kind, Wrong> {
    let upper = keyword.to_ascii_uppercase();
    if !KEYWORDS.contains(&upper.as_str()) {
        let hint = did_you_mean(&upper, KEYWORDS.iter().copied());
        let message = format!("unknown instruction: {keyword}{hint}");
        return Err(Wrong::word(message, keyword));
    }
    if upper == "ONBUILD" {
        return Ok(onbuild(rest, line)?);
    }
    let (flags, rest) = match upper.as_str() {
        "ADD" | "COPY" | "FROM" | "HEALTHCHECK" | "RUN" => flag::take(rest, escape),
        _ => (Vec::new(), rest),
    };
    let (known, repeatable) = known_flags(&upper);
    let flags = Flags::new(&upper, flags, known, repeatable)?;
    if rest.is_empty() && !["RUN", "CMD", "ENTRYPOINT"].contains(&upper.as_str()) {
        return Err(format!("{upper} requires at least one argument").into());
    }
    Ok(match upper.as_str() {
        "ADD" => Kind::Add(copy(&upper, &flags, rest, line)?),
        "COPY" => Kind::Copy(copy(&upper, &flags, rest, line)?),
        "ARG" => Kind::Arg(args(rest, escape)?),
        "CMD" => Kind::Cmd(command(rest)?),
        "ENTRYPOINT" => Kind::Entrypoint(command(rest)?),
        "ENV" => Kind::Env(pairs(&upper, rest, escape)?),
        "LABEL" => Kind::Label(pairs(&upper, rest, escape)?),
        "EXPOSE" => Kind::Expose(words::plain(rest)),
        "FROM" => Kind::From(from(&flags, rest)?),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck::parse(&flags, rest)?),
        "MAINTAINER" => Kind::Maintainer(rest.to_owned()),
        "RUN" => Kind::Run(Box::new(run(&flags, rest, line)?)),
        "SHELL" => Kind::Shell(shell(rest)?),
        "STOPSIGNAL" => Kind::Stopsignal(one(&upper, rest)?),
        "USER" => Kind::User(one(&upper, rest)?),
        "VOLUME" => Kind::Volume(volume(rest)?),
        _ => Kind::Workdir(rest.to_owned()),
    })
}

fn known_flags(keyword: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match keyword {
        "COPY" => (
            &["chown", "from", "chmod", "link", "parents", "exclude"],
            &["exclude"],
        ),
        "ADD" => (
            &[
                "chown",
                "chmod",
                "link",
                "keep-git-dir",
                "checksum",
                "unpack",
                "exclude",
            ],
            &["exclude"],
        ),
        "FROM" => (&["platform"], &[]),
        "RUN" => (
            &["mount", "network", "security", "device"],
            &["mount", "device"],
        ),
        "HEALTHCHECK" => (
            &[
                "interval",
                "timeout",
                "start-period",
                "start-interval",
                "retries",
            ],
            &[],
        ),
        _ => (&[], &[]),
    }
}

/// A trigger is looked at when it fires; only what can never fire is refused at once.
fn onbuild(rest: &str, line: &Line) -> Result<Kind, String> {
    let keyword = rest
        .split_ascii_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase();
    match keyword.as_str() {
        "" => return Err("ONBUILD requires at least one argument".to_owned()),
        "ONBUILD" => return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        "MAINTAINER" | "FROM" => {
            return Err(format!("{keyword} isn't allowed as an ONBUILD trigger"));
        }
        _ => {}
    }
    let mut text = rest.to_owned();
    for heredoc in &line.heredocs {
        text = format!("{text}\n{}{}", heredoc.content, heredoc.name);
    }
    Ok(Kind::Onbuild(text))
}

/// A command in JSON form, or else for the shell.
pub(crate) fn command(rest: &str) -> Result<Command, String> {
    if words::is_bad_json(rest) {
        return Err("only string type is allowed in JSON form".to_owned());
    }
    Ok(words::json(rest).map_or_else(|| Command::Shell(rest.to_owned()), Command::Exec))
}

fn one(keyword: &str, rest: &str) -> Result<String, String> {
    match rest.split_ascii_whitespace().count() {
        1 => Ok(rest.to_owned()),
        _ => Err(format!("{keyword} requires exactly one argument")),
    }
}

fn shell(rest: &str) -> Result<Vec<String>, String> {
    let words = words::json(rest).filter(|words| !words.is_empty());
    words.ok_or_else(|| {
        "SHELL requires the arguments to be in JSON form, such as [\"/bin/bash\", \"-c\"]"
            .to_owned()
    })
}

fn volume(rest: &str) -> Result<Vec<String>, String> {
    let volumes = words::json(rest).unwrap_or_else(|| words::plain(rest));
    if volumes.iter().any(|volume| volume.trim().is_empty()) {
        return Err("VOLUME specified can not be an empty string".to_owned());
    }
    Ok(volumes)
}

fn args(rest: &str, escape: char) -> Result<Vec<(String, Option<String>)>, String> {
    let arg = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(format!("ARG names can not be blank: '{word}'")),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word, None)),
    };
    words::split(rest, escape).into_iter().map(arg).collect()
}

fn pairs(keyword: &str, rest: &str, escape: char) -> Result<Pairs, String> {
    let words = words::split(rest, escape);
    let first = words.first().map_or("", String::as_str);
    if !first.contains('=') {
        let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if value.trim().is_empty() {
            return Err(format!("{keyword} must have two arguments"));
        }
        return Ok(Pairs {
            pairs: vec![(name.to_owned(), value.trim().to_owned())],
            legacy: true,
        });
    }
    let pair = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(format!("{keyword} names can not be blank")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!(
            "Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
        )),
    };
    Ok(Pairs {
        pairs: words.iter().map(pair).collect::<Result<_, _>>()?,
        legacy: false,
    })
}

fn from(flags: &Flags<'_>, rest: &str) -> Result<From, String> {
    let words = words::plain(rest);
    let platform = flags.text("platform")?;
    let (image, keyword, name) = match &words[..] {
        [image] => (image, None, None),
        [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            (image, Some(keyword.clone()), Some(name.clone()))
        }
        _ => {
            return Err(
                "FROM requires either one or three arguments: FROM IMAGE [AS NAME]".to_owned(),
            );
        }
    };
    if let Some(name) = &name {
        check_stage_name(name)?;
    }
    Ok(From {
        platform,
        image: image.clone(),
        name,
        as_keyword: keyword,
    })
}

fn check_stage_name(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if starts && name.chars().all(valid) {
        return Ok(());
    }
    Err(format!(
        "invalid name for build stage: \"{name}\", name can't start with a number or contain symbols"
    ))
}

fn run(flags: &Flags<'_>, rest: &str, line: &Line) -> Result<Run, Wrong> {
    let mut mounts = Vec::new();
    for text in flags.all("mount") {
        mounts.push(mount::parse(&text).map_err(|message| Wrong::word(message, "--mount"))?);
    }
    let network = flags.text("network")?;
    if let Some(other) = network
        .as_deref()
        .filter(|n| !["default", "none", "host"].contains(n))
    {
        let message =
            format!("invalid network mode '{other}' for RUN --network: use default, none or host");
        return Err(Wrong::word(message, "--network"));
    }
    let security = flags.text("security")?;
    if let Some(other) = security
        .as_deref()
        .filter(|s| !["sandbox", "insecure"].contains(s))
    {
        let message = format!("security '{other}' is not supported: use sandbox or insecure");
        return Err(Wrong::word(message, "--security"));
    }
    let (devices, heredocs) = (flags.all("device"), line.heredocs.clone());
    Ok(Run {
        mounts,
        network,
        security,
        devices,
        command: command(rest)?,
        heredocs,
    })
}

fn copy(keyword: &str, flags: &Flags<'_>, rest: &str, line: &Line) -> Result<Copy, String> {
    let mut paths = words::json(rest).unwrap_or_else(|| words::plain(rest));
    if paths.len() < 2 {
        return Err(format!(
            "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        ));
    }
    let dest = paths.pop().unwrap_or_default();
    if !line.heredocs.is_empty() {
        if heredoc_word(&dest).is_some() {
            return Err(format!(
                "{keyword} cannot accept a heredoc as a destination"
            ));
        }
        paths.retain(|path| heredoc_word(path).is_none());
    }
    Ok(Copy {
        from: flags.text("from")?,
        chown: flags.text("chown")?,
        chmod: flags.text("chmod")?,
        link: flags.truth("link")?.unwrap_or(false),
        parents: flags.truth("parents")?.unwrap_or(false),
        exclude: flags.all("exclude"),
        checksum: flags.text("checksum")?,
        keep_git_dir: flags.truth("keep-git-dir")?.unwrap_or(false),
        unpack: flags.truth("unpack")?,
        sources: paths,
        heredocs: line.heredocs.clone(),
        dest,
    })
}
