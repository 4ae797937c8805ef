//! What clients' builds may do beyond what every build may.

use kiln_graph::Entitlements;
use tonic::Status;

/// What the client's user allowed, which the server has to grant.
pub(crate) fn entitlements(
    asked: &[String],
    granted: &Entitlements,
) -> Result<Entitlements, Status> {
    let mut allowed = Entitlements::default();
    for word in asked {
        let is_granted = match word.as_str() {
            "network.host" => {
                allowed.network_host = true;
                granted.network_host
            }
            "security.insecure" => {
                allowed.security_insecure = true;
                granted.security_insecure
            }
            _ => return Err(Status::unknown(format!("unknown entitlement {word}"))),
        };
        if !is_granted {
            return Err(Status::unknown(format!(
                "granting entitlement {word} is not allowed by build daemon configuration"
            )));
        }
    }
    Ok(allowed)
}
