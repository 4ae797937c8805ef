//! Where an image comes from: SLSA provenance version 1 (<https://slsa.dev/spec/v1.1/provenance>),
//! with BuildKit's names for what BuildKit's provenance has too (`slsa-definitions.md`).
//!
//! The build type is `urn:kiln:build:1`. Its external parameters are `configSource` (the build
//! file, in its repository where it has one) and `request` (the frontend and its arguments, local
//! contexts, ids of secrets). `min` leaves arguments' values, secrets and steps out. `max` has the
//! steps as `internalParameters.buildConfig.kiln_steps`: each with what it is filed under (`key`),
//! whether it ran or its result was there (`outcome`), and its time in milliseconds.

use std::collections::BTreeMap;

use kiln_graph::address::{CREDENTIAL_WORDS, REDACTED, redact, redact_variable};
use serde::Serialize;
use serde_json::{Value, json};

use crate::sbom;

/// The type of in-toto predicate.
pub const PROVENANCE_PREDICATE: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE: &str = "urn:kiln:build:1";
const BUILDER: &str = "urn:kiln:builder";

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What was built from what.
    #[default]
    Min,
    /// How as well.
    Max,
}

/// Something that the build took from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Dependency {
    /// A package URL for images, an address for others.
    pub uri: String,
    /// Digests by algorithm: `sha256`, or `sha1` for commits.
    pub digest: BTreeMap<String, String>,
}

/// A step of the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StepFact {
    /// Names it in this document.
    pub id: String,
    /// What it does.
    pub name: String,
    /// First and last line of the build file.
    #[serde(skip)]
    pub lines: Option<(u32, u32)>,
    /// The steps it is made from.
    pub inputs: Vec<String>,
    /// What its result is filed under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `ran` or `cached`.
    pub outcome: String,
    /// How long it took, in milliseconds.
    #[serde(rename = "durationMs")]
    pub duration: u64,
}

/// Something that a step was given by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Given {
    /// Its id.
    pub id: String,
    /// Whether the step runs without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// What is known of a build.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// How much is told.
    pub mode: Mode,
    /// Who built it; nothing for kiln itself.
    pub builder: Option<String>,
    /// What reads the build file: `dockerfile.v0`.
    pub frontend: String,
    /// The version of Dockerfiles' syntax that the frontend knows, where that is told.
    pub dockerfile_version: Option<String>,
    /// The build file's repository or address, when it isn't a local one, and its digest.
    pub config_source: Option<Dependency>,
    /// The build file's path in its context.
    pub path: String,
    /// The build file's text.
    pub text: String,
    /// Arguments of the frontend, as BuildKit names them: `target`, `build-arg:NAME`.
    pub args: BTreeMap<String, String>,
    /// Names of contexts that are local directories.
    pub locals: Vec<String>,
    /// Secrets that steps were given.
    pub secrets: Vec<Given>,
    /// SSH agents that steps were given.
    pub ssh: Vec<Given>,
    /// What the builder ran on.
    pub platform: String,
    /// What was taken from elsewhere.
    pub dependencies: Vec<Dependency>,
    /// The steps, in the order of the graph.
    pub steps: Vec<StepFact>,
    /// Names the run of the builder.
    pub invocation: String,
    /// When it began, in milliseconds since 1970.
    pub started: u64,
    /// When it ended, in milliseconds since 1970.
    pub finished: u64,
    /// Whether no step could reach anything that isn't in `dependencies` or a local context.
    pub hermetic: bool,
    /// Whether running it again was seen to give the same, or the user says so.
    pub reproducible: bool,
    /// The local context's repository: `source` and `revision`.
    pub vcs: BTreeMap<String, String>,
}

impl Provenance {
    /// The predicate.
    #[must_use]
    pub fn predicate(&self) -> Value {
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "configSource": self.config_source(),
                    "request": self.request(),
                },
                "internalParameters": self.internal(),
                "resolvedDependencies": self.resolved(),
            },
            "runDetails": {
                "builder": self.builder(),
                "metadata": self.metadata(),
            },
        })
    }

    fn is_max(&self) -> bool {
        self.mode == Mode::Max
    }

    fn config_source(&self) -> Value {
        let mut source = json!({"path": self.path});
        if let Some(from) = &self.config_source {
            source["uri"] = without_credentials(&from.uri).into();
            source["digest"] = json!(from.digest);
        }
        source
    }

    fn request(&self) -> Value {
        let locals = self.locals.iter().map(|name| json!({"name": name}));
        let mut request = json!({
            "frontend": self.frontend,
            "locals": locals.collect::<Vec<_>>(),
        });
        let told = self
            .args
            .iter()
            .filter(|(name, _)| self.is_max() || !has_value_of_user(name));
        let args: BTreeMap<&String, String> = told
            .map(|(name, value)| (name, argument(name, value)))
            .collect();
        if !args.is_empty() {
            request["args"] = json!(args);
        }
        if self.is_max() {
            request["secrets"] = json!(self.secrets);
            request["ssh"] = json!(self.ssh);
        }
        request
    }

    fn internal(&self) -> Value {
        let mut internal = json!({"builderPlatform": self.platform});
        if let Some(version) = &self.dockerfile_version {
            internal["dockerfileVersion"] = version.as_str().into();
        }
        if self.is_max() {
            let steps = self.steps.iter().map(|step| StepFact {
                name: redact(&step.name).into_owned(),
                ..step.clone()
            });
            internal["buildConfig"] = json!({"kiln_steps": steps.collect::<Vec<_>>()});
        }
        internal
    }

    fn resolved(&self) -> Vec<Dependency> {
        let clean = |one: &Dependency| Dependency {
            uri: without_credentials(&one.uri),
            digest: one.digest.clone(),
        };
        let mut all: Vec<Dependency> = self.dependencies.iter().map(clean).collect();
        all.sort();
        all.dedup();
        all
    }

    fn builder(&self) -> Value {
        match &self.builder {
            Some(id) => json!({"id": id}),
            None => json!({"id": BUILDER, "version": {"kiln": env!("CARGO_PKG_VERSION")}}),
        }
    }

    fn metadata(&self) -> Value {
        let complete = self.locals.is_empty() && self.hermetic;
        let mut own = json!({});
        if !self.vcs.is_empty() {
            let clean = self
                .vcs
                .iter()
                .map(|(name, value)| (name, without_credentials(value)));
            own["vcs"] = json!(clean.collect::<BTreeMap<_, _>>());
        }
        if self.is_max() {
            own["source"] = self.source();
        }
        let completeness = json!({
            "request": self.is_max() || !self.args.keys().any(|name| has_value_of_user(name)),
            "resolvedDependencies": complete,
        });
        json!({
            "invocationID": self.invocation,
            "startedOn": time(self.started),
            "finishedOn": time(self.finished),
            "buildkit_metadata": own,
            "buildkit_hermetic": self.hermetic,
            "buildkit_reproducible": self.reproducible,
            "buildkit_completeness": completeness,
            "kiln_hermetic": self.hermetic,
            "kiln_reproducible": self.reproducible,
            "kiln_completeness": completeness,
        })
    }

    /// The build file, and which of its lines each step comes from.
    fn source(&self) -> Value {
        use base64::Engine as _;
        let text = redact(&self.text);
        let data = base64::engine::general_purpose::STANDARD.encode(text.as_bytes());
        let place = |step: &StepFact| {
            let (first, last) = step.lines?;
            let range = json!({"start": {"line": first}, "end": {"line": last}});
            Some((step.id.clone(), json!({"locations": [{"ranges": [range]}]})))
        };
        let locations: BTreeMap<String, Value> = self.steps.iter().filter_map(place).collect();
        let language = if self.frontend == "kiln.toml" {
            "TOML"
        } else {
            "Dockerfile"
        };
        json!({
            "locations": locations,
            "infos": [{"filename": self.path, "language": language, "data": data}],
        })
    }
}

/// Whether an argument's value is the user's own, and may be more than they want to tell.
fn has_value_of_user(name: &str) -> bool {
    name.starts_with("build-arg:") || name.starts_with("label:")
}

/// An argument's value as it may be told.
fn argument(name: &str, value: &str) -> String {
    let own = name.split_once(':').map_or(name, |(_, own)| own);
    redact_variable(own, value).into_owned()
}

fn time(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1000).unwrap_or(0);
    sbom::time(seconds)
}

/// A text with the credentials of the addresses in it taken out: `USER:PASSWORD@`, and parameters
/// such as `token=`.
#[must_use]
pub fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        out.push_str(before);
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
        let end = address.find(is_end).unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        out.push_str(&clean_address(address));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What follows `://` of one address.
fn clean_address(address: &str) -> String {
    let host_end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (host, rest) = address.split_at(host_end);
    // `git@host` is how everybody logs in, and says nothing.
    let host = match host.rsplit_once('@') {
        Some(("git", _)) | None => host,
        Some((_, host)) => host,
    };
    let Some((path, query)) = rest.split_once('?') else {
        return format!("{host}{rest}");
    };
    let (query, fragment) = query
        .split_once('#')
        .map_or((query, None), |(q, f)| (q, Some(f)));
    let clean = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if opens_doors(name) => format!("{name}={REDACTED}"),
        _ => pair.to_owned(),
    };
    let pairs: Vec<String> = query.split('&').map(clean).collect();
    let fragment = fragment.map_or(String::new(), |fragment| format!("#{fragment}"));
    format!("{host}{path}?{}{fragment}", pairs.join("&"))
}

/// Whether a query parameter's value lets somebody in, as far as its name tells.
fn opens_doors(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // `sig` is what presigned addresses of Azure, Amazon and Google have in common.
    let words = CREDENTIAL_WORDS.iter().chain(&["pass", "sig"]);
    words.into_iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(mode: Mode) -> Provenance {
        Provenance {
            mode,
            frontend: "dockerfile.v0".to_owned(),
            path: "Dockerfile".to_owned(),
            text: "FROM a\nADD https://u:p@h/x /\n".to_owned(),
            args: [("build-arg:A", "secretish"), ("target", "app")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            locals: vec!["context".to_owned()],
            secrets: vec![Given {
                id: "npmrc".to_owned(),
                optional: true,
            }],
            platform: "linux/amd64".to_owned(),
            dependencies: vec![
                Dependency {
                    uri: "https://u:p@h/x".to_owned(),
                    digest: [("sha256".to_owned(), "aa".to_owned())].into(),
                },
                Dependency {
                    uri: "pkg:docker/a@1".to_owned(),
                    digest: BTreeMap::new(),
                },
            ],
            steps: vec![StepFact {
                id: "step0".to_owned(),
                name: "app[2] ADD https://u:p@h/x /".to_owned(),
                lines: Some((2, 2)),
                outcome: "ran".to_owned(),
                duration: 12,
                ..StepFact::default()
            }],
            invocation: "1".to_owned(),
            started: 1_700_000_000_000,
            finished: 1_700_000_001_000,
            ..Provenance::default()
        }
    }

    #[test]
    fn both_modes() {
        for (name, mode) in [("provenance-min", Mode::Min), ("provenance-max", Mode::Max)] {
            let predicate = sample(mode).predicate();
            assert!(!predicate.to_string().contains("u:p@"));
            insta::assert_json_snapshot!(name, predicate);
        }
        assert!(
            !sample(Mode::Min)
                .predicate()
                .to_string()
                .contains("secretish")
        );
    }

    #[test]
    fn complete_only_when_nothing_came_unseen() {
        let flag = |provenance: &Provenance| {
            provenance.predicate()["runDetails"]["metadata"]["buildkit_completeness"]["resolvedDependencies"]
                == true
        };
        let local = Provenance {
            hermetic: true,
            ..sample(Mode::Max)
        };
        assert!(!flag(&local));
        let remote = Provenance {
            locals: Vec::new(),
            ..local
        };
        assert!(flag(&remote));
        assert!(!flag(&Provenance {
            hermetic: false,
            ..remote
        }));
    }

    #[test]
    fn credentials_are_taken_out() {
        let cases = [
            (
                "https://user:pass@host/x.git#main",
                "https://host/x.git#main",
            ),
            ("https://token@host", "https://host"),
            ("ssh://git@host/x", "ssh://git@host/x"),
            (
                "RUN curl https://h/f?X-Amz-Signature=abc&a=b -o x",
                "RUN curl https://h/f?X-Amz-Signature=***&a=b -o x",
            ),
            (
                "a 'https://u:p@h' b \"http://v@i/\"",
                "a 'https://h' b \"http://i/\"",
            ),
            (
                "https://h/@scope/pkg?private_token=1#f",
                "https://h/@scope/pkg?private_token=***#f",
            ),
            ("no address", "no address"),
        ];
        for (text, want) in cases {
            assert_eq!(without_credentials(text), want);
        }
    }
}
