//! From text to syntax tree: logical lines, their form, what they say.

mod directive;
mod duration;
mod flag;
mod healthcheck;
mod heredoc;
mod instruction;
mod line;
mod mount;
mod node;
mod words;

use std::sync::Arc;

use crate::DockerfileError;
use crate::ast::{Dockerfile, Instruction, Kind};
use crate::error::lines;
use crate::limits::{MAX_FILE, MAX_STAGES};
pub(crate) use heredoc::chomped;
use line::{Line, Read};
pub(crate) use node::only_heredoc;

/// Reads a Dockerfile. `file` is its name for messages.
///
/// # Errors
/// When it isn't one.
pub fn parse(file: &str, text: &str) -> Result<Dockerfile, DockerfileError> {
    let (file, error) = parse_partial(file, text);
    match error {
        Some(error) => Err(error),
        None => Ok(file),
    }
}

/// Reads a Dockerfile as far as it can be read, and says why no further.
#[must_use]
pub fn parse_partial(file: &str, text: &str) -> (Dockerfile, Option<DockerfileError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (file, error) = read(&file.into(), text);
    (file, error.map(|error| error.narrowed(text)))
}

fn read(file: &Arc<str>, text: &str) -> (Dockerfile, Option<DockerfileError>) {
    let mut dockerfile = Dockerfile {
        escape: '\\',
        directives: Vec::new(),
        instructions: Vec::new(),
        empty_continuations: Vec::new(),
        comments: Vec::new(),
        text: text.into(),
    };
    let error = fill(file, text, &mut dockerfile).err();
    (dockerfile, error)
}

fn fill(file: &Arc<str>, text: &str, into: &mut Dockerfile) -> Result<(), DockerfileError> {
    if text.len() > MAX_FILE {
        return Err(DockerfileError::whole(format!(
            "{file}: the file is larger than {MAX_FILE} bytes"
        )));
    }
    let read = line::read(file, text)?;
    into.directives.clone_from(&read.directives);
    let nodes = split(file, &read)?;
    if nodes.is_empty() {
        return Err(
            DockerfileError::whole(format!("{file}: file with no instructions"))
                .with_help("a Dockerfile starts with FROM"),
        );
    }
    into.escape = read.escape;
    into.empty_continuations
        .clone_from(&read.empty_continuations);
    into.comments.clone_from(&read.comments);
    let mut stages = 0;
    for (line, node) in &nodes {
        let instruction = instruction::parse(file, line, node)?;
        stages += usize::from(matches!(instruction.kind, Kind::From(_)));
        check_place(&instruction, stages)?;
        into.instructions.push(instruction);
    }
    match stages {
        0 => Err(
            DockerfileError::whole("dockerfile contains no stages to build")
                .with_help("add a FROM instruction"),
        ),
        _ => Ok(()),
    }
}

fn split<'a>(
    file: &Arc<str>,
    read: &'a Read,
) -> Result<Vec<(&'a Line, node::Node<'a>)>, DockerfileError> {
    let one = |line: &'a Line| match node::split(&line.text, read.escape) {
        Ok(node) => Ok((line, node)),
        Err(message) => Err(DockerfileError::at(
            lines(file, line.first, line.last),
            message,
        )),
    };
    read.lines.iter().map(one).collect()
}

fn check_place(instruction: &Instruction, stages: usize) -> Result<(), DockerfileError> {
    let keyword = &instruction.keyword;
    let message = match (stages, &instruction.kind) {
        (0, Kind::Arg(_)) => return Ok(()),
        (0, _) => format!("no build stage in current context: {keyword} comes before FROM"),
        (1..=MAX_STAGES, _) => return Ok(()),
        _ => format!("the file has more than {MAX_STAGES} stages"),
    };
    Err(DockerfileError::at(instruction.location.clone(), message))
}

/// Reads the instruction of an ONBUILD trigger; its place is the FROM that fires it.
///
/// # Errors
/// When it isn't an instruction that a trigger may have.
pub fn parse_trigger(
    file: &str,
    text: &str,
    (first, last): (u32, u32),
) -> Result<Instruction, DockerfileError> {
    let file: Arc<str> = file.into();
    let at = lines(&file, first, last);
    let read = line::read(&file, text).map_err(|error| error.moved(&at))?;
    let [only] = &read.lines[..] else {
        return Err(DockerfileError::at(
            at,
            format!("onbuild trigger should be a single expression: '{text}'"),
        ));
    };
    let node = node::split(&only.text, read.escape)
        .map_err(|message| DockerfileError::at(at.clone(), message))?;
    let mut instruction =
        instruction::parse(&file, only, &node).map_err(|error| error.moved(&at))?;
    if let Kind::From(_) | Kind::Onbuild(_) = instruction.kind {
        let keyword = &instruction.keyword;
        let message = format!("{keyword} isn't allowed as an ONBUILD trigger");
        return Err(DockerfileError::at(at, message));
    }
    instruction.location = at;
    Ok(instruction)
}
