//! Texts as Go's `%q` and `%v` write them, which is what builders put into an image's history.

use std::fmt::Write as _;

/// A text as `strconv.Quote` writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            ' ' => out.push(' '),
            c if (c as u32) < 0x20 || c == '\u{7f}' => _ = write!(out, "\\x{:02x}", c as u32),
            c if c.is_control() || c.is_whitespace() || is_format(c) => {
                _ = match c as u32 {
                    code @ ..=0xffff => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Characters without a shape of their own.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..)
}

/// A list as `%q` writes it: `["a" "b c"]`.
pub(crate) fn quote_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// A time in nanoseconds as `time.Duration` writes it: `1m30s`.
pub(crate) fn duration(nanos: i64) -> String {
    let (sign, total) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    if total == 0 {
        return "0s".to_owned();
    }
    let (unit, size) = match total {
        0..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    if unit != "s" {
        return format!("{sign}{}{unit}", fraction(total, size));
    }
    let (minutes, seconds) = (total / 60_000_000_000, total % 60_000_000_000);
    let seconds = format!("{}s", fraction(seconds, size));
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

/// `total / size` without trailing zeros.
fn fraction(total: u64, size: u64) -> String {
    let (whole, rest) = (total / size, total % size);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = size.ilog10() as usize;
    let rest = format!("{rest:0digits$}");
    format!("{whole}.{}", rest.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_as_go_quotes_them() {
        let cases = [
            ("a b", "\"a b\""),
            ("\"\\", r#""\"\\""#),
            ("\n\t\u{1}\u{7f}", r#""\n\t\x01\x7f""#),
            ("é♥", "\"é♥\""),
            ("\u{200b}\u{a0}", r#""\u200b\u00a0""#),
        ];
        for (text, want) in cases {
            assert_eq!(quote(text), want);
        }
        let words = ["a".to_owned(), "b c".to_owned()];
        assert_eq!(quote_list(&words), r#"["a" "b c"]"#);
        assert_eq!(quote_list(&[]), "[]");
    }

    #[test]
    fn times_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000, "1.5ms"),
            (5_500_000_000, "5.5s"),
            (1_000, "1µs"),
        ];
        for (nanos, want) in cases {
            assert_eq!(duration(nanos), want);
        }
    }
}
