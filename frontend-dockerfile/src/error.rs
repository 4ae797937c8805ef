//! What is wrong with a build file, and where.

use std::fmt;
use std::sync::Arc;

use kiln_graph::{Fault, Location};

use crate::Diagnostic;

/// Something wrong in a build file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerfileError {
    /// In plain words, with the cause.
    pub message: String,
    /// What to do about it.
    pub help: Option<Box<str>>,
    /// Where, as near as is known; unknown for faults of the whole file.
    pub location: Option<Box<Location>>,
    /// All lines of the instruction that it is in.
    pub lines: Option<Box<Location>>,
    /// The word that is wrong, where one word is.
    pub word: Option<Box<str>>,
    /// What was warned of before, in the order in which it was found.
    pub warnings: Arc<[Diagnostic]>,
    /// Whether an instruction says something that none can, whatever stands around it.
    is_parsing: bool,
}

impl DockerfileError {
    /// A fault at a place.
    #[must_use]
    pub fn at(location: Location, message: impl Into<String>) -> Self {
        Self {
            lines: Some(Box::new(location.clone())),
            location: Some(Box::new(location)),
            ..Self::whole(message)
        }
    }

    /// A fault of the whole file.
    #[must_use]
    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            location: None,
            lines: None,
            word: None,
            warnings: Arc::default(),
            is_parsing: false,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into().into());
        self
    }

    /// Names the word that is wrong.
    #[must_use]
    pub fn about(mut self, word: Option<String>) -> Self {
        self.word = word.map(Into::into);
        self
    }

    /// Adds what was warned of before.
    #[must_use]
    pub fn after(mut self, warnings: &[Diagnostic]) -> Self {
        self.warnings = warnings.into();
        self
    }

    /// Notes that it was found while instructions were parsed.
    #[must_use]
    pub(crate) fn parsing(mut self) -> Self {
        self.is_parsing = true;
        self
    }

    /// The same fault somewhere else.
    #[must_use]
    pub(crate) fn moved(mut self, to: &Location) -> Self {
        self.location = Some(Box::new(to.clone()));
        self.lines = Some(Box::new(to.clone()));
        self
    }

    /// The message as BuildKit words it for tools that read `--call check`.
    #[must_use]
    pub fn tool_message(&self) -> String {
        match &self.lines {
            Some(at) if self.is_parsing => {
                format!(
                    "dockerfile parse error on line {}: {}",
                    at.line, self.message
                )
            }
            _ => self.message.clone(),
        }
    }

    /// Narrows the location down to the word that is wrong, by the file's text.
    #[must_use]
    pub(crate) fn narrowed(mut self, text: &str) -> Self {
        let (Some(location), Some(word)) = (&mut self.location, &self.word) else {
            return self;
        };
        let first = location.line.saturating_sub(1) as usize;
        let count = (location.end_line as usize).saturating_sub(first);
        for (number, line) in text.lines().enumerate().skip(first).take(count) {
            if let Some(at) = line.find(&**word) {
                let place = |number: usize| u32::try_from(number + 1).unwrap_or(u32::MAX);
                location.line = place(number);
                location.end_line = location.line;
                location.column = place(line[..at].chars().count());
                break;
            }
        }
        self
    }

    /// Who can mend it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::User
    }
}

impl fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl std::error::Error for DockerfileError {}

/// The place of some lines of a file.
pub(crate) fn lines(file: &Arc<str>, first: u32, last: u32) -> Location {
    Location {
        file: file.clone(),
        line: first,
        column: 1,
        end_line: last,
    }
}

/// Something wrong in an instruction, before its place is known.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) word: Option<String>,
}

impl Wrong {
    /// A message about one word of the instruction.
    pub(crate) fn word(message: String, word: impl Into<String>) -> Self {
        Self {
            message,
            word: Some(word.into()),
        }
    }
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self {
            message,
            word: None,
        }
    }
}

/// An error at an instruction.
pub(crate) fn fault(at: &crate::ast::Instruction, message: &str) -> DockerfileError {
    DockerfileError::at(at.location.clone(), message)
}
