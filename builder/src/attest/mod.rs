//! Attestations of images that are built: their packages (SBOM), their provenance, signatures.

mod facts;
mod identity_source;
mod keyless;
mod kind;
mod list;
mod options;
mod publish;
mod recorder;
mod signer;
mod vcs;
mod verify;

use kiln_attest::artifact::{self, Artifact, ArtifactDescriptor, Form};
use kiln_attest::bundle::SIGN_PREDICATE;
use kiln_attest::provenance::Provenance;
use kiln_attest::sbom::{self, Format};
use kiln_attest::{Artifact as About, Statement, image_purl};
use kiln_engine::{Event, EventSink, Image, ImageOptions, Solved};
use kiln_graph::{BlobDigest, Target};
use kiln_image::{Client, Descriptor, Reference, Resolved};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Error;

pub use facts::{BuildFacts, StepResult};
pub use kind::AttestationKind;
pub use list::{ListedAttestation, list_attestations};
pub use options::{AttestFlags, AttestOptions, ProvenanceOptions, ProvenanceVersion, Storage};
pub(crate) use publish::{publish, push_image};
pub(crate) use recorder::Recorder;
pub use signer::Signer;
pub use verify::{Verified, missing_signature, verify_image};

/// The name of provenance as a file.
const PROVENANCE_FILE: &str = "provenance.json";

/// What the attestations of an image may be about: what its name stands for, and its manifest.
fn subjects(resolved: &Resolved) -> Vec<BlobDigest> {
    let mut all: Vec<BlobDigest> = resolved.named.into_iter().collect();
    if !all.contains(&resolved.manifest) {
        all.push(resolved.manifest);
    }
    all
}

/// The attestations of one image.
#[derive(Clone, Debug)]
pub(crate) struct Attested {
    statements: Vec<StatementFile>,
    /// Signed ones, to be sent as what refers to the image.
    signed: Vec<Artifact>,
    /// The image, unless the result is files.
    subject: Option<ArtifactDescriptor>,
}

/// A statement, and the name that its file has.
#[derive(Clone, Debug)]
struct StatementFile {
    /// The name that a file of it has.
    file: &'static str,
    statement: Statement,
}

impl Attested {
    /// The manifest that holds them, with its blobs; `None` when there are none.
    pub(crate) fn artifact(&self, form: Form) -> Option<Artifact> {
        let bytes = |StatementFile { statement, .. }: &StatementFile| {
            (statement.predicate_type.clone(), statement.to_json())
        };
        let statements: Vec<(String, Vec<u8>)> = self.statements.iter().map(bytes).collect();
        let subject = self.subject.as_ref().filter(|_| !statements.is_empty())?;
        Some(artifact::attestations(subject, &statements, form))
    }

    /// The predicates as files: names and contents.
    pub(crate) fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let text = |one: &StatementFile| format!("{:#}\n", one.statement.predicate).into_bytes();
        self.statements
            .iter()
            .map(|one| (one.file, text(one)))
            .collect()
    }

    /// The provenance, if it is attested.
    pub(crate) fn provenance(&self) -> Option<&serde_json::Value> {
        let mut all = self.statements.iter();
        let found = all.find(|one| one.file == PROVENANCE_FILE)?;
        Some(&found.statement.predicate)
    }
}

/// An image to be attested.
#[derive(Clone, Copy)]
pub(crate) struct Finished<'a> {
    /// The build.
    pub(crate) solved: &'a Solved,
    /// Which of its images.
    pub(crate) target: &'a Target,
    /// The image, unless the result is files.
    pub(crate) image: Option<&'a Image>,
    /// How it was made.
    pub(crate) options: &'a ImageOptions,
    /// The names that it gets.
    pub(crate) names: &'a [Reference],
}

impl AttestOptions {
    /// Makes the attestations of an image.
    ///
    /// # Errors
    /// When its files can't be read, or the key can't sign.
    pub(crate) fn attest(
        &self,
        finished: &Finished<'_>,
        facts: &Provenance,
        events: &dyn EventSink,
    ) -> Result<Attested, Error> {
        let mut statements = Vec::new();
        if let Some(wanted) = &self.provenance {
            let (kind, predicate) = wanted.predicate(facts);
            statements.push(StatementFile {
                file: PROVENANCE_FILE,
                statement: Statement::new(finished.about(), kind, predicate),
            });
        }
        if let Some(format) = self.sbom {
            let document = finished.sbom(format, events)?;
            statements.push(StatementFile {
                file: format.file_name(),
                statement: Statement::new(finished.about(), format.predicate_type(), document),
            });
        }
        let subject = finished.image.map(Image::artifact_subject);
        let mut signed = Vec::new();
        if let (Some(signer), Some(subject)) = (&self.signer, &subject) {
            for one in &statements {
                signed.push(sign(
                    signer,
                    finished.solved.client(),
                    subject,
                    &one.statement,
                )?);
            }
        }
        Ok(Attested {
            statements,
            signed,
            subject,
        })
    }

    /// The signature of an image or index as a whole, if one is wanted.
    ///
    /// # Errors
    /// When the key can't sign.
    pub(crate) fn sign_top(
        &self,
        client: &Client,
        top: &Descriptor,
    ) -> Result<Option<Artifact>, Error> {
        let Some(signer) = &self.signer else {
            return Ok(None);
        };
        let subject = ArtifactDescriptor::new(&top.media_type, top.digest, top.size);
        let about = vec![About::new("", &top.digest)];
        let statement = Statement::new(about, SIGN_PREDICATE, serde_json::json!({}));
        sign(signer, client, &subject, &statement).map(Some)
    }
}

fn sign(
    signer: &Signer,
    client: &Client,
    subject: &ArtifactDescriptor,
    statement: &Statement,
) -> Result<Artifact, Error> {
    let bundle = signer.bundle(client, &statement.to_json())?;
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).ok();
    let now = now
        .and_then(|now| now.format(&Rfc3339).ok())
        .unwrap_or_default();
    Ok(artifact::signature(
        subject,
        &statement.predicate_type,
        bundle,
        &now,
    ))
}

impl Finished<'_> {
    /// The image under each of its names.
    fn about(&self) -> Vec<About> {
        let Some(digest) = self.image.map(|image| image.artifact_subject().digest) else {
            return Vec::new();
        };
        let platform = self.target.platform.to_string();
        let one = |name: &Reference| {
            let repository = format!("{}/{}", name.host, name.repository);
            About::new(
                image_purl(&repository, name.tag.as_deref(), None, &platform),
                &digest,
            )
        };
        match self.names {
            [] => vec![About::new("", &digest)],
            names => names.iter().map(one).collect(),
        }
    }

    /// The list of what is in the image. What can't be read of it is warned of.
    pub(crate) fn sbom(
        &self,
        format: Format,
        events: &dyn EventSink,
    ) -> Result<serde_json::Value, Error> {
        let name = self
            .names
            .first()
            .map_or_else(|| "image".to_owned(), ToString::to_string);
        let (subject, inventory) =
            self.solved
                .packages(self.target, self.image, self.options, &name, events)?;
        for warning in &inventory.warnings {
            let message = format!("SBOM: {}: {}", warning.path, warning.reason);
            events.event(Event::Warning { message });
        }
        Ok(sbom::document(format, &subject, &inventory))
    }
}
