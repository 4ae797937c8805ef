//! Symbolic links of an image, followed inside its root.

use crate::{Entry, ImagePath, Node};

/// More links than this in one path are a loop: what containerd's resolver allows.
pub const MAX_LINKS: u32 = 255;

/// A path with too many links in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: too many levels of symbolic links")]
pub struct LinkLoop {
    /// The link at which following them ended.
    pub at: ImagePath,
}

/// `path` with the links in it followed as in a `chroot` of the tree, the last one if
/// `follow_last`; `target` gives the text of a link, and nothing for all else. Names that don't
/// exist stay as they are; `..` leads to the directory above the one reached, not above the
/// link's.
///
/// # Errors
/// After [`MAX_LINKS`] links.
pub fn resolve(
    path: &ImagePath,
    follow_last: bool,
    mut target: impl FnMut(&ImagePath) -> Option<Vec<u8>>,
) -> Result<ImagePath, LinkLoop> {
    let mut at = ImagePath::root();
    let mut links = 0;
    let mut open: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    while let Some(name) = open.pop() {
        if name == b".." {
            at = at.parent().unwrap_or_default();
            continue;
        }
        let next = at.join(&name);
        let link = match follow_last || !open.is_empty() {
            true => target(&next),
            false => None,
        };
        let Some(link) = link else {
            at = next;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(LinkLoop { at: next });
        }
        if link.starts_with(b"/") {
            at = ImagePath::root();
        }
        let names = link.split(|&b| b == b'/');
        let names = names.filter(|name| !name.is_empty() && *name != b".");
        let names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
        open.extend(names.into_iter().rev());
    }
    Ok(at)
}

/// [`resolve`] in a tree whose entries `entry` gives; where links go in circles, the path ends at one
/// of them.
pub fn follow<'a>(
    path: &ImagePath,
    follow_last: bool,
    entry: impl Fn(&ImagePath) -> Option<&'a Entry>,
) -> ImagePath {
    let target = |path: &ImagePath| match &entry(path)?.node {
        Node::Symlink { target } => Some(target.clone()),
        _ => None,
    };
    resolve(path, follow_last, target).unwrap_or_else(|circle| circle.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn follow(links: &[(&str, &str)], path: &str, last: bool) -> Result<String, LinkLoop> {
        let links: BTreeMap<ImagePath, &str> = links
            .iter()
            .map(|(at, to)| (ImagePath::new(at), *to))
            .collect();
        let target = |path: &ImagePath| links.get(path).map(|to| to.as_bytes().to_vec());
        resolve(&path.into(), last, target).map(|path| path.to_string())
    }

    #[test]
    fn links_stay_inside_the_root() {
        let links = [
            ("/d/up", "../../../f"),
            ("/abs", "/d"),
            ("/deep", "d/e/f"),
            ("/deep2", "deep/.."),
            ("/dot", "./d/."),
        ];
        let cases = [
            ("/d/up", true, "/f"),
            ("/d/up", false, "/d/up"),
            ("/abs/up", true, "/f"),
            ("/abs/new/x", true, "/d/new/x"),
            // `..` is taken from where the link led to.
            ("/deep2/x", true, "/d/e/x"),
            ("/dot/x", false, "/d/x"),
        ];
        for (path, last, want) in cases {
            assert_eq!(follow(&links, path, last).as_deref(), Ok(want), "{path}");
        }
    }

    #[test]
    fn loops_end() {
        let looped = follow(&[("/l", "l")], "/l/x", true);
        assert_eq!(looped, Err(LinkLoop { at: "/l".into() }));
        let names: Vec<(String, String)> = (0..300)
            .map(|n| (format!("/l{n}"), format!("l{}", n + 1)))
            .collect();
        let chain: Vec<(&str, &str)> = names
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(follow(&chain[..255], "/l0", true).as_deref(), Ok("/l255"));
        assert!(follow(&chain[..256], "/l0", true).is_err());
    }

    proptest! {
        #[test]
        fn any_links_end_inside(
            links in proptest::collection::vec(("[ab]{1,2}(/[ab]){0,2}", "[ab./]{1,8}"), 0..6),
            path in "[ab./]{0,12}", last: bool,
        ) {
            let links: Vec<(&str, &str)> = links.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            if let Ok(found) = follow(&links, &path, last) {
                prop_assert!(!found.split('/').any(|name| name == ".."));
            }
        }
    }
}
