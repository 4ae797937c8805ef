//! Sends attestations and signatures after images. A build whose image was pushed never fails for
//! its attestations.

use kiln_attest::artifact::{Artifact, Form};
use kiln_engine::{EngineError, Event, EventSink, Image, Solved};
use kiln_graph::BlobDigest;
use kiln_image::{Descriptor, ImageError, Reference};

use super::{AttestOptions, Attested, Storage};
use crate::Error;

/// Sends images with the attestations in their index. A registry that takes an attestation only of an image
/// that is there gets the images first; one that takes none gets them alone.
///
/// # Errors
/// When the registry doesn't take the images.
pub(crate) fn push_image(
    solved: &Solved,
    images: &[Image],
    to: &Reference,
    events: &dyn EventSink,
) -> Result<(), Error> {
    let pushed = solved.push(images, to, events);
    if !matches!(&pushed, Err(error) if is_refusal(error))
        || !images.iter().any(Image::has_attestation)
    {
        return Ok(pushed?);
    }
    let plain: Vec<Image> = images.iter().map(Image::without_attestation).collect();
    solved.push(&plain, to, events)?;
    if let Err(error) = solved.push(images, to, events) {
        let message = format!("{to} was pushed without its attestations: {error}");
        events.event(Event::Warning { message });
    }
    Ok(())
}

fn is_refusal(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Image(ImageError::Answer {
            status: 400..500,
            ..
        })
    )
}

/// Sends attestations of images that a registry has, and the signature of their `top`, as referrers.
pub(crate) fn publish(
    solved: &Solved,
    options: &AttestOptions,
    to: &Reference,
    top: (&Descriptor, Option<&Artifact>),
    attested: &[Attested],
    events: &dyn EventSink,
) {
    let with_tag = options.is_asked || options.signer.is_some();
    let send = |subject: &BlobDigest, artifact: &Artifact, with_tag: bool| {
        solved.attach(to, subject, artifact, with_tag)
    };
    let result = (|| -> Result<(), EngineError> {
        for one in attested {
            let Some(subject) = &one.subject else {
                continue;
            };
            let is_beside = matches!(options.storage, Some(Storage::Index(_)));
            let plain = one.artifact(Form::Artifact).filter(|_| !is_beside);
            if let Some(artifact) = plain {
                send(&subject.digest, &artifact, with_tag)?;
            }
            for artifact in &one.signed {
                send(&subject.digest, artifact, true)?;
            }
        }
        if let (top, Some(signature)) = top {
            send(&top.digest, signature, true)?;
        }
        Ok(())
    })();
    if let Err(error) = result {
        let message = format!("{to} was pushed, but its attestations were not: {error}");
        events.event(Event::Warning { message });
    }
}
