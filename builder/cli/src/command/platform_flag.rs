//! `--platform` of commands about one image.

use kiln::Error;
use kiln_graph::Platform;

/// The platform of a flag, or this machine's without it.
pub(super) fn platform_or_host(flag: Option<&str>) -> Result<Platform, Error> {
    flag.map_or_else(|| Ok(Platform::host()), platform)
}

/// A platform that some machine has.
pub(super) fn platform(text: &str) -> Result<Platform, Error> {
    if text.eq_ignore_ascii_case("local") {
        return Ok(Platform::host());
    }
    let wrong = |reason: String| Error::Usage(format!("--platform {text}: {reason}"));
    let platform: Platform = text.parse().map_err(|error| wrong(format!("{error}")))?;
    let Some((part, known)) = platform.unknown_part() else {
        return Ok(platform);
    };
    let near = known
        .iter()
        .min_by_key(|known| strsim::damerau_levenshtein(part, known));
    let near = near.filter(|known| strsim::damerau_levenshtein(part, known) <= 2);
    let hint = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
    Err(wrong(format!(
        "no machine is known by '{part}': {hint}there are {}",
        known.join(", ")
    )))
}
