//! The operation that changes files without a command.

use serde::{Deserialize, Serialize};

use crate::{Chmod, ImagePath, Input, UnixId};

/// Changes to files that need no command, made in order, together one change of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The tree that is changed; `None`: the empty one.
    pub base: Option<Input>,
    /// The changes.
    pub actions: Vec<FileAction>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum FileAction {
    /// Copies files out of another tree.
    Copy(Box<CopyFiles>),
    /// Makes a directory and the directories above it, mode 0755; one that is there stays as it is.
    Directory {
        /// Where.
        path: ImagePath,
        /// Owner of the directories made; `None`: root.
        owner: Option<Owner>,
        /// Mode of the directory; those above it get 0755.
        mode: u32,
    },
    /// Writes a file.
    Write {
        /// Where; a directory that exists there, or `to_directory`, takes it under `name`.
        dest: ImagePath,
        /// Whether `dest` was written with a trailing slash.
        to_directory: bool,
        /// The file's name inside of a destination directory.
        name: String,
        /// The content.
        #[serde(with = "crate::bytes_text")]
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner; `None`: root.
        owner: Option<Owner>,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where.
        path: ImagePath,
        /// Where it points.
        target: String,
        /// Owner; `None`: root.
        owner: Option<Owner>,
    },
    /// Removes a file or a directory with all below.
    Remove {
        /// Where.
        path: ImagePath,
        /// Whether the path is a pattern, for what is in the base.
        wildcard: bool,
        /// Whether a missing path is fine.
        allow_missing: bool,
    },
    /// What turns one tree into another: what the upper one has that the lower one hasn't, and marks
    /// where it lacks something. It is its operation's only action, on no base.
    Difference {
        /// The tree before.
        lower: Input,
        /// The tree after.
        upper: Input,
    },
}

/// Copies files out of another tree, with the meaning of the Dockerfile's COPY and ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFiles {
    /// The tree they come from.
    pub from: Input,
    /// What is copied: paths from that tree's root, with Go `filepath.Match` wildcards.
    pub sources: Vec<String>,
    /// Where to.
    pub dest: ImagePath,
    /// Whether the destination is a directory whatever is there: a trailing slash, or several sources.
    pub to_directory: bool,
    /// Owner of everything copied and made; `None`: each source's own. What is unpacked from an archive
    /// keeps its owners when this is 0:0 by number: that is what frontends write unless the author
    /// wants an owner; an author's own word is written by name.
    pub owner: Option<Owner>,
    /// Mode change of everything copied.
    pub chmod: Option<Chmod>,
    /// Whether each source's path is made again below the destination (`--parents`).
    pub parents: bool,
    /// Whether a directory is copied itself, into the destination if that is a directory that is there, rather than
    /// what it holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_name: bool,
    /// Patterns of what is left out, relative to each source directory (`--exclude`).
    pub exclude: Vec<String>,
    /// What matches one of these patterns only, relative to each source directory; all, when there are
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Whether tar archives are unpacked rather than copied (`ADD`).
    pub unpack: bool,
}

impl CopyFiles {
    /// A copy of one source into a directory, with all that it is and has.
    #[must_use]
    pub fn new(from: Input, source: impl Into<String>, dest: ImagePath) -> Self {
        Self {
            from,
            sources: vec![source.into()],
            dest,
            to_directory: true,
            owner: None,
            chmod: None,
            parents: false,
            keep_name: false,
            exclude: Vec::new(),
            include: Vec::new(),
            unpack: false,
        }
    }
}

/// Who owns what is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Owner {
    /// By number.
    Ids {
        /// User.
        uid: UnixId,
        /// Group.
        gid: UnixId,
    },
    /// By name, or a number without a group, looked up in the base tree's `/etc/passwd` and
    /// `/etc/group`.
    Names {
        /// User.
        user: String,
        /// Group; `None`: the user's primary one.
        group: Option<String>,
    },
}

impl Files {
    pub(crate) fn inputs(&self) -> Vec<Input> {
        let read = self.actions.iter().flat_map(|action| match action {
            FileAction::Copy(copy) => vec![copy.from],
            FileAction::Difference { lower, upper } => vec![*lower, *upper],
            _ => Vec::new(),
        });
        self.base.into_iter().chain(read).collect()
    }
}
