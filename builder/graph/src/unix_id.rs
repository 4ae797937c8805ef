//! Numbers of users and groups.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A user's or group's number: 0 to 2147483647, as container runtimes have it. To the system calls
/// 4294967295 means "as it is", so whoever asks for that number would stay root.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct UnixId(u32);

/// A number that no user or group has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("uids and gids must be in range 0-2147483647, and '{0}' is not")]
pub struct BadUnixId(String);

impl UnixId {
    /// The superuser, and its group.
    pub const ROOT: Self = Self(0);
    /// The largest.
    pub const MAX: Self = Self(i32::MAX as u32);

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for UnixId {
    type Error = BadUnixId;

    fn try_from(number: u32) -> Result<Self, BadUnixId> {
        match number <= Self::MAX.0 {
            true => Ok(Self(number)),
            false => Err(BadUnixId(number.to_string())),
        }
    }
}

impl From<UnixId> for u32 {
    fn from(id: UnixId) -> Self {
        id.0
    }
}

impl FromStr for UnixId {
    type Err = BadUnixId;

    fn from_str(text: &str) -> Result<Self, BadUnixId> {
        let bad = || BadUnixId(text.to_owned());
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<u32> = digits.then(|| text.parse().ok()).flatten();
        Self::try_from(number.ok_or_else(bad)?).map_err(|_| bad())
    }
}

impl UnixId {
    /// The number that a text is; `None` for a name. A name has something else than digits, so
    /// what has only digits is a number, if a wrong one.
    ///
    /// # Errors
    /// When it is a number out of range.
    pub fn in_text(text: &str) -> Result<Option<Self>, BadUnixId> {
        let sign = text.strip_prefix(['-', '+']).unwrap_or(text);
        match !sign.is_empty() && sign.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().map(Some),
            false => Ok(None),
        }
    }
}

impl fmt::Display for UnixId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_system_takes_for_a_number() {
        for (text, want) in [
            ("0", Ok(Some(0))),
            ("2147483647", Ok(Some(2_147_483_647))),
            ("2147483648", Err(())),
            ("4294967294", Err(())),
            ("4294967295", Err(())),
            ("4294967296", Err(())),
            ("99999999999999999999999", Err(())),
            ("-1", Err(())),
            ("+1", Err(())),
            ("www-data", Ok(None)),
            ("1a", Ok(None)),
            ("", Ok(None)),
            ("-", Ok(None)),
        ] {
            let found = UnixId::in_text(text).map(|id| id.map(UnixId::get));
            assert_eq!(found.map_err(drop), want, "{text}");
        }
        assert!(serde_json::from_str::<UnixId>("4294967295").is_err());
        assert_eq!(serde_json::to_string(&UnixId::MAX).unwrap(), "2147483647");
    }
}
