//! Programs for another kind of machine than this one.

use kiln_graph::{Platform, Step};
use kiln_tree::host;

use super::failure::impossible;
use crate::EngineError;

/// Why a step's programs can't be executed, when they are for another kind of machine.
pub(super) fn foreign(step: &Step) -> Option<EngineError> {
    let (wanted, here) = (&step.platform, Platform::host());
    if here.runs(wanted) || binfmt_runs(&wanted.architecture) {
        return None;
    }
    let message = format!(
        "this step runs programs for {wanted}, but this machine is {here} and has no emulator for them: install one (Debian: qemu-user-static and binfmt-support), or use COPY only"
    );
    Some(impossible(step, message))
}

/// Whether the kernel has an emulator for a processor: one that was opened when it was registered
/// (flag F), for it is not in the step's root.
fn binfmt_runs(architecture: &str) -> bool {
    let name = match architecture {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        "ppc64le" => "ppc64le",
        other => other,
    };
    let path = format!("/proc/sys/fs/binfmt_misc/qemu-{name}");
    let text = host::read_to_string(path).unwrap_or_default();
    let fixed = |line: &str| line.starts_with("flags:") && line.contains('F');
    text.starts_with("enabled") && text.lines().any(fixed)
}
