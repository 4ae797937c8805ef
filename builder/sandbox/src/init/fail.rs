//! What the helper could not do.

use std::io;

use crate::process::Report;

/// A step of the preparation that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) reason: String,
    errno: i32,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            reason: reason.into(),
            errno: 0,
        }
    }

    pub(crate) fn into_report(self) -> Report {
        Report::Failed {
            what: self.what,
            reason: self.reason,
            errno: self.errno,
        }
    }
}

/// Adds to a system error what was tried.
pub(crate) trait Context<T> {
    fn context(self, what: &str) -> Result<T, Failure>;

    fn with_context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: &str) -> Result<T, Failure> {
        self.with_context(|| what.to_owned())
    }

    fn with_context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let errno = error.raw_os_error().unwrap_or(0);
            Failure {
                what: what(),
                reason: error.to_string(),
                errno,
            }
        })
    }
}

/// The system error of a call that returned -1.
pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
