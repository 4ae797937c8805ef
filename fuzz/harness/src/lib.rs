//! What fuzzers call: one function for each format that strangers write. None may panic, take long,
//! or fill the memory, whatever the bytes.

mod registry;

use kiln_cache::manifest_file;
use kiln_delta::artifact::DeltaManifest;
use kiln_delta::{Limits, OldFile, OldFiles, apply};
use kiln_frontend_dockerfile as dockerfile;
use kiln_frontend_toml as toml;
use kiln_graph::pattern::{Matcher, matches, matches_deep};
use kiln_graph::{
    BlobDigest, Digest, ImageConfig, ImageRequest, ImageSource, ImageTable, Platform, ResolvedImage,
};
use kiln_image::layer::{UnpackOptions, unpack};
use kiln_share::{CacheTrust, RemoteRecord};
use kiln_tree::{OverlayXattrs, TreeRoot};

pub use registry::registry_answer;

/// How often a compiler may ask for images.
const MAX_ROUNDS: usize = 10;

/// A harness.
pub type Harness = fn(&[u8]);

/// All harnesses, by name.
pub const HARNESSES: &[(&str, Harness)] = &[
    ("cache_entry", cache_entry),
    ("context_stream", context_stream),
    ("delta", delta),
    ("dockerfile", dockerfile),
    ("expansion", expansion),
    ("globs", globs),
    ("ignore_file", ignore_file),
    ("kiln_toml", kiln_toml),
    ("layer_tar", layer_tar),
    ("manifest", manifest),
    ("registry_answer", registry_answer),
    ("rpm_database", rpm_database),
];

/// A directory as a client of `kiln serve` sends it: nothing changes beside the mirror's own place.
///
/// # Panics
/// When something does.
pub fn context_stream(data: &[u8]) {
    let Ok(directory) = tempfile::tempdir() else {
        return;
    };
    kiln_serve::fuzz::receive_directory(directory.path(), data);
    let names = TreeRoot::at(directory.path()).names(&kiln_graph::ImagePath::root());
    let names = names.unwrap_or_default();
    assert!(names.iter().all(|name| name == b"contexts"), "{names:?}");
}

/// A Dockerfile: parsed, printed, checked, compiled.
pub fn dockerfile(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, unread) = dockerfile::parse_partial("Dockerfile", &text);
    _ = file.to_string();
    let options = dockerfile::Options::default();
    let mut images = ImageTable::new();
    for _ in 0..MAX_ROUNDS {
        match dockerfile::check(&file, unread.as_ref(), &options, &images) {
            dockerfile::Outcome::Done(_) => break,
            dockerfile::Outcome::Needs(needs) => know(&mut images, needs),
        }
    }
    if unread.is_none() {
        _ = dockerfile::compile(&file, &options, &images);
        _ = dockerfile::targets(&file);
    }
}

/// The words of instructions, with variables that hold odd values.
pub fn expansion(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace(['\n', '\r'], " ");
    let lines = [
        "FROM scratch".to_owned(),
        "ENV x=abcabc e= p=f.tar.gz star=* dollar=\\$x".to_owned(),
        format!("ENV A={text}"),
        format!("LABEL \"l\"=\"{text}\""),
        format!("EXPOSE {text}"),
        format!("COPY <<E /a\n{text}\nE"),
    ];
    for count in 3..=lines.len() {
        dockerfile(lines[..count].join("\n").as_bytes());
    }
}

/// A kiln.toml: parsed, formatted, compiled.
pub fn kiln_toml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    _ = toml::format(&text);
    let none = |_: &toml::Included<'_>| Ok("version = 1\n".to_owned());
    let Ok(file) = toml::parse("kiln.toml", &text, &none) else {
        return;
    };
    let options = toml::Options {
        platforms: vec![Platform::host()],
        build_platform: Platform::host(),
        ..toml::Options::default()
    };
    let mut images = ImageTable::new();
    for _ in 0..MAX_ROUNDS {
        match toml::compile(&file, &options, &images) {
            Ok(toml::Outcome::Needs(needs)) => know(&mut images, needs),
            _ => break,
        }
    }
}

/// Gives images to whoever asks for them.
fn know<T>(images: &mut ImageTable, needs: Vec<(ImageRequest, T)>) {
    for (request, _) in needs {
        let mut config = ImageConfig::scratch(&request.platform);
        let run = &mut config.config;
        run.env = vec!["PATH=/bin".to_owned(), "ODD".to_owned(), "=x".to_owned()];
        run.on_build = vec!["COPY . /app".to_owned(), "RUN <<E\nx\nE".to_owned()];
        let source = ImageSource {
            name: request.name.clone(),
            manifest: BlobDigest::from_sha256([7; 32]),
            layers: Vec::new(),
        };
        let image = ResolvedImage {
            source,
            config,
            is_known: true,
        };
        images.insert(request, image);
    }
}

/// A pattern and a path, with a NUL between them.
pub fn globs(data: &[u8]) {
    let middle = data.iter().position(|byte| *byte == 0);
    let (pattern, path) = data.split_at(middle.unwrap_or(data.len()));
    let path = path.strip_prefix(b"\0").unwrap_or(path);
    let pattern = String::from_utf8_lossy(pattern);
    _ = matches(&pattern, path);
    _ = matches_deep(&pattern, path);
    if let Ok(matcher) = Matcher::new(&[pattern.as_ref(), "!kept"]) {
        _ = matcher.excludes(path);
        _ = matcher.may_include_below(path);
    }
}

/// A `.dockerignore`.
pub fn ignore_file(data: &[u8]) {
    let patterns = dockerfile::read_ignore_file(&String::from_utf8_lossy(data));
    if let Ok(matcher) = Matcher::new(&patterns) {
        for path in [&b"a"[..], b"a/b/c.txt", b"src/main.rs", b"\xff/x"] {
            _ = matcher.excludes(path);
            _ = matcher.may_include_below(path);
        }
    }
}

/// A layer, as a registry sends it.
pub fn layer_tar(data: &[u8]) {
    let Ok(directory) = tempfile::tempdir() else {
        return;
    };
    let options = UnpackOptions {
        xattrs: OverlayXattrs::User,
        give_away: false,
        whiteouts: true,
    };
    _ = unpack(data, &TreeRoot::at(directory.path()), &options);
}

/// The documents of an image, and the stored list of a tree's files.
pub fn manifest(data: &[u8]) {
    _ = serde_json::from_slice::<kiln_image::Manifest>(data);
    _ = serde_json::from_slice::<kiln_image::Index>(data);
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(data) {
        _ = serde_json::to_vec(&config);
    }
    stored_manifest(data);
}

/// A manifest with a right checksum, whatever it says.
fn stored_manifest(content: &[u8]) {
    let mut bytes = content.to_vec();
    bytes.extend_from_slice(Digest::of(content).as_bytes());
    if let Some(manifest) = manifest_file::read(&bytes) {
        let again = manifest_file::write(&manifest);
        _ = manifest_file::read_of(&again, &manifest.id());
    }
}

/// What a shared cache says of a step.
pub fn cache_entry(data: &[u8]) {
    if let Ok(opened) = CacheTrust::default().open("step-1", data) {
        _ = serde_json::from_slice::<RemoteRecord>(&opened);
    }
}

/// rpm's database of installed packages, from an image.
pub fn rpm_database(data: &[u8]) {
    _ = kiln_attest::rpm::owners(data);
}

/// A difference between layers, and the artifact that carries it. What isn't a whole difference is
/// taken for its operations.
pub fn delta(data: &[u8]) {
    _ = DeltaManifest::read(data);
    let limits = Limits { tar: 1 << 20 };
    _ = apply(data, &OneFile, &mut std::io::sink(), limits);
    let mut whole = b"tardf2\n\0".to_vec();
    whole.extend(zstd::bulk::compress(data, 1).unwrap_or_default());
    _ = apply(&whole[..], &OneFile, &mut std::io::sink(), limits);
}

/// An old image with one file.
struct OneFile;

impl OldFiles for OneFile {
    fn open(&self, path: &str) -> std::io::Result<Option<OldFile>> {
        let content = b"0123456789".as_slice();
        let open = || OldFile {
            size: content.len() as u64,
            content: Box::new(std::io::Cursor::new(content)),
        };
        Ok((path == "a").then(open))
    }
}
