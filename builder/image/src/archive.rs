//! Writes images as one tar: an OCI layout, or what `docker save` writes (which is an OCI layout
//! with a `manifest.json`, and is read by `docker load` of any age); and OCI layouts as directories.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kiln_graph::BlobDigest;
use kiln_tree::{Progress, host};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::document::{Descriptor, Index, media_type};
use crate::layer::ContentChanged;

const BLOCK: u64 = 512;

/// A blob of an image: small ones in memory, layers in files.
#[derive(Clone, Debug)]
pub enum ArchiveBlob {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file of known digest and length.
    File {
        /// The file.
        path: PathBuf,
        /// Its digest.
        digest: BlobDigest,
        /// Its length in bytes.
        size: u64,
    },
}

/// An image to be written.
#[derive(Clone, Debug)]
pub struct ArchiveImage {
    /// Names the manifest or index.
    pub top: Descriptor,
    /// Every blob, the manifests among them.
    pub blobs: Vec<ArchiveBlob>,
    /// The names of the image.
    pub names: Vec<String>,
    /// For `docker load`: the configuration and the layers, lowest first.
    pub config: BlobDigest,
    /// The layers' blobs, lowest first.
    pub layers: Vec<BlobDigest>,
}

impl ArchiveImage {
    /// The bytes of all blobs.
    #[must_use]
    pub fn size(&self) -> u64 {
        let size = |blob: &ArchiveBlob| match blob {
            ArchiveBlob::Bytes(bytes) => bytes.len() as u64,
            ArchiveBlob::File { size, .. } => *size,
        };
        self.blobs.iter().map(size).sum()
    }
}

/// Writes an OCI layout as a tar.
///
/// # Errors
/// When a file can't be read or `out` can't be written.
pub fn write_oci_archive(image: &ArchiveImage, out: &mut dyn Write) -> io::Result<()> {
    let mut tar = Tar(out);
    write_layout(image, &mut tar)?;
    tar.finish()
}

/// Writes what `docker save` writes.
///
/// # Errors
/// As [`write_oci_archive`].
pub fn write_docker_archive(image: &ArchiveImage, out: &mut dyn Write) -> io::Result<()> {
    let mut tar = Tar(out);
    write_layout(image, &mut tar)?;
    let path = |digest: &BlobDigest| format!("blobs/sha256/{}", digest.hex());
    let manifest = json!([{
        "Config": path(&image.config),
        "RepoTags": image.names,
        "Layers": image.layers.iter().map(path).collect::<Vec<_>>(),
    }]);
    tar.file("manifest.json", manifest.to_string().as_bytes())?;
    tar.finish()
}

/// Writes an OCI layout as a directory, which is made when missing. Its index comes last.
///
/// # Errors
/// As [`write_oci_archive`], when the directory can't be written, and what `progress` says.
pub fn write_oci_directory(
    image: &ArchiveImage,
    directory: &Path,
    progress: Progress<'_>,
) -> io::Result<()> {
    let mut out = Directory {
        root: directory,
        index: Vec::new(),
        progress,
    };
    write_layout(image, &mut out)?;
    let index = directory.join("index.json");
    host::replace(&index, |file| file.write_all(&out.index))
}

/// Where the files of a layout go.
trait Files {
    /// Makes the directories of blobs: some readers of archives make none themselves.
    fn directories(&mut self) -> io::Result<()>;

    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Copies a blob, and checks that it still is what its name says.
    fn copy(&mut self, digest: BlobDigest, path: &Path, size: u64) -> io::Result<()>;
}

fn write_layout(image: &ArchiveImage, tar: &mut dyn Files) -> io::Result<()> {
    tar.directories()?;
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let named = |name: Option<&String>| {
        let mut top = image.top.clone();
        if let Some(name) = name {
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            top.annotations
                .insert("io.containerd.image.name".to_owned(), name.clone());
            top.annotations.insert(
                "org.opencontainers.image.ref.name".to_owned(),
                tag.to_owned(),
            );
        }
        top
    };
    let manifests = match &image.names[..] {
        [] => vec![named(None)],
        names => names.iter().map(|name| named(Some(name))).collect(),
    };
    let index = Index {
        schema_version: 2,
        media_type: media_type::INDEX.to_owned(),
        manifests,
        annotations: std::collections::BTreeMap::new(),
    };
    tar.file("index.json", &serde_json::to_vec(&index)?)?;
    let mut written = std::collections::BTreeSet::new();
    for blob in &image.blobs {
        match blob {
            ArchiveBlob::Bytes(bytes) => {
                let digest = BlobDigest::of(bytes);
                if written.insert(digest) {
                    tar.file(&format!("blobs/sha256/{}", digest.hex()), bytes)?;
                }
            }
            ArchiveBlob::File { path, digest, size } => {
                if written.insert(*digest) {
                    tar.copy(*digest, path, *size)?;
                }
            }
        }
    }
    Ok(())
}

struct Tar<'a>(&'a mut dyn Write);

impl Tar<'_> {
    fn header(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.entry(name, size, tar::EntryType::Regular, 0o644)
    }

    fn entry(&mut self, name: &str, size: u64, kind: tar::EntryType, mode: u32) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.0.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
        self.0.write_all(&[0; 512][..padding])
    }

    fn finish(self) -> io::Result<()> {
        self.0.write_all(&[0; 1024])?;
        self.0.flush()
    }
}

impl Files for Tar<'_> {
    fn directories(&mut self) -> io::Result<()> {
        for name in ["blobs/", "blobs/sha256/"] {
            self.entry(name, 0, tar::EntryType::Directory, 0o755)?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.header(name, bytes.len() as u64)?;
        self.0.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn copy(&mut self, digest: BlobDigest, path: &Path, size: u64) -> io::Result<()> {
        self.header(&format!("blobs/sha256/{}", digest.hex()), size)?;
        copy_checked(digest, path, size, self.0)?;
        self.pad(size)
    }
}

/// An OCI layout as a directory.
struct Directory<'a> {
    root: &'a Path,
    /// What names the images: written last.
    index: Vec<u8>,
    progress: Progress<'a>,
}

impl Files for Directory<'_> {
    fn directories(&mut self) -> io::Result<()> {
        host::create_dir_all(self.root.join("blobs/sha256"))
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if name == "index.json" {
            self.index = bytes.to_vec();
            return Ok(());
        }
        host::replace(&self.root.join(name), |file| file.write_all(bytes))
    }

    fn copy(&mut self, digest: BlobDigest, path: &Path, size: u64) -> io::Result<()> {
        let name = self.root.join("blobs/sha256").join(digest.hex());
        host::replace(&name, |file| {
            copy_checked(digest, path, size, &mut Telling(file, self.progress))
        })
    }
}

/// A file whose bytes are told of.
struct Telling<'a>(&'a mut File, Progress<'a>);

impl Write for Telling<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        (self.1)(count as u64)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Copies `size` bytes of a file, which must have the digest.
fn copy_checked(digest: BlobDigest, path: &Path, size: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut hash = Sha256::new();
    let mut file = host::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        let count = io::Read::read(&mut file, &mut buffer)?;
        if count == 0 {
            return Err(ContentChanged(format!("blob {digest}")).into());
        }
        hash.update(&buffer[..count]);
        out.write_all(&buffer[..count])?;
        left = left.saturating_sub(count as u64);
    }
    if BlobDigest::from_sha256(hash.finalize().into()) != digest {
        return Err(ContentChanged(format!("blob {digest}")).into());
    }
    Ok(())
}
