//! `RUN --mount`.

use kiln_graph::{
    CacheMount, ImagePath, Input, Mount, MountAccess, MountKind, SecretMount, Sharing, SshMount,
    StepId,
};

use super::mount_fields::{Fields, Kind};
use super::outline::Required;
use super::stage::StageState;
use super::{Compiler, Stop};
use crate::ast::{self, Instruction};
use crate::error::fault;

impl Compiler<'_> {
    /// The mounts of one RUN; trees they need are added to `inputs`.
    pub(crate) fn mounts(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        mounts: &[ast::Mount],
        inputs: &mut Vec<StepId>,
    ) -> Result<Vec<Mount>, Stop> {
        let mut all = Vec::new();
        let mut agents = 0;
        for mount in mounts {
            let mut expanded = Vec::new();
            for (name, value) in &mount.fields {
                let value = match value {
                    Some(value) => Some(self.expand(state, at, value)?),
                    None => None,
                };
                expanded.push((name.as_str(), value));
            }
            let bad = |message: String| fault(at, &message).about(Some("--mount".to_owned()));
            let fields = Fields::read(&expanded).map_err(bad)?;
            let mount = self.mount(state, at, &fields, inputs, &mut agents)?;
            if mount.target.is_root() && !matches!(mount.kind, MountKind::Secret(_)) {
                let text = "invalid mount target \"/\": a mount can't cover the whole root";
                return Err(fault(at, text).into());
            }
            all.push(mount);
        }
        Ok(all)
    }

    fn mount(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        fields: &Fields,
        inputs: &mut Vec<StepId>,
        agents: &mut u32,
    ) -> Result<Mount, Stop> {
        let from = match &fields.from {
            Some(name) => Some(self.mount_source(state, at, name, &fields.target)?),
            None => None,
        };
        let target = target(state, &fields.target);
        let kind = match fields.kind {
            Kind::Bind => {
                let from = match from {
                    Some(from) => from,
                    None => self.context("context")?,
                };
                MountKind::Bind {
                    from: Input::add(inputs, from),
                    source: ImagePath::new(&fields.source),
                    writable: !fields.read_only,
                }
            }
            Kind::Cache => {
                let from = from.map(|from| Input::add(inputs, from));
                MountKind::Cache(self.cache(fields, from))
            }
            Kind::Tmpfs => MountKind::Tmpfs { size: fields.size },
            Kind::Secret => return Ok(secret(state, at, fields)),
            Kind::Ssh => return ssh(state, at, fields, agents),
        };
        Ok(Mount { target, kind })
    }

    fn cache(&self, fields: &Fields, from: Option<Input>) -> CacheMount {
        let id = match fields.id.as_str() {
            "" => kiln_graph::clean_path(&fields.target),
            id => id.to_owned(),
        };
        let namespace = self.options.build_args.get(CacheMount::NAMESPACE);
        let MountAccess { uid, gid, mode } = fields.access(CacheMount::USUAL);
        CacheMount {
            id: CacheMount::in_namespace(id, namespace),
            sharing: fields.sharing.unwrap_or(Sharing::Shared),
            from,
            source: ImagePath::new(&fields.source),
            mode,
            uid,
            gid,
            read_only: fields.read_only,
        }
    }

    /// A stage by name, a named context, or an image. Numbers name no stages here.
    fn mount_source(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        name: &str,
        target: &str,
    ) -> Result<StepId, Stop> {
        match self.names.find(name) {
            Some(stage) if stage < state.index => {
                state.captured.sources.insert(stage);
                Ok(self.stage(stage)?.root)
            }
            Some(_) => {
                let (from, to) = (crate::quote::quote(name), crate::quote::quote(target));
                let text = format!(
                    "cannot mount from stage {from} to {to}, stage needs to be defined before current command"
                );
                Err(fault(at, &text).into())
            }
            None => self.other_source(name),
        }
    }
}

fn target(state: &StageState, text: &str) -> ImagePath {
    ImagePath::new(&state.config.config.working_dir).resolve(text)
}

fn secret(state: &mut StageState, at: &Instruction, fields: &Fields) -> Mount {
    let id = match (fields.source.as_str(), fields.id.as_str()) {
        ("", "") => base_name(&fields.target),
        ("", id) => id,
        (source, _) => source,
    };
    let required = Required {
        required: fields.required,
        location: at.location.clone(),
    };
    let secrets = &mut state.captured.secrets;
    secrets.entry(id.to_owned()).or_insert(required);
    let MountAccess { uid, gid, mode } = fields.access(SecretMount::USUAL);
    let kind = MountKind::Secret(SecretMount {
        id: id.to_owned(),
        as_file: fields.env.is_none() || !fields.target.is_empty(),
        env: fields.env.clone(),
        required: fields.required,
        mode,
        uid,
        gid,
    });
    let path = match fields.target.as_str() {
        "" => format!("/run/secrets/{}", base_name(id)),
        target => target.to_owned(),
    };
    Mount {
        target: target(state, &path),
        kind,
    }
}

fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

fn ssh(
    state: &mut StageState,
    at: &Instruction,
    fields: &Fields,
    agents: &mut u32,
) -> Result<Mount, Stop> {
    if !fields.source.is_empty() {
        return Err(fault(at, "ssh does not support source").into());
    }
    let id = match fields.id.as_str() {
        "" => "default",
        id => id,
    };
    let required = Required {
        required: fields.required,
        location: at.location.clone(),
    };
    let known = &mut state.captured.ssh;
    known.entry(id.to_owned()).or_insert(required);
    let path = match fields.target.as_str() {
        "" => format!("/run/buildkit/ssh_agent.{agents}"),
        target => target.to_owned(),
    };
    *agents += 1;
    let MountAccess { uid, gid, mode } = fields.access(SshMount::USUAL);
    let kind = MountKind::Ssh(SshMount {
        id: id.to_owned(),
        required: fields.required,
        mode,
        uid,
        gid,
    });
    Ok(Mount {
        target: target(state, &path),
        kind,
    })
}
