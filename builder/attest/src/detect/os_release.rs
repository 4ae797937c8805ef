//! `/etc/os-release` (os-release(5)).

use super::{Claim, Reading};
use crate::Distribution;

pub(super) fn read(text: &str) -> Reading {
    let value = |name: &str| {
        let lines = text.lines().filter_map(|line| line.trim().split_once('='));
        let mut values = lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        values
            .next_back()
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    let Some(id) = value("ID") else {
        return Reading::default();
    };
    Reading::of(Claim::Distribution(Distribution {
        id,
        version: value("VERSION_ID").unwrap_or_default(),
        name: value("PRETTY_NAME").unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_or_not() {
        let read =
            read("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\nID=debian\n");
        let want = Distribution {
            id: "debian".to_owned(),
            version: "12".to_owned(),
            name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        };
        assert_eq!(read.claim, Some(Claim::Distribution(want)));
    }
}
