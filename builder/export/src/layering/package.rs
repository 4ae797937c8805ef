//! What the files of a tree belong to, as far as package databases and well-known directories tell.

use std::collections::BTreeMap;
use std::io::Read as _;

use kiln_attest::rpm;
use kiln_graph::{Entry, ImagePath, Node};

use super::LayerContent;

/// Directories in which each entry is a package of its own.
const PACKAGE_DIRECTORIES: &[&str] = &["site-packages", "dist-packages", "node_modules", "gems"];
/// Where apk keeps what it has installed.
const APK_DATABASES: &[&str] = &["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
/// The directories that distributions fill (Filesystem Hierarchy Standard).
const SYSTEM_DIRECTORIES: &[&str] = &[
    "bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "var",
];

/// No database of an honest image is larger, in bytes.
const MOST_DATABASE: u64 = 1 << 30;

/// What a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    /// A package of the distribution.
    System(String),
    /// A package of a language.
    Language(String),
    /// Something of the distribution's that no package lists: databases, caches, configuration.
    SystemFile,
    /// What is nobody else's.
    Application,
}

/// Which package files belong to, as far as the databases in the tree say. Where `/lib` is a link
/// to `/usr/lib`, Debian's packages still list `/lib/x` for what is at `/usr/lib/x`.
pub(super) struct Packages {
    owners: BTreeMap<ImagePath, String>,
}

impl Packages {
    pub(super) fn find(content: &LayerContent) -> Self {
        let mut owners = BTreeMap::new();
        for entry in content.entries() {
            let path = entry.path.to_string();
            if let Some(name) = dpkg_list(&path) {
                let text = text(content, entry);
                let own = |line: &str| (ImagePath::new(line), format!("dpkg {name}"));
                owners.extend(text.lines().map(own));
            } else if APK_DATABASES.contains(&path.as_str()) {
                owners.extend(apk_owners(&text(content, entry)));
            } else if rpm::DATABASES.contains(&path.as_str()) {
                owners.extend(rpm::owners(&bytes(content, entry)));
            }
        }
        Self { owners }
    }

    pub(super) fn unit(&self, path: &ImagePath) -> Unit {
        let text = path.to_string();
        if let Some(name) = dpkg_info(&text) {
            return Unit::System(format!("dpkg {name}"));
        }
        let listed = || self.owners.get(&ImagePath::new(text.strip_prefix("/usr")?));
        if let Some(name) = self.owners.get(path).or_else(listed) {
            return Unit::System(name.clone());
        }
        match directory_package(&text) {
            Some(name) => Unit::Language(name),
            None if is_system(&text) => Unit::SystemFile,
            None => Unit::Application,
        }
    }
}

/// Whether a path is where distributions keep their own.
fn is_system(path: &str) -> bool {
    let top = path.split('/').nth(1).unwrap_or_default();
    let is_local = path.starts_with("/usr/local/") || path.starts_with("/usr/src/");
    SYSTEM_DIRECTORIES.contains(&top) && !is_local
}

fn text(content: &LayerContent, entry: &Entry) -> String {
    String::from_utf8_lossy(&bytes(content, entry)).into_owned()
}

/// A database's bytes; of one that is larger than any, none.
fn bytes(content: &LayerContent, entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let (Node::File { size, .. }, Ok(mut file)) = (&entry.node, content.open(entry))
        && *size <= MOST_DATABASE
    {
        _ = file.read_to_end(&mut bytes);
    }
    bytes
}

/// The package whose files `/var/lib/dpkg/info/NAME.list` lists.
fn dpkg_list(path: &str) -> Option<&str> {
    dpkg_info(path).filter(|_| path.ends_with(".list"))
}

/// The package that a file of dpkg's own belongs to; `NAME:ARCH` without the architecture.
fn dpkg_info(path: &str) -> Option<&str> {
    let file = path.strip_prefix("/var/lib/dpkg/info/")?;
    let (name, _) = file.rsplit_once('.')?;
    Some(name.split(':').next().unwrap_or(name))
}

/// apk's database: `P:` names a package, `F:` a directory, `R:` a file in it.
fn apk_owners(text: &str) -> Vec<(ImagePath, String)> {
    let (mut package, mut directory) = (String::new(), String::new());
    let mut owners = Vec::new();
    for line in text.lines() {
        match line.split_once(':') {
            Some(("P", name)) => package = format!("apk {name}"),
            Some(("F", path)) => directory = format!("/{path}"),
            Some(("R", file)) => {
                owners.push((
                    ImagePath::new(format!("{directory}/{file}")),
                    package.clone(),
                ));
            }
            _ => {}
        }
    }
    owners
}

/// `site-packages/NAME`, `node_modules/@SCOPE/NAME`, `registry/src/INDEX/CRATE`.
fn directory_package(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(at) = parts
        .windows(2)
        .position(|pair| pair == ["registry", "src"] || pair == ["registry", "cache"])
    {
        return parts
            .get(at + 3)
            .map(|name| format!("crate {}", without_version(name)));
    }
    let at = parts
        .iter()
        .position(|part| PACKAGE_DIRECTORIES.contains(part))?;
    let (directory, name) = (parts[at], parts.get(at + 1)?);
    if name.starts_with('@') {
        return parts
            .get(at + 2)
            .map(|own| format!("{directory} {name}/{own}"));
    }
    // `NAME-1.0.dist-info` changes with `NAME`.
    let name = match name.strip_suffix(".dist-info") {
        Some(name) => name.split('-').next().unwrap_or(name),
        None => name.strip_suffix(".py").unwrap_or(name),
    };
    Some(format!("{directory} {}", name.to_lowercase()))
}

/// `serde` of `serde-1.0.2` and of `serde-1.0.2.crate`: a new version takes the old one's place.
fn without_version(name: &str) -> &str {
    let dashes = name.match_indices('-').map(|(at, _)| at);
    let is_version = |at: &usize| name[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    dashes
        .into_iter()
        .find(is_version)
        .map_or(name, |at| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_by_their_paths() {
        let cases = [
            (
                "/usr/lib/python3/dist-packages/Yaml/x.py",
                "dist-packages yaml",
            ),
            (
                "/v/lib/python3.11/site-packages/flask-3.0.dist-info/RECORD",
                "site-packages flask",
            ),
            ("/app/node_modules/@a/b/index.js", "node_modules @a/b"),
            ("/app/node_modules/c/node_modules/d/x", "node_modules c"),
            (
                "/root/.cargo/registry/src/index-1/serde-1.0/lib.rs",
                "crate serde",
            ),
        ];
        for (path, want) in cases {
            assert_eq!(directory_package(path).as_deref(), Some(want));
        }
        assert_eq!(directory_package("/app/src/main.py"), None);
        assert_eq!(
            dpkg_info("/var/lib/dpkg/info/libc6:amd64.md5sums"),
            Some("libc6")
        );
        let owners = apk_owners("P:musl\nF:lib\nR:libc.so\n\nP:zlib\nF:usr/lib\nR:z.so\n");
        assert_eq!(owners[0], ("/lib/libc.so".into(), "apk musl".into()));
        assert_eq!(owners[1], ("/usr/lib/z.so".into(), "apk zlib".into()));
    }

    #[test]
    fn files_that_packages_list_outside_of_usr() {
        let owners = BTreeMap::from([("/lib/libc.so".into(), "dpkg libc6".to_owned())]);
        let packages = Packages { owners };
        let libc = Unit::System("dpkg libc6".to_owned());
        let cases = [
            ("/lib/libc.so", libc.clone()),
            ("/usr/lib/libc.so", libc),
            ("/usr/lib/other.so", Unit::SystemFile),
            ("/var/lib/dpkg/status", Unit::SystemFile),
            ("/usr/local/bin/app", Unit::Application),
            ("/app/main.py", Unit::Application),
            (
                "/v/site-packages/a/x",
                Unit::Language("site-packages a".to_owned()),
            ),
        ];
        for (path, want) in cases {
            assert_eq!(packages.unit(&path.into()), want, "{path}");
        }
    }

    #[test]
    fn crates_by_name_only() {
        let cases = [
            ("serde-1.0.2", "serde"),
            ("a-b-2.0.crate", "a-b"),
            ("x", "x"),
        ];
        for (name, want) in cases {
            assert_eq!(without_version(name), want);
        }
    }
}
