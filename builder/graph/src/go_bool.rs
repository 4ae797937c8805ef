//! Truth values as Go's `strconv.ParseBool` reads them, which BuildKit's attributes and flags are.

/// A truth value, if it is one.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
