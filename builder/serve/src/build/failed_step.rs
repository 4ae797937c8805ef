//! What a step that failed was made from and what it left behind, for clients that look into it: their
//! debuggers make containers of it.
//!
//! The error tells it in BuildKit's shape (`errdefs.Solve`): the operation, with an identifier of a result for
//! each of its inputs and for each of its mounts.

use std::sync::Arc;

use kiln::{AttestOptions, Journal, Provenance, Texts};
use kiln_engine::{EngineError, Request};
use kiln_graph::{CacheMount, Exec, Input, MountKind, Op, Sharing};
use serde_json::{Value, json};

use super::run::Run;
use super::solve::image_options;
use super::{Built, Kept};
use crate::error::detail;
use crate::proto::Any;
use crate::proto::pb::{CacheSharingOpt, MountType};

/// An operation is told up to this length, in bytes: errors travel in headers.
const MAX_OPERATION: usize = 64 << 10;

/// The detail of an error, for a client whose frontend can use it.
pub(super) fn told(
    run: &Run<'_>,
    request: &Request,
    error: &EngineError,
    journal: &Arc<Journal>,
) -> Option<Any> {
    let EngineError::Step(failure) = error else {
        return None;
    };
    let graph = &request.build.graph;
    let left = failure.left?;
    let step = left.step;
    let Op::Exec(exec) = &graph.step(step).op else {
        return None;
    };
    let solved = run.engine.failed(request, &left).ok()?;
    let built = Arc::new(Built {
        solved,
        options: image_options(),
        texts: Texts::default(),
        file: String::new(),
        is_map: false,
        cache_manifest: None,
        is_definition: true,
        attest: AttestOptions::default(),
        facts: Provenance::default(),
        journal: journal.clone(),
        _scratch: run.scratch.clone(),
        _parts: Vec::new(),
    });
    let inputs = graph.inputs(step).len();
    let ids = (0..=inputs).map(|number| keep(run, &built, number));
    let ids = ids.collect::<Option<Vec<String>>>()?;
    let value = Told { exec, ids: &ids }.value();
    (value.to_string().len() <= MAX_OPERATION).then(|| detail("errdefs.Solve", &value))
}

fn keep(run: &Run<'_>, built: &Arc<Built>, number: usize) -> Option<String> {
    let built = built.clone();
    let kept = Kept { built, number };
    run.client.server.jobs.keep(run.job, kept).ok()
}

/// A command that failed.
struct Told<'a> {
    exec: &'a Exec,
    /// The result that it left behind, and then its inputs.
    ids: &'a [String],
}

impl Told<'_> {
    fn input(&self, input: Input) -> &str {
        self.ids.get(input.index() + 1).map_or("", String::as_str)
    }

    fn value(&self) -> Value {
        let exec = self.exec;
        let mut mounts = vec![json!({ "input": 0, "dest": "/", "output": 0 })];
        let mut mount_ids = vec![self.ids[0].clone()];
        let mut input_ids = vec![self.input(exec.root).to_owned()];
        let mut variables = Vec::new();
        for mount in &exec.mounts {
            let shown = mount.kind.input();
            let Some(mut value) = kind(&mount.kind) else {
                if let MountKind::Secret(secret) = &mount.kind {
                    variables.push(json!({
                        "ID": secret.id, "name": secret.env, "optional": !secret.required,
                    }));
                }
                continue;
            };
            value["dest"] = json!(mount.target.to_string());
            value["output"] = json!(-1);
            value["input"] =
                json!(shown.map_or(-1, |_| { i64::try_from(input_ids.len()).unwrap_or(-1) }));
            let id = shown.map_or("", |input| self.input(input)).to_owned();
            input_ids.extend(shown.map(|_| id.clone()));
            mount_ids.push(id);
            mounts.push(value);
        }
        let env = exec
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let hosts = exec.extra_hosts.iter();
        let hosts = hosts.map(|(host, ip)| json!({ "Host": host, "IP": ip }));
        json!({
            "inputIDs": input_ids,
            "mountIDs": mount_ids,
            "op": { "exec": {
                "meta": {
                    "args": exec.args,
                    "env": env.collect::<Vec<_>>(),
                    "cwd": exec.cwd.to_string(),
                    "user": exec.user.as_deref().unwrap_or_default(),
                    "hostname": exec.hostname.as_deref().unwrap_or_default(),
                    "extraHosts": hosts.collect::<Vec<_>>(),
                },
                "mounts": mounts,
                "secretenv": variables,
            } },
        })
    }
}

/// A mount in BuildKit's shape; nothing for what is none there.
fn kind(kind: &MountKind) -> Option<Value> {
    let number = |kind: MountType| i32::from(kind);
    Some(match kind {
        MountKind::Bind {
            source, writable, ..
        } => json!({
            "mountType": number(MountType::Bind),
            "selector": source.to_string(),
            "readonly": !writable,
        }),
        MountKind::Cache(cache) => json!({
            "mountType": number(MountType::Cache),
            "selector": cache.source.to_string(),
            "readonly": cache.read_only,
            "cacheOpt": { "ID": cache.id, "sharing": sharing(cache) },
        }),
        MountKind::Tmpfs { size } => json!({
            "mountType": number(MountType::Tmpfs),
            "TmpfsOpt": { "size": size.unwrap_or(0).to_string() },
        }),
        MountKind::Secret(secret) if secret.as_file => json!({
            "mountType": number(MountType::Secret),
            "secretOpt": {
                "ID": secret.id, "uid": secret.uid.get(), "gid": secret.gid.get(),
                "mode": secret.mode, "optional": !secret.required,
            },
        }),
        MountKind::Ssh(ssh) => json!({
            "mountType": number(MountType::Ssh),
            "SSHOpt": {
                "ID": ssh.id, "uid": ssh.uid.get(), "gid": ssh.gid.get(),
                "mode": ssh.mode, "optional": !ssh.required,
            },
        }),
        MountKind::Secret(_) | MountKind::Inline { .. } => return None,
    })
}

fn sharing(cache: &CacheMount) -> i32 {
    let sharing = match cache.sharing {
        Sharing::Shared => CacheSharingOpt::Shared,
        Sharing::Private => CacheSharingOpt::Private,
        Sharing::Locked => CacheSharingOpt::Locked,
    };
    sharing.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::{ImagePath, Mount};

    #[test]
    fn mounts_are_told_with_the_results_that_they_show() {
        let mut exec = Exec::new(Input(1), vec!["false".to_owned()]);
        let bind = MountKind::Bind {
            from: Input(0),
            source: ImagePath::new("/a"),
            writable: false,
        };
        for (target, kind) in [("/m", bind), ("/t", MountKind::Tmpfs { size: None })] {
            exec.mounts.push(Mount {
                target: ImagePath::new(target),
                kind,
            });
        }
        let ids = ["left", "first", "second"].map(str::to_owned);
        let exec = &exec;
        let told = Told { exec, ids: &ids }.value();
        assert_eq!(told["inputIDs"], json!(["second", "first"]));
        assert_eq!(told["mountIDs"], json!(["left", "first", ""]));
        let mounts = &told["op"]["exec"]["mounts"];
        assert_eq!(mounts[1]["dest"], "/m");
        assert_eq!(
            (&mounts[1]["input"], &mounts[2]["input"]),
            (&json!(1), &json!(-1))
        );
    }
}
