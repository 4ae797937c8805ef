//! What the user said holds: a build file can't widen it.

use kiln_graph::{Entitlements, Graph, Network, Op, Security, StepId};

use crate::EngineError;
use crate::engine::DefaultNetwork;

/// Refuses a build with a step that asks for more than the user allows.
pub(crate) fn check(
    graph: &Graph,
    targets: &[StepId],
    allowed: &Entitlements,
) -> Result<(), EngineError> {
    for id in graph.needed_for(targets) {
        let step = graph.step(id);
        let Op::Exec(exec) = &step.op else { continue };
        let entitlement = match (exec.network, exec.security) {
            (Network::Host, _) if !allowed.network_host => "network.host",
            (_, Security::Insecure) if !allowed.security_insecure => "security.insecure",
            _ => continue,
        };
        return Err(EngineError::NotAllowed {
            entitlement,
            location: step.location.clone(),
        });
    }
    Ok(())
}

/// The network of a step: what it asks for, but never more than the user gave. The host's own is
/// left to [`check`].
pub(crate) fn network(asked: Network, given: DefaultNetwork) -> kiln_sandbox::Network {
    use kiln_sandbox::Network as Granted;
    match (asked, given) {
        (Network::None, _) | (Network::Default | Network::Sandbox, DefaultNetwork::None) => {
            Granted::None
        }
        (Network::Sandbox, _) | (Network::Default, DefaultNetwork::Sandbox) => Granted::Sandbox,
        (Network::Host, _) | (Network::Default, DefaultNetwork::Host) => Granted::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_sandbox::Network as Granted;

    #[test]
    fn a_step_has_no_more_network_than_the_user_gave() {
        let given = [
            DefaultNetwork::None,
            DefaultNetwork::Sandbox,
            DefaultNetwork::Host,
        ];
        let cases = [
            (Network::None, [Granted::None; 3]),
            (
                Network::Sandbox,
                [Granted::None, Granted::Sandbox, Granted::Sandbox],
            ),
            (
                Network::Default,
                [Granted::None, Granted::Sandbox, Granted::Host],
            ),
        ];
        for (asked, want) in cases {
            assert_eq!(given.map(|given| network(asked, given)), want, "{asked:?}");
        }
    }
}
