//! From text to syntax tree: logical lines, then instructions.

mod flag;
mod healthcheck;
mod instruction;
mod line;
mod mount;
mod words;

use std::sync::Arc;

use crate::DockerfileError;
use crate::ast::{Dockerfile, Instruction, Kind};
use crate::error::lines;

/// Reads a Dockerfile. `file` is its name for messages.
///
/// # Errors
/// When it isn't one.
pub fn parse(file: &str, text: &str) -> Result<Dockerfile, DockerfileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    parse_text(&file.into(), text).map_err(|error| error.narrowed(text))
}

fn parse_text(file: &Arc<str>, text: &str) -> Result<Dockerfile, DockerfileError> {
    let read = line::read(file, text)?;
    let instructions = read
        .lines
        .iter()
        .map(|line| instruction::parse(file, line, read.escape))
        .collect::<Result<Vec<Instruction>, _>>()?;
    if instructions.is_empty() {
        return Err(
            DockerfileError::whole(format!("{file}: file with no instructions"))
                .with_help("a Dockerfile starts with FROM"),
        );
    }
    check_order(&instructions)?;
    Ok(Dockerfile {
        escape: read.escape,
        directives: read.directives,
        instructions,
        empty_continuations: read.empty_continuations,
        comments: read.comments,
        text: text.into(),
    })
}

fn check_order(instructions: &[Instruction]) -> Result<(), DockerfileError> {
    let first = instructions
        .iter()
        .find(|instruction| !matches!(instruction.kind, Kind::Arg(_)));
    match first {
        Some(Instruction {
            kind: Kind::From(_),
            ..
        }) => Ok(()),
        Some(other) => Err(DockerfileError::at(
            other.location.clone(),
            format!(
                "no build stage in current context: {} comes before FROM",
                other.keyword
            ),
        )),
        None => Err(
            DockerfileError::whole("dockerfile contains no stages to build")
                .with_help("add a FROM instruction"),
        ),
    }
}

/// Reads the instruction of an ONBUILD trigger; its place is the trigger's.
///
/// # Errors
/// When it isn't an instruction that a trigger may have.
pub fn parse_trigger(file: &str, text: &str, line: u32) -> Result<Instruction, DockerfileError> {
    let file: Arc<str> = file.into();
    let read = line::read_lines(&file, text, '\\', line)?;
    let [only] = &read.lines[..] else {
        return Err(DockerfileError::at(
            lines(&file, line, line),
            format!("the ONBUILD trigger '{text}' is not one instruction"),
        ));
    };
    instruction::parse(&file, only, '\\')
}
