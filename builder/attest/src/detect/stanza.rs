//! Paragraphs of `Name: value` lines, as dpkg, Python and apk write them; values go on in lines
//! that begin with white space.

/// A paragraph.
#[derive(Debug)]
pub(super) struct Stanza<'a>(&'a str);

/// The paragraphs of a text, in order.
pub(super) fn stanzas(text: &str) -> Vec<Stanza<'_>> {
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        if line.trim().is_empty() {
            found.push(&text[start..at]);
            start = end;
        }
        at = end;
    }
    found.push(&text[start..]);
    let full = found.into_iter().filter(|part| !part.trim().is_empty());
    full.map(Stanza).collect()
}

impl<'a> Stanza<'a> {
    /// The first lines of all fields of a name, whatever its case.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter_map(move |line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The first line of a field that isn't empty.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// The field of exactly this name: apk's are single letters whose case counts.
    pub(super) fn exact(&self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            (field == name).then(|| value.trim())
        })
    }

    /// The first line, for messages.
    pub(super) fn first_line(&self) -> String {
        self.0
            .trim_start()
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(60)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_fields() {
        let found = stanzas("\nA: 1\nB:\n b: no field\n\n \na: 2\r\nA: 3");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("a"), Some("1"));
        assert_eq!(found[0].get("B"), None);
        assert_eq!(found[1].all("A").collect::<Vec<_>>(), ["2", "3"]);
        assert_eq!(found[1].exact("A"), Some("3"));
    }
}
