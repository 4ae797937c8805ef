//! Merges images of registries into one index: the end of builds of one platform each, on machines
//! of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_cache::Store;
use kiln_execute::EngineError;
use kiln_graph::{BlobDigest, ImageConfig};
use kiln_image::{
    Client, Descriptor, ImageError, Index, Manifest, PushBlob, PushImage, Reference, Sent,
    media_type,
};
use kiln_solve::EventSink;

use crate::stored_blob::unavailable;

/// No configuration is larger, in bytes: so much is read into memory.
const MAX_CONFIG: u64 = 64 << 20;

/// An image of an index, and where its blobs are.
#[derive(Clone, Debug)]
struct Member {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    manifest: Manifest,
    from: Reference,
}

/// Images merged into an index.
#[derive(Clone, Debug)]
pub struct MergedIndex {
    /// Names the index.
    pub digest: BlobDigest,
    /// The index's bytes.
    pub bytes: Vec<u8>,
    members: Vec<Member>,
}

impl MergedIndex {
    /// The platforms of the images, in their order; attestations have none.
    #[must_use]
    pub fn platforms(&self) -> Vec<String> {
        let own = self.members.iter().map(|member| &member.descriptor);
        let images = own.filter(|descriptor| !descriptor.is_attestation());
        let platforms = images.filter_map(Descriptor::runs_on);
        platforms.map(|platform| platform.to_string()).collect()
    }
}

/// Merges images of registries.
#[derive(Debug)]
pub struct IndexMerger<'a> {
    /// Keeps the index.
    pub store: &'a Store,
    /// Fetches and sends.
    pub client: &'a Client,
}

impl IndexMerger<'_> {
    /// Merges images, and those of indexes, each once. Nothing is sent.
    ///
    /// # Errors
    /// When one can't be had or understood, or two different ones are for one platform.
    pub fn merge(
        &self,
        images: &[Reference],
        annotations: &BTreeMap<String, String>,
    ) -> Result<MergedIndex, EngineError> {
        let mut members: Vec<Member> = Vec::new();
        for image in images {
            for member in self.members(image)? {
                let is_same = |other: &Member| other.descriptor.digest == member.descriptor.digest;
                if !members.iter().any(is_same) {
                    refuse_twins(&members, &member)?;
                    members.push(member);
                }
            }
        }
        let index = Index {
            schema_version: 2,
            media_type: media_type::INDEX.to_owned(),
            manifests: members
                .iter()
                .map(|member| member.descriptor.clone())
                .collect(),
            annotations: annotations.clone(),
        };
        let bytes = serde_json::to_vec(&index).map_err(|error| EngineError::Output {
            what: "the index".to_owned(),
            source: error.into(),
        })?;
        let digest = self.store.blobs().put(&bytes)?.digest;
        Ok(MergedIndex {
            digest,
            bytes,
            members,
        })
    }

    /// Sends an index and what it names. Blobs of the same registry are mounted; what is in the
    /// repository already is left alone.
    ///
    /// # Errors
    /// When something can't be fetched or sent.
    pub fn push(
        &self,
        index: &MergedIndex,
        to: &Reference,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let moved = index
            .members
            .iter()
            .filter(|member| !member.from.is_beside(to));
        let (mut blobs, mut manifests) = (BTreeMap::new(), Vec::new());
        for member in moved {
            let own = member
                .manifest
                .layers
                .iter()
                .chain([&member.manifest.config]);
            for blob in own {
                blobs.insert(blob.digest, self.push_blob(member, blob, to));
            }
            let kind = member.descriptor.media_type.clone();
            manifests.push((member.bytes.clone(), kind));
        }
        let image = PushImage {
            blobs: blobs.into_values().collect(),
            manifests,
            top: (index.bytes.clone(), media_type::INDEX.to_owned()),
        };
        let tell = |sent: &Sent| super::output::tell_of_push(to, sent, events);
        Ok(self.client.push(to, &image, &tell)?)
    }

    /// The images that a name stands for.
    fn members(&self, image: &Reference) -> Result<Vec<Member>, EngineError> {
        let bytes = self.client.manifest_bytes(image)?;
        let Ok(index) = serde_json::from_slice::<Index>(&bytes) else {
            return Ok(vec![self.single(image, bytes)?]);
        };
        let mut members = Vec::new();
        for descriptor in index.manifests {
            let from = Reference {
                digest: Some(descriptor.digest),
                ..image.clone()
            };
            let bytes = self.client.manifest_bytes(&from)?;
            members.push(Member {
                manifest: read(image, &bytes)?,
                descriptor,
                bytes,
                from,
            });
        }
        Ok(members)
    }

    /// The only image that a name stands for, with its configuration's platform.
    fn single(&self, image: &Reference, bytes: Vec<u8>) -> Result<Member, EngineError> {
        let manifest: Manifest = read(image, &bytes)?;
        let Descriptor { digest, size, .. } = manifest.config;
        let mut text = Vec::new();
        if size <= MAX_CONFIG {
            let name = image.to_string();
            let fetch = &|_| {};
            self.client
                .fetch_blob(&name, &digest, size, &mut text, fetch)?;
        }
        let config: ImageConfig = read(image, &text)?;
        let stored = self.store.blobs().put(&bytes)?;
        let descriptor = Descriptor {
            platform: Some((&config.platform()).into()),
            ..Descriptor::new(manifest.kind(), stored.digest, stored.size)
        };
        Ok(Member {
            descriptor,
            bytes,
            manifest,
            from: image.clone(),
        })
    }

    fn push_blob<'a>(
        &'a self,
        member: &'a Member,
        blob: &'a Descriptor,
        to: &Reference,
    ) -> PushBlob<'a> {
        let is_near = member.from.host == to.host;
        PushBlob {
            digest: blob.digest,
            size: blob.size,
            mount_from: is_near.then(|| member.from.repository.clone()),
            file: Box::new(move || self.fetched(&member.from, blob)),
        }
    }

    /// The file of a blob, fetched when it isn't here.
    fn fetched(&self, from: &Reference, blob: &Descriptor) -> Result<PathBuf, ImageError> {
        let fail = |error: kiln_cache::StoreError| unavailable(&blob.digest, error);
        if let Some(here) = self.store.blobs().get(&blob.digest).map_err(fail)? {
            return Ok(here.path);
        }
        let mut writer = self.store.blobs().writer().map_err(fail)?;
        let name = from.to_string();
        self.client
            .fetch_blob(&name, &blob.digest, blob.size, &mut writer, &|_| {})?;
        Ok(writer.commit(Some(blob.digest)).map_err(fail)?.path)
    }
}

/// Two images for one platform: nobody could tell which is meant.
fn refuse_twins(members: &[Member], new: &Member) -> Result<(), EngineError> {
    let platform = new.descriptor.runs_on();
    let is_twin = |other: &&Member| {
        !other.descriptor.is_attestation() && other.descriptor.runs_on() == platform
    };
    let (Some(platform), false) = (&platform, new.descriptor.is_attestation()) else {
        return Ok(());
    };
    match members.iter().find(is_twin) {
        None => Ok(()),
        Some(other) => Err(EngineError::Refused(format!(
            "{} and {} are different images for {platform}: leave one out",
            other.from, new.from
        ))),
    }
}

fn read<T: serde::de::DeserializeOwned>(image: &Reference, bytes: &[u8]) -> Result<T, EngineError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ImageError::Document {
            image: image.to_string(),
            reason: format!("it can't be understood: {error}"),
        }
        .into()
    })
}
