//! What the user said holds: a build file can't widen it.

use kiln_graph::{Entitlements, Graph, Location, Network, Op, Security, StepId};

/// The build file asks for more than the user allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entitlement} is not allowed")]
pub struct NotAllowed {
    /// What it asks for, in the words of `--allow`.
    pub entitlement: &'static str,
    /// Where the build file asks for it.
    pub location: Option<Location>,
}

/// Refuses a build with a step that asks for more than the user allows.
///
/// # Errors
/// For the first such step.
pub fn check_entitlements(
    graph: &Graph,
    targets: &[StepId],
    allowed: &Entitlements,
) -> Result<(), NotAllowed> {
    for id in graph.needed_for(targets) {
        let step = graph.step(id);
        let Op::Exec(exec) = &step.op else { continue };
        let entitlement = match (exec.network, exec.security) {
            (Network::Host, _) if !allowed.network_host => "network.host",
            (_, Security::Insecure) if !allowed.security_insecure => "security.insecure",
            _ => continue,
        };
        return Err(NotAllowed {
            entitlement,
            location: step.location.clone(),
        });
    }
    Ok(())
}
