//! RUN.

use std::collections::BTreeMap;

use kiln_graph::{
    Exec, ImagePath, Input, LayerOrigin, Mount, MountKind, Network, Op, PROXIES, Security, StepId,
};

use super::config::shell;
use super::stage::StageState;
use super::{Compiler, Stop};
use crate::ast::{Command, Instruction, Run};
use crate::error::fault;
use crate::parse::{chomped, only_heredoc};

impl Compiler<'_> {
    /// RUN.
    pub(crate) fn run(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        run: &Run,
    ) -> Result<(), Stop> {
        if let Some(device) = run.devices.first() {
            let text = format!("--device={device}: kiln gives steps no devices");
            return Err(fault(at, &text).into());
        }
        let security = self.security(at, run)?;
        let mut inputs = vec![state.root];
        let mut mounts = self.mounts(state, at, &run.mounts, &mut inputs)?;
        let (args, script) = command(state, run);
        mounts.extend(script);
        let shown = format!("RUN {}{} # buildkit", declared_args(state), args.join(" "));
        let exec = self.exec(state, run, args, mounts, security);
        let text = match run.heredocs.first() {
            None => at.text.clone(),
            Some(heredoc) => format!("{}\n{}", at.text, heredoc.content),
        };
        self.commit_run(state, at, exec, inputs, &text, shown)
    }

    fn commit_run(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        exec: Exec,
        inputs: Vec<StepId>,
        text: &str,
        shown: String,
    ) -> Result<(), Stop> {
        let env = exec.env.iter();
        self.budget
            .add(env.map(|(name, value)| name.len() + value.len()).sum())?;
        let platform = state.platform.clone();
        let location = Some(at.location.clone());
        let name = state.step_name(text);
        let step = self.add(Op::Exec(Box::new(exec)), inputs, name, location, &platform)?;
        state.advance(step, &at.location);
        self.record(state, shown, LayerOrigin::Step(step))
    }

    fn security(&self, at: &Instruction, run: &Run) -> Result<Security, Stop> {
        match run.security.as_deref() {
            Some("insecure") if !self.options.allow_insecure => {
                let text = "security.insecure is not allowed: give --allow security.insecure if you trust this step";
                Err(fault(at, text).into())
            }
            Some("insecure") => Ok(Security::Insecure),
            _ => Ok(Security::Sandbox),
        }
    }

    fn exec(
        &self,
        state: &StageState,
        run: &Run,
        args: Vec<String>,
        mounts: Vec<Mount>,
        security: Security,
    ) -> Exec {
        let options = self.options;
        let env = state.env.iter();
        let user = Some(state.config.config.user.clone()).filter(|user| !user.is_empty());
        Exec {
            root: Input(0),
            args,
            proxy: self.proxies(),
            env: env
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            cwd: ImagePath::new(&state.config.config.working_dir),
            user,
            mounts,
            network: match run.network.as_deref() {
                Some("none") => Network::None,
                Some("host") => Network::Host,
                _ => Network::Default,
            },
            security,
            hostname: options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned(),
            extra_hosts: options.extra_hosts.clone(),
            ulimits: options.ulimits.clone(),
            shm_size: options.shm_size,
            retries: 0,
            timeout: None,
            accept_status: Vec::new(),
        }
    }

    /// Proxies are given in both spellings, whichever the user wrote.
    fn proxies(&self) -> BTreeMap<String, String> {
        let mut proxies = BTreeMap::new();
        for (name, value) in &self.options.build_args {
            let alike = PROXIES
                .iter()
                .filter(|known| known.eq_ignore_ascii_case(name));
            for known in alike {
                proxies.insert((*known).to_owned(), value.clone());
            }
        }
        proxies.retain(|_, value| !value.is_empty());
        proxies
    }
}

/// The program and its arguments, and the script it is, when it is one.
fn command(state: &StageState, run: &Run) -> (Vec<String>, Option<Mount>) {
    let text = match &run.command {
        Command::Exec(words) => return (words.clone(), None),
        Command::Shell(text) => text,
    };
    let with_shell = |text: String| shell(state).into_iter().chain([text]).collect();
    let first = match run.heredocs.first() {
        Some(first) if only_heredoc(text) => first,
        _ => return (with_shell(joined(text, run)), None),
    };
    let content = match first.chomp {
        true => chomped(&first.content),
        false => first.content.clone(),
    };
    if !content.starts_with("#!") {
        return (with_shell(content), None);
    }
    let target = ImagePath::new("/dev/pipes").join(&first.name);
    let kind = MountKind::Inline {
        content: content.into_bytes(),
        mode: 0o755,
    };
    let args = with_shell(target.to_string());
    (args, Some(Mount { target, kind }))
}

/// The line with its here-documents behind it, as the shell wants them.
fn joined(text: &str, run: &Run) -> String {
    let mut text = text.to_owned();
    for heredoc in &run.heredocs {
        text = format!("{text}\n{}{}", heredoc.content, heredoc.name);
    }
    text
}

/// `|2 a=1 b= `: the declared arguments, with what they are by now.
fn declared_args(state: &StageState) -> String {
    let with_value = |(name, value): (&String, &Option<String>)| {
        let value = state.env.get(name).or(value.as_ref());
        format!("{name}={}", value.map_or("", String::as_str))
    };
    let args: Vec<String> = state.args.iter().map(with_value).collect();
    if args.is_empty() {
        String::new()
    } else {
        format!("|{} {} ", args.len(), args.join(" "))
    }
}
