//! Finds the known name that somebody probably meant.

/// ` (did you mean X?)`, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let others = known.into_iter().filter(|known| *known != name);
    let best = others.min_by_key(distance);
    let limit = if name.len() <= 3 { 1 } else { 2 };
    match best.filter(|best| distance(best) <= limit) {
        Some(best) => format!(" (did you mean '{best}'?)"),
        None => String::new(),
    }
}

/// `a, b or c`.
pub(crate) fn one_of<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", first.join(", "), last.as_ref())
        }
    }
}
