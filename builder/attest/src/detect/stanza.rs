//! Paragraphs of `Name: value` lines, as dpkg, Python and apk write them; values go on in lines
//! that begin with white space.

use super::reading::plain;

/// A paragraph.
#[derive(Debug)]
pub(super) struct Stanza<'a>(&'a str);

/// The paragraphs of a text, in order.
pub(super) fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let lines = rest.split_inclusive('\n');
            let full = lines.take_while(|line| !line.trim().is_empty());
            let length: usize = full.map(str::len).sum();
            let (stanza, after) = rest.split_at(length);
            // The line that ended it.
            rest = after.split_once('\n').map_or("", |(_, rest)| rest);
            if !stanza.is_empty() {
                return Some(Stanza(stanza));
            }
        }
        None
    })
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
        plain(self.0.trim_start().lines().next().unwrap_or_default(), 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_fields() {
        let found: Vec<Stanza<'_>> =
            stanzas("\nA: 1\nB:\n b: no field\n\n \na: 2\r\nA: 3").collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("a"), Some("1"));
        assert_eq!(found[0].get("B"), None);
        assert_eq!(found[1].all("A").collect::<Vec<_>>(), ["2", "3"]);
        assert_eq!(found[1].exact("A"), Some("3"));
    }
}
