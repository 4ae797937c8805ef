//! Sends differences to registries.

use kiln_delta::artifact::{ARTIFACT_TYPE, MANIFEST};
use kiln_execute::EngineError;
use kiln_image::{PushBlob, PushImage, Reference, Referrer, Sent};
use kiln_solve::EventSink;

use super::{Delta, DeltaMaker};
use crate::output::tell_of_push;
use crate::stored_blob::stored;

impl DeltaMaker<'_> {
    /// Sends a difference to the repository of its new image, which has the image already. Where the
    /// registry lists no referrers, clients find it in an index under a tag.
    ///
    /// # Errors
    /// When the registry can't be reached or doesn't take it.
    pub fn push(
        &self,
        delta: &Delta,
        to: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let blob = |blob: &kiln_cache::Blob| {
            let digest = blob.digest;
            PushBlob {
                digest,
                size: blob.size,
                mount_from: None,
                file: Box::new(move || stored(&self.0.store, &digest)),
            }
        };
        let image = PushImage {
            blobs: delta.blobs.iter().map(blob).collect(),
            manifests: Vec::new(),
            top: (delta.manifest.clone(), MANIFEST.to_owned()),
        };
        let referrer = Referrer {
            media_type: MANIFEST.to_owned(),
            digest: delta.digest,
            size: delta.manifest.len() as u64,
            artifact_type: Some(ARTIFACT_TYPE.to_owned()),
            annotations: delta.annotations.clone(),
        };
        let subject = delta.images.manifest.digest;
        let tell = |sent: &Sent| tell_of_push(to, sent, events);
        let client = &self.0.client;
        client.push_referrer(to, &subject, &referrer, &image, true, &tell)?;
        Ok(())
    }
}
