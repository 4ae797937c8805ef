//! What `--call outline` and `--call targets` say.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use kiln_frontend_dockerfile::{Options, parse, targets};

/// `NAME=VALUE@LINE`, of arguments, then secrets and agents.
fn outline(text: &str) -> String {
    let outline = common::compiled(text, &Options::default()).unwrap().outline;
    let args = outline.args.iter().map(|arg| {
        let line = arg.location.ranges[0].start.line;
        format!("{}={}@{line}", arg.name, arg.value)
    });
    let needs = outline.secrets.iter().chain(&outline.ssh);
    let needs = needs.map(|need| {
        let required = if need.required { "!" } else { "" };
        format!("{}{required}", need.name)
    });
    args.chain(needs).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_what_the_target_uses() {
    let cases = [
        // Predefined arguments are nobody's to give.
        ("FROM a\nARG TARGETARCH\nARG X\n", "X=@3"),
        // A stage's own default hides the global one; the target's declaration its base's.
        (
            "ARG FOO=header\nFROM a AS b\nARG FOO=stage\nARG N=base\nFROM b\nARG N\n",
            "FOO=stage@3 N=@6",
        ),
        // Global ones count where they are used.
        (
            "ARG USED=b\nARG UNUSED=1\nARG OTHER=2\nFROM a:$OTHER AS no\nFROM $USED\n",
            "USED=b@1",
        ),
        // So do those that a default speaks of.
        ("ARG A=1\nARG B=x$A\nFROM b:$B\n", "A=1@1 B=x1@2"),
        ("ARG A=1\nFROM b\nARG A\n", "A=1@1"),
        // Values are expanded and without quotes.
        ("FROM a\nARG A='x' B=\"$A y\"\n", "A=x@2 B=x y@2"),
        // Secrets of stages that the target is made of.
        (
            "FROM a AS b\nRUN --mount=type=secret,id=s,required true\nFROM a AS no\nRUN --mount=type=secret,id=t true\nFROM a\nRUN --mount=type=ssh --mount=from=b,target=/b true\n",
            "s! default",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(outline(text), want, "{text}");
    }
}

#[test]
fn targets_as_written() {
    let text = "ARG x\n# bld it is\nFROM --platform=$P ${image} AS Bld\nFROM bld\n";
    let found = targets(&parse("Dockerfile", text).unwrap());
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(
        json,
        "[{\"name\":\"bld\",\"base\":\"${image}\",\"platform\":\"$P\",\"location\":{\"ranges\":[{\"start\":{\"line\":3},\"end\":{\"line\":3}}]}},\
         {\"default\":true,\"base\":\"bld\",\"location\":{\"ranges\":[{\"start\":{\"line\":4},\"end\":{\"line\":4}}]}}]"
            .replace("\"name\":\"bld\",", "\"name\":\"bld\",\"description\":\"it is\",")
    );
}
