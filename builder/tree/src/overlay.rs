//! How overlayfs marks what a directory hides (Linux, `overlayfs.rst`).

/// Where overlayfs keeps its marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounts made by the machine's root.
    #[default]
    Trusted,
    /// `user.overlay.*`: mounts made in a user namespace with `userxattr`.
    User,
}

impl OverlayXattrs {
    /// The attribute that makes a directory opaque when its value is `y`.
    #[must_use]
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
