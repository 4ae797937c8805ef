//! Who owns what is copied: numbers, or names looked up in the tree that is changed.

use kiln_graph::{Owner, UnixId};
use kiln_sandbox::{NoSuchUser, find_group, find_user};

use super::FilesError;
use crate::view::View;

/// Numbers for an owner; `None`: as the source has it.
///
/// As in BuildKit, a name that the tree doesn't know is root's, but in `scratch`, before any
/// step, names can't be looked up. `root` always is 0.
pub(super) fn owner_ids(
    owner: Option<&Owner>,
    base: &View,
) -> Result<Option<(u32, u32)>, FilesError> {
    let (user, group) = match owner {
        None => return Ok(None),
        Some(Owner::Ids { uid, gid }) => return Ok(Some((uid.get(), gid.get()))),
        Some(Owner::Names { user, group }) => (user, group),
    };
    let (uid, user_gid) = match number(user)? {
        Some(uid) => (uid, uid),
        None if base.is_scratch() => return Err(NoSuchUser::User(user.clone()).into()),
        None => find_user(user, &base.text("/etc/passwd"))?.unwrap_or_default(),
    };
    let gid = match group {
        None => user_gid,
        Some(group) => match number(group)? {
            Some(gid) => gid,
            None if base.is_scratch() => return Err(NoSuchUser::Group(group.clone()).into()),
            None => find_group(group, &base.text("/etc/group"))?.unwrap_or(user_gid),
        },
    };
    Ok(Some((uid.get(), gid.get())))
}

fn number(name: &str) -> Result<Option<UnixId>, NoSuchUser> {
    match name {
        "" | "root" => Ok(Some(UnixId::ROOT)),
        other => Ok(UnixId::in_text(other)?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kiln_graph::{Digest, Entry, ImagePath, Manifest, Node};

    use super::*;
    use crate::view::Layer;

    /// A tree with the two files.
    fn tree(directory: &std::path::Path, passwd: &str, group: &str) -> View {
        let mut entries = vec![Entry::directory(ImagePath::new("/etc"))];
        std::fs::create_dir(directory.join("etc")).unwrap();
        for (name, text) in [("/etc/passwd", passwd), ("/etc/group", group)] {
            let path = ImagePath::new(name);
            std::fs::write(path.under(directory), text).unwrap();
            let (size, digest) = (text.len() as u64, Digest::of(text.as_bytes()));
            let node = Node::File { size, digest };
            entries.push(Entry {
                node,
                ..Entry::directory(path)
            });
        }
        let manifest: Arc<Manifest> = Arc::new(entries.into_iter().collect());
        View::new(vec![Layer {
            manifest,
            root: kiln_tree::TreeRoot::at(directory),
        }])
    }

    #[test]
    fn names_and_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let passwd = "root:x:0:0::/:\napp:x:1000:1001::/:\n77:x:8:8::/:\n";
        let full = tree(directory.path(), passwd, "staff:x:50:\n");
        let empty = View::default();
        let cases = [
            (&full, "app", None, Some((1000, 1001))),
            (&full, "app", Some("staff"), Some((1000, 50))),
            (&full, "app", Some("nobody"), Some((1000, 1001))),
            (&full, "app", Some(""), Some((1000, 0))),
            (&full, "nobody", None, Some((0, 0))),
            (&full, "nobody", Some("staff"), Some((0, 50))),
            (&full, "77", None, Some((77, 77))),
            (&full, "5", Some("staff"), Some((5, 50))),
            (&full, "5", Some("nobody"), Some((5, 5))),
            (&full, "", Some("staff"), Some((0, 50))),
            (&empty, "root", Some("root"), Some((0, 0))),
            (&empty, "root", None, Some((0, 0))),
            (&empty, "5", Some("root"), Some((5, 0))),
            (&empty, "app", None, None),
            (&empty, "0", Some("staff"), None),
        ];
        for (base, user, group, want) in cases {
            let owner = Owner::Names {
                user: user.to_owned(),
                group: group.map(str::to_owned),
            };
            let found = owner_ids(Some(&owner), base).ok().flatten();
            assert_eq!(found, want, "{user}:{group:?}");
        }
    }
}
