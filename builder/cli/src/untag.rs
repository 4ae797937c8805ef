//! Which names of images in the store are no longer wanted, by age and count.

use std::collections::BTreeMap;

use kiln_cache::{ImageRecord, Store, StoreError};

/// What of a repository's names goes: what all rules that are given speak against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UntagRules {
    /// So many of each repository's latest stay.
    pub(crate) keep: Option<usize>,
    /// What was named since then stays, in seconds since 1970.
    pub(crate) before: Option<u64>,
}

impl UntagRules {
    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Takes names from the store, or says which it would take.
///
/// # Errors
/// When the store can't be read or written.
pub(crate) fn untag(
    store: &Store,
    rules: UntagRules,
    dry_run: bool,
) -> Result<Vec<String>, StoreError> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let names = unwanted(store.images().all()?, rules);
    for name in names.iter().filter(|_| !dry_run) {
        _ = store.images().remove(name)?;
    }
    Ok(names)
}

fn unwanted(images: Vec<ImageRecord>, rules: UntagRules) -> Vec<String> {
    let mut repositories: BTreeMap<String, Vec<ImageRecord>> = BTreeMap::new();
    for image in images {
        let repository = repository(&image.name).to_owned();
        repositories.entry(repository).or_default().push(image);
    }
    let mut names = Vec::new();
    for images in repositories.values_mut() {
        images.sort_by_key(|image| std::cmp::Reverse(image.tagged));
        let goes = |(at, image): &(usize, &ImageRecord)| {
            rules.keep.is_none_or(|keep| *at >= keep)
                && rules.before.is_none_or(|before| image.tagged < before)
        };
        let going = images.iter().enumerate().filter(goes);
        names.extend(going.map(|(_, image)| image.name.clone()));
    }
    names
}

/// A name without its tag.
fn repository(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::BlobDigest;

    fn image(name: &str, tagged: u64) -> ImageRecord {
        let digest = BlobDigest::from_sha256([0; 32]);
        ImageRecord {
            name: name.to_owned(),
            digest,
            media_type: String::new(),
            config: digest,
            platforms: Vec::new(),
            size: 0,
            tagged,
            blobs: Vec::new(),
            index: None,
            origins: BTreeMap::new(),
        }
    }

    #[test]
    fn the_latest_of_each_repository_stay() {
        let images = || {
            vec![
                image("r:5000/a:1", 1),
                image("r:5000/a:2", 2),
                image("r:5000/a:3", 3),
                image("b:1", 1),
            ]
        };
        let of = |keep, before| unwanted(images(), UntagRules { keep, before });
        assert_eq!(of(Some(1), None), ["r:5000/a:2", "r:5000/a:1"]);
        assert_eq!(of(None, Some(2)), ["b:1", "r:5000/a:1"]);
        assert_eq!(of(Some(2), Some(9)), ["r:5000/a:1"]);
        assert!(of(Some(9), None).is_empty());
    }
}
