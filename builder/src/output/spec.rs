//! One output, and how `docker buildx build` writes it: `type=oci,dest=PATH,…`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use kiln_attest::sbom::Format;
use kiln_engine::{Annotations, ImageOptions};
use kiln_image::layer::Codec;
use kiln_image::{BadReference, Reference};

use super::form::Form;
use crate::{AttestOptions, Fields, Storage};

/// Keys of buildx's exporters that change nothing here: kiln has no containerd to unpack into.
const WITHOUT_EFFECT: [&str; 8] = [
    "unpack",
    "store",
    "buildinfo",
    "buildinfo-attrs",
    "dangling-name-prefix",
    "name-canonical",
    "prefer-nondist-layers",
    "context",
];

/// The keys that mean something.
const KEYS: [&str; 18] = [
    "type",
    "dest",
    "name",
    "push",
    "push-by-digest",
    "registry.insecure",
    "compression",
    "compression-level",
    "force-compression",
    "rewrite-timestamp",
    "oci-mediatypes",
    "platform-split",
    "tar",
    "annotation.NAME",
    "attestation-prefix",
    "format",
    "size",
    "erofs-verity",
];

/// Somewhere for a result to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub(super) form: Form,
    /// `-`: standard output.
    pub(super) dest: Option<PathBuf>,
    pub(super) names: Vec<Reference>,
    pub(super) codec: Option<Codec>,
    /// Whether the manifest says the fs-verity digest of the EROFS image of its files.
    erofs_verity: bool,
    /// The length of a file system, in bytes.
    pub(super) size: Option<u64>,
    force_compression: bool,
    /// Whether files get no time later than `SOURCE_DATE_EPOCH`; unless it is said, as the build.
    rewrite_times: Option<bool>,
    pub(super) push: bool,
    /// Pushed by its digest only, without a tag.
    pub(super) by_digest: bool,
    /// Whether an OCI layout is a directory (`tar=false`).
    pub(super) as_directory: bool,
    /// Whether each platform's files have a directory of their own; unless it is said, only those
    /// of several.
    pub(super) split: Option<bool>,
    /// Whether the manifest has Docker's media types; unless it is said, as the build.
    docker_types: Option<bool>,
    /// What begins the names of attestations' files.
    pub(super) attestation_prefix: String,
    /// The form of a list of packages.
    pub(super) format: Option<Format>,
    /// Whether one of the names has a tag.
    is_tagged: bool,
    /// Whether its registries are spoken to without checks of their certificates.
    pub(super) insecure: bool,
    /// Annotations besides the build's.
    annotations: Annotations,
}

impl Output {
    /// An output of a form, which has no destination yet.
    #[must_use]
    pub fn of(form: Form) -> Self {
        Self {
            form,
            dest: None,
            names: Vec::new(),
            codec: None,
            size: None,
            erofs_verity: false,
            force_compression: false,
            rewrite_times: None,
            push: form == Form::Registry,
            by_digest: false,
            as_directory: false,
            split: None,
            docker_types: None,
            attestation_prefix: String::new(),
            format: None,
            is_tagged: false,
            insecure: false,
            annotations: Annotations::default(),
        }
    }

    fn to(form: Form, dest: impl Into<PathBuf>) -> Self {
        Self {
            dest: Some(dest.into()),
            ..Self::of(form)
        }
    }

    /// An OCI layout in an archive, for `skopeo` and `podman`.
    #[must_use]
    pub fn oci(archive: impl Into<PathBuf>) -> Self {
        Self::to(Form::Oci, archive)
    }

    /// An archive for `docker load`.
    #[must_use]
    pub fn docker_archive(archive: impl Into<PathBuf>) -> Self {
        Self::to(Form::Docker, archive)
    }

    /// The image's files in a directory.
    #[must_use]
    pub fn directory(directory: impl Into<PathBuf>) -> Self {
        Self::to(Form::Local, directory)
    }

    /// The image's files in a tar archive.
    #[must_use]
    pub fn tar(archive: impl Into<PathBuf>) -> Self {
        Self::to(Form::Tar, archive)
    }

    /// The registries of the build's names.
    #[must_use]
    pub fn registry() -> Self {
        Self::of(Form::Registry)
    }

    /// The Docker daemon.
    #[must_use]
    pub fn docker_daemon() -> Self {
        Self::of(Form::Daemon)
    }

    /// Where it is written, if that is a path of this machine; `-` is standard output.
    #[must_use]
    pub fn dest(&self) -> Option<&Path> {
        self.dest.as_deref()
    }

    /// The same output, written elsewhere.
    #[must_use]
    pub fn with_dest(mut self, dest: PathBuf) -> Self {
        self.dest = Some(dest);
        self
    }

    /// What an exporter of BuildKit's names with its attributes, written to `dest` where it is a
    /// file or directory. Attributes that mean nothing here are left out, as BuildKit does.
    ///
    /// # Errors
    /// When there is no such exporter, or a value can't be read.
    pub fn of_exporter(
        kind: &str,
        attributes: impl IntoIterator<Item = (String, String)>,
        dest: Option<PathBuf>,
    ) -> Result<Self, String> {
        let is_known = |key: &str| KEYS.contains(&key) || key.starts_with("annotation");
        let wanted = attributes.into_iter().filter(|(key, _)| {
            is_known(key) && !["type", "dest", "format"].contains(&key.as_str())
        });
        let mut output = Self::of(Form::named(kind)?);
        output.set(&mut Fields::of_pairs(wanted))?;
        output.dest = dest;
        output.check()
    }

    /// The form of what is written.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The annotations that it has besides the build's.
    #[must_use]
    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// How images for this output are made.
    pub(super) fn options(&self, build: &ImageOptions) -> ImageOptions {
        let rewrites = self.rewrite_times.unwrap_or(!build.keep_late_times);
        let mut annotations = build.annotations.clone();
        annotations.extend(&self.annotations);
        ImageOptions {
            codec: self.codec.unwrap_or(build.codec),
            force_compression: self.force_compression || build.force_compression,
            keep_late_times: !rewrites,
            docker_types: self.docker_types.unwrap_or(build.docker_types),
            erofs_verity: self.erofs_verity || build.erofs_verity,
            annotations,
            ..build.clone()
        }
    }

    /// Whether it is made of an image, not of files.
    pub(super) fn wants_image(&self) -> bool {
        let of_files = matches!(
            self.form,
            Form::Tar | Form::Local | Form::Sbom | Form::CacheOnly
        );
        !of_files && !self.form.is_file_system()
    }

    /// Whether it takes attestations.
    pub(super) fn takes(&self, attest: &AttestOptions) -> bool {
        match self.form {
            Form::Registry | Form::Image => self.push && !attest.is_empty(),
            Form::Oci => attest.is_asked,
            Form::Tar | Form::Local => attest.is_asked && !attest.inline_only,
            Form::Docker | Form::Daemon | Form::Sbom | Form::CacheOnly => false,
            Form::Erofs | Form::Squashfs | Form::Ext4 | Form::Cpio => false,
        }
    }

    /// Whether attestations lie beside the image in an index.
    pub(super) fn has_index(&self, attest: &AttestOptions) -> bool {
        self.form == Form::Oci || matches!(attest.storage, Some(Storage::Index(_)))
    }

    /// Whether it goes to a registry.
    #[must_use]
    pub fn pushes(&self) -> bool {
        self.push
    }

    /// Pushes an image that is made anyway, as buildx's `--push` does; whether there is one to push.
    pub fn push_image(&mut self) -> bool {
        self.push |= self.form == Form::Image;
        self.push
    }

    /// Whether it goes to the Docker daemon.
    #[must_use]
    pub fn loads(&self) -> bool {
        self.form == Form::Daemon
    }

    /// Names that it has besides the build's.
    #[must_use]
    pub fn names(&self) -> &[Reference] {
        &self.names
    }

    fn set(&mut self, fields: &mut Fields) -> Result<(), String> {
        self.dest = fields.take("dest").map(PathBuf::from);
        for value in fields.take_all("name") {
            for name in value.split(',').filter(|name| !name.is_empty()) {
                let last = name.rsplit('/').next();
                self.is_tagged |= last.is_some_and(|last| last.contains(':'));
                let name: Result<Reference, BadReference> = name.parse();
                self.names.push(name.map_err(|error| error.to_string())?);
            }
        }
        self.push |= fields.flag("push")?.unwrap_or_default();
        self.by_digest = fields.flag("push-by-digest")?.unwrap_or_default();
        self.insecure = fields.flag("registry.insecure")?.unwrap_or_default();
        self.force_compression = fields.flag("force-compression")?.unwrap_or_default();
        self.rewrite_times = fields.flag("rewrite-timestamp")?;
        self.split = fields.flag("platform-split")?;
        self.docker_types = fields.flag("oci-mediatypes")?.map(|oci| !oci);
        self.as_directory = fields.flag("tar")?.is_some_and(|tar| !tar);
        let (compression, level) = (
            fields.take("compression"),
            fields.number("compression-level")?,
        );
        if self.form == Form::Squashfs && level.is_some() {
            return Err("compression-level isn't for type=squashfs".to_owned());
        }
        self.erofs_verity = fields.flag("erofs-verity")?.unwrap_or_default();
        let size = fields.take("size");
        let size = size.map(|size| kiln_graph::parse_size(&size));
        self.size = size.transpose().map_err(|error| format!("size: {error}"))?;
        if compression.is_some() || level.is_some() {
            let codec = Codec::new(compression.as_deref().unwrap_or("gzip"), level);
            self.codec = Some(codec.map_err(|error| error.to_string())?);
        }
        let prefix = fields.take("attestation-prefix");
        self.attestation_prefix = prefix.unwrap_or_default();
        let format = fields.take("format").map(|format| format.parse());
        self.format = format.transpose()?;
        for (key, value) in fields.take_prefixed("annotation") {
            self.annotations.add(&annotation(&key, &value)?)?;
        }
        for key in WITHOUT_EFFECT {
            fields.take_all(key);
        }
        Ok(())
    }

    fn check_file_system(&self) -> Result<(), String> {
        if self.size.is_some() && self.form != Form::Ext4 {
            return Err("size is for type=ext4".to_owned());
        }
        if self.erofs_verity && !self.wants_image() {
            return Err("erofs-verity is for images".to_owned());
        }
        match (self.form, self.codec) {
            (Form::Squashfs, Some(codec)) if codec.is_seekable() => {
                Err("compression of type=squashfs is gzip, zstd or uncompressed".to_owned())
            }
            (Form::Squashfs, _) | (_, None) => Ok(()),
            (form, Some(_)) if form.is_file_system() => {
                Err(format!("type={} isn't compressed", form.name()))
            }
            _ => Ok(()),
        }
    }

    /// What can't be before all keys are known.
    fn check(mut self) -> Result<Self, String> {
        if self.form == Form::Docker && self.dest.is_none() {
            self.form = Form::Daemon;
        }
        if matches!(self.form, Form::Oci | Form::Tar) && !self.as_directory {
            self.dest.get_or_insert_with(|| "-".into());
        }
        let needs_dest = self.form.is_file() || self.form == Form::Local;
        if needs_dest
            && self
                .dest
                .as_ref()
                .is_none_or(|dest| dest.as_os_str().is_empty())
        {
            return Err("dest=PATH is missing".to_owned());
        }
        let is_directory = self.form == Form::Local || self.as_directory;
        if is_directory && self.dest.as_deref() == Some(Path::new("-")) {
            return Err(
                "a directory can't be written to standard output: give dest=DIRECTORY, or type=tar"
                    .to_owned(),
            );
        }
        self.check_file_system()?;
        if self.format.is_some() && self.form != Form::Sbom {
            return Err("format is for type=sbom".to_owned());
        }
        if self.attestation_prefix.contains('/') {
            return Err("attestation-prefix begins a file's name: it has no '/'".to_owned());
        }
        if self.as_directory && self.form != Form::Oci {
            return Err("tar=false is for type=oci".to_owned());
        }
        if self.by_digest && (self.is_tagged || self.names.is_empty()) {
            return Err("push-by-digest=true needs name=NAME, without a tag".to_owned());
        }
        Ok(self)
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("-o says nothing: give a directory, or type=…".to_owned());
        }
        if !text.contains('=') {
            let form = if text == "-" { Form::Tar } else { Form::Local };
            return Ok(Self {
                dest: Some(text.into()),
                ..Self::of(form)
            });
        }
        parse(text).map_err(|reason| format!("-o {text}: {reason}"))
    }
}

fn parse(text: &str) -> Result<Output, String> {
    let mut fields = Fields::parse(text);
    let kind = fields.take("type");
    let kind = kind.ok_or("type= is missing: write type=local,dest=PATH, say")?;
    let mut output = Output::of(Form::named(&kind)?);
    output.set(&mut fields)?;
    fields.finish(&KEYS)?;
    output.check()
}

/// `annotation[-KIND][[PLATFORM]].NAME`, as buildx has it, without its first word, in the form of
/// `--annotation`.
fn annotation(key: &str, value: &str) -> Result<String, String> {
    let wrong =
        || format!("'annotation{key}' is no annotation: write annotation[-KIND][[PLATFORM]].NAME");
    // A platform may have dots; a kind has none.
    let start = key.find(']').unwrap_or(0);
    let at = start + key[start..].find('.').ok_or_else(wrong)?;
    let (kind, name) = (&key[..at], &key[at + 1..]);
    let kind = match kind.strip_prefix('-') {
        Some(kind) => kind.to_owned(),
        None if kind.is_empty() || kind.starts_with('[') => format!("manifest{kind}"),
        None => return Err(wrong()),
    };
    Ok(format!("{kind}:{name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_buildx() {
        let of = |text: &str| text.parse::<Output>();
        let form = |text: &str| of(text).map(|spec| spec.form);
        for (text, want) in [
            ("out", Form::Local),
            ("-", Form::Tar),
            ("type=local,dest=out", Form::Local),
            ("type=docker", Form::Daemon),
            ("type=docker,dest=a.tar", Form::Docker),
            ("type=oci,dest=-", Form::Oci),
            ("type=oci", Form::Oci),
            ("type=tar", Form::Tar),
            ("type=image,push=true", Form::Image),
            ("type=registry", Form::Registry),
            ("type=erofs,dest=root.img", Form::Erofs),
            (
                "type=squashfs,dest=root.img,compression=zstd",
                Form::Squashfs,
            ),
            ("type=ext4,dest=root.img,size=1GiB", Form::Ext4),
            ("type=cpio,dest=-", Form::Cpio),
            ("type=cacheonly", Form::CacheOnly),
        ] {
            assert_eq!(form(text), Ok(want), "{text}");
        }
        let named = of("type=image,\"name=a.example/b:1,a.example/b:2\",push=true").unwrap();
        assert_eq!(named.names.len(), 2);
        assert!(named.push);
        let directory = of("type=oci,dest=out,tar=false").unwrap();
        assert!(directory.as_directory);
        let annotated = "type=oci,dest=a,annotation.k=v,annotation-index.i=w,annotation[linux/arm/v7].org.x=y,registry.insecure=true";
        let annotated = of(annotated).unwrap();
        assert!(annotated.insecure && annotated.annotations.want_index());
        let digest = of("type=image,name=a.example/b,push=true,push-by-digest=true").unwrap();
        assert!(digest.by_digest);
    }

    #[test]
    fn mistakes_are_said() {
        for (text, says) in [
            ("dest=out", "type= is missing"),
            ("", "says nothing"),
            ("type=oci,tar=false", "dest=PATH is missing"),
            ("type=tar,dest=", "dest=PATH is missing"),
            ("type=local,dest=-", "give dest=DIRECTORY"),
            ("type=oci,tar=false,dest=-", "give dest=DIRECTORY"),
            ("type=erofs", "dest=PATH is missing"),
            ("type=cpio", "dest=PATH is missing"),
            ("type=ext4,dest=a,size=lots", "size: "),
            (
                "type=erofs,dest=a,erofs-verity=true",
                "erofs-verity is for images",
            ),
            ("type=erofs,dest=a,size=1g", "size is for type=ext4"),
            (
                "type=cpio,dest=a,compression=gzip",
                "type=cpio isn't compressed",
            ),
            (
                "type=squashfs,dest=a,compression=estargz",
                "gzip, zstd or uncompressed",
            ),
            (
                "type=squashfs,dest=a,compression-level=3",
                "isn't for type=squashfs",
            ),
            ("type=ozi,dest=a", "unknown type 'ozi'"),
            ("type=image,nme=a", "unknown key 'nme'"),
            ("type=image,name=Upper/Case", "Upper/Case"),
            ("type=image,push=maybe", "push is true or false"),
            ("type=oci,dest=a,compression-level=x", "is a number"),
            ("type=oci,dest=a,annotation=v", "is no annotation"),
            ("type=oci,dest=a,annotation-hat.k=v", "hat"),
            ("type=image,oops", "'oops' is not KEY=VALUE"),
            ("type=image,name=a:1,push-by-digest=true", "without a tag"),
        ] {
            let error = text.parse::<Output>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
