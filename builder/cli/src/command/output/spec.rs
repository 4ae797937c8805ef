//! What `-o` says, in the words of `docker buildx build`.

use std::path::PathBuf;
use std::str::FromStr;

use kiln_attest::sbom::Format;
use kiln_engine::ImageOptions;
use kiln_image::layer::Codec;
use kiln_image::{BadReference, Reference};

use kiln::{AttestOptions, Storage};

/// A form of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
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
    /// The list of packages.
    Sbom,
    /// Nowhere: the results of the steps stay in the cache.
    CacheOnly,
}

/// The names of forms.
const FORMS: [(&str, Form); 8] = [
    ("oci", Form::Oci),
    ("docker", Form::Docker),
    ("tar", Form::Tar),
    ("local", Form::Local),
    ("registry", Form::Registry),
    ("image", Form::Image),
    ("sbom", Form::Sbom),
    ("cacheonly", Form::CacheOnly),
];

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

/// One `-o`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputSpec {
    pub(super) form: Form,
    /// `-`: standard output.
    pub(super) dest: Option<PathBuf>,
    pub(super) names: Vec<Reference>,
    codec: Option<Codec>,
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
}

impl OutputSpec {
    pub(crate) fn of(form: Form) -> Self {
        Self {
            form,
            dest: None,
            names: Vec::new(),
            codec: None,
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
        }
    }

    /// How images for this output are made.
    pub(super) fn options(&self, build: &ImageOptions) -> ImageOptions {
        let rewrites = self.rewrite_times.unwrap_or(!build.keep_late_times);
        ImageOptions {
            codec: self.codec.unwrap_or(build.codec),
            force_compression: self.force_compression || build.force_compression,
            keep_late_times: !rewrites,
            docker_types: self.docker_types.unwrap_or(build.docker_types),
            ..build.clone()
        }
    }

    /// Whether it is made of an image, not of files.
    pub(super) fn wants_image(&self) -> bool {
        !matches!(
            self.form,
            Form::Tar | Form::Local | Form::Sbom | Form::CacheOnly
        )
    }

    /// Whether it takes attestations.
    pub(super) fn takes(&self, attest: &AttestOptions) -> bool {
        match self.form {
            Form::Registry | Form::Image => self.push && !attest.is_empty(),
            Form::Oci => attest.is_asked,
            Form::Tar | Form::Local => attest.is_asked && !attest.inline_only,
            Form::Docker | Form::Daemon | Form::Sbom | Form::CacheOnly => false,
        }
    }

    /// Whether attestations lie beside the image in an index.
    pub(super) fn has_index(&self, attest: &AttestOptions) -> bool {
        self.form == Form::Oci || matches!(attest.storage, Some(Storage::Index(_)))
    }

    /// Whether it goes to a registry.
    pub(crate) fn pushes(&self) -> bool {
        self.push
    }

    /// Whether it goes to the Docker daemon.
    pub(crate) fn loads(&self) -> bool {
        self.form == Form::Daemon
    }

    /// Names that it has besides the build's.
    pub(crate) fn names(&self) -> &[Reference] {
        &self.names
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "dest" => self.dest = Some(value.into()),
            "name" => {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    let last = name.rsplit('/').next();
                    self.is_tagged |= last.is_some_and(|last| last.contains(':'));
                    let name: Result<Reference, BadReference> = name.parse();
                    self.names.push(name.map_err(|error| error.to_string())?);
                }
            }
            "push" => self.push |= flag(key, value)?,
            "push-by-digest" => self.by_digest = flag(key, value)?,
            "force-compression" => self.force_compression = flag(key, value)?,
            "rewrite-timestamp" => self.rewrite_times = Some(flag(key, value)?),
            "platform-split" => self.split = Some(flag(key, value)?),
            "oci-mediatypes" => self.docker_types = Some(!flag(key, value)?),
            "attestation-prefix" => value.clone_into(&mut self.attestation_prefix),
            "format" => self.format = Some(value.parse()?),
            "tar" => self.as_directory = !flag(key, value)?,
            key if WITHOUT_EFFECT.contains(&key) => {}
            _ => return Err(unknown(key)),
        }
        Ok(())
    }

    /// What can't be before all keys are known.
    fn check(mut self) -> Result<Self, String> {
        if self.form == Form::Docker && self.dest.is_none() {
            self.form = Form::Daemon;
        }
        let needs_dest = matches!(self.form, Form::Oci | Form::Tar | Form::Local | Form::Sbom);
        if needs_dest && self.dest.is_none() {
            return Err("dest=PATH is missing".to_owned());
        }
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

impl FromStr for OutputSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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

fn parse(text: &str) -> Result<OutputSpec, String> {
    let mut pairs = Vec::new();
    for field in fields(text) {
        match field.split_once('=') {
            Some((key, value)) => pairs.push((key.trim().to_owned(), value.to_owned())),
            None => return Err(format!("'{field}' is not KEY=VALUE")),
        }
    }
    let kind = pairs.iter().find(|(key, _)| key == "type");
    let kind = kind.ok_or("type= is missing: write type=local,dest=PATH, say")?;
    let mut spec = OutputSpec::of(form(&kind.1)?);
    let (mut compression, mut level) = (None, None);
    for (key, value) in &pairs {
        match key.as_str() {
            "type" => {}
            "compression" => compression = Some(value.as_str()),
            "compression-level" => {
                let number = value.parse().map_err(|_| format!("{key} is a number"))?;
                level = Some(number);
            }
            "registry.insecure" => {
                if flag(key, value)? {
                    return Err(
                        "registry.insecure: say http = true for this registry in kiln.conf"
                            .to_owned(),
                    );
                }
            }
            key if key.starts_with("annotation") => {
                return Err(format!(
                    "{key}: give annotations as --annotation, in the same form"
                ));
            }
            key => spec.set(key, value)?,
        }
    }
    if compression.is_some() || level.is_some() {
        let codec = Codec::new(compression.unwrap_or("gzip"), level);
        spec.codec = Some(codec.map_err(|error| error.to_string())?);
    }
    spec.check()
}

/// The fields of a record of comma-separated values: one in double quotes may hold commas, and
/// doubled quotes stand for one (RFC 4180).
fn fields(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.next_if_eq(&'"').is_some() => push(&mut all, '"'),
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(String::new()),
            c => push(&mut all, c),
        }
    }
    all.retain(|field| !field.is_empty());
    all
}

fn push(all: &mut [String], c: char) {
    if let Some(last) = all.last_mut() {
        last.push(c);
    }
}

fn flag(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{key} is true or false")),
    }
}

fn form(name: &str) -> Result<Form, String> {
    let found = FORMS.iter().find(|(own, _)| *own == name);
    found.map(|(_, form)| *form).ok_or_else(|| {
        let names = FORMS.map(|(own, _)| own);
        format!("unknown type '{name}': use {}", names.join(", "))
    })
}

fn unknown(key: &str) -> String {
    format!(
        "unknown key '{key}': use type, dest, name, push, push-by-digest, compression, compression-level, force-compression, rewrite-timestamp, oci-mediatypes, platform-split or tar"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_buildx() {
        let of = |text: &str| text.parse::<OutputSpec>();
        let form = |text: &str| of(text).map(|spec| spec.form);
        for (text, want) in [
            ("out", Form::Local),
            ("-", Form::Tar),
            ("type=local,dest=out", Form::Local),
            ("type=docker", Form::Daemon),
            ("type=docker,dest=a.tar", Form::Docker),
            ("type=oci,dest=-", Form::Oci),
            ("type=image,push=true", Form::Image),
            ("type=registry", Form::Registry),
            ("type=cacheonly", Form::CacheOnly),
        ] {
            assert_eq!(form(text), Ok(want), "{text}");
        }
        let named = of("type=image,\"name=a.example/b:1,a.example/b:2\",push=true").unwrap();
        assert_eq!(named.names.len(), 2);
        assert!(named.push);
        let directory = of("type=oci,dest=out,tar=false").unwrap();
        assert!(directory.as_directory);
        let digest = of("type=image,name=a.example/b,push=true,push-by-digest=true").unwrap();
        assert!(digest.by_digest);
    }

    #[test]
    fn mistakes_are_said() {
        for (text, says) in [
            ("dest=out", "type= is missing"),
            ("type=oci", "dest=PATH is missing"),
            ("type=ozi,dest=a", "unknown type 'ozi'"),
            ("type=image,nme=a", "unknown key 'nme'"),
            ("type=image,name=Upper/Case", "Upper/Case"),
            ("type=image,push=maybe", "push is true or false"),
            ("type=oci,dest=a,compression-level=x", "is a number"),
            ("type=image,oops", "'oops' is not KEY=VALUE"),
            ("type=image,name=a:1,push-by-digest=true", "without a tag"),
        ] {
            let error = text.parse::<OutputSpec>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
