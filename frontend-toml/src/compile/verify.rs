//! `verify`: signatures that images must have before anything is made from them.

use std::collections::BTreeSet;

use kiln_graph::{ImageRequest, Platform};

use super::compiler::{Compiler, View};
use super::named_image::NamedImage;
use super::{RequiredSignature, Signers, image};
use crate::error::Wrong;
use crate::model::Verify;
use crate::text::{Placed, Text};

impl Compiler<'_> {
    /// Notes that an image is used, and the signatures that its source wants.
    pub(super) fn name_image(
        &mut self,
        asked: &Text,
        name: &str,
        platform: &Platform,
        verify: Option<&Placed<Verify>>,
        view: &View<'_>,
    ) -> Result<(), Wrong> {
        let signers = verify.map(|verify| signers(verify, view)).transpose()?;
        let request = ImageRequest {
            name: name.to_owned(),
            platform: platform.clone(),
        };
        let location = self.file.files.location(&asked.span);
        let named = self.named_images.entry(request).or_insert(NamedImage {
            location,
            signers: BTreeSet::new(),
        });
        named.signers.extend(signers);
        Ok(())
    }

    /// The signatures that the images which were named must have.
    pub(super) fn signatures(&self) -> Result<Vec<RequiredSignature>, Wrong> {
        let target = image::target(self.file, self.options)?;
        let wanted = self.file.images.get(target.as_str());
        let wanted = wanted.and_then(|image| image.verify.as_ref());
        let mut all = Vec::new();
        for (request, named) in &self.named_images {
            let mut own = named.signers.clone();
            if let (true, Some(verify)) = (own.is_empty(), wanted) {
                own.insert(signers(verify, &self.view(&request.platform))?);
            }
            all.extend(own.into_iter().map(|signers| RequiredSignature {
                image: request.clone(),
                location: named.location.clone(),
                signers,
            }));
        }
        Ok(all)
    }
}

fn signers(placed: &Placed<Verify>, view: &View<'_>) -> Result<Signers, Wrong> {
    let verify = &placed.value;
    let keys: Vec<Text> = verify.key.iter().chain(&verify.keys).cloned().collect();
    Ok(Signers {
        keys: view.fill_all(&keys)?,
        threshold: verify.threshold,
        identity: view.fill_some(verify.identity.as_ref())?,
        identity_regexp: view.fill_some(verify.identity_regexp.as_ref())?,
        issuer: view.fill_some(verify.issuer.as_ref())?,
        issuer_regexp: view.fill_some(verify.issuer_regexp.as_ref())?,
        trusted_root: view.fill_some(verify.trusted_root.as_ref())?,
        roots: view.fill_some(verify.roots.as_ref())?,
        log: view.fill_some(verify.log.as_ref())?,
        timestamps: view.fill_some(verify.timestamps.as_ref())?,
        attestations: view.fill_all(&verify.attestations)?,
    })
}
