//! Java archives: the Maven coordinates in their `pom.properties`, else what the manifest and the
//! file's name say; archives in archives, as applications are packed, are opened too.

use std::collections::BTreeMap;
use std::io::{Cursor, SeekFrom};

use super::reading::{List, plain};
use super::zip::{Archive, Member, too_long};
use super::{ReadSeek, Reading};
use crate::license;
use crate::{Ecosystem, Package};

const ARCHIVES: &[&str] = &[
    ".jar", ".war", ".ear", ".par", ".sar", ".nar", ".jpi", ".hpi", ".kar", ".lpkg",
];
const MANIFEST: &str = "META-INF/MANIFEST.MF";
/// Metadata in an archive is no longer, in bytes.
const MAX_METADATA: u64 = 4 << 20;
/// All that is unpacked of an archive is no longer together, in bytes;
const MAX_UNPACKED: u64 = 1 << 30;
/// nor so many times as long as the archive, and as much again as an archive may have that is small.
const MAX_RATIO: u64 = 64;
const SMALL: u64 = 16 << 20;
/// What reading a member costs at least, in bytes.
const MIN_COST: u64 = 64;
/// Archives in archives are opened so deep.
const MAX_DEPTH: u32 = 6;

pub(super) fn is_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ARCHIVES.iter().any(|end| name.ends_with(end))
}

pub(super) fn read(path: &str, file: &mut dyn ReadSeek) -> Reading {
    let size = file.seek(SeekFrom::End(0)).unwrap_or(0);
    let most = size.saturating_mul(MAX_RATIO).saturating_add(SMALL);
    let mut search = Search {
        list: List::default(),
        left: most.min(MAX_UNPACKED),
    };
    search.archive(path, file, 0);
    search.list.into()
}

struct Search {
    list: List,
    /// How many bytes may still be unpacked.
    left: u64,
}

impl Search {
    fn archive(&mut self, path: &str, file: &mut dyn ReadSeek, depth: u32) {
        let mut archive = match Archive::open(file) {
            Ok(archive) => archive,
            Err(reason) => return self.problem(path, depth, &reason),
        };
        let members = std::mem::take(&mut archive.members);
        self.packages(path, &mut archive, &members, depth);
        for member in members.iter().filter(|member| is_archive(&member.name)) {
            if depth == MAX_DEPTH {
                return self.problem(path, depth, "archives are nested too deeply");
            }
            match self.read(&mut archive, member, MAX_UNPACKED) {
                Ok(bytes) => {
                    let inner = format!("{path}!/{}", member.name);
                    self.archive(&inner, &mut Cursor::new(bytes), depth + 1);
                }
                Err(reason) => self.problem(path, depth, &reason),
            }
        }
    }

    /// What the archive itself is, and what was put into it with its metadata.
    fn packages(&mut self, path: &str, archive: &mut Archive<'_>, members: &[Member], depth: u32) {
        let mut own = Vec::new();
        let mut manifest = BTreeMap::new();
        let is_metadata = |member: &&Member| is_pom(&member.name) || member.name == MANIFEST;
        for member in members.iter().filter(is_metadata) {
            let bytes = match self.read(archive, member, MAX_METADATA) {
                Ok(bytes) => bytes,
                Err(reason) => {
                    self.problem(path, depth, &reason);
                    continue;
                }
            };
            let text = String::from_utf8_lossy(&bytes);
            match is_pom(&member.name) {
                true => own.extend(coordinates(&text)),
                false => manifest = attributes(&text),
            }
        }
        let main = main_package(path, &manifest);
        let is_main = |package: &Package| {
            let is_same = |main: &Package| artifact(main) == artifact(package);
            is_named(path, package) || main.as_ref().is_some_and(is_same)
        };
        let is_there = own.iter().any(is_main);
        self.list.extend(main.filter(|_| !is_there));
        self.list.extend(own);
    }

    /// What a member unpacks to, as long as enough may be unpacked.
    fn read(
        &mut self,
        archive: &mut Archive<'_>,
        member: &Member,
        max: u64,
    ) -> Result<Vec<u8>, String> {
        if self.left == 0 {
            return Err(too_long(member));
        }
        let (content, cost) = archive.read(member, max.min(self.left));
        self.left = self.left.saturating_sub(cost.max(MIN_COST));
        content
    }

    fn problem(&mut self, path: &str, depth: u32, reason: &str) {
        let place = path
            .split_once('!')
            .map_or(String::new(), |(_, inner)| format!("{inner}: "));
        let place = if depth == 0 { String::new() } else { place };
        self.list.problem(plain(&format!("{place}{reason}"), 500));
    }
}

fn is_pom(name: &str) -> bool {
    name.starts_with("META-INF/maven/") && name.ends_with("/pom.properties")
}

/// Whether an archive has the name of a package, with or without its version.
fn is_named(path: &str, package: &Package) -> bool {
    let rest = stem(path).strip_prefix(artifact(package));
    let rest = rest.and_then(|rest| rest.strip_prefix('-').or(Some(rest)));
    rest.is_some_and(|rest| rest.is_empty() || rest == package.version)
}

fn artifact(package: &Package) -> &str {
    package.name.rsplit(':').next().unwrap_or_default()
}

/// What a `pom.properties` names.
fn coordinates(text: &str) -> Option<Package> {
    let value = |name: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut pairs = lines.filter_map(|line| line.split_once('='));
        pairs.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
    };
    let (group, artifact) = (value("groupId")?, value("artifactId")?);
    Some(Package::new(
        Ecosystem::Maven,
        format!("{group}:{artifact}"),
        value("version")?,
    ))
}

/// The main attributes of a manifest (JAR File Specification, "JAR Manifest"); long values go on
/// in lines that begin with a space.
fn attributes(text: &str) -> BTreeMap<String, String> {
    let text = text.replace("\r\n", "\n");
    let main = text
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .replace("\n ", "");
    let pairs = main.lines().filter_map(|line| line.split_once(": "));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// What an archive is, as its name and manifest say; nothing when neither says a version.
fn main_package(path: &str, manifest: &BTreeMap<String, String>) -> Option<Package> {
    let stem = stem(path);
    let says = |names: &[&str]| names.iter().find_map(|name| manifest.get(*name)).cloned();
    let stated = says(&[
        "Implementation-Version",
        "Bundle-Version",
        "Specification-Version",
    ]);
    // Names may have numbers of their own: log4j-1.2-api-2.19.0.
    let before = |stated: &String| stem.strip_suffix(stated.as_str())?.strip_suffix('-');
    let (name, version) = match stated.as_ref().and_then(before) {
        Some(name) => (name, None),
        None => split_version(stem),
    };
    let version = version.map(str::to_owned).or(stated)?;
    let group = says(&["Implementation-Vendor-Id"]).or_else(|| {
        let symbolic = says(&["Bundle-SymbolicName", "Automatic-Module-Name"])?;
        let symbolic = symbolic.split(';').next()?.to_owned();
        symbolic.contains('.').then_some(symbolic)
    });
    let name = group.map_or_else(|| name.to_owned(), |group| format!("{group}:{name}"));
    let mut package = Package::new(Ecosystem::Maven, name, version);
    package.license = manifest
        .get("Bundle-License")
        .and_then(|words| license::known(words));
    package.supplier = says(&["Implementation-Vendor", "Bundle-Vendor"]);
    Some(package)
}

/// An archive's name without the directories and its end.
fn stem(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// `commons-io` and `2.11.0` of `commons-io-2.11.0`.
fn split_version(stem: &str) -> (&str, Option<&str>) {
    let dashes = stem.match_indices('-').map(|(at, _)| at);
    let mut versions = dashes.filter_map(|at| Some((&stem[..at], version_after(&stem[at..])?)));
    let first = versions.next();
    first.map_or((stem, None), |(name, version)| (name, Some(version)))
}

/// `2.11.0` of `-2.11.0`.
fn version_after(rest: &str) -> Option<&str> {
    let version = rest.strip_prefix('-')?;
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then_some(version)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::Claim;

    /// Makes an archive with Python's `zipfile`: members are pairs of name and text, or of name and
    /// another archive's path.
    fn archive(directory: &Path, name: &str, members: &str) -> Vec<u8> {
        let path = directory.join(name);
        let script = format!(
            "import zipfile\nz=zipfile.ZipFile({:?},'w',zipfile.ZIP_DEFLATED)\nfor n,t in {members}: z.write({:?}+'/'+t[1:],n) if t[:1]=='@' else z.writestr(n,t)\nz.close()\n",
            path.display().to_string(),
            directory.display().to_string(),
        );
        let status = Command::new("python3")
            .args(["-c", &script])
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::read(path).unwrap()
    }

    fn read_bytes(path: &str, bytes: Vec<u8>) -> (Vec<String>, Vec<String>) {
        let reading = read(path, &mut Cursor::new(bytes));
        let Some(Claim::Packages(packages)) = reading.claim else {
            panic!()
        };
        let urls = packages.iter().map(|package| package.purl(None)).collect();
        (urls, reading.problems)
    }

    /// An archive whose member can't be decompressed.
    fn damaged(mut archive: Vec<u8>, member: &str) -> Vec<u8> {
        let mut names = archive.windows(member.len());
        let name = names.position(|window| window == member.as_bytes());
        // A block of a type that there isn't.
        archive[name.unwrap() + member.len()] = 0xff;
        archive
    }

    #[test]
    fn names_with_numbers_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let manifest = "('META-INF/MANIFEST.MF','Implementation-Version: 2.19.0\\nImplementation-Vendor-Id: org.z\\n')";
        let pom = "('META-INF/maven/org.z/a-1.2-api/pom.properties','groupId=org.z\\nartifactId=a-1.2-api\\nversion=2.19.0\\n')";
        for members in [format!("[{manifest},{pom}]"), format!("[{manifest}]")] {
            let name = "a-1.2-api-2.19.0.jar";
            let bytes = archive(directory, name, &members);
            let (urls, _) = read_bytes(&format!("/srv/{name}"), bytes);
            assert_eq!(urls, ["pkg:maven/org.z/a-1.2-api@2.19.0"], "{members}");
        }
        let both = archive(directory, "a-1.2-api.jar", &format!("[{manifest},{pom}]"));
        let (urls, _) = read_bytes("/srv/a-1.2-api.jar", both);
        assert_eq!(urls, ["pkg:maven/org.z/a-1.2-api@2.19.0"]);
    }

    #[test]
    fn archives_in_archives() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        archive(
            directory,
            "inner.jar",
            "[('META-INF/maven/org.x/in/pom.properties','#c\\ngroupId=org.x\\nartifactId=in\\nversion=1.1\\n')]",
        );
        archive(
            directory,
            "plain-2.0.jar",
            "[('META-INF/MANIFEST.MF','Manifest-Version: 1.0\\r\\nBundle-Symbolic\\r\\n Name: com.y.plain;a=b\\r\\n\\r\\nName: x\\r\\n')]",
        );
        let outer = archive(
            directory,
            "app.war",
            "[('WEB-INF/lib/in.jar','@inner.jar'),('WEB-INF/lib/plain-2.0.jar','@plain-2.0.jar'),('WEB-INF/lib/bad.jar','no zip')]",
        );
        let (urls, problems) = read_bytes("/srv/app.war", outer.clone());
        assert_eq!(
            urls,
            ["pkg:maven/org.x/in@1.1", "pkg:maven/com.y.plain/plain@2.0"]
        );
        assert_eq!(
            problems,
            ["/WEB-INF/lib/bad.jar: not a zip archive, or damaged"]
        );
        assert_eq!(
            read_bytes("/srv/app.war", damaged(outer.clone(), "WEB-INF/lib/in.jar"))
                .0
                .len(),
            1
        );
        let mut started = b"#!/bin/sh\nexec java -jar $0\n".to_vec();
        started.extend(outer);
        assert_eq!(read_bytes("/srv/app.war", started).0.len(), 2);
    }

    #[test]
    fn bombs_are_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        archive(directory, "0.jar", "[('x','')]");
        for depth in 1..12 {
            archive(
                directory,
                &format!("{depth}.jar"),
                &format!("[('n.jar','@{}.jar')]", depth - 1),
            );
        }
        let bytes = std::fs::read(directory.join("11.jar")).unwrap();
        let (_, problems) = read_bytes("/a.jar", bytes);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("nested too deep"), "{problems:?}");
    }

    /// An archive whose list names one member 60,000 times: its name, its packed bytes and their length as Python.
    fn overlapping(name: &str, data: &str, size: u64) -> Vec<u8> {
        let script = format!(
            r"
import struct, sys, zlib
name = b'{name}'
data = {data}
out = struct.pack('<IHHHHHIIIHH', 0x04034b50, 20, 0, 8, 0, 0, 0, len(data), {size}, len(name), 0) + name + data
entry = struct.pack('<IHHHHHHIIIHHHHHII', 0x02014b50, 20, 20, 0, 8, 0, 0, 0, len(data), {size}, len(name), 0, 0, 0, 0, 0, 0) + name
count = 60000
end = struct.pack('<IHHHHIIH', 0x06054b50, 0, 0, 0, 0, len(entry) * count, len(out), 0)
sys.stdout.buffer.write(out + entry * count + end)
"
        );
        let made = Command::new("python3")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        made.stdout
    }

    /// The member unpacks to a megabyte.
    #[test]
    fn members_that_overlap_are_told_of() {
        let data = r"(lambda z: z.compress(b'groupId=g\nartifactId=a\nversion=1\n#' + b'x' * (1 << 20)) + z.flush())(zlib.compressobj(9, zlib.DEFLATED, -15))";
        let bytes = overlapping("META-INF/maven/g/a/pom.properties", data, 1 << 20);
        let started = std::time::Instant::now();
        let (_, problems) = read_bytes("/a.jar", bytes);
        assert!(problems[0].contains("size limit"), "{problems:?}");
        assert!(
            problems.last().unwrap().contains("more problems with it"),
            "{problems:?}"
        );
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }

    /// The same megabytes again and again, which unpack to nothing.
    #[test]
    fn members_that_give_nothing_cost_what_is_read() {
        let data = r"b'\x00\x00\x00\xff\xff' * (4 << 20) + b'\x01\x00\x00\xff\xff'";
        let bytes = overlapping(MANIFEST, data, 0);
        let mut search = Search {
            list: List::default(),
            left: 1 << 27,
        };
        search.archive("/a.jar", &mut Cursor::new(bytes), 0);
        assert_eq!(search.left, 0);
    }

    #[test]
    fn names_with_versions() {
        assert_eq!(
            split_version("commons-io-2.11.0"),
            ("commons-io", Some("2.11.0"))
        );
        assert_eq!(
            split_version("log4j-api-2.0-beta9"),
            ("log4j-api", Some("2.0-beta9"))
        );
        assert_eq!(split_version("app"), ("app", None));
    }
}
