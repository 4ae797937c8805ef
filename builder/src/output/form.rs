//! The forms that a result may have: `type=` of `-o`.

/// A form of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI layout, as an archive or a directory.
    Oci,
    /// What `docker load` reads.
    Docker,
    /// The root file system as a tar.
    Tar,
    /// The root file system as a directory.
    Local,
    /// Pushed.
    Registry,
    /// In the Docker daemon.
    Daemon,
    /// In kiln's store.
    Image,
    /// The root file system as an EROFS image.
    Erofs,
    /// The root file system as a squashfs.
    Squashfs,
    /// The root file system as an ext4 file system.
    Ext4,
    /// The root file system as a cpio archive, for an initramfs.
    Cpio,
    /// The list of packages.
    Sbom,
    /// Nowhere: the results of the steps stay in the cache.
    CacheOnly,
}

/// The names of forms.
const FORMS: [(&str, Form); 12] = [
    ("oci", Form::Oci),
    ("docker", Form::Docker),
    ("tar", Form::Tar),
    ("local", Form::Local),
    ("erofs", Form::Erofs),
    ("squashfs", Form::Squashfs),
    ("ext4", Form::Ext4),
    ("cpio", Form::Cpio),
    ("registry", Form::Registry),
    ("image", Form::Image),
    ("sbom", Form::Sbom),
    ("cacheonly", Form::CacheOnly),
];

impl Form {
    /// What `type=` calls it; the daemon is `docker` without a destination.
    #[must_use]
    pub fn name(self) -> &'static str {
        let own = FORMS.iter().find(|(_, form)| *form == self);
        own.map_or("docker", |(name, _)| name)
    }

    /// Whether it is made of the root's files, in one file system.
    pub(super) fn is_file_system(self) -> bool {
        matches!(self, Self::Erofs | Self::Squashfs | Self::Ext4 | Self::Cpio)
    }

    /// Whether one file is written.
    pub(super) fn is_file(self) -> bool {
        self.is_file_system() || matches!(self, Self::Oci | Self::Docker | Self::Tar | Self::Sbom)
    }

    /// The programs of the machine that write it, with the packages they come with.
    pub(super) fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Squashfs => &[("mksquashfs", "squashfs-tools")],
            Self::Ext4 => &[("mke2fs", "e2fsprogs"), ("debugfs", "e2fsprogs")],
            _ => &[],
        }
    }

    /// The form of a name that `type=` may have.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let found = FORMS.iter().find(|(own, _)| *own == name);
        found.map(|(_, form)| *form).ok_or_else(|| {
            let names = FORMS.map(|(own, _)| own);
            format!("unknown type '{name}': use {}", names.join(", "))
        })
    }
}
