//! Stages for Windows have its shell.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use kiln_frontend_dockerfile::Options;

#[test]
fn windows_has_a_shell_of_its_own_and_no_path() {
    for (platform, shell, path) in [
        ("windows/amd64", &["cmd", "/S", "/C", "foo bar"][..], false),
        ("linux/amd64", &["/bin/sh", "-c", "foo bar"], true),
    ] {
        let options = Options {
            platforms: vec![platform.parse().unwrap()],
            platforms_are_given: true,
            ..Options::default()
        };
        let text = "FROM scratch\nENTRYPOINT foo bar\n";
        let compiled = common::compiled(text, &options).unwrap();
        let config = &compiled.build.targets[0].config.config;
        let words: Vec<String> = shell.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(config.entrypoint, Some(words));
        assert_eq!(config.env.is_empty(), !path, "{platform}");
    }
}
