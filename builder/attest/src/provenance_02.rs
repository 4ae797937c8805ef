//! Provenance in the form of SLSA version 0.2 (<https://slsa.dev/spec/v0.2/provenance>), for readers of
//! BuildKit's older attestations: the same facts under the names of then.

use serde_json::{Value, json};

/// The type of in-toto predicate.
pub const PROVENANCE_02_PREDICATE: &str = "https://slsa.dev/provenance/v0.2";
const BUILD_TYPE: &str = "urn:kiln:build:0.2";

/// The predicate of version 0.2 with what one of version 1 says.
#[must_use]
pub fn provenance_02(one: &Value) -> Value {
    let (definition, run) = (&one["buildDefinition"], &one["runDetails"]);
    let (external, internal) = (
        &definition["externalParameters"],
        &definition["internalParameters"],
    );
    let source = &external["configSource"];
    let mut old = json!({
        "builder": { "id": run["builder"]["id"] },
        "buildType": BUILD_TYPE,
        "materials": definition["resolvedDependencies"],
        "invocation": {
            "configSource": given(&[
                ("uri", &source["uri"]),
                ("digest", &source["digest"]),
                ("entryPoint", &source["path"]),
            ]),
            "parameters": external["request"],
            "environment": given(&[
                ("platform", &internal["builderPlatform"]),
                ("dockerfileVersion", &internal["dockerfileVersion"]),
            ]),
        },
        "metadata": metadata(&run["metadata"]),
    });
    if !internal["buildConfig"].is_null() {
        old["buildConfig"] = internal["buildConfig"].clone();
    }
    old
}

fn metadata(one: &Value) -> Value {
    let complete = &one["buildkit_completeness"];
    json!({
        "buildInvocationID": one["invocationID"],
        "buildStartedOn": one["startedOn"],
        "buildFinishedOn": one["finishedOn"],
        "completeness": {
            "parameters": complete["request"],
            "environment": true,
            "materials": complete["resolvedDependencies"],
        },
        "reproducible": one["buildkit_reproducible"],
        "https://mobyproject.org/buildkit@v1#metadata": one["buildkit_metadata"],
        "https://mobyproject.org/buildkit@v1#hermetic": one["buildkit_hermetic"],
    })
}

/// An object of the fields that are there.
fn given(fields: &[(&str, &Value)]) -> Value {
    let there = fields.iter().filter(|(_, value)| !value.is_null());
    let pairs = there.map(|(name, value)| ((*name).to_owned(), (*value).clone()));
    Value::Object(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::{Mode, Provenance};

    #[test]
    fn the_same_facts_under_the_names_of_then() {
        let facts = Provenance {
            mode: Mode::Max,
            path: "Dockerfile".to_owned(),
            platform: "linux/amd64".to_owned(),
            invocation: "x".to_owned(),
            ..Provenance::default()
        };
        let old = provenance_02(&facts.predicate());
        let source = &old["invocation"]["configSource"];
        assert_eq!(*source, json!({ "entryPoint": "Dockerfile" }));
        assert_eq!(old["metadata"]["buildInvocationID"], "x");
        assert_eq!(old["invocation"]["environment"]["platform"], "linux/amd64");
        assert!(old["invocation"]["environment"]["dockerfileVersion"].is_null());
        assert_eq!(old["metadata"]["completeness"]["environment"], true);
        let told = Provenance {
            dockerfile_version: Some("1.19.0".to_owned()),
            ..facts
        };
        let old = provenance_02(&told.predicate());
        let environment = &old["invocation"]["environment"];
        assert_eq!(environment["dockerfileVersion"], "1.19.0");
        assert!(old["buildConfig"]["kiln_steps"].is_array());
        let least = provenance_02(&Provenance::default().predicate());
        assert!(least.get("buildConfig").is_none());
    }
}
