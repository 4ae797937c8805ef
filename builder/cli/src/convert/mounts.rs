//! `--mount` as caches, secrets, agents and binds.

use kiln_graph::{
    CacheMount, Exec, ImagePath, Mount, MountKind, SecretMount, Sharing, StepId, UnixId,
};

use super::graph::Converter;
use super::step::Written;
use super::text::{list, quote, table};

type Pairs = Vec<(String, String)>;

/// Writes what is there for the time of a command.
pub(super) fn write(all: &mut Converter<'_>, id: StepId, exec: &Exec, step: &mut Written) {
    let (mut caches, mut secrets, mut binds) = (Vec::new(), Vec::new(), Vec::new());
    let (mut directories, mut agents) = (Vec::new(), Vec::new());
    let ids = user_ids(exec.user.as_deref());
    for mount in &exec.mounts {
        match &mount.kind {
            MountKind::Cache(cache) => caches.push(volume(mount, cache, ids, step)),
            MountKind::Secret(secret) => secrets.push(secret_pairs(mount, secret, ids, step)),
            MountKind::Bind {
                from,
                source,
                writable,
            } => {
                if *writable {
                    step.mark("a bind that is written to: copy the files first");
                }
                let from = all.reference(all.graph.input(id, *from), step);
                binds.push(bind(mount, &from, source));
            }
            MountKind::Ssh(agent) => {
                let usual = format!("/run/ssh-agent.{}", agents.len());
                if mount.target.to_string() != usual {
                    step.mark(&format!("the agent's socket is at {usual}"));
                }
                if !agent.required {
                    step.mark("an agent that may be missing: here it must be given with --ssh");
                }
                if (agent.uid, agent.gid) != ids || agent.mode != 0o600 {
                    step.mark("the agent's owner and mode are always the user's and 0600");
                }
                agents.push(agent.id.clone());
            }
            MountKind::Tmpfs { size } => directories.push(tmpfs(mount, *size)),
            MountKind::Inline { .. } => {}
        }
    }
    let all = [
        ("caches", caches),
        ("binds", binds),
        ("secrets", secrets),
        ("tmpfs", directories),
    ];
    for (key, tables) in all {
        if !tables.is_empty() {
            let tables: Vec<String> = tables.iter().map(|pairs| table(pairs)).collect();
            step.add(key, format!("[{}]", tables.join(", ")));
        }
    }
    if !agents.is_empty() {
        step.add("ssh", list(&agents));
    }
}

fn tmpfs(mount: &Mount, size: Option<u64>) -> Pairs {
    let size = size.map(|size| ("size".to_owned(), quote(&size.to_string())));
    let target = ("target".to_owned(), quote(&mount.target.to_string()));
    std::iter::once(target).chain(size).collect()
}

/// A here-document with an interpreter.
pub(super) fn script(exec: &Exec) -> Option<String> {
    let content = exec.mounts.iter().find_map(|mount| match &mount.kind {
        MountKind::Inline { content, .. } => std::str::from_utf8(content).ok(),
        _ => None,
    })?;
    let line = content.lines().next()?.strip_prefix("#!")?.trim();
    // The kernel takes all after the interpreter as one argument.
    let words = match line.split_once(char::is_whitespace) {
        Some((program, argument)) => vec![program, argument.trim()],
        None => vec![line],
    };
    Some(format!(
        "{{ interpreter = {}, text = {} }}",
        list(words),
        quote(content)
    ))
}

fn volume(mount: &Mount, cache: &CacheMount, ids: (UnixId, UnixId), step: &mut Written) -> Pairs {
    let target = mount.target.to_string();
    let mut pairs = vec![("target".to_owned(), quote(&target))];
    if cache.id != target {
        pairs.push(("id".to_owned(), quote(&cache.id)));
    }
    match cache.sharing {
        Sharing::Shared => {}
        Sharing::Private => pairs.push(("sharing".to_owned(), quote("private"))),
        Sharing::Locked => pairs.push(("sharing".to_owned(), quote("locked"))),
    }
    add_owner((cache.uid, cache.gid), ids, &mut pairs);
    if cache.from.is_some() || !cache.source.is_root() {
        step.mark("a cache begins empty: from and source aren't in the language");
    }
    if cache.mode != 0o755 {
        step.mark(&format!(
            "a cache's mode is always 0755, not {:04o}",
            cache.mode
        ));
    }
    if cache.read_only {
        step.mark("a cache can always be written to");
    }
    pairs
}

fn secret_pairs(
    mount: &Mount,
    secret: &SecretMount,
    ids: (UnixId, UnixId),
    step: &mut Written,
) -> Pairs {
    let mut pairs = vec![("id".to_owned(), quote(&secret.id))];
    let target = mount.target.to_string();
    let is_usual = target == format!("/run/secrets/{}", secret.id);
    if secret.as_file && (!is_usual || secret.env.is_some()) {
        pairs.push(("target".to_owned(), quote(&target)));
    }
    if let Some(env) = &secret.env {
        pairs.push(("env".to_owned(), quote(env)));
    }
    if !secret.required {
        pairs.push(("required".to_owned(), "false".to_owned()));
    }
    if secret.mode != 0o400 {
        step.mark(&format!(
            "a secret's mode is always 0400, not {:04o}",
            secret.mode
        ));
    }
    add_owner((secret.uid, secret.gid), ids, &mut pairs);
    pairs
}

fn bind(mount: &Mount, from: &str, source: &ImagePath) -> Pairs {
    let mut pairs = vec![("from".to_owned(), quote(from))];
    if !source.is_root() {
        pairs.push(("path".to_owned(), quote(&source.to_string())));
    }
    pairs.push(("target".to_owned(), quote(&mount.target.to_string())));
    pairs
}

fn add_owner(owner: (UnixId, UnixId), usual: (UnixId, UnixId), pairs: &mut Pairs) {
    if owner != usual {
        let text = format!("{}:{}", owner.0, owner.1);
        pairs.push(("owner".to_owned(), quote(&text)));
    }
}

/// Whose the language's mounts are unless it is said.
fn user_ids(user: Option<&str>) -> (UnixId, UnixId) {
    let ids = user.and_then(|user| {
        let (user, group) = user.split_once(':').unwrap_or((user, user));
        Some((user.parse().ok()?, group.parse().ok()?))
    });
    ids.unwrap_or_default()
}
