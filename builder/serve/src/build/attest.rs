//! Attestations: which ones a client asks for, and what they say.

use kiln::{AttestFlags, AttestOptions, IndexForm, ProvenanceOptions, Storage};
use tonic::Status;

use super::attributes::{Attributes, flag};
use crate::proto::control::Exporter;

/// Keys that change nothing here.
const WITHOUT_EFFECT: [&str; 2] = ["type", "capture-usage"];

impl Attributes<'_> {
    /// The attestations that are asked for: `attest:provenance` and `attest:sbom`.
    pub(super) fn attestations(self) -> Result<AttestOptions, Status> {
        let flag = |key: &str| self.0.get(key).map(|value| fields(value));
        let flags = AttestFlags {
            sbom: flag("attest:sbom"),
            provenance: flag("attest:provenance"),
            ..AttestFlags::default()
        };
        let options = AttestOptions::read(&flags, false);
        options.map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// The fields of an attribute as the flags have them.
fn fields(value: &str) -> String {
    let has_effect = |field: &&str| {
        let key = field.split_once('=').map_or(*field, |(key, _)| key);
        !key.is_empty() && !WITHOUT_EFFECT.contains(&key)
    };
    let kept: Vec<&str> = value.split(',').filter(has_effect).collect();
    match kept.is_empty() {
        true => "true".to_owned(),
        false => kept.join(","),
    }
}

/// The attestations of one output. They lie beside the image in an index, where BuildKit's clients look
/// for them.
///
/// # Errors
/// When the exporter's attribute about them is neither true nor false.
pub(super) fn of_exporter(
    asked: &AttestOptions,
    exporter: &Exporter,
) -> Result<AttestOptions, Status> {
    let form = match flag(&exporter.attrs, "oci-artifact")? {
        Some(true) => IndexForm::Artifact,
        _ => IndexForm::Legacy,
    };
    Ok(AttestOptions {
        storage: asked.storage.or(Some(Storage::Index(form))),
        ..asked.clone()
    })
}

/// What provenance has that nobody asked for and the history keeps: all.
pub(super) fn of_history(asked: &AttestOptions) -> ProvenanceOptions {
    let asked = asked.provenance.clone();
    asked.unwrap_or_else(|| ProvenanceOptions {
        mode: kiln::ProvenanceMode::Max,
        ..ProvenanceOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln::ProvenanceMode;
    use std::collections::HashMap;

    fn read(provenance: Option<&str>, sbom: Option<&str>) -> Result<AttestOptions, Status> {
        let pairs = [("attest:provenance", provenance), ("attest:sbom", sbom)];
        let given = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        Attributes(&given.collect::<HashMap<_, _>>()).attestations()
    }

    #[test]
    fn attributes_of_clients() {
        assert!(read(None, None).unwrap().is_empty());
        let usual = read(Some("mode=min,inline-only=true"), None).unwrap();
        assert!(usual.inline_only && usual.sbom.is_none());
        assert_eq!(usual.provenance.unwrap().mode, ProvenanceMode::Min);
        let typed = read(Some("type=provenance,mode=max,version=v1"), Some("")).unwrap();
        assert_eq!(typed.provenance.unwrap().mode, ProvenanceMode::Max);
        assert!(typed.sbom.is_some());
        assert!(read(Some("disabled=true"), None).unwrap().is_empty());
        for wrong in ["mode=all", "version=v3", "complete-materials=true"] {
            assert!(read(Some(wrong), None).is_err(), "{wrong}");
        }
        assert!(read(None, Some("generator=x/y")).is_err());
    }

    #[test]
    fn they_lie_beside_the_image() {
        let exporter = |value: &str| Exporter {
            r#type: "image".to_owned(),
            attrs: HashMap::from([("oci-artifact".to_owned(), value.to_owned())]),
        };
        let storage = |value| {
            let options = of_exporter(&AttestOptions::default(), &exporter(value));
            options.map(|options| options.storage)
        };
        for (value, form) in [
            ("true", IndexForm::Artifact),
            ("T", IndexForm::Artifact),
            ("", IndexForm::Legacy),
            ("0", IndexForm::Legacy),
        ] {
            assert_eq!(storage(value).unwrap(), Some(Storage::Index(form)));
        }
        assert!(storage("yes").is_err());
    }
}
