//! RUN.

use std::collections::BTreeMap;

use kiln_graph::{
    Exec, ImagePath, Input, LayerOrigin, Mount, MountKind, Network, Op, PROXIES, Security, StepId,
};

use super::args::fault;
use super::config::shell;
use super::from::DEFAULT_PATH;
use super::stage::StageState;
use super::{Compiler, Stop};
use crate::ast::{Command, Instruction, Run};

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
        let shown = match &run.command {
            Command::Exec(words) => words.join(" "),
            Command::Shell(_) => args.join(" "),
        };
        let exec = self.exec(state, run, args, mounts, security);
        let text = match run.heredocs.is_empty() {
            true => at.text.clone(),
            false => format!("{}\n{}", at.text, run.heredocs[0].content),
        };
        self.commit_run(state, at, exec, inputs, &text, &shown)
    }

    fn commit_run(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        exec: Exec,
        inputs: Vec<StepId>,
        text: &str,
        shown: &str,
    ) -> Result<(), Stop> {
        let platform = state.platform.clone();
        let location = Some(at.location.clone());
        let name = state.step_name(text);
        let step = self.add(Op::Exec(Box::new(exec)), inputs, name, location, &platform)?;
        state.advance(step, &at.location);
        let text = format!("RUN {}{shown} # buildkit", declared_args(state));
        state.record(text, LayerOrigin::Step(step), self.created.as_ref());
        Ok(())
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
        let mut env = state.env.clone();
        if state.lookup("PATH").is_none() {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let user = Some(state.config.config.user.clone()).filter(|user| !user.is_empty());
        Exec {
            root: Input(0),
            args,
            proxy: self.proxies(&env),
            env,
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

    fn proxies(&self, env: &[(String, String)]) -> BTreeMap<String, String> {
        let given = PROXIES.iter().filter_map(|name| {
            let value = self.options.build_args.get(*name)?;
            let declared = env.iter().any(|(known, _)| known == name);
            (!declared).then(|| ((*name).to_owned(), value.clone()))
        });
        given.collect()
    }
}

/// The program and its arguments, and the script it is, when it is one.
fn command(state: &StageState, run: &Run) -> (Vec<String>, Option<Mount>) {
    let text = match &run.command {
        Command::Exec(words) => return (words.clone(), None),
        Command::Shell(text) => text,
    };
    let with_shell = |text: String| shell(state).into_iter().chain([text]).collect();
    let [only] = &run.heredocs[..] else {
        return (with_shell(joined(text, run)), None);
    };
    let is_alone = text.starts_with("<<") && text.split_ascii_whitespace().count() == 1;
    if !is_alone {
        return (with_shell(joined(text, run)), None);
    }
    if !only.content.starts_with("#!") {
        return (with_shell(only.content.clone()), None);
    }
    let target = ImagePath::new("/dev/pipes").join(&only.name);
    let kind = MountKind::Inline {
        content: only.content.clone().into_bytes(),
        mode: 0o755,
    };
    (vec![target.to_string()], Some(Mount { target, kind }))
}

/// The line with its here-documents behind it, as the shell wants them.
fn joined(text: &str, run: &Run) -> String {
    let mut text = text.to_owned();
    for heredoc in &run.heredocs {
        text = format!("{text}\n{}{}", heredoc.content, heredoc.name);
    }
    text
}

/// `|2 a=1 b=2 `: the declared arguments that have values.
fn declared_args(state: &StageState) -> String {
    let with_value = |(name, value): &(String, Option<String>)| {
        value.as_ref().map(|value| format!("{name}={value}"))
    };
    let args: Vec<String> = state.args.iter().filter_map(with_value).collect();
    if args.is_empty() {
        String::new()
    } else {
        format!("|{} {} ", args.len(), args.join(" "))
    }
}
