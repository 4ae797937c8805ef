//! When keys and authorities count.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// From when on, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Validity {
    #[serde(deserialize_with = "moment")]
    start: Option<u64>,
    #[serde(deserialize_with = "moment")]
    end: Option<u64>,
}

impl Validity {
    /// Whether a time (in seconds since 1970) lies in it. Both ends do.
    pub(crate) fn holds(self, time: u64) -> bool {
        self.start.is_none_or(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

/// A time (RFC 3339) in seconds since 1970; what was before that, as 1970.
fn moment<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    let Some(text) = text else { return Ok(None) };
    let moment = OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)?;
    Ok(Some(u64::try_from(moment.unix_timestamp()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_in_it() {
        let read = |text: &str| serde_json::from_str::<Validity>(text);
        let both = r#"{"start":"1970-01-01T00:00:10Z","end":"1970-01-01T00:00:20.5Z"}"#;
        let both = read(both).unwrap();
        let found: Vec<bool> = [9, 10, 20, 21].map(|time| both.holds(time)).into();
        assert_eq!(found, [false, true, true, false]);
        assert!(read("{}").unwrap().holds(u64::MAX));
        let open = read(r#"{"start":"1970-01-01T00:00:10Z","end":null}"#).unwrap();
        assert!(open.holds(u64::MAX) && !open.holds(0));
        assert!(read(r#"{"start":"yesterday"}"#).is_err());
    }
}
