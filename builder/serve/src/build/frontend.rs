//! Which frontend a client names: Dockerfiles are read by the one that is built in.

use kiln::BuildFileText;
use kiln_frontend_dockerfile::{DockerfileError, parse_partial};
use serde_json::json;
use tonic::{Code, Status};

use super::Asked;
use super::attributes::Attributes;
use crate::error::{detail, rpc_status};
use crate::proto::RpcStatus;
use crate::server::Frontends;

/// The version of Dockerfiles' syntax that the frontend knows.
pub(crate) const DOCKERFILE: &str = "1.19.0";

/// The frontends that are built in, as images that contain them.
const IMAGES: [&str; 2] = [
    "docker.io/docker/dockerfile",
    "docker.io/docker/dockerfile-upstream",
];

/// What the frontend that is built in knows.
const OWN: &str = "moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring";

/// A frontend that is an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(super) image: String,
    /// What a build file's first line says of it, when that names it.
    pub(super) syntax: Option<String>,
}

/// Checks that the server's configuration allows a frontend. Gives the image of one that isn't built in.
pub(super) fn check(asked: &Asked, allowed: &Frontends) -> Result<Option<Foreign>, Status> {
    let source = asked.attributes.get("source").map_or("", String::as_str);
    let repository = repository(source);
    match asked.frontend.as_str() {
        "gateway.v0" if !allowed.gateway => return Err(switched_off("gateway.v0")),
        "gateway.v0" if source == "dockerfile.v0" && allowed.dockerfile => {}
        "gateway.v0" if source.is_empty() => {
            return Err(Status::unknown("no source specified for gateway"));
        }
        "gateway.v0" if !allowed.takes(&repository) => return Err(not_allowed(source)),
        "gateway.v0" if IMAGES.contains(&repository.as_str()) => {}
        "gateway.v0" => {
            return Ok(Some(Foreign {
                image: source.to_owned(),
                syntax: None,
            }));
        }
        "dockerfile.v0" if !allowed.dockerfile => return Err(switched_off("dockerfile.v0")),
        "dockerfile.v0" => {}
        other => {
            let text =
                format!("the frontend {other} is not known: kiln has dockerfile.v0 and gateway.v0");
            return Err(Status::unimplemented(text));
        }
    }
    knows(asked, OWN).map(|()| None)
}

fn not_allowed(source: &str) -> Status {
    Status::unknown(format!("'{source}' is not an allowed gateway source"))
}

/// The frontend that a build file wants by its first line, when it isn't the one that is built in, and unless
/// the client has chosen by itself. A copy of `docker/dockerfile` in another registry is taken for it.
///
/// # Errors
/// When the server's configuration doesn't allow it.
pub(super) fn foreign_syntax(
    file: &BuildFileText,
    attributes: Attributes<'_>,
    allowed: &Frontends,
) -> Result<Option<Foreign>, DockerfileError> {
    if attributes.text("cmdline").is_some() || file.name.ends_with(".toml") {
        return Ok(None);
    }
    let (parsed, _) = parse_partial(&file.name, &file.text);
    let mut directives = parsed.directives.iter();
    let Some(syntax) = directives.find(|directive| directive.name == "syntax") else {
        return Ok(None);
    };
    let Some(image) = syntax.value.split_whitespace().next() else {
        return Ok(None);
    };
    let repository = repository(image);
    let is_known = ["/docker/dockerfile", "/docker/dockerfile-upstream"]
        .iter()
        .any(|name| repository.ends_with(name));
    if is_known {
        return Ok(None);
    }
    let refused = match (allowed.gateway, allowed.takes(&repository)) {
        (true, true) => None,
        (false, _) => Some(switched_off("gateway.v0")),
        (_, false) => Some(not_allowed(image)),
    };
    match refused {
        Some(status) => Err(DockerfileError::at(
            syntax.location.clone(),
            status.message().to_owned(),
        )),
        None => Ok(Some(Foreign {
            image: image.to_owned(),
            syntax: Some(syntax.value.clone()),
        })),
    }
}

fn switched_off(frontend: &str) -> Status {
    let text = format!("the frontend {frontend} is disabled by the server's configuration");
    Status::unknown(text)
}

/// An image's repository as registries have it: without tag and digest, with a host.
fn repository(image: &str) -> String {
    let image: Result<kiln_image::Reference, _> = image.parse();
    image.map_or_else(
        |_| String::new(),
        |name| format!("{}/{}", name.host, name.repository),
    )
}

impl Frontends {
    fn takes(&self, wanted: &str) -> bool {
        let mut all = self.repositories.iter();
        self.repositories.is_empty() || all.any(|allowed| repository(allowed) == wanted)
    }
}

/// Checks that a frontend knows what it is asked to know; `known` is a list with commas.
pub(super) fn knows(asked: &Asked, known: &str) -> Result<(), Status> {
    let plain = |text: &str| text.split('+').next().unwrap_or_default().to_owned();
    let known: Vec<String> = known.split(',').map(plain).collect();
    let wanted = asked.attributes.get("frontend.caps");
    let wanted = wanted.into_iter().flat_map(|all| all.split(',')).map(plain);
    let inputs = (!asked.inputs.is_empty()).then(|| "moby.buildkit.frontend.inputs".to_owned());
    for name in wanted.chain(inputs).filter(|text| !text.is_empty()) {
        if !known.contains(&name) {
            return Err(rpc_status(RpcStatus {
                code: Code::Unimplemented.into(),
                message: format!("unsupported frontend capability {name}"),
                details: vec![detail("errdefs.FrontendCap", &json!({ "name": name }))],
            }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use std::collections::HashMap;

    fn asked(frontend: &str, attributes: &[(&str, &str)]) -> Asked {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Asked {
            frontend: frontend.to_owned(),
            attributes: attributes.iter().map(owned).collect::<HashMap<_, _>>(),
            ..Asked::default()
        }
    }

    #[test]
    fn frontends_that_are_built_in() {
        let all = Frontends::default();
        assert!(check(&asked("dockerfile.v0", &[]), &all).is_ok());
        for source in [
            "dockerfile.v0",
            "docker/dockerfile",
            "docker/dockerfile:1.7-labs",
            "docker.io/docker/dockerfile-upstream:master",
        ] {
            let asked = asked("gateway.v0", &[("source", source)]);
            assert!(check(&asked, &all).is_ok(), "{source}");
        }
        for source in ["docker/dockerfiles", "x.example/docker/dockerfile:1"] {
            let asked = asked("gateway.v0", &[("source", source)]);
            let foreign = check(&asked, &all).unwrap().unwrap();
            assert_eq!(foreign.image, source);
        }
        assert!(check(&asked("gateway.v0", &[]), &all).is_err());
        assert!(check(&asked("hat.v0", &[]), &all).is_err());
    }

    #[test]
    fn other_frontends_of_build_files_are_images() {
        let foreign = |text: &str, attributes: &[(&str, &str)], allowed: &Frontends| {
            let file = BuildFileText {
                name: "Dockerfile".to_owned(),
                text: text.to_owned(),
                ..BuildFileText::default()
            };
            let asked = asked("dockerfile.v0", attributes);
            foreign_syntax(&file, Attributes(&asked.attributes), allowed)
        };
        let all = Frontends::default();
        for own in [
            "FROM scratch",
            "# syntax=docker/dockerfile:1",
            "# syntax=docker.io/docker/dockerfile-upstream:master\nFROM scratch",
            "# syntax=mirror.example/hub/docker/dockerfile:1.7",
        ] {
            assert_eq!(foreign(own, &[], &all).unwrap(), None, "{own}");
        }
        let none = Frontends {
            gateway: false,
            ..Frontends::default()
        };
        for text in [
            "# syntax=foobar",
            "#syntax=x.example/mopy:1 a\nFROM scratch",
        ] {
            assert!(foreign(text, &[], &all).unwrap().is_some(), "{text}");
            assert!(foreign(text, &[], &none).is_err(), "{text}");
            let chosen = [("cmdline", "docker/dockerfile:1")];
            assert_eq!(foreign(text, &chosen, &all).unwrap(), None);
        }
    }

    #[test]
    fn the_configuration_holds() {
        let image = asked("gateway.v0", &[("source", "docker/dockerfile:1")]);
        let plain = asked("dockerfile.v0", &[]);
        let without_gateway = Frontends {
            gateway: false,
            ..Frontends::default()
        };
        assert!(check(&image, &without_gateway).is_err());
        assert!(check(&plain, &without_gateway).is_ok());
        let without_dockerfile = Frontends {
            dockerfile: false,
            ..Frontends::default()
        };
        assert!(check(&plain, &without_dockerfile).is_err());
        let only = |name: &str| Frontends {
            repositories: vec![name.to_owned()],
            ..Frontends::default()
        };
        assert!(check(&image, &only("docker/dockerfile")).is_ok());
        let refused = check(&image, &only("x.example/y")).unwrap_err();
        assert!(refused.message().contains("not an allowed gateway source"));
    }

    #[test]
    fn a_refusal_has_one_code() {
        let asked = asked(
            "dockerfile.v0",
            &[("frontend.caps", "moby.buildkit.frontend.hats")],
        );
        let refused = check(&asked, &Frontends::default()).unwrap_err();
        let inner = RpcStatus::decode(refused.details()).unwrap();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert_eq!(
            (inner.code, inner.message),
            (12, refused.message().to_owned())
        );
        assert_eq!(inner.details.len(), 1);
    }
}
