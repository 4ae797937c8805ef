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

/// What frontends may be asked to know.
const CAPABILITIES: [&str; 4] = ["inputs", "subrequests", "contexts", "gitquerystring"];

/// Checks that a frontend is built in, and that the server's configuration allows it.
pub(super) fn check(asked: &Asked, allowed: &Frontends) -> Result<(), Status> {
    let source = asked.attributes.get("source").map_or("", String::as_str);
    let repository = repository(source);
    match asked.frontend.as_str() {
        "gateway.v0" if !allowed.gateway => return Err(switched_off("gateway.v0")),
        "gateway.v0" if source == "dockerfile.v0" && allowed.dockerfile => {}
        "gateway.v0" if !allowed.takes(&repository) => {
            let text = format!("'{source}' is not an allowed gateway source");
            return Err(Status::unknown(text));
        }
        "gateway.v0" if IMAGES.contains(&repository.as_str()) => {}
        "dockerfile.v0" if !allowed.dockerfile => return Err(switched_off("dockerfile.v0")),
        "dockerfile.v0" => {}
        other => {
            let text = format!(
                "the frontend {other} {source} can't be run: kiln has dockerfile.v0, and takes docker/dockerfile for it"
            );
            return Err(Status::unimplemented(text));
        }
    }
    capabilities(asked)
}

/// The error of a build file that wants another frontend than the one that is built in: by its first
/// line, unless the client has chosen by itself. A copy of `docker/dockerfile` in another registry is
/// taken for it.
pub(super) fn foreign_syntax(
    file: &BuildFileText,
    attributes: Attributes<'_>,
) -> Option<DockerfileError> {
    if attributes.text("cmdline").is_some() || file.name.ends_with(".toml") {
        return None;
    }
    let (parsed, _) = parse_partial(&file.name, &file.text);
    let mut directives = parsed.directives.iter();
    let syntax = directives.find(|directive| directive.name == "syntax")?;
    let image = syntax.value.split_whitespace().next()?;
    let repository = repository(image);
    let is_known = ["/docker/dockerfile", "/docker/dockerfile-upstream"]
        .iter()
        .any(|name| repository.ends_with(name));
    let text = format!(
        "the frontend image {image} can't be run: kiln has the frontend of docker/dockerfile built in, and no others"
    );
    (!is_known).then(|| DockerfileError::at(syntax.location.clone(), text))
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

fn capabilities(asked: &Asked) -> Result<(), Status> {
    let wanted = asked.attributes.get("frontend.caps");
    let wanted = wanted.into_iter().flat_map(|all| all.split(','));
    for capability in wanted.filter(|text| !text.is_empty()) {
        let plain = capability.trim_end_matches("+forward");
        let name = plain.strip_prefix("moby.buildkit.frontend.");
        if !name.is_some_and(|name| CAPABILITIES.contains(&name)) {
            return Err(rpc_status(RpcStatus {
                code: Code::Unimplemented.into(),
                message: format!("unsupported frontend capability {plain}"),
                details: vec![detail("errdefs.FrontendCap", &json!({ "name": plain }))],
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
        for source in ["", "docker/dockerfiles", "x.example/docker/dockerfile:1"] {
            let asked = asked("gateway.v0", &[("source", source)]);
            let refused = check(&asked, &all).unwrap_err();
            assert_eq!(refused.code(), Code::Unimplemented, "{source}");
        }
    }

    #[test]
    fn other_frontends_of_build_files_are_refused() {
        let refused = |text: &str, attributes: &[(&str, &str)]| {
            let file = BuildFileText {
                name: "Dockerfile".to_owned(),
                text: text.to_owned(),
                ..BuildFileText::default()
            };
            let asked = asked("dockerfile.v0", attributes);
            foreign_syntax(&file, Attributes(&asked.attributes)).is_some()
        };
        for own in [
            "FROM scratch",
            "# syntax=docker/dockerfile:1",
            "# syntax=docker.io/docker/dockerfile-upstream:master\nFROM scratch",
            "# syntax=mirror.example/hub/docker/dockerfile:1.7",
        ] {
            assert!(!refused(own, &[]), "{own}");
        }
        for foreign in ["# syntax=foobar", "#syntax=x.example/mopy:1\nFROM scratch"] {
            assert!(refused(foreign, &[]), "{foreign}");
            assert!(!refused(foreign, &[("cmdline", "docker/dockerfile:1")]));
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
