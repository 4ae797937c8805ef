//! Containers of frontends: what is mounted in them, and the processes in them.

use bollard_buildkit_proto::pb;
use kiln_graph::{Exec, ImagePath, Input, Mount};

use crate::error::{LlbError, malformed, unsupported};
use crate::exec::{command, is_filled, is_root, mounted, network, security, variable};

/// There are no more mounts in a container.
const MAX_MOUNTS: usize = 1_000;

/// What a container is made of.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Its root and its mounts, as those of a command that runs nothing.
    pub exec: Exec,
    /// The identifiers of the results that are its inputs, in order; the empty one is the empty tree's.
    pub inputs: Vec<String>,
}

/// Reads the mounts of a container and the network that it asks for.
///
/// # Errors
/// When there is no root, or it asks for what kiln doesn't have.
pub fn surroundings(mounts: &[pb::Mount], mode: i32) -> Result<Surroundings, LlbError> {
    let root = mounts.iter().find(|mount| is_root(mount));
    let root = root.ok_or_else(|| malformed("a container without a root"))?;
    if mounts.len() > MAX_MOUNTS {
        return Err(malformed("a container with too many mounts"));
    }
    if !ImagePath::new(&root.selector).is_root() {
        return Err(unsupported("a root that is a directory of its input"));
    }
    let mut inputs = vec![root.result_id.clone()];
    let mut exec = Exec::new(Input(0), Vec::new());
    exec.network = network(mode)?;
    for mount in mounts.iter().filter(|mount| !is_root(mount)) {
        let kind = mounted(mount, |mount| match is_filled(mount) {
            true if mount.result_id.is_empty() => Ok(None),
            _ => next(&mut inputs, &mount.result_id).map(Some),
        })?;
        exec.mounts.push(Mount {
            target: ImagePath::new(&mount.dest),
            kind,
        });
    }
    Ok(Surroundings { exec, inputs })
}

fn next(inputs: &mut Vec<String>, result: &str) -> Result<Input, LlbError> {
    let number = u32::try_from(inputs.len());
    inputs.push(result.to_owned());
    number
        .map(Input)
        .map_err(|_| malformed("a container with too many mounts"))
}

/// A process in a container: a command whose mounts are the variables with secrets.
///
/// # Errors
/// When it asks for what kiln doesn't have.
pub fn process(meta: &pb::Meta, mode: i32, secrets: &[pb::SecretEnv]) -> Result<Exec, LlbError> {
    let mut exec = command(meta)?;
    exec.security = security(mode)?;
    exec.mounts = secrets.iter().map(variable).collect();
    Ok(exec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(dest: &str, result: &str, kind: pb::MountType) -> pb::Mount {
        pb::Mount {
            dest: dest.to_owned(),
            result_id: result.to_owned(),
            mount_type: kind.into(),
            ..pb::Mount::default()
        }
    }

    #[test]
    fn mounts_show_results_by_their_identifiers() {
        let mounts = [
            mount("/cache", "", pb::MountType::Cache),
            mount("/more", "b", pb::MountType::Bind),
            mount("/", "a", pb::MountType::Bind),
            mount("/empty", "", pb::MountType::Bind),
        ];
        let read = surroundings(&mounts, 0).unwrap();
        assert_eq!(read.inputs, ["a", "b", ""]);
        assert_eq!(read.exec.mounts.len(), 3);
        assert_eq!(read.exec.root, Input(0));
        assert!(surroundings(&mounts[..2], 0).is_err());
        assert!(surroundings(&mounts, 7).is_err());
    }

    #[test]
    fn a_process_finds_programs_where_nothing_is_said() {
        let meta = pb::Meta {
            args: vec!["true".to_owned()],
            ..pb::Meta::default()
        };
        let read = process(&meta, 0, &[]).unwrap();
        assert!(read.env.iter().any(|(name, _)| name == "PATH"));
    }
}
