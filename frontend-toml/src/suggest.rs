//! Finds the known name that somebody probably meant.

/// ` (did you mean X?)`, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let best = known.into_iter().min_by_key(distance);
    let limit = if name.len() <= 3 { 1 } else { 2 };
    match best.filter(|best| distance(best) <= limit) {
        Some(best) => format!(" (did you mean '{best}'?)"),
        None => String::new(),
    }
}
