//! `kiln completions`: what clap knows, and the names of steps.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, print_exact};

/// Asks kiln for the steps of the build file at hand.
const BASH: &str = include_str!("steps.bash");
const ZSH: &str = include_str!("steps.zsh");
const FISH: &str = include_str!("steps.fish");

/// Prints a script that completes kiln's commands.
pub(super) fn run(shell: Shell) {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kiln", &mut out);
    print_exact(&with_steps(shell, &String::from_utf8_lossy(&out)));
}

fn with_steps(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => format!("{script}\n{BASH}"),
        Shell::Zsh => {
            let named = script.replace(":STEP:_default", ":STEP:_kiln_steps");
            let at = named.find("\n_kiln() {").unwrap_or(named.len());
            format!("{}\n{ZSH}{}", &named[..at], &named[at..])
        }
        Shell::Fish => format!("{script}{FISH}"),
        _ => script.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zsh_is_told_where_steps_are_named() {
        let mut out = Vec::new();
        clap_complete::generate(Shell::Zsh, &mut Cli::command(), "kiln", &mut out);
        let script = with_steps(Shell::Zsh, &String::from_utf8(out).unwrap());
        assert!(!script.contains(":STEP:_default"));
        assert!(script.contains("--from=[") && script.contains(":STEP:_kiln_steps"));
        let (helper, main) = (script.find("_kiln_steps() {"), script.find("\n_kiln() {"));
        assert!(
            helper.is_some() && helper < main,
            "the helper is defined first"
        );
    }
}
