//! Steps: files are copied, then a command is run.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_graph::{
    CacheMount, Chmod, CopyFiles, Exec, FileAction, Files, HistoryLine, ImagePath, Input,
    LayerOrigin, Mount, MountKind, Network, Op, Owner, Platform, SecretMount, Security, Sharing,
    SshMount, StepId, StepName,
};

use super::{Compiler, Made, Stop};
use crate::condition;
use crate::error::Wrong;
use crate::model::{CacheUse, Copy, NetworkKind, Run, Secret, SharingKind, Step};
use crate::template::Scope;
use crate::text::Text;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A step while it is compiled.
struct Progress {
    name: String,
    number: u32,
    of: u32,
    no_cache: bool,
    made: Made,
}

impl Progress {
    fn step_name(&mut self, text: &str) -> StepName {
        self.number += 1;
        StepName {
            stage: self.name.clone(),
            number: self.number,
            of: self.of,
            text: text.to_owned(),
        }
    }
}

impl<'a> Compiler<'a> {
    pub(super) fn step(
        &mut self,
        name: &str,
        step: &'a Step,
        scope: &Scope,
        platform: &Platform,
    ) -> Result<Made, Stop> {
        let from = step.from.as_ref().ok_or_else(|| {
            let text =
                format!("the step '{name}' doesn't say what it starts from: give from = \"…\"");
            Stop::Error(Box::new(crate::TomlError::whole(text)))
        })?;
        let made = self.named(from, scope, platform)?;
        if let Some(text) = &step.condition {
            let holds = condition::holds(&text.value, scope);
            if !holds.map_err(|message| Wrong::at(text, message))? {
                return Ok(made);
            }
        }
        let mut needed = Vec::new();
        for other in &step.needs {
            needed.push(self.named(other, scope, platform)?.step);
        }
        let has_command = step.run.is_some() || step.script.is_some();
        let mut progress = Progress {
            name: name.to_owned(),
            number: 0,
            of: u32::from(!step.copy.is_empty()) + u32::from(has_command),
            no_cache: step.cache == Some(CacheUse::Never),
            made,
        };
        if !step.copy.is_empty() {
            self.files(step, scope, platform, &needed, &mut progress)?;
        }
        if has_command {
            self.command(step, scope, platform, needed, &mut progress)?;
        }
        Ok(progress.made)
    }

    fn files(
        &mut self,
        step: &'a Step,
        scope: &Scope,
        platform: &Platform,
        needed: &[StepId],
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let mut inputs = vec![progress.made.step];
        let mut actions = Vec::new();
        let mut shown = Vec::new();
        for copy in &step.copy {
            let dest = self.fill(&copy.to, scope)?;
            shown.push(dest.clone());
            actions.push(self.copy(step, copy, &dest, scope, platform, &mut inputs)?);
        }
        inputs.extend(needed);
        self.at(&step.copy[0].to);
        let op = Op::Files(Files {
            base: Some(Input(0)),
            actions,
        });
        self.advance(
            op,
            inputs,
            &format!("copy to {}", shown.join(", ")),
            platform,
            progress,
        )
    }

    fn copy(
        &mut self,
        step: &Step,
        copy: &'a Copy,
        dest: &str,
        scope: &Scope,
        platform: &Platform,
        inputs: &mut Vec<StepId>,
    ) -> Result<FileAction, Stop> {
        let owner = match &copy.owner {
            Some(text) => owner(&self.fill(text, scope)?),
            None => Owner::Ids { uid: 0, gid: 0 },
        };
        let chmod = match &copy.mode {
            Some(text) => {
                let parsed = Chmod::parse(&self.fill(text, scope)?);
                Some(parsed.map_err(|error| Wrong::at(text, format!("mode: {error}")))?)
            }
            None => None,
        };
        let to_directory = dest.ends_with('/') || copy.paths.len() > 1;
        let path = self.workdir(step, scope)?.resolve(dest);
        let from = match (&copy.from, &copy.text) {
            (Some(from), None) => from,
            (None, Some(text)) => {
                let mode = chmod
                    .as_ref()
                    .map_or(0o644, |chmod| chmod.apply(0o644, false));
                return Ok(FileAction::Write {
                    dest: path,
                    to_directory: false,
                    name: String::new(),
                    content: self.fill(text, scope)?.into_bytes(),
                    mode,
                    owner: Some(owner),
                });
            }
            _ => {
                let text = "a copy needs exactly one of from and text";
                return Err(Wrong::at(&copy.to, text).into());
            }
        };
        let input = push(inputs, self.named(from, scope, platform)?.step);
        let paths = self.fill_all(&copy.paths, scope)?;
        Ok(FileAction::Copy(Box::new(CopyFiles {
            from: input,
            sources: if paths.is_empty() {
                vec![".".to_owned()]
            } else {
                paths
            },
            dest: path,
            to_directory,
            owner: Some(owner),
            chmod,
            parents: false,
            exclude: copy.exclude.clone(),
            unpack: false,
        })))
    }

    fn workdir(&self, step: &Step, scope: &Scope) -> Result<ImagePath, Stop> {
        match &step.workdir {
            Some(text) => Ok(ImagePath::new(self.fill(text, scope)?)),
            None => Ok(ImagePath::root()),
        }
    }

    fn command(
        &mut self,
        step: &'a Step,
        scope: &Scope,
        platform: &Platform,
        needed: Vec<StepId>,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let mut inputs = vec![progress.made.step];
        let (args, shown, place) = self.words(step, scope)?;
        let mounts = self.mounts(step, scope, platform, &mut inputs)?;
        let mut env: Vec<(String, String)> = progress
            .made
            .config
            .config
            .env
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for (name, value) in &step.env {
            let value = self.fill(value, scope)?;
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), value));
        }
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), PATH.to_owned()));
        }
        let base = &progress.made.config.config;
        let user = match &step.user {
            Some(text) => Some(self.fill(text, scope)?),
            None => Some(base.user.clone()).filter(|user| !user.is_empty()),
        };
        let cwd = match step.workdir {
            Some(_) => self.workdir(step, scope)?,
            None => ImagePath::new(&base.working_dir),
        };
        let exec = Exec {
            root: Input(0),
            args,
            env,
            proxy: BTreeMap::new(),
            cwd,
            user,
            mounts,
            network: match step.network {
                Some(NetworkKind::None) => Network::None,
                Some(NetworkKind::Host) => Network::Host,
                None => Network::Default,
            },
            security: Security::Sandbox,
            hostname: None,
            extra_hosts: Vec::new(),
            ulimits: BTreeMap::new(),
            shm_size: None,
            retries: step.retry,
            timeout: step.timeout.as_ref().map(timeout).transpose()?,
            accept_status: Vec::new(),
        };
        inputs.extend(needed);
        self.at(&place);
        if step.workdir.is_some() {
            self.make_folder(&exec.cwd, platform, progress)?;
            inputs[0] = progress.made.step;
        }
        self.at(&place);
        self.advance(Op::Exec(Box::new(exec)), inputs, &shown, platform, progress)
    }

    /// The working folder exists before the command runs.
    fn make_folder(
        &mut self,
        path: &ImagePath,
        platform: &Platform,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let actions = vec![FileAction::Directory {
            path: path.clone(),
            owner: None,
            mode: 0o755,
        }];
        let op = Op::Files(Files {
            base: Some(Input(0)),
            actions,
        });
        let inputs = vec![progress.made.step];
        progress.of += 1;
        self.advance(op, inputs, &format!("workdir {path}"), platform, progress)
    }

    /// The program with its arguments, a text for people, and the place in the file.
    fn words(&self, step: &Step, scope: &Scope) -> Result<(Vec<String>, String, Text), Stop> {
        match (&step.run, &step.script) {
            (Some(Run::Shell(text)), None) => {
                let line = self.fill(text, scope)?;
                let args = ["/bin/sh", "-c", &line].map(str::to_owned).to_vec();
                Ok((args, line, text.clone()))
            }
            (Some(Run::Words(words)), None) if !words.is_empty() => {
                let args = self.fill_all(words, scope)?;
                let shown = args.join(" ");
                Ok((args, shown, words[0].clone()))
            }
            (None, Some(script)) if !script.interpreter.is_empty() => {
                let mut args = self.fill_all(&script.interpreter, scope)?;
                let shown = args.join(" ");
                args.push("/dev/kiln-script".to_owned());
                Ok((args, shown, script.text.clone()))
            }
            _ => {
                let text =
                    "a step has either run, with at least one word, or script, with an interpreter";
                let from = step.from.as_ref().map(|from| Wrong::at(from, text));
                Err(from.map_or_else(
                    || Stop::Error(Box::new(crate::TomlError::whole(text))),
                    Stop::Wrong,
                ))
            }
        }
    }

    fn mounts(
        &mut self,
        step: &'a Step,
        scope: &Scope,
        platform: &Platform,
        inputs: &mut Vec<StepId>,
    ) -> Result<Vec<Mount>, Stop> {
        let mut mounts = Vec::new();
        let cwd = self.workdir(step, scope)?;
        if let Some(script) = &step.script {
            let content = self.fill(&script.text, scope)?.into_bytes();
            let kind = MountKind::Inline {
                content,
                mode: 0o644,
            };
            mounts.push(mount(&ImagePath::new("/dev/kiln-script"), kind));
        }
        for cache in &step.caches {
            let target = cwd.resolve(&self.fill(&cache.target, scope)?);
            let id = match &cache.id {
                Some(id) => self.fill(id, scope)?,
                None => target.to_string(),
            };
            let kind = MountKind::Cache(CacheMount {
                id,
                sharing: match cache.sharing {
                    Some(SharingKind::Private) => Sharing::Private,
                    Some(SharingKind::Locked) => Sharing::Locked,
                    _ => Sharing::Shared,
                },
                from: None,
                source: ImagePath::root(),
                mode: 0o755,
                uid: 0,
                gid: 0,
                read_only: false,
            });
            mounts.push(mount(&target, kind));
        }
        for bind in &step.binds {
            let from = push(inputs, self.named(&bind.from, scope, platform)?.step);
            let source = match &bind.path {
                Some(path) => ImagePath::new(self.fill(path, scope)?),
                None => ImagePath::root(),
            };
            let target = cwd.resolve(&self.fill(&bind.target, scope)?);
            let kind = MountKind::Bind {
                from,
                source,
                writable: false,
            };
            mounts.push(mount(&target, kind));
        }
        for secret in &step.secrets {
            mounts.push(self.secret(secret, &cwd, scope)?);
        }
        for (number, id) in step.ssh.iter().enumerate() {
            let kind = MountKind::Ssh(SshMount {
                id: id.clone(),
                required: true,
                mode: 0o600,
                uid: 0,
                gid: 0,
            });
            mounts.push(mount(
                &ImagePath::new(format!("/run/ssh-agent.{number}")),
                kind,
            ));
        }
        Ok(mounts)
    }

    fn secret(&self, secret: &Secret, cwd: &ImagePath, scope: &Scope) -> Result<Mount, Stop> {
        let id = self.fill(&secret.id, scope)?;
        let env = secret
            .env
            .as_ref()
            .map(|env| self.fill(env, scope))
            .transpose()?;
        let target = match &secret.target {
            Some(target) => cwd.resolve(&self.fill(target, scope)?),
            None => ImagePath::new(format!("/run/secrets/{id}")),
        };
        let kind = MountKind::Secret(SecretMount {
            id,
            as_file: env.is_none() || secret.target.is_some(),
            env,
            required: secret.required.unwrap_or(true),
            mode: 0o400,
            uid: 0,
            gid: 0,
        });
        Ok(mount(&target, kind))
    }

    fn advance(
        &mut self,
        op: Op,
        inputs: Vec<StepId>,
        text: &str,
        platform: &Platform,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let name = progress.step_name(text);
        let (stage, number) = (name.stage.clone(), name.number);
        let step = self.add(op, inputs, name, progress.no_cache, platform)?;
        self.note(&stage, number, step);
        progress.made.step = step;
        progress.made.history.push(HistoryLine {
            created_by: format!("{stage}: {text}"),
            comment: "kiln.toml".to_owned(),
            author: String::new(),
            layer: LayerOrigin::Step(step),
            created: None,
            layer_name: None,
        });
        Ok(())
    }
}

fn mount(target: &ImagePath, kind: MountKind) -> Mount {
    Mount {
        target: target.clone(),
        kind,
    }
}

fn push(inputs: &mut Vec<StepId>, step: StepId) -> Input {
    inputs.push(step);
    Input(u32::try_from(inputs.len() - 1).unwrap_or(u32::MAX))
}

/// `USER[:GROUP]`; a number alone is the group's, too.
fn owner(text: &str) -> Owner {
    let (user, group) = text
        .split_once(':')
        .map_or((text, None), |(user, group)| (user, Some(group)));
    match (user.parse(), group.map(str::parse)) {
        (Ok(uid), Some(Ok(gid))) => Owner::Ids { uid, gid },
        (Ok(uid), None) => Owner::Ids { uid, gid: uid },
        _ => Owner::Names {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        },
    }
}

fn timeout(text: &Text) -> Result<Duration, Wrong> {
    let bad = || {
        Wrong::at(
            text,
            format!("'{}' is no time: write it as 90s, 10m or 1h", text.value),
        )
    };
    let unit = text.value.chars().next_back().ok_or_else(bad)?;
    let number = &text.value[..text.value.len() - unit.len_utf8()];
    let number: u64 = number.parse().map_err(|_| bad())?;
    match unit {
        's' => Ok(Duration::from_secs(number)),
        'm' => Ok(Duration::from_secs(number * 60)),
        'h' => Ok(Duration::from_secs(number * 3600)),
        _ => Err(bad()),
    }
}
