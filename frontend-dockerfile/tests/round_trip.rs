//! What is printed parses to the same tree, and no input makes the parser panic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use kiln_frontend_dockerfile::ast::{Dockerfile, Instruction, Kind};
use kiln_frontend_dockerfile::parse;
use proptest::prelude::*;

fn kinds(file: &Dockerfile) -> Vec<(Kind, Vec<String>)> {
    let one = |i: &Instruction| (i.kind.clone(), i.comments.clone());
    file.instructions.iter().map(one).collect()
}

/// Whether printing and parsing gives the same tree again.
fn comes_back(text: &str) {
    let Ok(file) = parse("Dockerfile", text) else {
        return;
    };
    let printed = file.to_string();
    let again = parse("Dockerfile", &printed);
    let again = again.unwrap_or_else(|error| panic!("{error}\nof {text:?}\nprinted {printed:?}"));
    assert_eq!(kinds(&file), kinds(&again), "{text:?}\nprinted {printed:?}");
    assert_eq!(again.to_string(), printed, "printing is stable");
}

#[test]
fn instructions_of_every_kind() {
    let text = r#"# syntax=docker/dockerfile:1
# check=skip=all

# about the version
ARG VERSION=1 OTHER
FROM --platform=$BUILDPLATFORM a:${VERSION} AS Build
MAINTAINER somebody else
ENV A=1 B="x y" C=a\ b
ENV OLD form of it
LABEL a="b c" d=e
RUN --mount=type=cache,target=/x,sharing=locked --mount='type=bind,"source=a,b"' --network=none make \
  # inside
  all
RUN ["a", "b c"]
RUN <<E cat && <<-'F' cat
	$x
E
	$y
F
COPY --from=0 --chown=a:b --chmod=u+x --link --parents --exclude=*.o a b /c/
COPY ["a b", "c"]
ADD --checksum=sha256:00 --keep-git-dir=true --unpack=false http://x.example/a /b
COPY <<E <<"F" /dir/
one
E
two
F
WORKDIR /a b
USER a:b
VOLUME ["/a", "/b c"]
VOLUME /a /b
EXPOSE 80 443/tcp
STOPSIGNAL SIGTERM
SHELL ["/bin/bash", "-c"]
HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x
HEALTHCHECK NONE
ONBUILD RUN x
CMD a b
ENTRYPOINT ["a"]
"#;
    let file = parse("Dockerfile", text).unwrap();
    assert_eq!(file.instructions.len(), 25);
    assert_eq!(file.comments.len(), 4, "{:?}", file.comments);
    comes_back(text);
    comes_back("FROM a\nCMD \\\\\nRUN x\n");
    comes_back("FROM a\nENV \\  =\n");
    comes_back("# escape=`\nFROM a\nRUN a `\n b c:\\d\nENV A=`$x\n");
}

const PIECES: &[&str] = &[
    "\n",
    " ",
    "\\\n",
    "\t",
    "# ",
    "<<E",
    "<<-'E'",
    "\nE\n",
    "[\"a\", \"b\"]",
    "--mount=type=cache,target=/x",
    "--from=b",
    "\"",
    "'",
    "\\",
    "${A:-b}",
    "escape=`",
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "CMD ",
    "ENTRYPOINT ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "SHELL ",
    "VOLUME ",
    "WORKDIR ",
    "USER ",
    "EXPOSE ",
    "STOPSIGNAL ",
    "MAINTAINER ",
    "\nFROM a\n",
    "\nRUN ",
    "\nCOPY a ",
    "\nENV A=",
];

fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => "[a-z=/.:$]{1,6}",
        1 => "\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// `PROPTEST_CASES` makes this a fuzzer that runs as long as one likes.
fn cases() -> u32 {
    let given = std::env::var("PROPTEST_CASES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(text in "(?s).{0,200}") {
        _ = parse("Dockerfile", &text);
    }

    #[test]
    fn what_parses_comes_back(text in soup()) {
        comes_back(&format!("FROM a\n{text}"));
    }
}
