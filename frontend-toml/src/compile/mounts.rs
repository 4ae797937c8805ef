//! What is there for the time of a command: scripts, volumes, files of other steps, secrets,
//! agents.

use kiln_graph::{
    CacheMount, ImagePath, Mount, MountKind, SecretMount, Sharing, SshMount, StepId, UnixId,
};

use super::command::SCRIPT;
use super::compiler::Compiler;
use super::copy::ids;
use super::limits;
use super::step::Work;
use crate::error::Wrong;
use crate::model::{Cache, Secret, SharingKind, Tmpfs};
use crate::text::Text;

impl<'a> Compiler<'a> {
    /// The mounts; the steps they are from are added to `others`, which are a command's inputs
    /// after its root.
    pub(super) fn mounts(
        &mut self,
        work: &Work<'a, '_>,
        directory: &ImagePath,
        others: &mut Vec<StepId>,
    ) -> Result<Vec<Mount>, Wrong> {
        let step = work.step;
        let mut mounts = Vec::new();
        if let Some(script) = &step.script {
            let kind = MountKind::Inline {
                content: work.view.fill(&script.text)?.into_bytes(),
                mode: 0o644,
            };
            mounts.push(mount(&ImagePath::new(SCRIPT), kind));
        }
        for cache in &step.caches {
            let made = volume(work, directory, cache)?;
            if let (Some(key), MountKind::Cache(volume)) = (&cache.key, &made.kind) {
                let file = work.view.fill(key)?;
                self.volume_files.insert(volume.id.clone(), file);
            }
            mounts.push(made);
        }
        for bind in &step.binds {
            others.push(self.named(&bind.from, work.view)?.step);
            let path = work.view.fill_some(bind.path.as_ref())?;
            let kind = MountKind::Bind {
                from: kiln_graph::Input(u32::try_from(others.len()).unwrap_or(u32::MAX)),
                source: ImagePath::new(path.unwrap_or_default()),
                writable: false,
            };
            mounts.push(mount(
                &directory.resolve(work.view.fill(&bind.target)?),
                kind,
            ));
        }
        for secret in &step.secrets {
            mounts.push(secret_mount(work, directory, secret)?);
        }
        for directory_in_memory in &step.tmpfs {
            mounts.push(tmpfs(work, directory, directory_in_memory)?);
        }
        for (number, id) in step.ssh.iter().enumerate() {
            mounts.push(agent(work, number, id)?);
        }
        Ok(mounts)
    }
}

fn volume(work: &Work<'_, '_>, directory: &ImagePath, cache: &Cache) -> Result<Mount, Wrong> {
    let target = directory.resolve(work.view.fill(&cache.target)?);
    let id = work.view.fill_some(cache.id.as_ref())?;
    let (uid, gid) = owner(work, cache.owner.as_ref())?;
    let kind = MountKind::Cache(CacheMount {
        id: id.unwrap_or_else(|| target.to_string()),
        sharing: match cache.sharing {
            Some(SharingKind::Private) => Sharing::Private,
            Some(SharingKind::Locked) => Sharing::Locked,
            Some(SharingKind::Shared) | None => Sharing::Shared,
        },
        from: None,
        source: ImagePath::root(),
        mode: CacheMount::USUAL.mode,
        uid,
        gid,
        read_only: false,
    });
    Ok(mount(&target, kind))
}

fn secret_mount(
    work: &Work<'_, '_>,
    directory: &ImagePath,
    secret: &Secret,
) -> Result<Mount, Wrong> {
    let id = work.view.fill(&secret.id)?;
    let env = work.view.fill_some(secret.env.as_ref())?;
    let target = match &secret.target {
        Some(target) => directory.resolve(work.view.fill(target)?),
        None => ImagePath::new(format!("/run/secrets/{id}")),
    };
    let (uid, gid) = owner(work, secret.owner.as_ref())?;
    let kind = MountKind::Secret(SecretMount {
        id,
        as_file: env.is_none() || secret.target.is_some(),
        env,
        required: secret.required.unwrap_or(true),
        mode: SecretMount::USUAL.mode,
        uid,
        gid,
    });
    Ok(mount(&target, kind))
}

fn tmpfs(work: &Work<'_, '_>, directory: &ImagePath, tmpfs: &Tmpfs) -> Result<Mount, Wrong> {
    let size = tmpfs.size.as_ref();
    let size = size.map(|text| limits::size(text, work.view)).transpose()?;
    let target = directory.resolve(work.view.fill(&tmpfs.target)?);
    Ok(mount(&target, MountKind::Tmpfs { size }))
}

fn agent(work: &Work<'_, '_>, number: usize, id: &Text) -> Result<Mount, Wrong> {
    let (uid, gid) = owner(work, None)?;
    let kind = MountKind::Ssh(SshMount {
        id: work.view.fill(id)?,
        required: true,
        mode: SshMount::USUAL.mode,
        uid,
        gid,
    });
    Ok(mount(
        &ImagePath::new(format!("/run/ssh-agent.{number}")),
        kind,
    ))
}

/// Who owns what is mounted: as said; else the command's user, where that is a number.
fn owner(work: &Work<'_, '_>, text: Option<&Text>) -> Result<(UnixId, UnixId), Wrong> {
    let Some(text) = text else {
        let user = work.user()?;
        return Ok(user.as_deref().and_then(ids).unwrap_or_default());
    };
    let filled = work.view.fill(text)?;
    ids(&filled).ok_or_else(|| {
        let message =
            format!("'{filled}' is no owner of a mount: write UID or UID:GID, in numbers");
        Wrong::at(&text.span, message)
    })
}

fn mount(target: &ImagePath, kind: MountKind) -> Mount {
    Mount {
        target: target.clone(),
        kind,
    }
}
