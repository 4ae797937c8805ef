//! Which steps can be sent to a cluster. Pure.

use kiln_graph::{Exec, HOST_GATEWAY, MountKind, Network, Platform, Security, Step};

/// What the user says of steps that may use a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkChoice {
    /// They are sent: they have the worker's network, which may be none.
    #[default]
    Worker,
    /// They stay here.
    Local,
}

/// Why a step can't be sent, in words; nothing when it can. `has_network` says whether a step that
/// doesn't say which network it wants has one.
pub(crate) fn obstacle(
    step: &Step,
    exec: &Exec,
    has_network: bool,
    choice: NetworkChoice,
) -> Option<String> {
    let text = match exec.network {
        Network::Host => Some("a step uses this machine's network (--network=host)"),
        Network::Default | Network::Sandbox if choice == NetworkChoice::Local && has_network => {
            Some("a step may use the network, which is kept local (network=local)")
        }
        _ => None,
    };
    let text = text
        .or((exec.security == Security::Insecure)
            .then_some("a step runs unconfined (--security=insecure)"))
        .or_else(|| exec.mounts.iter().find_map(|mount| mounted(&mount.kind)))
        .or(exec
            .proxy
            .values()
            .any(|value| carries_credentials(value))
            .then_some("a proxy's address carries credentials, which never leave this machine"));
    let gateway = exec
        .extra_hosts
        .iter()
        .any(|(_, address)| address == HOST_GATEWAY);
    let text = text.or(gateway.then_some("a step names it as a host (host-gateway)"));
    let text = text.map(str::to_owned);
    text.or_else(|| foreign_system(&step.platform))
}

/// What a mount needs of this machine.
fn mounted(kind: &MountKind) -> Option<&'static str> {
    match kind {
        MountKind::Secret(_) => Some("a step uses a secret, which never leaves it"),
        MountKind::Ssh(_) => Some("a step uses an SSH agent, which is on it"),
        MountKind::Cache(_) => Some("a step uses a cache volume, which is on it"),
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } | MountKind::Inline { .. } => None,
    }
}

/// `SCHEME://USER:PASSWORD@HOST`, with or without the scheme. Programs don't agree on where such an
/// authority ends that has a `/`, `?` or `#` in its password: any `@` may be behind one. None has a
/// place in a proxy's address otherwise, so nothing is lost that goes there.
fn carries_credentials(proxy: &str) -> bool {
    proxy.contains('@')
}

fn foreign_system(platform: &Platform) -> Option<String> {
    (platform.os != "linux").then(|| format!("a step is for {platform}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::{ImagePath, Input, Mount, Op};

    fn exec() -> Exec {
        Exec {
            root: Input(0),
            args: vec!["true".to_owned()],
            env: Vec::new(),
            proxy: std::collections::BTreeMap::new(),
            cwd: ImagePath::root(),
            user: None,
            mounts: Vec::new(),
            network: Network::Default,
            security: Security::Sandbox,
            hostname: None,
            extra_hosts: Vec::new(),
            ulimits: std::collections::BTreeMap::new(),
            shm_size: None,
            retries: 0,
            timeout: None,
            accept_status: Vec::new(),
        }
    }

    fn said(exec: &Exec, has_network: bool, choice: NetworkChoice) -> Option<String> {
        let op = Op::Exec(Box::new(exec.clone()));
        let step = Step::plain("", op, Platform::new("linux", "amd64", ""));
        obstacle(&step, exec, has_network, choice)
    }

    #[test]
    fn what_is_on_this_machine_stays_here() {
        let usual = |exec: &Exec| said(exec, true, NetworkChoice::Worker);
        assert_eq!(usual(&exec()), None);
        let with = |change: &dyn Fn(&mut Exec)| {
            let mut exec = exec();
            change(&mut exec);
            usual(&exec).unwrap_or_default()
        };
        let mount = |kind| Mount {
            target: "/m".into(),
            kind,
        };
        let ssh = MountKind::Ssh(kiln_graph::SshMount {
            id: "default".to_owned(),
            required: false,
            mode: 0o600,
            uid: kiln_graph::UnixId::ROOT,
            gid: kiln_graph::UnixId::ROOT,
        });
        let tmpfs = MountKind::Tmpfs { size: None };
        assert!(with(&|exec| exec.mounts = vec![mount(ssh.clone())]).contains("SSH agent"));
        assert_eq!(with(&|exec| exec.mounts = vec![mount(tmpfs.clone())]), "");
        let host = ("me".to_owned(), HOST_GATEWAY.to_owned());
        assert!(with(&|exec| exec.extra_hosts = vec![host.clone()]).contains("host-gateway"));
        assert!(with(&|exec| exec.network = Network::Host).contains("network"));
        assert!(with(&|exec| exec.security = Security::Insecure).contains("unconfined"));
        for (proxy, stays) in [
            ("http://u:p@proxy:3128/", true),
            ("u:p@proxy:3128", true),
            ("http://user:pa/ss@proxy", true),
            ("http://user:pa?s#s@proxy:3128", true),
            ("user:p/a@proxy", true),
            ("http://proxy:3128/", false),
            ("proxy:3128", false),
        ] {
            let told = with(&|exec| {
                _ = exec.proxy.insert("http_proxy".to_owned(), proxy.to_owned());
            });
            assert_eq!(told.contains("credentials"), stays, "{proxy}");
        }
    }

    #[test]
    fn a_network_that_is_kept_local_keeps_steps_that_have_one() {
        let local = |network, has| {
            let exec = Exec { network, ..exec() };
            said(&exec, has, NetworkChoice::Local).is_some()
        };
        assert!(local(Network::Default, true));
        assert!(!local(Network::Default, false));
        assert!(!local(Network::None, true));
    }
}
