//! Instructions that change the image's configuration only, and WORKDIR.

use std::fmt::Write as _;

use kiln_graph::{Empty, FileAction, Files, ImagePath, Input, LayerOrigin, Op};

use super::copy::parse_owner;
use super::expose::parse_ports;
use super::stage::StageState;
use super::{Compiler, Stop};
use crate::ast::{Command, Healthcheck, Instruction, Kind, Pairs};
use crate::error::fault;
use crate::lint::At;
use crate::quote::{duration, quote_list};

/// What runs commands in shell form unless SHELL says otherwise.
pub(crate) const DEFAULT_SHELL: &[&str] = &["/bin/sh", "-c"];
/// The same for Windows.
const WINDOWS_SHELL: &[&str] = &["cmd", "/S", "/C"];

impl Compiler<'_> {
    /// Everything that makes no step.
    pub(crate) fn configure(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
    ) -> Result<(), Stop> {
        let text = match &at.kind {
            Kind::Cmd(command) => self.cmd(state, at, command),
            Kind::Entrypoint(command) => self.entrypoint(state, at, command),
            Kind::Env(pairs) => self.env(state, at, pairs)?,
            Kind::Label(pairs) => self.label(state, at, pairs)?,
            Kind::Expose(words) => self.expose(state, at, words)?,
            Kind::Healthcheck(check) => self.healthcheck(state, at, check),
            Kind::Maintainer(name) => {
                state.config.author.clone_from(name);
                format!("MAINTAINER {name}")
            }
            Kind::Onbuild(trigger) => {
                state.config.config.on_build.push(trigger.clone());
                return Ok(());
            }
            Kind::Shell(words) => {
                state.config.config.shell.clone_from(words);
                format!("SHELL [{}]", words.join(" "))
            }
            Kind::Stopsignal(signal) => {
                let signal = self.expand(state, at, signal)?;
                check_signal(&signal).map_err(|message| fault(at, &message))?;
                state.config.config.stop_signal.clone_from(&signal);
                format!("STOPSIGNAL {signal}")
            }
            Kind::User(user) => {
                let user = self.expand(state, at, user)?;
                state.config.config.user.clone_from(&user);
                format!("USER {user}")
            }
            Kind::Volume(paths) => self.volume(state, at, paths)?,
            _ => return Ok(()),
        };
        self.record(state, text, LayerOrigin::None)
    }

    /// The words that a command is stored as.
    fn command(&mut self, state: &StageState, at: &Instruction, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                if state.config.config.shell.is_empty() {
                    self.lint.shell_form(at.into(), &at.keyword);
                }
                shell(state).into_iter().chain([text.clone()]).collect()
            }
        }
    }

    fn cmd(&mut self, state: &mut StageState, at: &Instruction, command: &Command) -> String {
        if let Some(before) = state.once.cmd.replace(at.location.clone()) {
            self.overridden(at, &before);
        }
        let words = self.command(state, at, command);
        let text = format!("CMD {}", quote_list(&words));
        state.config.config.cmd = Some(words);
        state.config.config.args_escaped = true;
        text
    }

    fn entrypoint(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        command: &Command,
    ) -> String {
        if let Some(before) = state.once.entrypoint.replace(at.location.clone()) {
            self.overridden(at, &before);
        }
        let words = self.command(state, at, command);
        let text = format!("ENTRYPOINT {}", quote_list(&words));
        state.config.config.entrypoint = Some(words);
        if state.once.cmd.is_none() {
            state.config.config.cmd = None;
        }
        text
    }

    /// Warns at the instruction that no longer counts.
    fn overridden(&mut self, at: &Instruction, before: &kiln_graph::Location) {
        let before = At {
            location: before,
            comments: &at.comments,
        };
        self.lint.overridden(before, &at.keyword);
    }

    fn env(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        pairs: &Pairs,
    ) -> Result<String, Stop> {
        let pairs = self.expand_pairs(state, at, pairs)?;
        let mut text = "ENV".to_owned();
        for (name, value) in &pairs {
            self.lint_legacy(at);
            self.lint.secret_name(at.into(), name, "ENV");
            _ = write!(text, " {name}={value}");
            let set = state.set_config_env(name, value);
            set.map_err(|message| fault(at, &message))?;
        }
        Ok(text)
    }

    fn label(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        pairs: &Pairs,
    ) -> Result<String, Stop> {
        let pairs = self.expand_pairs(state, at, pairs)?;
        let mut text = "LABEL".to_owned();
        for (name, value) in pairs {
            self.lint_legacy(at);
            _ = write!(text, " {name}={value}");
            state.config.config.labels.insert(name, value);
        }
        Ok(text)
    }

    /// All are expanded before the first is set.
    fn expand_pairs(
        &mut self,
        state: &StageState,
        at: &Instruction,
        pairs: &Pairs,
    ) -> Result<Vec<(String, String)>, Stop> {
        let mut expanded = Vec::new();
        for (name, value) in &pairs.pairs {
            let name = self.expand(state, at, name)?;
            expanded.push((name, self.expand(state, at, value)?));
        }
        Ok(expanded)
    }

    fn lint_legacy(&mut self, at: &Instruction) {
        if let Kind::Env(pairs) | Kind::Label(pairs) = &at.kind
            && pairs.legacy
        {
            self.lint.legacy_pair(at.into(), &at.keyword);
        }
    }

    fn expose(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        words: &[String],
    ) -> Result<String, Stop> {
        let mut named = Vec::new();
        for word in words {
            named.extend(self.expand_words(state, at, word)?);
        }
        let ports = parse_ports(&named, at.into(), &mut self.lint);
        let ports = ports.map_err(|message| fault(at, &message))?;
        for port in &ports {
            let exposed = &mut state.config.config.exposed_ports;
            exposed.insert(port.clone(), Empty {});
        }
        Ok(format!("EXPOSE [{}]", ports.join(" ")))
    }

    fn volume(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        paths: &[String],
    ) -> Result<String, Stop> {
        let mut volumes = Vec::new();
        for path in paths {
            volumes.push(self.expand(state, at, path)?);
        }
        if volumes.iter().any(String::is_empty) {
            return Err(fault(at, "VOLUME specified can not be an empty string").into());
        }
        for volume in &volumes {
            state.config.config.volumes.insert(volume.clone(), Empty {});
        }
        Ok(format!("VOLUME [{}]", volumes.join(" ")))
    }

    fn healthcheck(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        check: &Healthcheck,
    ) -> String {
        if let Some(before) = state.once.healthcheck.replace(at.location.clone()) {
            self.overridden(at, &before);
        }
        let test = match &check.command {
            None => vec!["NONE".to_owned()],
            Some(Command::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.clone()],
            Some(Command::Exec(words)) => [&["CMD".to_owned()], &words[..]].concat(),
        };
        let text = format!(
            "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            test.join(" "),
            duration(check.interval),
            duration(check.timeout),
            duration(check.start_period),
            duration(check.start_interval),
            check.retries
        );
        state.config.config.healthcheck = Some(kiln_graph::Healthcheck {
            test,
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        });
        text
    }

    /// WORKDIR: makes the directory, too.
    pub(crate) fn workdir(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        path: &str,
    ) -> Result<(), Stop> {
        let path = self.expand(state, at, path)?;
        // Only the first counts: whoever mends that one mends those behind it.
        if !path.starts_with('/') && !state.workdir_set {
            self.lint.relative_workdir(at.into(), &path);
        }
        state.workdir_set = true;
        let current = match state.config.config.working_dir.as_str() {
            "" => "/",
            current => current,
        };
        let full = match path.as_str() {
            "" => current.to_owned(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => ImagePath::new(current).join(relative).to_string(),
        };
        state.config.config.working_dir.clone_from(&full);
        let text = format!("WORKDIR {full}");
        let directory = ImagePath::new(&full);
        if directory.is_root() {
            return self.record(state, text, LayerOrigin::None);
        }
        let user = &state.config.config.user;
        let owner = (!user.is_empty()).then(|| parse_owner(user));
        let actions = vec![FileAction::Directory {
            path: directory,
            owner,
            mode: 0o755,
        }];
        let op = Op::Files(Files {
            base: Some(Input(0)),
            actions,
        });
        let (root, platform) = (state.root, state.platform.clone());
        let name = state.step_name(&text);
        let step = self.add(op, vec![root], name, Some(at.location.clone()), &platform)?;
        state.advance(step, &at.location);
        self.record(state, text, LayerOrigin::Step(step))
    }
}

/// The shell in force.
pub(crate) fn shell(state: &StageState) -> Vec<String> {
    match &state.config.config.shell[..] {
        [] => {
            let usual = match state.platform.os.as_str() {
                "windows" => WINDOWS_SHELL,
                _ => DEFAULT_SHELL,
            };
            usual.iter().map(|word| (*word).to_owned()).collect()
        }
        shell => shell.to_vec(),
    }
}

impl StageState {
    /// What the image's own configuration says comes after what a parent stage's ARGs say.
    pub(crate) fn set_base_env(&mut self) {
        let env = &mut self.config.config.env;
        let has_path = env.iter().any(|pair| key(pair) == "PATH");
        if !has_path && self.platform.os != "windows" {
            env.push(format!("PATH={}", super::from::DEFAULT_PATH));
        }
        for (position, pair) in self.config.config.env.clone().iter().enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.config_env.entry(name.to_owned()).or_insert(position);
            // What an image has, however large, is for its commands to fail at.
            _ = self.set_env(name, value);
        }
    }

    /// ENV: for RUN and for the image.
    fn set_config_env(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.set_env(name, value)?;
        let env = &mut self.config.config.env;
        let pair = format!("{name}={value}");
        match self.config_env.get(name) {
            Some(position) => env[*position] = pair,
            None => {
                self.config_env.insert(name.to_owned(), env.len());
                env.push(pair);
            }
        }
        Ok(())
    }
}

fn key(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// A signal by name, or by any number but zero.
fn check_signal(signal: &str) -> Result<(), String> {
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let from = |text: &str, sign: char, most: u32| {
        text.is_empty()
            || text
                .strip_prefix(sign)
                .filter(|number| !number.starts_with(['0', '+']))
                .and_then(|number| number.parse().ok())
                .is_some_and(|number: u32| (1..=most).contains(&number))
    };
    let is_real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => from(rest, '+', 15),
        (_, Some(rest)) => from(rest, '-', 14),
        _ => false,
    };
    let is_number = signal.parse::<i64>().is_ok_and(|number| number != 0);
    if is_number || is_real_time || SIGNALS.contains(&name) {
        return Ok(());
    }
    let hint = crate::suggest::did_you_mean(name, SIGNALS.iter().copied());
    Err(format!("invalid signal: {signal}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::check_signal;

    #[test]
    fn signals() {
        for good in [
            "TERM",
            "sigkill",
            "9",
            "99",
            "-1",
            "RTMIN",
            "SIGRTMIN+15",
            "RTMAX-14",
        ] {
            assert_eq!(check_signal(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "0",
            "FOO",
            "RTMIN+16",
            "RTMAX-15",
            "RTMIN3",
            "SIGSIGTERM",
        ] {
            assert!(check_signal(bad).is_err(), "{bad}");
        }
    }
}
