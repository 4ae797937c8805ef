//! How a command ends: the text and the exit status of one that failed.

use std::process::ExitCode;

use super::{say, signals};

/// A failed command, ready to be shown.
pub(crate) struct Failed {
    pub(super) text: String,
    pub(super) status: u8,
}

impl Failed {
    /// A failure whose place is in build files that were read.
    pub(super) fn of(error: &kiln::Error, texts: &kiln::Texts) -> Self {
        Self {
            text: crate::report::error(error, texts),
            status: error.exit_status(),
        }
    }

    pub(super) fn show(&self) {
        if !crate::display::is_for_program() {
            return say(&self.text);
        }
        let fields = serde_json::json!({ "message": self.text, "status": self.status });
        crate::display::event("error", &fields);
    }
}

impl<E: Into<kiln::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::of(&error.into(), &kiln::Texts::default())
    }
}

/// Says why a command failed.
pub(super) fn status(result: Result<(), Failed>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => match signals::status() {
            Some(status) => {
                let text = "the build was cancelled".to_owned();
                Failed { text, status }.show();
                ExitCode::from(status)
            }
            None => {
                if !failed.text.is_empty() {
                    failed.show();
                }
                ExitCode::from(failed.status)
            }
        },
    }
}
