//! Commands. kiln's have one result, the root; the result of another mount is had by copying its tree to
//! where it would be mounted before the command runs, and out of there afterwards.

use bollard_buildkit_proto::pb;
use kiln_graph::{
    CacheMount, CopyFiles, Exec, FileAction, Files, ImagePath, Input, Mount, MountAccess,
    MountKind, Network, Op, SecretMount, Security, Sharing, SshMount, StepId, UnixId,
};

use crate::compile::{Compiler, Place};
use crate::error::{LlbError, malformed, unsupported};

/// Where programs are looked for unless the definition says it (capability `exec.meta.setsdefaultpath`).
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes the steps of a command.
pub(crate) fn exec(
    compiler: &mut Compiler<'_>,
    place: &Place<'_>,
    op: &pb::ExecOp,
) -> Result<(), LlbError> {
    let meta = op
        .meta
        .as_ref()
        .ok_or_else(|| malformed("a command without meta"))?;
    let root = root_of(op)?;
    let mut tree = compiler.input_or_scratch(place, root.input)?;
    let copied: Vec<&pb::Mount> = op.mounts.iter().filter(|mount| is_copied(mount)).collect();
    if !copied.is_empty() {
        tree = copy_in(compiler, place, meta, &copied, tree)?;
    }
    let mut inputs = vec![tree];
    let mut run = command(meta)?;
    (run.network, run.security) = confinement(op)?;
    for mount in op.mounts.iter().filter(|mount| is_mounted(mount)) {
        let kind = mounted(mount, |mount| {
            let step = match is_filled(mount) {
                true => compiler.input(place, mount.input)?,
                false => Some(compiler.input_or_scratch(place, mount.input)?),
            };
            Ok(step.map(|step| Input::add(&mut inputs, step)))
        })?;
        let target = place_of(meta, mount);
        run.mounts.push(Mount { target, kind });
    }
    run.mounts.extend(op.secretenv.iter().map(variable));
    let done = compiler.add(place, Op::Exec(Box::new(run)), inputs)?;
    if let Ok(output) = usize::try_from(root.output) {
        let root = match copied.is_empty() {
            true => done,
            false => take_out(compiler, place, meta, &copied, done)?,
        };
        compiler.output(place, output, root)?;
    }
    for mount in copied {
        let tree = copy_out(compiler, place, &place_of(meta, mount), done)?;
        compiler.output(place, usize::try_from(mount.output).unwrap_or(0), tree)?;
    }
    Ok(())
}

/// The mount that is a command's root.
fn root_of(op: &pb::ExecOp) -> Result<&pb::Mount, LlbError> {
    let root = op.mounts.iter().find(|mount| is_root(mount));
    let root = root.ok_or_else(|| malformed("a command without a root"))?;
    if !root.selector.is_empty() && !ImagePath::new(&root.selector).is_root() {
        return Err(unsupported("a root that is a directory of its input"));
    }
    match root.readonly {
        true => Err(unsupported("a root that can't be written")),
        false => Ok(root),
    }
}

/// What a command may reach.
fn confinement(op: &pb::ExecOp) -> Result<(Network, Security), LlbError> {
    if !op.cdi_devices.is_empty() {
        return Err(unsupported("a device in a command"));
    }
    Ok((network(op.network)?, security(op.security)?))
}

pub(crate) fn network(mode: i32) -> Result<Network, LlbError> {
    match pb::NetMode::try_from(mode) {
        Ok(pb::NetMode::Unset) => Ok(Network::Default),
        Ok(pb::NetMode::Host) => Ok(Network::Host),
        Ok(pb::NetMode::None) => Ok(Network::None),
        Err(_) => Err(unsupported("the network of a command")),
    }
}

pub(crate) fn security(mode: i32) -> Result<Security, LlbError> {
    match pb::SecurityMode::try_from(mode) {
        Ok(pb::SecurityMode::Sandbox) => Ok(Security::Sandbox),
        Ok(pb::SecurityMode::Insecure) => Ok(Security::Insecure),
        Err(_) => Err(malformed("invalid security mode")),
    }
}

/// Where a mount is: relative places are below the command's directory.
fn place_of(meta: &pb::Meta, mount: &pb::Mount) -> ImagePath {
    ImagePath::new(&meta.cwd).resolve(&mount.dest)
}

pub(crate) fn is_root(mount: &pb::Mount) -> bool {
    mount.dest == "/"
}

/// Whether a mount is a result as well.
fn is_copied(mount: &pb::Mount) -> bool {
    !is_root(mount) && mount.output >= 0 && mount.mount_type == i32::from(pb::MountType::Bind)
}

/// Whether a mount is there while the command runs, and no result.
fn is_mounted(mount: &pb::Mount) -> bool {
    !is_root(mount) && !is_copied(mount)
}

/// Copies what a directory holds.
fn content(from: Input, directory: String, dest: ImagePath) -> FileAction {
    FileAction::Copy(Box::new(CopyFiles::new(from, directory, dest)))
}

/// Leaves an empty directory where a mount is.
fn emptied(dest: &ImagePath) -> Vec<FileAction> {
    let path = dest.clone();
    vec![
        FileAction::Remove {
            path: path.clone(),
            wildcard: false,
            allow_missing: true,
        },
        FileAction::Directory {
            path,
            owner: None,
            mode: 0o755,
        },
    ]
}

/// Puts the trees of mounts where they would be mounted.
fn copy_in(
    compiler: &mut Compiler<'_>,
    place: &Place<'_>,
    meta: &pb::Meta,
    mounts: &[&pb::Mount],
    tree: StepId,
) -> Result<StepId, LlbError> {
    let mut actions = Vec::new();
    let mut inputs = vec![tree];
    for mount in mounts {
        if !ImagePath::new(&mount.selector).is_root() {
            return Err(unsupported(
                "the result of a mount that is a directory of its input",
            ));
        }
        let dest = place_of(meta, mount);
        actions.extend(emptied(&dest));
        if let Some(input) = compiler.input(place, mount.input)? {
            let from = Input::add(&mut inputs, input);
            actions.push(content(from, "/".to_owned(), dest));
        }
    }
    let base = Some(Input(0));
    compiler.add(place, Op::Files(Files { base, actions }), inputs)
}

/// The tree that a command left where it would have been mounted.
fn copy_out(
    compiler: &mut Compiler<'_>,
    place: &Place<'_>,
    dest: &ImagePath,
    done: StepId,
) -> Result<StepId, LlbError> {
    let directory = format!("{dest}/");
    let actions = vec![content(Input(0), directory, ImagePath::root())];
    let base = None;
    compiler.add(place, Op::Files(Files { base, actions }), vec![done])
}

/// The root without what was only mounted.
fn take_out(
    compiler: &mut Compiler<'_>,
    place: &Place<'_>,
    meta: &pb::Meta,
    mounts: &[&pb::Mount],
    tree: StepId,
) -> Result<StepId, LlbError> {
    let base = Some(Input(0));
    let places = mounts.iter().map(|mount| place_of(meta, mount));
    let actions = places.flat_map(|dest| emptied(&dest)).collect();
    compiler.add(place, Op::Files(Files { base, actions }), vec![tree])
}

/// A command without its mounts.
pub(crate) fn command(meta: &pb::Meta) -> Result<Exec, LlbError> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    if !meta.valid_exit_codes.is_empty() && !meta.valid_exit_codes.contains(&0) {
        return Err(unsupported("a command that must not succeed"));
    }
    let limit = |limit: &pb::Ulimit| {
        let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
        (limit.name.clone(), (number(limit.soft), number(limit.hard)))
    };
    let proxy = meta.proxy_env.clone().unwrap_or_default();
    let proxy = [
        ("HTTP_PROXY", proxy.http_proxy),
        ("HTTPS_PROXY", proxy.https_proxy),
        ("FTP_PROXY", proxy.ftp_proxy),
        ("NO_PROXY", proxy.no_proxy),
        ("ALL_PROXY", proxy.all_proxy),
    ];
    let given = proxy.into_iter().filter(|(_, value)| !value.is_empty());
    let both = given.flat_map(|(name, value)| {
        [
            (name.to_owned(), value.clone()),
            (name.to_ascii_lowercase(), value),
        ]
    });
    let mut env: Vec<(String, String)> = meta.env.iter().map(pair).collect();
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".to_owned(), USUAL_PATH.to_owned()));
    }
    let host = |one: &pb::HostIp| (one.host.clone(), one.ip.clone());
    Ok(Exec {
        env,
        proxy: both.collect(),
        cwd: ImagePath::new(&meta.cwd),
        user: Some(meta.user.clone()).filter(|user| !user.is_empty()),
        hostname: Some(meta.hostname.clone()).filter(|name| !name.is_empty()),
        extra_hosts: meta.extra_hosts.iter().map(host).collect(),
        ulimits: meta.ulimit.iter().map(limit).collect(),
        accept_status: meta
            .valid_exit_codes
            .iter()
            .copied()
            .filter(|code| *code != 0)
            .collect(),
        ..Exec::new(Input(0), meta.args.clone())
    })
}

/// A user or group of a definition.
pub(crate) fn id(number: u32) -> Result<UnixId, LlbError> {
    UnixId::try_from(number).map_err(|error| malformed(error.to_string()))
}

pub(crate) fn variable(secret: &pb::SecretEnv) -> Mount {
    let MountAccess { uid, gid, mode } = SecretMount::USUAL;
    Mount {
        target: ImagePath::new(format!("/run/secrets/{}", secret.id)),
        kind: MountKind::Secret(SecretMount {
            id: secret.id.clone(),
            as_file: false,
            env: Some(secret.name.clone()),
            required: !secret.optional,
            mode,
            uid,
            gid,
        }),
    }
}

/// Whether a mount may have nothing to begin with: a volume that isn't filled.
pub(crate) fn is_filled(mount: &pb::Mount) -> bool {
    mount.mount_type == i32::from(pb::MountType::Cache)
}

/// What is mounted; `input` says which of a command's inputs a mount shows, if it shows one.
pub(crate) fn mounted(
    mount: &pb::Mount,
    mut input: impl FnMut(&pb::Mount) -> Result<Option<Input>, LlbError>,
) -> Result<MountKind, LlbError> {
    let source = ImagePath::new(&mount.selector);
    match pb::MountType::try_from(mount.mount_type) {
        Ok(pb::MountType::Bind) => Ok(MountKind::Bind {
            from: input(mount)?.ok_or_else(|| malformed("a mount of nothing"))?,
            source,
            writable: !mount.readonly,
        }),
        Ok(pb::MountType::Cache) => {
            let cache = mount.cache_opt.clone().unwrap_or_default();
            let MountAccess { uid, gid, mode } = CacheMount::USUAL;
            Ok(MountKind::Cache(CacheMount {
                id: cache.id.clone(),
                sharing: match cache.sharing() {
                    pb::CacheSharingOpt::Shared => Sharing::Shared,
                    pb::CacheSharingOpt::Private => Sharing::Private,
                    pb::CacheSharingOpt::Locked => Sharing::Locked,
                },
                from: input(mount)?,
                source,
                mode,
                uid,
                gid,
                read_only: mount.readonly,
            }))
        }
        Ok(pb::MountType::Tmpfs) => {
            let size = mount.tmpfs_opt.map_or(0, |tmpfs| tmpfs.size);
            Ok(MountKind::Tmpfs {
                size: u64::try_from(size).ok().filter(|size| *size > 0),
            })
        }
        Ok(pb::MountType::Secret) => secret(mount.secret_opt.clone().unwrap_or_default()),
        Ok(pb::MountType::Ssh) => ssh(mount.ssh_opt.clone().unwrap_or_default()),
        Err(_) => Err(unsupported("a kind of mount that is newer than this kiln")),
    }
}

fn secret(secret: pb::SecretOpt) -> Result<MountKind, LlbError> {
    Ok(MountKind::Secret(SecretMount {
        id: secret.id,
        as_file: true,
        env: None,
        required: !secret.optional,
        mode: secret.mode,
        uid: id(secret.uid)?,
        gid: id(secret.gid)?,
    }))
}

fn ssh(ssh: pb::SshOpt) -> Result<MountKind, LlbError> {
    Ok(MountKind::Ssh(SshMount {
        id: if ssh.id.is_empty() {
            "default".to_owned()
        } else {
            ssh.id
        },
        required: !ssh.optional,
        mode: ssh.mode,
        uid: id(ssh.uid)?,
        gid: id(ssh.gid)?,
    }))
}
