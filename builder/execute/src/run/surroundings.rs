//! What a command finds around it whatever its root holds: variables, `/etc/hosts`, `/etc/resolv.conf`.

use kiln_graph::{Exec, HOST_GATEWAY};
use kiln_sandbox::User;
use kiln_tree::host;

/// The variables of a command. HOME is the user's, unless the build file says otherwise; proxies and secrets
/// win over both.
pub(super) fn environment(
    exec: &Exec,
    user: &User,
    secrets: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let mut env = exec.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        let home = if user.home.is_empty() {
            "/"
        } else {
            &user.home
        };
        env.push(("HOME".to_owned(), home.to_owned()));
    }
    let proxies = exec.proxy.iter();
    let proxies = proxies.map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in proxies.chain(secrets) {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    env
}

/// `/etc/resolv.conf`: the machine's own, but in a network of its own another name server.
pub(super) fn name_servers(network: kiln_sandbox::Network) -> String {
    let text = host::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if network != kiln_sandbox::Network::Sandbox {
        return text;
    }
    let kept = text.lines().filter(|line| !line.starts_with("nameserver"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    format!("nameserver {}\n{kept}", kiln_sandbox::NAME_SERVER)
}

/// `/etc/hosts`. This machine is only reached by steps that share its network.
pub(super) fn hosts(
    hostname: &str,
    extra: &[(String, String)],
    network: kiln_sandbox::Network,
) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        let address = match address.as_str() {
            HOST_GATEWAY if network != kiln_sandbox::Network::Host => continue,
            HOST_GATEWAY => "127.0.0.1",
            given => given,
        };
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}
