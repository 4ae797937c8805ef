//! `RUN --mount`.

use kiln_graph::{
    BadUnixId, CacheMount, ImagePath, Input, Mount, MountKind, SecretMount, Sharing, SshMount,
    StepId, UnixId,
};

use super::args::fault;
use super::stage::StageState;
use super::{Compiler, Stop};
use crate::ast::{self, Instruction};

/// A mount with its values expanded.
struct Fields {
    kind: String,
    fields: Vec<(String, String)>,
}

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(field, _)| field == name);
        found.next_back().map(|(_, value)| value.as_str())
    }

    fn is_set(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value != "false" && value != "0")
    }

    fn id(&self, name: &str) -> Result<UnixId, String> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|error: BadUnixId| format!("invalid {name} in mount: {error}"))
        };
        self.get(name).map_or(Ok(UnixId::ROOT), parse)
    }

    fn mode(&self, default: u32) -> Result<u32, String> {
        let Some(text) = self.get("mode") else {
            return Ok(default);
        };
        let mode = u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777);
        mode.ok_or_else(|| {
            format!("invalid value '{text}' for mode in mount: write an octal number")
        })
    }
}

impl Compiler<'_> {
    /// The mounts of one RUN; trees they need are added to `inputs`.
    pub(crate) fn mounts(
        &mut self,
        state: &StageState,
        at: &Instruction,
        mounts: &[ast::Mount],
        inputs: &mut Vec<StepId>,
    ) -> Result<Vec<Mount>, Stop> {
        let mut all = Vec::new();
        let mut agents = 0;
        for mount in mounts {
            let mut fields = Fields {
                kind: mount.kind.clone(),
                fields: Vec::new(),
            };
            for (name, value) in &mount.fields {
                let value = self.expand(state, at, value)?;
                fields.fields.push((name.clone(), value));
            }
            let mount = match fields.kind.as_str() {
                "" | "bind" => self.bind(state, at, &fields, inputs)?,
                "cache" => self.cache(state, at, &fields, inputs)?,
                _ => other(state, &fields, &mut agents).map_err(|message| fault(at, &message))?,
            };
            if mount.target.is_root() && !matches!(mount.kind, MountKind::Secret(_)) {
                let text = "invalid mount target \"/\": a mount can't cover the whole root";
                return Err(fault(at, text).into());
            }
            all.push(mount);
        }
        Ok(all)
    }

    fn mount_source(
        &mut self,
        state: &StageState,
        at: &Instruction,
        name: &str,
        inputs: &mut Vec<StepId>,
    ) -> Result<Input, Stop> {
        let step = self.named_source(state, at, name, "mount from")?;
        inputs.push(step);
        Ok(Input(u32::try_from(inputs.len() - 1).unwrap_or(u32::MAX)))
    }

    fn bind(
        &mut self,
        state: &StageState,
        at: &Instruction,
        fields: &Fields,
        inputs: &mut Vec<StepId>,
    ) -> Result<Mount, Stop> {
        let from = match fields.get("from") {
            Some(name) => self.mount_source(state, at, name, inputs)?,
            None => {
                inputs.push(self.context("context")?);
                Input(u32::try_from(inputs.len() - 1).unwrap_or(u32::MAX))
            }
        };
        let source = ImagePath::new(fields.get("source").unwrap_or("/"));
        let writable = fields.is_set("readwrite") || fields.get("readonly") == Some("false");
        let kind = MountKind::Bind {
            from,
            source,
            writable,
        };
        Ok(Mount {
            target: target(state, fields.get("target").unwrap_or("")),
            kind,
        })
    }

    fn cache(
        &mut self,
        state: &StageState,
        at: &Instruction,
        fields: &Fields,
        inputs: &mut Vec<StepId>,
    ) -> Result<Mount, Stop> {
        let from = match fields.get("from") {
            Some(name) => Some(self.mount_source(state, at, name, inputs)?),
            None => None,
        };
        let target = target(state, fields.get("target").unwrap_or(""));
        let kind = cache_mount(fields, &target, from).map_err(|message| fault(at, &message))?;
        Ok(Mount {
            target,
            kind: MountKind::Cache(kind),
        })
    }
}

fn cache_mount(
    fields: &Fields,
    target: &ImagePath,
    from: Option<Input>,
) -> Result<CacheMount, String> {
    Ok(CacheMount {
        id: fields
            .get("id")
            .map_or_else(|| target.to_string(), str::to_owned),
        sharing: match fields.get("sharing") {
            Some("private") => Sharing::Private,
            Some("locked") => Sharing::Locked,
            _ => Sharing::Shared,
        },
        from,
        source: ImagePath::new(fields.get("source").unwrap_or("/")),
        mode: fields.mode(0o755)?,
        uid: fields.id("uid")?,
        gid: fields.id("gid")?,
        read_only: fields.is_set("readonly"),
    })
}

fn target(state: &StageState, text: &str) -> ImagePath {
    ImagePath::new(&state.config.config.working_dir).resolve(text)
}

fn other(state: &StageState, fields: &Fields, agents: &mut u32) -> Result<Mount, String> {
    match fields.kind.as_str() {
        "tmpfs" => {
            let size = fields.get("size").map(parse_size).transpose()?;
            let target = target(state, fields.get("target").unwrap_or(""));
            Ok(Mount {
                target,
                kind: MountKind::Tmpfs { size },
            })
        }
        "secret" => secret(state, fields),
        _ => {
            let default = format!("/run/buildkit/ssh_agent.{agents}");
            *agents += 1;
            let kind = MountKind::Ssh(SshMount {
                id: fields.get("id").unwrap_or("default").to_owned(),
                required: fields.is_set("required"),
                mode: fields.mode(0o600)?,
                uid: fields.id("uid")?,
                gid: fields.id("gid")?,
            });
            Ok(Mount {
                target: target(state, fields.get("target").unwrap_or(&default)),
                kind,
            })
        }
    }
}

fn secret(state: &StageState, fields: &Fields) -> Result<Mount, String> {
    let given = fields.get("target");
    let base = given.and_then(|target| target.rsplit('/').next());
    let id = fields
        .get("id")
        .or(fields.get("source"))
        .or(base)
        .unwrap_or_default();
    let env = fields.get("env").map(str::to_owned);
    let kind = MountKind::Secret(SecretMount {
        id: id.to_owned(),
        as_file: env.is_none() || given.is_some(),
        env,
        required: fields.is_set("required"),
        mode: fields.mode(0o400)?,
        uid: fields.id("uid")?,
        gid: fields.id("gid")?,
    });
    let path = given.map_or_else(|| format!("/run/secrets/{id}"), str::to_owned);
    Ok(Mount {
        target: target(state, &path),
        kind,
    })
}

/// A number of bytes, with `k`, `m`, `g` or `t` for powers of 1024.
fn parse_size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(['b', 'i']);
    let (number, power) = match digits.char_indices().next_back() {
        Some((at, 'k')) => (&digits[..at], 1),
        Some((at, 'm')) => (&digits[..at], 2),
        Some((at, 'g')) => (&digits[..at], 3),
        Some((at, 't')) => (&digits[..at], 4),
        _ => (digits, 0),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("invalid size '{text}' in mount"))?;
    number
        .checked_mul(1024u64.pow(power))
        .ok_or_else(|| format!("size '{text}' in mount is too large"))
}
