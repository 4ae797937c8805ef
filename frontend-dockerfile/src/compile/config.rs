//! Instructions that change the image's configuration only, and WORKDIR.

use std::fmt::Write as _;

use kiln_graph::{Empty, FileAction, Files, ImagePath, Input, LayerOrigin, Op};

use super::args::fault;
use super::copy::parse_owner;
use super::stage::StageState;
use super::{Compiler, Stop};
use crate::ast::{Command, Healthcheck, Instruction, Kind, Pairs};

/// What runs commands in shell form unless SHELL says otherwise.
pub(crate) const DEFAULT_SHELL: &[&str] = &["/bin/sh", "-c"];

impl Compiler<'_> {
    /// Everything that makes no step.
    pub(crate) fn configure(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
    ) -> Result<(), Stop> {
        let text = match &at.kind {
            Kind::Cmd(command) => {
                state.cmd_set = true;
                let words = self.command(state, command);
                let text = format!("CMD {}", json(&words));
                state.config.config.cmd = Some(words);
                text
            }
            Kind::Entrypoint(command) => {
                let words = self.command(state, command);
                let text = format!("ENTRYPOINT {}", json(&words));
                state.config.config.entrypoint = Some(words);
                if !state.cmd_set {
                    state.config.config.cmd = None;
                }
                text
            }
            Kind::Env(pairs) => self.env(state, at, pairs)?,
            Kind::Label(pairs) => self.label(state, at, pairs)?,
            Kind::Expose(words) => self.expose(state, at, words)?,
            Kind::Healthcheck(check) => healthcheck(state, check),
            Kind::Maintainer(name) => {
                state.config.author.clone_from(name);
                format!("MAINTAINER {name}")
            }
            Kind::Onbuild(trigger) => {
                state.config.config.on_build.push(trigger.clone());
                format!("ONBUILD {trigger}")
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
        state.record(text, LayerOrigin::None, self.created.as_ref());
        Ok(())
    }

    /// The words that a command is stored as.
    pub(crate) fn command(&self, state: &StageState, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => shell(state).into_iter().chain([text.clone()]).collect(),
        }
    }

    fn env(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        pairs: &Pairs,
    ) -> Result<String, Stop> {
        let before = state.clone();
        let mut text = "ENV".to_owned();
        for (name, value) in &pairs.pairs {
            let name = self.expand(&before, at, name)?;
            let value = self.expand(&before, at, value)?;
            self.lint.secret_name(at, &name, "ENV");
            _ = write!(text, " {name}={value}");
            state.set_env(&name, &value);
            let start = format!("{name}=");
            let env = &mut state.config.config.env;
            match env.iter_mut().find(|pair| pair.starts_with(&start)) {
                Some(pair) => *pair = start + &value,
                None => env.push(start + &value),
            }
        }
        Ok(text)
    }

    fn label(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        pairs: &Pairs,
    ) -> Result<String, Stop> {
        let mut text = "LABEL".to_owned();
        for (name, value) in &pairs.pairs {
            let (name, value) = (
                self.expand(state, at, name)?,
                self.expand(state, at, value)?,
            );
            _ = write!(text, " {name}={value}");
            state.config.config.labels.insert(name, value);
        }
        Ok(text)
    }

    fn expose(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        words: &[String],
    ) -> Result<String, Stop> {
        let mut ports = Vec::new();
        for word in words {
            for port in self.expand_words(state, at, word)? {
                self.lint.expose(at, &port);
                ports.extend(parse_ports(&port).map_err(|message| fault(at, &message))?);
            }
        }
        ports.sort();
        for port in &ports {
            state
                .config
                .config
                .exposed_ports
                .insert(port.clone(), Empty {});
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
        for volume in &volumes {
            state.config.config.volumes.insert(volume.clone(), Empty {});
        }
        Ok(format!("VOLUME [{}]", volumes.join(" ")))
    }

    /// WORKDIR: makes the folder, too.
    pub(crate) fn workdir(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        path: &str,
    ) -> Result<(), Stop> {
        let path = self.expand(state, at, path)?;
        if !path.starts_with('/') && !state.absolute_workdir {
            self.lint.relative_workdir(at, &path);
        }
        state.absolute_workdir |= path.starts_with('/');
        let full = match path.as_str() {
            "" if state.config.config.working_dir.is_empty() => "/".to_owned(),
            "" => state.config.config.working_dir.clone(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => ImagePath::new(&state.config.config.working_dir)
                .join(relative)
                .to_string(),
        };
        state.config.config.working_dir.clone_from(&full);
        let folder = ImagePath::new(&full);
        let text = format!("WORKDIR {full}");
        if folder.is_root() {
            state.record(text, LayerOrigin::None, self.created.as_ref());
            return Ok(());
        }
        let user = &state.config.config.user;
        let owner = if user.is_empty() {
            None
        } else {
            Some(parse_owner(user))
        };
        let actions = vec![FileAction::Directory {
            path: folder,
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
        state.record(text, LayerOrigin::Step(step), self.created.as_ref());
        Ok(())
    }
}

/// The shell in force.
pub(crate) fn shell(state: &StageState) -> Vec<String> {
    match &state.config.config.shell[..] {
        [] => DEFAULT_SHELL
            .iter()
            .map(|word| (*word).to_owned())
            .collect(),
        shell => shell.to_vec(),
    }
}

fn json(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

fn healthcheck(state: &mut StageState, check: &Healthcheck) -> String {
    let test = match &check.command {
        None => vec!["NONE".to_owned()],
        Some(Command::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.clone()],
        Some(Command::Exec(words)) => [&["CMD".to_owned()], &words[..]].concat(),
    };
    let text = format!("HEALTHCHECK {}", json(&test));
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

/// `PORT[-PORT][/PROTOCOL]`, each port by itself.
fn parse_ports(text: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!(
            "invalid proto: {protocol} in EXPOSE {text}: use tcp, udp or sctp"
        ));
    }
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| format!("invalid containerPort: {ports}"))
    };
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        return Err(format!("invalid range specified for port: {ports}"));
    }
    Ok((from..=to)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

fn check_signal(signal: &str) -> Result<(), String> {
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let is_real_time = name.starts_with("RTMIN") || name.starts_with("RTMAX");
    let is_number = signal
        .parse::<u32>()
        .is_ok_and(|number| (1..=64).contains(&number));
    if is_number || is_real_time || SIGNALS.contains(&name) {
        return Ok(());
    }
    let hint = crate::suggest::did_you_mean(name, SIGNALS.iter().copied());
    Err(format!("invalid signal: {signal}{hint}"))
}
