//! What is refused before anything is built: what restricts a build and isn't known here is an error,
//! never ignored.

use kiln_graph::Entitlements;
use tonic::Status;

use crate::build::SourcePolicy;
use crate::entitlement::entitlements;
use crate::proto::SolveRequest;
use crate::proto::control::{CacheOptionsEntry, Exporter};

/// Exporters that there are.
const EXPORTERS: [&str; 5] = ["image", "oci", "docker", "local", "tar"];

/// The exporters of a request. The fields of old clients repeat the first one.
pub(super) fn exporters(request: &SolveRequest) -> Vec<Exporter> {
    let known = &request.known;
    match known.exporters.is_empty() && !known.exporter_deprecated.is_empty() {
        true => vec![Exporter {
            r#type: known.exporter_deprecated.clone(),
            attrs: known.exporter_attrs_deprecated.clone(),
        }],
        false => known.exporters.clone(),
    }
}

/// Checks a request. Gives its rules about sources.
pub(super) fn check(
    request: &SolveRequest,
    granted: &Entitlements,
) -> Result<SourcePolicy, Status> {
    let known = &request.known;
    for exporter in exporters(request) {
        if !EXPORTERS.contains(&exporter.r#type.as_str()) {
            let text = format!("exporter {:?} could not be found", exporter.r#type);
            return Err(Status::unknown(text));
        }
    }
    if let Some(cache) = &known.cache {
        exports(&cache.exports)?;
    }
    entitlements(&known.entitlements, granted)?;
    let rules = SourcePolicy::read(&known.source_policy)?;
    let refused = [
        (request.newer.proxy_network, "networks through a proxy"),
        (
            request.newer.compatibility_version != 0,
            "compatibility with older versions",
        ),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Status::unimplemented(format!(
            "{what} are not supported by kiln"
        ))),
        None => Ok(rules),
    }
}

fn exports(all: &[CacheOptionsEntry]) -> Result<(), Status> {
    for (place, export) in all.iter().enumerate() {
        if all[..place].contains(export) {
            return Err(Status::unknown("duplicate cache exports"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Restrictions;
    use std::collections::HashMap;

    #[test]
    fn what_restricts_a_build_and_is_not_known_is_refused() {
        let none = Entitlements::default();
        assert!(check(&SolveRequest::default(), &none).is_ok());
        let proxied = SolveRequest {
            newer: Restrictions {
                proxy_network: true,
                ..Restrictions::default()
            },
            ..SolveRequest::default()
        };
        assert!(check(&proxied, &none).is_err());
        let mut insecure = SolveRequest::default();
        insecure.known.entitlements = vec!["security.insecure".to_owned()];
        let error = check(&insecure, &none).unwrap_err();
        assert!(error.message().contains("not allowed by build daemon"));
        let granted = Entitlements {
            security_insecure: true,
            ..Entitlements::default()
        };
        assert!(check(&insecure, &granted).is_ok());
        let mut unknown = SolveRequest::default();
        unknown.known.entitlements = vec!["device".to_owned()];
        assert!(check(&unknown, &granted).is_err());
    }

    #[test]
    fn old_clients_name_one_exporter() {
        let mut request = SolveRequest::default();
        request.known.exporter_deprecated = "image".to_owned();
        assert_eq!(exporters(&request).len(), 1);
        request.known.exporters = vec![Exporter {
            r#type: "ozi".to_owned(),
            attrs: HashMap::new(),
        }];
        assert_eq!(exporters(&request)[0].r#type, "ozi");
        assert!(check(&request, &Entitlements::default()).is_err());
    }
}
