//! Commands to CI services in lines of a log.

/// What commands begin with anywhere in a line.
const MARK: &str = "##";
/// Sections of GitLab's logs.
const SECTIONS: &[&str] = &["section_start:", "section_end:"];

/// Whether a text may have a command in it: a quick look.
pub(super) fn may_be_in(text: &str) -> bool {
    text.contains(MARK) || text.contains("::") || text.contains("section_")
}

/// Adds a line, breaking what a service would obey.
pub(super) fn break_into(out: &mut String, line: &str) {
    let text = after_blanks(line);
    let mut rest = line;
    // Without the second mark it is no command, but an address such as `::1`.
    if let Some(name) = text.strip_prefix("::").filter(|name| name.contains("::")) {
        out.push_str(&line[..line.len() - text.len()]);
        out.push_str(": :");
        rest = name;
    }
    while let Some((end, after)) = next(rest) {
        out.push_str(&rest[..end]);
        out.push(' ');
        rest = after;
    }
    out.push_str(rest);
}

/// A line from its first character that isn't a blank or part of a colour.
fn after_blanks(mut line: &str) -> &str {
    loop {
        line = line.trim_start();
        let Some(colour) = line.strip_prefix("\u{1b}[") else {
            return line;
        };
        line = colour.find('m').map_or("", |end| &colour[end + 1..]);
    }
}

/// The next place for a blank, and what comes after it.
fn next(text: &str) -> Option<(usize, &str)> {
    let marks = text.match_indices(MARK).map(|(at, mark)| at + mark.len());
    let overlapping = marks.flat_map(|end| [end, end + 1]);
    let mark = overlapping
        .filter(|end| text.get(end - 2..*end) == Some(MARK))
        .find(|end| is_named_bracket(&text[*end..]));
    let sections = SECTIONS.iter().filter_map(|name| section(text, name));
    let end = mark.into_iter().chain(sections).min()?;
    Some((end, &text[end..]))
}

/// Whether a name, or none, and `[` come here.
fn is_named_bracket(text: &str) -> bool {
    let name = text.find(|c: char| !(c.is_alphanumeric() || "_.-".contains(c)));
    name.is_some_and(|end| text[end..].starts_with('['))
}

fn section(text: &str, name: &str) -> Option<usize> {
    let mut found = text.match_indices(name).map(|(at, name)| at + name.len());
    found.find(|end| text[*end..].starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn broken(line: &str) -> String {
        let mut out = String::new();
        break_into(&mut out, line);
        out
    }

    #[test]
    fn commands_are_broken() {
        let cases = [
            ("::set-output name=a::b", ": :set-output name=a::b"),
            (" \u{2003}\t::error::x", " \u{2003}\t: :error::x"),
            ("\u{1b}[31m::error::x", "\u{1b}[31m: :error::x"),
            ("::1\tlocalhost", "::1\tlocalhost"),
            ("a ##[error]b", "a ## [error]b"),
            ("###[group]", "### [group]"),
            ("##vso[task.setvariable]x", "## vso[task.setvariable]x"),
            (
                "a##teamcity[x]##teamcity[y]",
                "a## teamcity[x]## teamcity[y]",
            ),
            ("section_start:1:a", "section_start: 1:a"),
            ("xsection_end:12:a", "xsection_end: 12:a"),
            ("std::vector ## heading [a]", "std::vector ## heading [a]"),
            ("section_start: no", "section_start: no"),
        ];
        for (line, want) in cases {
            assert_eq!(broken(line), want, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn none_is_left(line in "[#\\[:a ]{0,24}") {
            let out = broken(&line);
            prop_assert!(!out.contains("##[") && !out.contains("##a["), "{out}");
            let start = out.trim_start().strip_prefix("::");
            prop_assert!(start.is_none_or(|rest| !rest.contains("::")), "{out}");
            prop_assert_eq!(broken(&out), out);
        }
    }
}
