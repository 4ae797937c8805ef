//! The canonical encoding of operations: what of them decides a step's result.
//!
//! Left out on purpose: where an image can be had (its content is what counts), proxy variables,
//! a cache volume's content and sharing, retries and time limits. What mounts say of owners, modes and
//! requiredness stands before them, and only where it isn't the usual: mounts that say nothing are
//! encoded as they were before.

use super::{
    CacheMount, ContextSource, CopyFiles, Exec, FileAction, Files, GitSource, HttpSource, Mount,
    MountAccess, MountKind, Network, Op, Owner, SecretMount, Security, SshMount,
};
use crate::encode::Encoder;

impl Op {
    /// Adds what decides this operation's result, besides its inputs, to an encoding.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Scratch => {
                out.tag(0);
            }
            Self::Image(image) => {
                out.tag(1).seq(&image.layers, |out, layer| {
                    out.blob(&layer.diff_id);
                });
            }
            Self::Context(context) => encode_context(context, out.tag(2)),
            Self::Git(git) => encode_git(git, out.tag(3)),
            Self::Http(http) => encode_http(http, out.tag(4)),
            Self::Exec(exec) => encode_exec(exec, out.tag(5)),
            Self::Files(files) => encode_files(files, out.tag(6)),
            // Tag 8 is taken: it was the difference of two trees.
            Self::Merge { layers } => {
                out.tag(7).seq(layers, |out, input| {
                    out.u32(input.0);
                });
            }
        }
    }
}

fn encode_context(context: &ContextSource, out: &mut Encoder) {
    out.str(&context.name).seq(&context.ignore, |out, pattern| {
        out.str(pattern);
    });
}

fn encode_git(git: &GitSource, out: &mut Encoder) {
    out.str(&git.remote).str(&git.reference).path(&git.subdir);
    out.bool(git.keep_git_dir).bool(git.submodules);
    out.option(git.checksum.as_ref(), |out, sum| {
        out.str(sum);
    });
}

fn encode_http(http: &HttpSource, out: &mut Encoder) {
    out.str(&http.url);
    out.option(http.checksum, |out, sum| {
        out.blob(&sum);
    });
    out.option(http.file_name.as_ref(), |out, name| {
        out.str(name);
    });
    // Most have none, and have the keys that they had before there could be any.
    if !http.request.headers.is_empty() {
        encode_pairs(&http.request.headers, out.tag(1));
    }
}

fn encode_exec(exec: &Exec, out: &mut Encoder) {
    out.u32(exec.root.0);
    out.seq(&exec.args, |out, arg| {
        out.str(arg);
    });
    encode_pairs(&exec.env, out);
    out.path(&exec.cwd);
    out.option(exec.user.as_ref(), |out, user| {
        out.str(user);
    });
    out.seq(&exec.mounts, |out, mount| encode_mount(mount, out));
    out.tag(match exec.network {
        Network::Default => 0,
        Network::Host => 1,
        Network::None => 2,
        Network::Sandbox => 3,
    });
    out.bool(exec.security == Security::Insecure);
    out.option(exec.hostname.as_ref(), |out, name| {
        out.str(name);
    });
    encode_pairs(&exec.extra_hosts, out);
    out.seq(&exec.ulimits, |out, (name, (soft, hard))| {
        out.str(name).u64(*soft).u64(*hard);
    });
    out.option(exec.shm_size, |out, size| {
        out.u64(size);
    });
    out.seq(&exec.accept_status, |out, status| {
        out.i64((*status).into());
    });
}

fn encode_pairs(pairs: &[(String, String)], out: &mut Encoder) {
    out.seq(pairs, |out, (name, value)| {
        out.str(name).str(value);
    });
}

fn encode_mount(mount: &Mount, out: &mut Encoder) {
    out.path(&mount.target);
    encode_unusual(mount, out);
    match &mount.kind {
        MountKind::Bind {
            from,
            source,
            writable,
        } => {
            out.tag(0).u32(from.0).path(source).bool(*writable);
        }
        MountKind::Cache(cache) => encode_cache(cache, out.tag(1)),
        MountKind::Tmpfs { size } => {
            out.tag(2).option(*size, |out, size| {
                out.u64(size);
            });
        }
        MountKind::Secret(secret) => encode_secret(secret, out.tag(3)),
        MountKind::Ssh(ssh) => {
            out.tag(4).str(&ssh.id);
        }
        MountKind::Inline { content, mode } => {
            out.tag(5).bytes(content).u32(*mode);
        }
    }
}

fn encode_cache(cache: &CacheMount, out: &mut Encoder) {
    out.str(&cache.id).path(&cache.source).bool(cache.read_only);
}

/// Tags of mounts that say more than the usual; those of the kinds of mounts are below.
const UNUSUAL_OWNER: u8 = 6;
const REQUIRED: u8 = 7;
const FILLED: u8 = 8;

fn encode_unusual(mount: &Mount, out: &mut Encoder) {
    let (access, usual, required, filling) = match &mount.kind {
        MountKind::Cache(cache) => (cache.access(), CacheMount::USUAL, false, cache.from),
        MountKind::Secret(secret) => (secret.access(), SecretMount::USUAL, secret.required, None),
        MountKind::Ssh(ssh) => (ssh.access(), SshMount::USUAL, ssh.required, None),
        _ => return,
    };
    if access != usual {
        let MountAccess { uid, gid, mode } = access;
        out.tag(UNUSUAL_OWNER)
            .u32(uid.get())
            .u32(gid.get())
            .u32(mode);
    }
    if required {
        out.tag(REQUIRED);
    }
    // Contents are in a key in the order of inputs: which of them fills which cache isn't.
    if let Some(from) = filling {
        out.tag(FILLED).u32(from.0);
    }
}

fn encode_secret(secret: &SecretMount, out: &mut Encoder) {
    out.str(&secret.id).bool(secret.as_file);
    out.option(secret.env.as_ref(), |out, name| {
        out.str(name);
    });
}

fn encode_files(files: &Files, out: &mut Encoder) {
    out.option(files.base, |out, base| {
        out.u32(base.0);
    });
    out.seq(&files.actions, |out, action| encode_action(action, out));
}

fn encode_action(action: &FileAction, out: &mut Encoder) {
    match action {
        FileAction::Copy(copy) if copy.keep_name => encode_copy(copy, out.tag(6)),
        FileAction::Copy(copy) => encode_copy(copy, out.tag(0)),
        FileAction::Directory { path, owner, mode } => {
            out.tag(1).path(path).u32(*mode);
            encode_owner(owner.as_ref(), out);
        }
        FileAction::Write {
            dest,
            to_directory,
            name,
            content,
            mode,
            owner,
        } => {
            out.tag(2)
                .path(dest)
                .bool(*to_directory)
                .str(name)
                .bytes(content)
                .u32(*mode);
            encode_owner(owner.as_ref(), out);
        }
        FileAction::Symlink {
            path,
            target,
            owner,
        } => {
            out.tag(3).path(path).str(target);
            encode_owner(owner.as_ref(), out);
        }
        FileAction::Remove {
            path,
            wildcard,
            allow_missing,
        } => {
            out.tag(4).path(path).bool(*wildcard).bool(*allow_missing);
        }
        FileAction::Difference { lower, upper } => {
            out.tag(5).u32(lower.0).u32(upper.0);
        }
    }
}

fn encode_copy(copy: &CopyFiles, out: &mut Encoder) {
    out.u32(copy.from.0);
    out.seq(&copy.sources, |out, source| {
        out.str(source);
    });
    out.path(&copy.dest).bool(copy.to_directory);
    encode_owner(copy.owner.as_ref(), out);
    out.option(copy.chmod.as_ref(), |out, chmod| {
        out.str(&chmod.to_string());
    });
    out.bool(copy.parents);
    out.seq(&copy.exclude, |out, pattern| {
        out.str(pattern);
    });
    out.bool(copy.unpack);
    // Copies without patterns are encoded as they were before there were any.
    if !copy.include.is_empty() {
        out.seq(&copy.include, |out, pattern| {
            out.str(pattern);
        });
    }
}

fn encode_owner(owner: Option<&Owner>, out: &mut Encoder) {
    out.option(owner, |out, owner| match owner {
        Owner::Ids { uid, gid } => {
            out.tag(0).u32(uid.get()).u32(gid.get());
        }
        Owner::Names { user, group } => {
            out.tag(1).str(user).option(group.as_ref(), |out, group| {
                out.str(group);
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, ImagePath, UnixId};

    fn encoded(kind: MountKind) -> Digest {
        let mut out = Encoder::new("mount", 1);
        let target = ImagePath::new("/x");
        encode_mount(&Mount { target, kind }, &mut out);
        out.finish()
    }

    fn all_differ(mounts: Vec<MountKind>) {
        let digests: Vec<Digest> = mounts.into_iter().map(encoded).collect();
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest), "mount {at}");
        }
    }

    #[test]
    fn what_a_step_sees_of_a_mount_is_in_its_key() {
        let user = UnixId::try_from(7).unwrap();
        let secret = SecretMount {
            id: "s".to_owned(),
            as_file: true,
            env: None,
            required: false,
            mode: 0o400,
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
        };
        let agent = SshMount {
            id: "s".to_owned(),
            required: false,
            mode: 0o600,
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
        };
        let mut secrets = vec![secret.clone(); 5];
        let mut agents = vec![agent; 5];
        (secrets[1].mode, agents[1].mode) = (0o444, 0o666);
        (secrets[2].uid, agents[2].uid) = (user, user);
        (secrets[3].gid, agents[3].gid) = (user, user);
        (secrets[4].required, agents[4].required) = (true, true);
        let cache = CacheMount {
            id: "s".to_owned(),
            sharing: crate::Sharing::Shared,
            from: None,
            source: ImagePath::new("/"),
            mode: 0o755,
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
            read_only: false,
        };
        let mut caches = vec![cache; 6];
        caches[1].mode = 0o700;
        caches[2].uid = user;
        caches[3].gid = user;
        caches[4].from = Some(crate::Input(0));
        caches[5].from = Some(crate::Input(1));
        all_differ(caches.into_iter().map(MountKind::Cache).collect());
        let secrets = secrets.into_iter().map(MountKind::Secret);
        let agents = agents.into_iter().map(MountKind::Ssh);
        all_differ(secrets.chain(agents).collect());
    }
}
