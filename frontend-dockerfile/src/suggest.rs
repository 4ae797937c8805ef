//! Finds the known name that somebody probably meant.

/// The known name nearest to `name`, if any is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    let distance = |known: &&str| strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase());
    let best = known.into_iter().min_by_key(distance)?;
    let limit = if name.len() <= 3 { 1 } else { 2 };
    (distance(&best) <= limit).then_some(best)
}

/// `; did you mean X?` for a message, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known)
        .map(|found| format!(" (did you mean {found}?)"))
        .unwrap_or_default()
}
