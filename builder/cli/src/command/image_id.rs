//! Images of the store by their IDs, as `docker image ls` prints them, and what is said of a name or
//! a platform that no image has.

use kiln::{Engine, Error, Platform, Texts};
use kiln_cache::{ImageRecord, Store};
use kiln_image::{ImageError, Reference, Resolved};

use super::platform_flag::platform_or_host;
use super::{Failed, hint};

/// Shorter beginnings of an ID are names.
const MIN_ID: usize = 4;

/// The name of the image that `typed` says: what is the ID of an image of the store, or the beginning of one,
/// stands for the image's first name.
///
/// # Errors
/// When it is the beginning of several IDs, or an ID that no image has.
pub(super) fn name(store: &Store, typed: &str) -> Result<String, Error> {
    let first = names(store, typed)?.into_iter().next();
    Ok(first.unwrap_or_else(|| typed.to_owned()))
}

/// All names of the image whose ID `typed` is, or only what was typed.
///
/// # Errors
/// When it is the beginning of several IDs, or an ID that no image has.
pub(super) fn names(store: &Store, typed: &str) -> Result<Vec<String>, Error> {
    let as_name = || vec![typed.to_owned()];
    let (digits, is_id) = match typed.strip_prefix("sha256:") {
        Some(digits) => (digits, true),
        None => (typed, false),
    };
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() < MIN_ID || !digits.bytes().all(is_digit) {
        return Ok(as_name());
    }
    if !is_id
        && store
            .images()
            .get(&full_name(typed)?.to_string())?
            .is_some()
    {
        return Ok(as_name());
    }
    let all = store.images().all()?;
    let found: Vec<&ImageRecord> = all.iter().filter(|image| begins(image, digits)).collect();
    let Some(first) = found.first() else {
        return match is_id {
            true => Err(no_such_image(typed)),
            false => Ok(as_name()),
        };
    };
    if let Some(other) = found.iter().find(|image| image.config != first.config) {
        return Err(Error::Usage(format!(
            "several images have IDs that begin with {digits}, among them {} and {}; write more of it",
            first.name, other.name
        )));
    }
    Ok(found.iter().map(|image| image.name.clone()).collect())
}

/// The platform that a flag asks for, or this machine's without it.
///
/// # Errors
/// When it is none, or an image is for another one.
pub(super) fn platform_of(
    engine: &Engine,
    images: &[&str],
    flag: Option<&str>,
) -> Result<Platform, Error> {
    let platform = platform_or_host(flag)?;
    for name in images.iter().filter(|_| flag.is_some()) {
        let found = engine.images().find(name, &platform)?;
        check_platform(name, &found, &platform)?;
    }
    Ok(platform)
}

/// An error for an image for another platform than a flag asks for.
pub(super) fn check_platform(
    name: &str,
    found: &Resolved,
    platform: &Platform,
) -> Result<(), Error> {
    let own = found.config.platform();
    if (&own.os, &own.architecture) == (&platform.os, &platform.architecture) {
        return Ok(());
    }
    let text = format!("--platform {platform}: {name} is an image for {own}");
    Err(Error::Usage(text))
}

/// The whole name, with registry and tag, of an image.
///
/// # Errors
/// When it isn't one.
pub(super) fn full_name(name: &str) -> Result<Reference, Error> {
    Ok(name.parse::<Reference>().map_err(ImageError::from)?)
}

/// The error of a name that the store doesn't have.
pub(super) fn no_such_image(name: &str) -> Error {
    Error::Usage(format!(
        "there is no image {name} in the store; 'kiln image ls' lists them"
    ))
}

/// Whether the image's ID, or the digest of its manifest or index, begins with these digits.
fn begins(image: &ImageRecord, digits: &str) -> bool {
    let digests = [Some(image.config), Some(image.digest), image.index];
    let mut digests = digests.into_iter().flatten();
    digests.any(|digest| digest.hex().starts_with(digits))
}

/// An error about an image that was looked for in the store before its registry was asked.
pub(super) fn absent(store: &Store, error: &Error) -> Failed {
    let mut failed = Failed::of(error, &Texts::default());
    let Some(wanted) = hint::missing_image(error) else {
        return failed;
    };
    let stored = store.images().all().unwrap_or_default();
    let names = stored.into_iter().map(|image| image.name);
    failed.text += &match hint::nearest(&wanted, names) {
        Some(near) => format!("; in the store there is {near}"),
        None => "; the store has no image of this name, either ('kiln image ls')".to_owned(),
    };
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::BlobDigest;

    fn record(name: &str, config: char) -> ImageRecord {
        let digest = |digit: char| -> BlobDigest {
            let text = format!("sha256:{}", digit.to_string().repeat(64));
            text.parse().unwrap()
        };
        serde_json::from_value(serde_json::json!({
            "name": name,
            "digest": digest('9'),
            "config": digest(config),
            "media_type": "",
            "platforms": [],
            "size": 0,
            "blobs": [],
            "tagged": 0,
        }))
        .unwrap()
    }

    #[test]
    fn an_id_stands_for_the_names_of_its_image() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), kiln_cache::Options::default()).unwrap();
        for (name, config) in [
            ("docker.io/library/a:1", 'a'),
            ("docker.io/library/b:1", 'a'),
            ("docker.io/library/cccc:latest", 'b'),
        ] {
            store.images().tag(&record(name, config)).unwrap();
        }
        let both = ["docker.io/library/a:1", "docker.io/library/b:1"];
        for (typed, want) in [
            ("aaaaaaaaaaaa", &both[..]),
            ("sha256:aaaa", &both[..]),
            ("bbbb", &["docker.io/library/cccc:latest"][..]),
            ("cccc", &["cccc"][..]),
            ("dddd", &["dddd"][..]),
            ("aaa", &["aaa"][..]),
            ("a:1", &["a:1"][..]),
            ("sha256:zzzz", &["sha256:zzzz"][..]),
        ] {
            assert_eq!(names(&store, typed).unwrap(), want, "{typed}");
        }
        for (typed, says) in [
            ("sha256:dddd", "no image sha256:dddd"),
            ("9999", "write more of it"),
        ] {
            let error = names(&store, typed).unwrap_err().to_string();
            assert!(error.contains(says), "{typed}: {error}");
        }
    }
}
