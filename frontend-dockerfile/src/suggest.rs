//! Finds the known name that somebody probably meant, as BuildKit's `util/suggest` does.

use crate::limits::MAX_SUGGESTIONS;

/// Names farther from each other than this aren't alike.
const MAX_DISTANCE: usize = 2;

/// Names longer than this are never mistyped into each other.
const MAX_LENGTH: usize = 200;

/// The first of the known names that are nearest to `name`, if any is near; `None` when it is one
/// of them.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut distance = MAX_DISTANCE + 1;
    for option in known.into_iter().take(MAX_SUGGESTIONS) {
        if option == name {
            return None;
        }
        if option.len().max(name.len()) > MAX_LENGTH {
            continue;
        }
        let this = strsim::levenshtein(name, option);
        if this < distance {
            (best, distance) = (Some(option), this);
        }
    }
    best
}

/// ` (did you mean X?)` for a message, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known)
        .map(|found| format!(" (did you mean {found}?)"))
        .unwrap_or_default()
}
