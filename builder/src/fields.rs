//! `KEY=VALUE,KEY=VALUE`: how a flag says several things at once.
//!
//! A record of comma-separated values: a field in double quotes may hold commas, and doubled quotes
//! stand for one (RFC 4180), as `docker buildx` reads its flags.

use kiln_graph::parse_bool;

use crate::raw_fields::raw_fields;

/// What is wrong with a record of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// A field without `=`.
    #[error("'{0}' is not KEY=VALUE")]
    NotAField(String),
    /// A key that has to be there isn't, or is empty; with what to write.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value that is neither true nor false.
    #[error("{0} is true or false")]
    NotABool(String),
    /// A value that is no number.
    #[error("{0} is a number")]
    NotANumber(String),
    /// A key that means nothing here.
    #[error("unknown key '{key}': use {}", known.join(", "))]
    Unknown {
        /// The key.
        key: String,
        /// Those that mean something.
        known: Vec<&'static str>,
    },
}

impl From<FieldError> for String {
    fn from(error: FieldError) -> Self {
        error.to_string()
    }
}

/// The fields of a record, each to be taken once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pairs: Vec<(String, String)>,
    /// Fields without `=`, in order.
    words: Vec<String>,
}

impl Fields {
    /// Reads a record.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::of(split(text))
    }

    /// Fields that were read elsewhere.
    #[must_use]
    pub fn of_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            pairs: pairs.into_iter().collect(),
            words: Vec::new(),
        }
    }

    /// Reads a record whose last field, when it begins with one of `tails`, goes to the end of the
    /// text, commas and quotes included.
    #[must_use]
    pub fn with_tail(text: &str, tails: &[&str]) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices(',').map(|(at, _)| at + 1));
        let is_tail = |at: &usize| tails.iter().any(|tail| text[*at..].starts_with(tail));
        let Some(at) = starts.into_iter().find(is_tail) else {
            return Self::parse(text);
        };
        let mut fields = split(&text[..at]);
        fields.push(text[at..].to_owned());
        Self::of(fields)
    }

    fn of(fields: Vec<String>) -> Self {
        let mut all = Self::default();
        for field in fields {
            match field.split_once('=') {
                Some((key, value)) => {
                    let key = key.trim().to_owned();
                    all.pairs.push((key, value.to_owned()));
                }
                None => all.words.push(field),
            }
        }
        all
    }

    /// The fields without `=`, which are no fields in most places.
    pub fn take_words(&mut self) -> Vec<String> {
        std::mem::take(&mut self.words)
    }

    /// Whether a key is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(own, _)| own == key)
    }

    /// The last value of a key.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.take_all(key).pop()
    }

    /// All values of a key, in order.
    pub fn take_all(&mut self, key: &str) -> Vec<String> {
        let is_it = |(own, _): &mut (String, String)| own == key;
        let taken = self.pairs.extract_if(.., is_it);
        taken.map(|(_, value)| value).collect()
    }

    /// All keys and values that are left and whose keys begin with `prefix`, in order; the keys without it.
    pub fn take_prefixed(&mut self, prefix: &str) -> Vec<(String, String)> {
        let is_it = |(own, _): &mut (String, String)| own.starts_with(prefix);
        let taken = self.pairs.extract_if(.., is_it);
        taken
            .map(|(own, value)| (own[prefix.len()..].to_owned(), value))
            .collect()
    }

    /// A value that has to be there; `form` is what to write, such as `ref=NAME`.
    ///
    /// # Errors
    /// When it isn't, or is empty.
    pub fn needed(&mut self, key: &str, form: &'static str) -> Result<String, FieldError> {
        let found = self.take(key).filter(|value| !value.is_empty());
        found.ok_or(FieldError::Missing(form))
    }

    /// A value that is true or false, as Go reads them; an empty one is true.
    ///
    /// # Errors
    /// When it is neither.
    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, FieldError> {
        let read = |value: String| match value.as_str() {
            "" => Ok(true),
            value => parse_bool(value).ok_or_else(|| FieldError::NotABool(key.to_owned())),
        };
        self.take(key).map(read).transpose()
    }

    /// A value that is a number.
    ///
    /// # Errors
    /// When it is none.
    pub fn number<N: std::str::FromStr>(&mut self, key: &str) -> Result<Option<N>, FieldError> {
        let read = |value: String| {
            let number = value.parse();
            number.map_err(|_| FieldError::NotANumber(key.to_owned()))
        };
        self.take(key).map(read).transpose()
    }

    /// Ends the reading: nothing may be left.
    ///
    /// # Errors
    /// When something is; `known` are the keys that mean something.
    pub fn finish(self, known: &[&'static str]) -> Result<(), FieldError> {
        if let Some(word) = self.words.into_iter().next() {
            return Err(FieldError::NotAField(word));
        }
        match self.pairs.into_iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(FieldError::Unknown {
                key,
                known: known.to_vec(),
            }),
        }
    }
}

fn split(text: &str) -> Vec<String> {
    let fields = raw_fields(text).map(|field| field.text);
    fields.filter(|field| !field.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_buildx_reads_them() {
        let mut fields = Fields::parse("type=image,\"name=a,b\",push, x=1,\"q=say \"\"hi\"\"\"");
        assert_eq!(fields.take("type").as_deref(), Some("image"));
        assert_eq!(fields.take("name").as_deref(), Some("a,b"));
        assert_eq!(fields.take("q").as_deref(), Some("say \"hi\""));
        assert_eq!(fields.number::<u8>("x"), Ok(Some(1)));
        assert_eq!(fields.take_words(), ["push"]);
        assert_eq!(fields.finish(&[]), Ok(()));
    }

    #[test]
    fn a_prefix_is_taken_off_once() {
        let mut fields = Fields::parse("x.a=1,x.x.b=2,y.x.c=3");
        let taken = fields.take_prefixed("x.");
        let taken: Vec<_> = taken
            .iter()
            .map(|(key, value)| (&**key, &**value))
            .collect();
        assert_eq!(taken, [("a", "1"), ("x.b", "2")]);
        assert_eq!(fields.take("y.x.c").as_deref(), Some("3"));
    }

    #[test]
    fn a_tail_keeps_its_commas_and_quotes() {
        let text = "id=a,src=exec:printf \"%s\" x,y";
        let mut fields = Fields::with_tail(text, &["src=exec:"]);
        assert_eq!(
            fields.take("src").as_deref(),
            Some("exec:printf \"%s\" x,y")
        );
        assert_eq!(fields.take("id").as_deref(), Some("a"));
        let mut plain = Fields::with_tail("id=a,src=file,type=file", &["src=exec:"]);
        assert_eq!(plain.take("src").as_deref(), Some("file"));
        assert_eq!(plain.take("type").as_deref(), Some("file"));
    }

    #[test]
    fn mistakes_are_said() {
        let error = |text: &str| {
            let mut fields = Fields::parse(text);
            let flag = fields.flag("flag").err();
            let number = fields.number::<u8>("number").err();
            let error = flag.or(number).or_else(|| fields.finish(&["a", "b"]).err());
            error.unwrap().to_string()
        };
        assert_eq!(error("flag=perhaps"), "flag is true or false");
        assert_eq!(error("number=x"), "number is a number");
        assert_eq!(error("oops"), "'oops' is not KEY=VALUE");
        assert_eq!(error("c=1"), "unknown key 'c': use a, b");
        let missing = Fields::parse("ref=").needed("ref", "ref=NAME");
        assert_eq!(missing.unwrap_err().to_string(), "ref=NAME is missing");
    }

    proptest::proptest! {
        #[test]
        fn quoted_fields_come_back(value in ".*", other in "[a-z]*") {
            let quoted = format!("\"key={}\",other={other}", value.replace('"', "\"\""));
            let mut fields = Fields::parse(&quoted);
            proptest::prop_assert_eq!(fields.take("key"), Some(value));
            proptest::prop_assert_eq!(fields.take("other"), Some(other));
        }
    }
}
