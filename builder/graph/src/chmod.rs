//! Mode changes as `chmod` writes them: octal, or symbolic clauses (POSIX.1 `chmod`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A parsed mode change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chmod {
    text: String,
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Octal(u32),
    Clauses(Vec<Clause>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Clause {
    who: u32,
    actions: Vec<(u8, Vec<u8>)>,
}

/// A text that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777, or clauses such as u+rw,go-w"
)]
pub struct BadMode(pub String);

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const STICKY: u32 = 0o1000;

impl Chmod {
    /// A fixed mode.
    #[must_use]
    pub fn octal(mode: u32) -> Self {
        Self {
            text: format!("{mode:04o}"),
            change: Change::Octal(mode & 0o7777),
        }
    }

    /// Reads an octal number or symbolic clauses.
    pub fn parse(text: &str) -> Result<Self, BadMode> {
        let bad = || BadMode(text.to_owned());
        let change = if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777);
            Change::Octal(mode.ok_or_else(bad)?)
        } else {
            let clauses: Option<Vec<Clause>> = text.split(',').map(parse_clause).collect();
            Change::Clauses(clauses.ok_or_else(bad)?)
        };
        Ok(Self {
            text: text.to_owned(),
            change,
        })
    }

    /// The mode, where it is the same for everything.
    #[must_use]
    pub fn as_octal(&self) -> Option<u32> {
        match &self.change {
            Change::Octal(mode) => Some(*mode),
            Change::Clauses(_) => None,
        }
    }

    /// The mode a file or directory of `mode` gets.
    #[must_use]
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match &self.change {
            Change::Octal(new) => *new,
            Change::Clauses(clauses) => clauses
                .iter()
                .fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

fn parse_clause(text: &str) -> Option<Clause> {
    let text = text.as_bytes();
    let split = text.iter().position(|b| b"+-=".contains(b))?;
    let mut who = 0;
    for letter in &text[..split] {
        who |= match letter {
            b'u' => USER,
            b'g' => GROUP,
            b'o' => OTHER,
            b'a' => USER | GROUP | OTHER,
            _ => return None,
        };
    }
    let who = if who == 0 { USER | GROUP | OTHER } else { who };
    let mut actions: Vec<(u8, Vec<u8>)> = Vec::new();
    for &byte in &text[split..] {
        match byte {
            b'+' | b'-' | b'=' => actions.push((byte, Vec::new())),
            b'r' | b'w' | b'x' | b'X' | b's' | b't' | b'u' | b'g' | b'o' => {
                actions.last_mut()?.1.push(byte);
            }
            _ => return None,
        }
    }
    Some(Clause { who, actions })
}

impl Clause {
    fn apply(&self, mut mode: u32, is_directory: bool) -> u32 {
        for (operator, letters) in &self.actions {
            let all = letters
                .iter()
                .fold(0, |bits, l| bits | letter_bits(*l, mode, is_directory));
            // The sticky bit is nobody's: `t` means it unless only others are meant, and nothing else
            // touches it (as BSD's chmod, and BuildKit).
            let sticky = letters.contains(&b't') && self.who & !OTHER != 0;
            let who = if sticky { self.who | STICKY } else { self.who };
            let bits = all & who;
            mode = match operator {
                b'+' => mode | bits,
                b'-' => mode & !bits,
                _ => (mode & !(who & set_by(letters))) | bits,
            };
        }
        mode
    }
}

/// Which bits `=` sets: a class's permissions that are copied (`g=u`) leave the special bits as they
/// are (as BSD's chmod, and BuildKit).
fn set_by(letters: &[u8]) -> u32 {
    match letters.iter().any(|letter| b"ugo".contains(letter)) {
        true => 0o777,
        false => 0o7777,
    }
}

fn letter_bits(letter: u8, mode: u32, is_directory: bool) -> u32 {
    match letter {
        b'r' => 0o444,
        b'w' => 0o222,
        b'x' => 0o111,
        b'X' if is_directory || mode & 0o111 != 0 => 0o111,
        b's' => 0o6000,
        b't' => 0o1000,
        b'u' => (mode >> 6 & 7) * 0o111,
        b'g' => (mode >> 3 & 7) * 0o111,
        b'o' => (mode & 7) * 0o111,
        _ => 0,
    }
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Chmod {
    type Error = BadMode;

    fn try_from(text: String) -> Result<Self, BadMode> {
        Self::parse(&text)
    }
}

impl From<Chmod> for String {
    fn from(mode: Chmod) -> Self {
        mode.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_as_chmod_reads_them() {
        let cases = [
            ("755", 0o600, false, 0o755),
            ("0644", 0o777, true, 0o644),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o777, false, 0o700),
            ("a=rX", 0o600, false, 0o444),
            ("a=rX", 0o700, false, 0o555),
            ("a=rX", 0o600, true, 0o555),
            ("u=rwx,go=rx", 0o000, false, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("g=u", 0o2740, true, 0o2770),
            ("ug=o", 0o6755, false, 0o6555),
            ("g=r", 0o2740, true, 0o740),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("u=rw+x", 0o000, false, 0o700),
            ("o+t", 0o755, true, 0o755),
            ("u+t", 0o755, true, 0o1755),
            ("o+s", 0o755, false, 0o755),
            ("a=rX", 0o7777, true, 0o1555),
            ("o=", 0o1777, true, 0o1770),
            ("a=rt", 0o777, true, 0o1444),
            ("-t", 0o1777, true, 0o777),
        ];
        for (text, before, is_directory, want) in cases {
            let mode = Chmod::parse(text).unwrap();
            assert_eq!(
                mode.apply(before, is_directory),
                want,
                "{text} of {before:o}"
            );
        }
        for bad in ["", "8", "77777", "u", "z+x", "u+q", "u+x,", "rwx"] {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }
}
