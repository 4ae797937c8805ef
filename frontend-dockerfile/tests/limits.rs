//! Files that ask for too much end in an error, and large ones in time linear in their size.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::fmt::Write as _;

use kiln_frontend_dockerfile::Options;

fn error(text: &str) -> String {
    let compiled = common::compiled(text, &Options::default());
    compiled
        .err()
        .map_or_else(String::new, |error| error.message)
}

fn many(count: usize, line: impl Fn(usize) -> String) -> String {
    let mut text = "FROM a\n".to_owned();
    for number in 0..count {
        _ = writeln!(text, "{}", line(number));
    }
    text
}

#[test]
fn too_much_is_an_error() {
    let deep = format!(
        "FROM a\nENV A={}{}\n",
        "${x:-".repeat(10_000),
        "}".repeat(10_000)
    );
    let doubled = many(40, |n| format!("ENV A{}=$A{n}$A{n}", n + 1))
        .replace("FROM a\n", "FROM a\nENV A0=xxxxxxxx\n");
    let same =
        many(40, |_| "ENV A=$A$A".to_owned()).replace("FROM a\n", "FROM a\nENV A=xxxxxxxx\n");
    let large = format!("ENV A={}", "x".repeat(60_000));
    let cases = [
        (deep, "nested more than"),
        (doubled, "variables are larger than"),
        (same, "variables are larger than"),
        (
            format!(
                "FROM a\nENV A={}\nLABEL a={}\n",
                "x".repeat(60_000),
                "$A".repeat(100)
            ),
            "it becomes longer than",
        ),
        (
            many(100, |n| large.replace("A=", &format!("A{n}="))),
            "variables are larger than",
        ),
        (
            many(1, |_| format!("LABEL a={}", "x".repeat(70_000))),
            "line greater than max allowed size",
        ),
        (
            format!("FROM a\n{}", "LABEL a=b\n".repeat(100_001)),
            "more than 100000 instructions",
        ),
        ("FROM a\n".repeat(4_001), "more than 4000 stages"),
        (
            many(1, |_| "EXPOSE 1-65535 1-65535/udp".to_owned()),
            "more than 65536 ports",
        ),
        (
            many(60_000, |_| "RUN true".to_owned()).replace(
                "FROM a\n",
                &format!("FROM a\nENV A={}\n", "x".repeat(60_000)),
            ),
            "more than",
        ),
    ];
    for (text, want) in cases {
        let error = error(&text);
        assert!(error.contains(want), "{want}: {error}");
    }
}

#[test]
fn large_files_take_linear_time() {
    let cases = [
        ("variables", many(20_000, |n| format!("ENV A{n}=1"))),
        (
            "undefined variables",
            many(20_000, |n| format!("ENV A{n}=$B{n}")),
        ),
        ("arguments", many(5_000, |n| format!("ARG A{n}=1"))),
        ("labels", many(20_000, |n| format!("LABEL a{n}=$PATH"))),
        ("copies", many(5_000, |n| format!("COPY a{n} /b{n}"))),
        ("comments", "# a\n".repeat(200_000) + "FROM a\n"),
        (
            "continuations",
            format!("FROM a\nRUN {}true\n", "x \\\n".repeat(100_000)),
        ),
        ("words", format!("FROM a\nCOPY {} /\n", "a ".repeat(30_000))),
        (
            "here-document",
            format!("FROM a\nCOPY <<E /a\n{}E\n", "$PATH text\n".repeat(100_000)),
        ),
    ];
    for (name, text) in cases {
        // What is quadratic takes longer than a test may.
        let checked = common::checked(&text, &Options::default());
        assert_eq!(checked.error, None, "{name}");
    }
}
