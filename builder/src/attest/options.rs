//! Which attestations are wanted: the flags of `docker buildx build`.

use std::str::FromStr;

use kiln_attest::artifact::Form;
use kiln_attest::provenance::{Mode, PROVENANCE_PREDICATE, Provenance};
use kiln_attest::sbom::Format;
use kiln_attest::{PROVENANCE_02_PREDICATE, provenance_02};
use kiln_graph::parse_bool;

use super::Signer;
use crate::Error;

/// The variable with which buildx leaves out what nobody asked for.
const NO_DEFAULTS: &str = "BUILDX_NO_DEFAULT_ATTESTATIONS";

/// The flags as they were given.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AttestFlags {
    /// `--sbom`.
    pub sbom: Option<String>,
    /// `--provenance`.
    pub provenance: Option<String>,
    /// `--attest`, each.
    pub attest: Vec<String>,
    /// `--sign`.
    pub sign: Option<String>,
    /// `--identity-token`.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for AttestFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without what may have a token in it.
        f.debug_struct("AttestFlags")
            .field("sbom", &self.sbom)
            .field("provenance", &self.provenance)
            .field("attest", &self.attest)
            .finish_non_exhaustive()
    }
}

/// Where attestations are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// As referrers of the image, whose digest stays what it is without them.
    #[default]
    Referrers,
    /// Beside the image in an index, as BuildKit has it.
    Index(Form),
}

/// Which attestations are wanted.
#[derive(Clone, Debug, Default)]
pub struct AttestOptions {
    /// Lists of packages, in this form.
    pub sbom: Option<Format>,
    /// Provenance.
    pub provenance: Option<ProvenanceOptions>,
    /// Where they are stored; `None`: as suits the output.
    pub storage: Option<Storage>,
    /// Who signs.
    pub signer: Option<Signer>,
    /// Whether outputs that are files go without.
    pub inline_only: bool,
    /// Whether the user asked for any: then registries that list no referrers get a tag for them.
    pub is_asked: bool,
}

/// What provenance contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvenanceOptions {
    /// How much.
    pub mode: Mode,
    /// Who built it.
    pub builder: Option<String>,
    /// Whether the user says that building again gives the same.
    pub reproducible: bool,
    /// In which form.
    pub version: ProvenanceVersion,
}

/// The version of SLSA that provenance is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProvenanceVersion {
    /// Version 1.
    #[default]
    V1,
    /// Version 0.2.
    V02,
}

impl ProvenanceOptions {
    /// What is said of a build: the type of predicate, and the predicate.
    #[must_use]
    pub fn predicate(&self, facts: &Provenance) -> (&'static str, serde_json::Value) {
        let told = Provenance {
            mode: self.mode,
            builder: self.builder.clone(),
            reproducible: self.reproducible || facts.reproducible,
            ..facts.clone()
        };
        match self.version {
            ProvenanceVersion::V1 => (PROVENANCE_PREDICATE, told.predicate()),
            ProvenanceVersion::V02 => (PROVENANCE_02_PREDICATE, provenance_02(&told.predicate())),
        }
    }
}

impl AttestOptions {
    /// Reads the flags. When the result goes to a registry (`is_pushed`), provenance is on unless it
    /// is turned off.
    ///
    /// # Errors
    /// When a flag can't be understood, or the key can't be read.
    pub fn read(flags: &AttestFlags, is_pushed: bool) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut asked = Vec::new();
        for text in &flags.attest {
            asked.push(Spec::read("--attest", None, text)?);
        }
        for (flag, kind, text) in [
            ("--provenance", Kind::Provenance, &flags.provenance),
            ("--sbom", Kind::Sbom, &flags.sbom),
        ] {
            if let Some(text) = text {
                asked.push(Spec::read(flag, Some(kind), text)?);
            }
        }
        let has_provenance = asked.iter().any(|spec| spec.kind == Kind::Provenance);
        for spec in asked.into_iter().filter(|spec| !spec.is_off) {
            options.add(spec);
        }
        options.is_asked = options.sbom.is_some() || options.provenance.is_some();
        if !has_provenance && is_pushed && !is_set(NO_DEFAULTS) {
            options.provenance = Some(ProvenanceOptions::default());
        }
        let token = flags.identity_token.as_deref();
        options.signer = match &flags.sign {
            Some(spec) => Some(Signer::read(spec, token)?),
            None if token.is_some() => {
                let text = "--identity-token: it goes with --sign keyless";
                return Err(Error::Usage(text.to_owned()));
            }
            None => None,
        };
        if options.signer.is_some() && !is_pushed {
            return Err(Error::Usage(
                "--sign: signatures are stored in a registry: add --push or -o type=registry"
                    .to_owned(),
            ));
        }
        Ok(options)
    }

    fn add(&mut self, spec: Spec) {
        match spec.kind {
            Kind::Sbom => self.sbom = Some(spec.format),
            Kind::Provenance => self.provenance = Some(spec.provenance),
        }
        self.storage = spec.storage.or(self.storage);
        self.inline_only |= spec.inline_only;
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sbom.is_none() && self.provenance.is_none() && self.signer.is_none()
    }
}

/// Whether a variable is set to something that means yes.
fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sbom,
    Provenance,
}

/// One flag.
#[derive(Debug)]
struct Spec {
    kind: Kind,
    is_off: bool,
    format: Format,
    provenance: ProvenanceOptions,
    storage: Option<Storage>,
    inline_only: bool,
}

impl Spec {
    fn read(flag: &str, kind: Option<Kind>, text: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Usage(format!("{flag} {text}: {reason}"));
        let fields = text
            .split(',')
            .map(|field| field.split_once('=').unwrap_or((field, "")));
        let kinds = fields
            .clone()
            .find(|(key, _)| *key == "type")
            .map(|(_, value)| value);
        let kind = match (kind, kinds) {
            (Some(kind), None) => kind,
            (None, Some("sbom")) => Kind::Sbom,
            (None, Some("provenance")) => Kind::Provenance,
            _ => return Err(wrong("write type=sbom or type=provenance".to_owned())),
        };
        let mut spec = Self {
            kind,
            is_off: false,
            format: Format::default(),
            provenance: ProvenanceOptions::default(),
            storage: None,
            inline_only: false,
        };
        for (key, value) in fields.filter(|(key, _)| *key != "type") {
            spec.set(key, value).map_err(wrong)?;
        }
        Ok(spec)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let is_sbom = self.kind == Kind::Sbom;
        match (key, value) {
            ("true", "") => {}
            ("false", "") => self.is_off = true,
            ("disabled", value) => self.is_off = truth(key, value)?,
            ("inline-only", value) => self.inline_only = truth(key, value)?,
            ("storage", value) => self.storage = Some(value.parse()?),
            ("format", value) if is_sbom => self.format = value.parse()?,
            (format, "") if is_sbom => self.format = format.parse()?,
            ("generator", _) if is_sbom => {
                return Err("generators are not supported: kiln scans by itself".to_owned());
            }
            ("mode", value) | (value @ ("min" | "max"), "") if !is_sbom => {
                self.provenance.mode = mode(value)?;
            }
            ("builder-id", "") if !is_sbom => {
                return Err("builder-id is the builder's address: builder-id=https://…".to_owned());
            }
            ("builder-id", value) if !is_sbom => self.provenance.builder = Some(value.to_owned()),
            ("reproducible", value) if !is_sbom => {
                self.provenance.reproducible = truth(key, value)?;
            }
            ("version", value) if !is_sbom => self.provenance.version = version(value)?,
            _ => return Err(format!("unknown key '{key}': use {}", self.keys())),
        }
        Ok(())
    }

    fn keys(&self) -> &'static str {
        match self.kind {
            Kind::Sbom => "format=spdx|cyclonedx, storage, inline-only or disabled",
            Kind::Provenance => {
                "mode=min|max, builder-id, reproducible, version=v1|v0.2, storage, inline-only or disabled"
            }
        }
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "min" => Ok(Mode::Min),
        "max" => Ok(Mode::Max),
        other => Err(format!("unknown mode '{other}': use min or max")),
    }
}

fn version(text: &str) -> Result<ProvenanceVersion, String> {
    match text {
        "v1" | "1" => Ok(ProvenanceVersion::V1),
        "v0.2" | "0.2" => Ok(ProvenanceVersion::V02),
        other => Err(format!("unknown version '{other}': use v1 or v0.2")),
    }
}

fn truth(key: &str, text: &str) -> Result<bool, String> {
    parse_bool(text).ok_or_else(|| format!("{key}={text}: use true or false"))
}

impl FromStr for Storage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "referrers" => Ok(Self::Referrers),
            "index" => Ok(Self::Index(Form::Artifact)),
            "index-legacy" => Ok(Self::Index(Form::Legacy)),
            other => Err(format!(
                "unknown storage '{other}': use referrers, index or index-legacy"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        sbom: Option<&str>,
        provenance: Option<&str>,
        attest: &[&str],
        pushed: bool,
    ) -> Result<AttestOptions, Error> {
        let flags = AttestFlags {
            sbom: sbom.map(str::to_owned),
            provenance: provenance.map(str::to_owned),
            attest: attest.iter().map(|text| (*text).to_owned()).collect(),
            ..AttestFlags::default()
        };
        AttestOptions::read(&flags, pushed)
    }

    #[test]
    fn flags_of_buildx() {
        let none = read(None, None, &[], false).unwrap();
        assert!(none.is_empty());
        let pushed = read(None, None, &[], true).unwrap();
        assert_eq!(pushed.provenance, Some(ProvenanceOptions::default()));
        assert!(!pushed.is_asked);
        assert!(read(None, Some("false"), &[], true).unwrap().is_empty());
        assert_eq!(
            read(Some("true"), None, &[], false).unwrap().sbom,
            Some(Format::Spdx)
        );
        assert_eq!(
            read(Some("cyclonedx"), None, &[], false).unwrap().sbom,
            Some(Format::CycloneDx)
        );
        let max = read(None, Some("mode=max,builder-id=https://b"), &[], false).unwrap();
        let max = max.provenance.unwrap();
        assert_eq!(
            (max.mode, max.builder.as_deref()),
            (Mode::Max, Some("https://b"))
        );
        let both = read(
            None,
            None,
            &["type=sbom,storage=index", "type=provenance,mode=min"],
            false,
        )
        .unwrap();
        assert!(both.sbom.is_some() && both.provenance.is_some() && both.is_asked);
        assert_eq!(both.storage, Some(Storage::Index(Form::Artifact)));
        assert!(
            read(None, None, &["type=provenance,disabled=true"], true)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn mistakes_are_told() {
        let cases = [
            (
                "--sbom",
                read(Some("x"), None, &[], false),
                "unknown kind of SBOM 'x'",
            ),
            (
                "--sbom",
                read(Some("generator=a/b"), None, &[], false),
                "generators are not supported",
            ),
            (
                "--provenance",
                read(None, Some("mode=all"), &[], false),
                "unknown mode 'all'",
            ),
            (
                "--provenance",
                read(None, Some("colour=red"), &[], false),
                "unknown key 'colour'",
            ),
            (
                "--attest",
                read(None, None, &["mode=max"], false),
                "write type=sbom or type=provenance",
            ),
            (
                "--attest",
                read(None, None, &["type=sbom,storage=x"], false),
                "unknown storage 'x'",
            ),
        ];
        for (flag, result, part) in cases {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(flag) && text.contains(part), "{text}");
        }
    }
}
