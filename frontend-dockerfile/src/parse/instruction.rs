//! One instruction: what its arguments say.

use std::sync::Arc;

use super::flag::{Flags, Takes};
use super::line::Line;
use super::node::{self, Args, Node};
use super::{healthcheck, heredoc, mount};
use crate::DockerfileError;
use crate::ast::{Command, Copy, From, Heredoc, Instruction, Kind, Pairs, Run};
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

const COPY_FLAGS: &[(&str, Takes)] = &[
    ("chown", Takes::Text),
    ("from", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Truth),
    ("exclude", Takes::Texts),
    ("parents", Takes::Truth),
];

const ADD_FLAGS: &[(&str, Takes)] = &[
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Truth),
    ("keep-git-dir", Takes::Truth),
    ("checksum", Takes::Text),
    ("unpack", Takes::Truth),
    ("exclude", Takes::Texts),
];

const RUN_FLAGS: &[(&str, Takes)] = &[
    ("mount", Takes::Texts),
    ("network", Takes::Text),
    ("security", Takes::Text),
    ("device", Takes::Texts),
];

/// Reads an instruction whose form is right.
pub(super) fn parse(
    file: &Arc<str>,
    line: &Line,
    node: &Node<'_>,
) -> Result<Instruction, DockerfileError> {
    let location = lines(file, line.first, line.last);
    let kind = kind(node, line).map_err(|wrong| {
        DockerfileError::at(location.clone(), wrong.message)
            .about(wrong.word)
            .parsing()
    })?;
    Ok(Instruction {
        kind,
        keyword: node.keyword.to_owned(),
        text: line.text.trim().to_owned(),
        location,
        comments: line.comments.clone(),
    })
}

fn kind(node: &Node<'_>, line: &Line) -> Result<Kind, Wrong> {
    let upper = node.keyword.to_ascii_uppercase();
    Ok(match upper.as_str() {
        "ADD" | "COPY" => copy(&upper, node, &line.heredocs)?,
        "ARG" => Kind::Arg(args(&node.args)?),
        "CMD" => {
            no_flags(node)?;
            Kind::Cmd(command(&node.args))
        }
        "ENTRYPOINT" => {
            no_flags(node)?;
            Kind::Entrypoint(command(&node.args))
        }
        "ENV" => Kind::Env(pairs("ENV", node)?),
        "LABEL" => Kind::Label(pairs("LABEL", node)?),
        "EXPOSE" => Kind::Expose(expose(node)?),
        "FROM" => Kind::From(from(node)?),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck::parse(node)?),
        "MAINTAINER" => Kind::Maintainer(one("MAINTAINER", node)?),
        "ONBUILD" => Kind::Onbuild(onbuild(node, line)?),
        "RUN" => Kind::Run(Box::new(run(node, line)?)),
        "SHELL" => Kind::Shell(shell(node)?),
        "STOPSIGNAL" => Kind::Stopsignal(only("STOPSIGNAL", node)?),
        "USER" => Kind::User(one("USER", node)?),
        "VOLUME" => Kind::Volume(volume(node)?),
        "WORKDIR" => Kind::Workdir(one("WORKDIR", node)?),
        _ => return Err(unknown(node.keyword)),
    })
}

fn unknown(keyword: &str) -> Wrong {
    let hint = did_you_mean(&keyword.to_ascii_uppercase(), KEYWORDS.iter().copied());
    let hint = match keyword.chars().any(char::is_uppercase) {
        true => hint,
        false => hint.to_lowercase(),
    };
    let shown: String = keyword.chars().take(100).collect();
    Wrong::word(format!("unknown instruction: {shown}{hint}"), keyword)
}

fn no_flags(node: &Node<'_>) -> Result<(), Wrong> {
    Flags::new(&node.flags, &[]).map(|_| ())
}

fn at_least_one(keyword: &str) -> Wrong {
    format!("{keyword} requires at least one argument").into()
}

fn only(keyword: &str, node: &Node<'_>) -> Result<String, Wrong> {
    match &node.args {
        Args::Text(text) => Ok(text.clone()),
        _ => Err(format!("{keyword} requires exactly one argument").into()),
    }
}

fn one(keyword: &str, node: &Node<'_>) -> Result<String, Wrong> {
    let text = only(keyword, node)?;
    no_flags(node)?;
    Ok(text)
}

/// A trigger is looked at when it fires; only what can never fire is refused at once.
fn onbuild(node: &Node<'_>, line: &Line) -> Result<String, Wrong> {
    let Args::Text(rest) = &node.args else {
        return Err(at_least_one("ONBUILD"));
    };
    no_flags(node)?;
    let keyword = rest.split_whitespace().next().unwrap_or_default();
    match keyword.to_ascii_uppercase().as_str() {
        "ONBUILD" => {
            return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
                .to_owned()
                .into());
        }
        keyword @ ("MAINTAINER" | "FROM") => {
            return Err(format!("{keyword} isn't allowed as an ONBUILD trigger").into());
        }
        _ => {}
    }
    let mut text = line.text.trim_start()[node.keyword.len()..]
        .trim_start()
        .to_owned();
    for heredoc in &line.heredocs {
        text = format!("{text}\n{}{}", heredoc.content, heredoc.name);
    }
    Ok(text)
}

/// A command in JSON form, or else for the shell.
pub(super) fn command(args: &Args) -> Command {
    match args {
        Args::Json(words) => Command::Exec(words.clone()),
        Args::Text(text) => Command::Shell(text.clone()),
        _ => Command::Shell(String::new()),
    }
}

fn shell(node: &Node<'_>) -> Result<Vec<String>, Wrong> {
    no_flags(node)?;
    match &node.args {
        Args::Json(words) if !words.is_empty() => Ok(words.clone()),
        Args::Text(_) => Err(
            "SHELL requires the arguments to be in JSON form, such as [\"/bin/bash\", \"-c\"]"
                .to_owned()
                .into(),
        ),
        _ => Err(at_least_one("SHELL")),
    }
}

fn expose(node: &Node<'_>) -> Result<Vec<String>, Wrong> {
    let mut words = node.args.words();
    if words.is_empty() {
        return Err(at_least_one("EXPOSE"));
    }
    no_flags(node)?;
    words.sort();
    Ok(words)
}

fn volume(node: &Node<'_>) -> Result<Vec<String>, Wrong> {
    let words = node.args.words();
    if words.is_empty() {
        return Err(at_least_one("VOLUME"));
    }
    no_flags(node)?;
    let volumes: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
    match volumes.iter().any(String::is_empty) {
        true => Err("VOLUME specified can not be an empty string"
            .to_owned()
            .into()),
        false => Ok(volumes),
    }
}

fn args(args: &Args) -> Result<Vec<(String, Option<String>)>, Wrong> {
    let words = args.words();
    if words.is_empty() {
        return Err(at_least_one("ARG"));
    }
    let arg = |word: String| match word.split_once('=') {
        Some(("", _)) => Err("ARG names can not be blank".to_owned().into()),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word, None)),
    };
    words.into_iter().map(arg).collect()
}

fn pairs(keyword: &str, node: &Node<'_>) -> Result<Pairs, Wrong> {
    no_flags(node)?;
    let Args::Pairs { pairs, legacy } = &node.args else {
        return Err(at_least_one(keyword));
    };
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(format!("{keyword} names can not be blank").into());
    }
    Ok(Pairs {
        pairs: pairs.clone(),
        legacy: *legacy,
    })
}

fn from(node: &Node<'_>) -> Result<From, Wrong> {
    let words = node.args.words();
    let (image, keyword, name) = match &words[..] {
        [image] => (image, None, None),
        [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            (image, Some(keyword.clone()), Some(name.clone()))
        }
        _ => {
            return Err(
                "FROM requires either one or three arguments: FROM IMAGE [AS NAME]"
                    .to_owned()
                    .into(),
            );
        }
    };
    if let Some(name) = &name {
        check_stage_name(name)?;
    }
    let flags = Flags::new(&node.flags, &[("platform", Takes::Text)])?;
    Ok(From {
        platform: flags.text("platform").filter(|text| !text.is_empty()),
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
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        crate::quote::quote(name)
    ))
}

fn run(node: &Node<'_>, line: &Line) -> Result<Run, Wrong> {
    let flags = Flags::new(&node.flags, RUN_FLAGS)?;
    let mut mounts = Vec::new();
    for text in flags.all("mount") {
        mounts.push(mount::parse(&text).map_err(|message| Wrong::word(message, "--mount"))?);
    }
    let network = flags.text("network");
    if let Some(other) = network
        .as_deref()
        .filter(|n| !["default", "none", "host"].contains(n))
    {
        let shown = crate::quote::quote(other);
        let message =
            format!("invalid network mode {shown} for RUN --network: use default, none or host");
        return Err(Wrong::word(message, "--network"));
    }
    let security = flags.text("security");
    if let Some(other) = security
        .as_deref()
        .filter(|s| !["sandbox", "insecure"].contains(s))
    {
        let shown = crate::quote::quote(other);
        let message = format!("security {shown} is not valid: use sandbox or insecure");
        return Err(Wrong::word(message, "--security"));
    }
    Ok(Run {
        mounts,
        network,
        security,
        devices: flags.all("device"),
        command: command(&node.args),
        heredocs: line.heredocs.clone(),
    })
}

fn copy(keyword: &str, node: &Node<'_>, heredocs: &[Heredoc]) -> Result<Kind, Wrong> {
    let mut words = node.args.words();
    if words.len() < 2 {
        return Err(format!(
            "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
        .into());
    }
    let is_add = keyword == "ADD";
    let flags = Flags::new(&node.flags, if is_add { ADD_FLAGS } else { COPY_FLAGS })?;
    let dest = words.pop().unwrap_or_default();
    if node::only_heredoc(&dest) {
        return Err(format!("{keyword} cannot accept a heredoc as a destination").into());
    }
    let mut copy = Copy {
        from: flags.text("from").filter(|text| !text.is_empty()),
        chown: flags.text("chown").filter(|text| !text.is_empty()),
        chmod: flags.text("chmod").filter(|text| !text.is_empty()),
        link: flags.truth("link").unwrap_or(false),
        parents: flags.truth("parents").unwrap_or(false),
        exclude: flags.all("exclude"),
        checksum: flags.text("checksum").filter(|text| !text.is_empty()),
        keep_git_dir: flags.truth("keep-git-dir"),
        unpack: flags.truth("unpack"),
        dest,
        ..Copy::default()
    };
    for word in words {
        match heredoc::parse(&word) {
            Ok(Some(start)) => copy.heredocs.push(filled(start, heredocs)),
            _ => copy.sources.push(word),
        }
    }
    Ok(match is_add {
        true => Kind::Add(copy),
        false => Kind::Copy(copy),
    })
}

/// The text of the here-document of that name; of two with one name, the last one's.
fn filled(mut start: Heredoc, heredocs: &[Heredoc]) -> Heredoc {
    let mut named = heredocs.iter().rev();
    let found = named.find(|heredoc| heredoc.name == start.name);
    start.content = found.map(|found| found.content.clone()).unwrap_or_default();
    start
}
