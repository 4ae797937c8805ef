//! Rebuilds one layer from a difference.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use kiln_cache::{Blob, StoreError};
use kiln_delta::artifact::Blob as DeltaBlob;
use kiln_delta::{DeltaError, Limits, apply};
use kiln_graph::{BlobDigest, ImageLayer};
use kiln_image::ImageError;
use kiln_image::layer::Recipe;
use kiln_solve::{Event, EventSink};
use kiln_tree::host;

use super::{OldImage, UsableDelta};
use crate::EngineError;
use crate::hashing::Hashing;
use crate::meter::meter;
use crate::snapshotter::Snapshotter;

/// deflate gives at most so many bytes for one (RFC 1951: 258 bytes for two bits).
const MAX_GZIP_RATIO: u64 = 1032;
/// zstd gives at most a block of 128 KiB for four bytes (RFC 8878).
const MAX_ZSTD_RATIO: u64 = 32 << 10;
/// The end of a tar, and what surrounds it.
const SPARE: u64 = 64 << 10;

/// Brings a blob of an artifact here; it is given the blob and where it is to be written.
pub type Fetcher<'a> = &'a dyn Fn(&DeltaBlob, &mut dyn Write) -> Result<(), ImageError>;

/// Why a layer can't be rebuilt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The difference can't be fetched.
    #[error(transparent)]
    Fetch(#[from] ImageError),
    /// The difference can't be applied.
    #[error(transparent)]
    Apply(#[from] DeltaError),
    /// What came of it is something else.
    #[error("{what} has the digest {actual}, not {expected}")]
    WrongDigest {
        /// What.
        what: &'static str,
        /// The digest that the image says.
        expected: BlobDigest,
        /// The digest of what was made.
        actual: BlobDigest,
    },
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One layer and what it is rebuilt from.
pub struct Rebuild<'a> {
    /// The store is written, and the client asked.
    pub trees: &'a Snapshotter,
    /// The old image.
    pub old: &'a OldImage,
    /// The layer.
    pub layer: &'a ImageLayer,
    /// Its tar-diff.
    pub from: &'a DeltaBlob,
    /// Fetches the tar-diff.
    pub fetch: Fetcher<'a>,
}

impl std::fmt::Debug for Rebuild<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuild")
            .field("layer", &self.layer.blob)
            .finish_non_exhaustive()
    }
}

/// The most bytes that the tar of a layer may have.
pub(crate) fn max_tar(layer: &ImageLayer) -> u64 {
    let ratio = match layer.media_type.rsplit(['+', '.']).next() {
        Some("gzip") => MAX_GZIP_RATIO,
        Some("zstd") => MAX_ZSTD_RATIO,
        _ => 1,
    };
    layer.size.saturating_mul(ratio).saturating_add(SPARE)
}

impl Rebuild<'_> {
    /// How the layer's tar is compressed, where the difference says it.
    #[must_use]
    pub fn recipe(&self) -> Option<Recipe> {
        recipe_of(self.from)
    }

    /// The layer's very blob, compressed as the recipe says.
    ///
    /// # Errors
    /// When the difference can't be had or applied, or gives something else.
    pub fn blob(&self, recipe: &Recipe) -> Result<Blob, RebuildError> {
        let delta = self.fetched()?;
        let limits = Limits {
            tar: recipe.tar().min(max_tar(self.layer)),
        };
        self.write_aside(|file| {
            let mut refused = None;
            let made = recipe.compress(file, |out| {
                let applied = self.apply_to(&delta, out, limits);
                applied.map_err(|error| {
                    let text = error.to_string();
                    refused = Some(error);
                    io::Error::other(text)
                })
            });
            let made = match (made, refused) {
                (_, Some(error)) => return Err(error.into()),
                (made, None) => made.map_err(DeltaError::from)?,
            };
            same("the rebuilt tar", self.layer.diff_id, made.diff_id)?;
            same("the compressed layer", self.layer.blob, made.blob)?;
            Ok((made.blob, made.size))
        })
        .and_then(|(path, (digest, size))| {
            let adopted = self.trees.store.blobs().adopt(&path, digest, size);
            Ok(adopted.inspect_err(|_| _ = host::remove_file(&path))?)
        })
    }

    /// The layer's tar, as a file that is the caller's to remove.
    ///
    /// # Errors
    /// As [`Self::blob`].
    pub fn tar(&self) -> Result<(PathBuf, u64), RebuildError> {
        let delta = self.fetched()?;
        let limits = Limits {
            tar: max_tar(self.layer),
        };
        self.write_aside(|file| {
            let mut out = Hashing::new(io::BufWriter::new(file));
            self.apply_to(&delta, &mut out, limits)?;
            let actual = out.finish().map_err(DeltaError::from)?;
            same("the rebuilt tar", self.layer.diff_id, actual)
        })
        .and_then(|(path, ())| {
            let size = host::metadata(&path).map_err(DeltaError::from)?.len();
            Ok((path, size))
        })
    }

    fn apply_to(
        &self,
        delta: &Blob,
        out: &mut dyn Write,
        limits: Limits,
    ) -> Result<(), DeltaError> {
        let file = host::open(&delta.path)?;
        apply(file, self.old, out, limits).map(drop)
    }

    /// The tar-diff, as a blob of the store.
    fn fetched(&self) -> Result<Blob, RebuildError> {
        if let Some(blob) = self.trees.store.blobs().get(&self.from.digest)? {
            return Ok(blob);
        }
        let mut writer = self.trees.store.blobs().writer()?;
        (self.fetch)(self.from, &mut writer)?;
        Ok(writer.commit(Some(self.from.digest))?)
    }

    /// Gives a new file to `write`, and keeps it when that succeeds.
    fn write_aside<T>(
        &self,
        write: impl FnOnce(File) -> Result<T, RebuildError>,
    ) -> Result<(PathBuf, T), RebuildError> {
        let (path, file) = self.trees.store.temp_file()?;
        match write(file) {
            Ok(made) => Ok((path, made)),
            Err(error) => {
                _ = host::remove_file(&path);
                Err(error)
            }
        }
    }
}

/// How the tar that a difference gives is compressed, where it says that and this version can do it.
fn recipe_of(from: &DeltaBlob) -> Option<Recipe> {
    from.encoder()?.parse().ok()
}

fn same(what: &'static str, expected: BlobDigest, actual: BlobDigest) -> Result<(), RebuildError> {
    match expected == actual {
        true => Ok(()),
        false => Err(RebuildError::WrongDigest {
            what,
            expected,
            actual,
        }),
    }
}

impl Snapshotter {
    /// Rebuilds a layer's tar, and unpacks it into the store.
    ///
    /// # Errors
    /// As [`Rebuild::blob`], and when the tar can't be unpacked.
    pub fn unpack_rebuilt(
        &self,
        rebuild: &Rebuild<'_>,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let layer = rebuild.layer;
        if self.store.layers().tree(&layer.diff_id)?.is_some() {
            return Ok(());
        }
        let (path, size) = rebuild.tar()?;
        let tar = Blob {
            digest: layer.diff_id,
            size,
            path,
        };
        let unpacked = self.unpacked(&tar, layer, "difference", events);
        _ = host::remove_file(&tar.path);
        unpacked.map(drop)
    }

    /// A layer's blob rebuilt from a difference; nothing when there is none that gives the blob.
    pub(crate) fn blob_from_delta(
        &self,
        layer: &ImageLayer,
        events: &dyn EventSink,
    ) -> Option<Blob> {
        self.try_delta(layer, events, |rebuild| {
            let recipe = rebuild.recipe()?;
            Some(rebuild.blob(&recipe))
        })
    }

    /// A layer's tar rebuilt from a difference, for layers whose blob can't be: a file that is the
    /// caller's to remove, and its length.
    pub(crate) fn tar_from_delta(
        &self,
        layer: &ImageLayer,
        events: &dyn EventSink,
    ) -> Option<(PathBuf, u64)> {
        self.try_delta(layer, events, |rebuild| Some(rebuild.tar()))
    }

    /// Brings a layer into the store: its blob, or its files where a difference gives only those.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn bring(
        &self,
        layer: &ImageLayer,
        image: &str,
        events: &dyn EventSink,
    ) -> Result<(), EngineError> {
        let is_unpacked = self.store.layers().tree(&layer.diff_id)?.is_some();
        if is_unpacked && (self.has_single_files(layer)? || self.gives_tar_only(layer, events)) {
            return Ok(());
        }
        self.blob(layer, image, events).map(drop)
    }

    fn gives_tar_only(&self, layer: &ImageLayer, events: &dyn EventSink) -> bool {
        self.has_delta_that(layer, events, |from| {
            from.is_tar_diff() && recipe_of(from).is_none()
        })
    }

    /// Whether a difference says how a layer's blob is compressed.
    pub(crate) fn gives_blob(&self, layer: &ImageLayer, events: &dyn EventSink) -> bool {
        self.has_delta_that(layer, events, |from| recipe_of(from).is_some())
    }

    fn has_delta_that(
        &self,
        layer: &ImageLayer,
        events: &dyn EventSink,
        fits: impl FnOnce(&DeltaBlob) -> bool,
    ) -> bool {
        let delta = self.usable_delta(layer, events);
        let from = delta
            .as_ref()
            .and_then(|delta| delta.manifest.layer(&layer.blob));
        from.is_some_and(fits)
    }

    fn try_delta<T>(
        &self,
        layer: &ImageLayer,
        events: &dyn EventSink,
        make: impl FnOnce(&Rebuild<'_>) -> Option<Result<T, RebuildError>>,
    ) -> Option<T> {
        let delta = self.usable_delta(layer, events)?;
        let from = delta.manifest.layer(&layer.blob)?;
        if !from.is_tar_diff() || from.size >= layer.size {
            return None;
        }
        let rebuild = Rebuild {
            trees: self,
            old: &delta.old,
            layer,
            from,
            fetch: &|blob, out| self.fetch_delta(&delta, blob, out, events),
        };
        match make(&rebuild)? {
            Ok(made) => Some(made),
            Err(error) => {
                let short = &layer.blob.hex()[..12];
                let message = format!(
                    "layer {short} of {} is pulled whole, for it can't be rebuilt from its difference: {error}",
                    delta.image
                );
                events.event(Event::Warning { message });
                None
            }
        }
    }

    fn fetch_delta(
        &self,
        delta: &UsableDelta,
        blob: &DeltaBlob,
        out: &mut dyn Write,
        events: &dyn EventSink,
    ) -> Result<(), ImageError> {
        let name = format!(
            "pull difference {} {}",
            delta.image,
            &blob.digest.hex()[..12]
        );
        let meter = meter(&self.store, events, name, Some(blob.size));
        let tell = |done| meter.set(done);
        self.client
            .try_blob(&delta.image, &blob.digest, blob.size, out, &tell)
    }
}

impl From<RebuildError> for EngineError {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::Fetch(error) => error.into(),
            RebuildError::Store(error) => error.into(),
            other => Self::Output {
                what: "a layer".to_owned(),
                source: io::Error::other(other.to_string()),
            },
        }
    }
}
