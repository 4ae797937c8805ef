//! What a build takes from standard input.

use std::path::Path;

use kiln::Prepared;

use super::source::SourceArgs;

/// What standard input gave to a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FromStdin {
    BuildFile,
    /// The build context.
    Archive,
}

impl SourceArgs {
    /// Whether nothing comes from standard input, which gives its bytes only once.
    pub(crate) fn can_be_read_again(&self) -> bool {
        self.context != "-" && self.file.as_deref() != Some(Path::new("-"))
    }

    /// What the build took from standard input.
    pub(super) fn read_from_stdin(&self, prepared: &Prepared) -> Option<FromStdin> {
        if self.can_be_read_again() {
            return None;
        }
        let is_file = self.file.as_deref() == Some(Path::new("-"));
        // A build file that is a context by itself is in no directory.
        let context = prepared.directories.get("context");
        let has_file = || context.is_some_and(|own| kiln::build_file_in(own).is_some());
        Some(match is_file || (self.file.is_none() && !has_file()) {
            true => FromStdin::BuildFile,
            false => FromStdin::Archive,
        })
    }

    /// What a build file on standard input is called, when it has a name.
    pub(super) fn input_name(&self) -> Option<String> {
        let target = self.bake_target.as_ref();
        target.map(|name| format!("{name} (dockerfile-inline)"))
    }
}
