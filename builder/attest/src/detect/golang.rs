//! What Go's linker writes into programs (`debug/buildinfo`): the toolchain's version and the
//! modules, as two texts with their lengths before them, after a header of 32 bytes.

use std::collections::BTreeMap;

use super::Reading;
use crate::{Ecosystem, Package};

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The header's alignment and its length, in bytes.
const ALIGN: usize = 16;
const HEADER: usize = 32;
/// The header's flag for texts that follow it; older ones are pointed to.
const INLINE: u8 = 2;
/// The modules' text is between marks of this length.
const MARK: usize = 16;

pub(super) fn read(section: &[u8]) -> Reading {
    let starts = (0..section.len()).step_by(ALIGN);
    let Some(info) = starts
        .map(|at| &section[at..])
        .find(|rest| rest.starts_with(MAGIC))
    else {
        return Reading::problem("Go's build information is damaged");
    };
    if info.get(15).is_none_or(|flags| flags & INLINE == 0) {
        return Reading::problem("built by Go before 1.18: its module list is not supported");
    }
    match texts(info) {
        Some((version, modules)) => Reading::packages(packages(&version, &modules)),
        None => Reading::problem("Go's build information is damaged"),
    }
}

fn texts(info: &[u8]) -> Option<(String, String)> {
    let (version, rest) = text(info.get(HEADER..)?)?;
    let (modules, _) = text(rest)?;
    let modules = match modules.len() {
        0 => modules,
        length => modules.get(MARK..length.checked_sub(MARK)?)?,
    };
    let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((owned(version), owned(modules)))
}

/// A text with its length before it, seven bits a byte, lowest first.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut shift) = (0_usize, 0_u32);
    for (at, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// Lines of `path`, `mod`, `dep`, `=>` (what a module was replaced by) and `build`.
fn packages(version: &str, modules: &str) -> Vec<Package> {
    let mut found: Vec<(bool, Package)> = Vec::new();
    let mut settings = BTreeMap::new();
    let mut program = None;
    for line in modules.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            [kind @ ("mod" | "dep"), path, version, ..] => {
                found.push((*kind == "mod", module(path, version)));
            }
            ["=>", path, version, ..] => {
                if let Some((_, last)) = found.last_mut() {
                    *last = module(path, version);
                }
            }
            ["path", path] => program = Some(*path),
            ["build", setting] => settings.extend(setting.split_once('=')),
            _ => {}
        }
    }
    if found.iter().all(|(is_main, _)| !is_main) {
        found.extend(program.and_then(|path| Some((true, without_module(path, &settings)?))));
    }
    for (_, main) in found.iter_mut().filter(|(is_main, _)| *is_main) {
        if main.version.is_empty() {
            main.version = pseudo_version(&settings).unwrap_or_default();
        }
    }
    let mut packages: Vec<Package> = found.into_iter().map(|(_, package)| package).collect();
    packages.extend(standard_library(version));
    packages
}

/// What every program has of the toolchain's.
fn standard_library(version: &str) -> Option<Package> {
    let number = version.split_whitespace().next()?.strip_prefix("go")?;
    Some(Package {
        license: Some("BSD-3-Clause".to_owned()),
        ..Package::new(Ecosystem::Golang, "stdlib", number)
    })
}

/// The program itself, where it was built without modules, as distributions do: its repository, with the version that
/// the linker was told to write into a variable of that name.
fn without_module(path: &str, settings: &BTreeMap<&str, &str>) -> Option<Package> {
    const HOSTS: [&str; 3] = ["github.com", "gitlab.com", "bitbucket.org"];
    let parts: Vec<&str> = path.split('/').collect();
    let [host, owner, repository, ..] = parts[..] else {
        return None;
    };
    if !HOSTS.contains(&host) {
        return None;
    }
    let version = settings.get("-ldflags").and_then(|flags| told(flags));
    let path = format!("{host}/{owner}/{repository}");
    Some(module(&path, version.unwrap_or_default()))
}

/// `1.2` of `-X main.version=1.2`.
fn told(flags: &str) -> Option<&str> {
    let words = flags.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    let words = words.map(|word| word.strip_prefix("-X=").unwrap_or(word));
    let mut set = words.filter_map(|word| word.split_once('='));
    let found = set.find(|(name, value)| {
        let number = value.strip_prefix('v').unwrap_or(value);
        name.to_ascii_lowercase().ends_with(".version")
            && number.starts_with(|c: char| c.is_ascii_digit())
    });
    found.map(|(_, value)| value)
}

fn module(path: &str, version: &str) -> Package {
    let version = if version == "(devel)" { "" } else { version };
    Package::new(Ecosystem::Golang, path, version)
}

/// The version that Go gives to a commit without a tag: `v0.0.0-20240131120000-abcdef123456`.
fn pseudo_version(settings: &BTreeMap<&str, &str>) -> Option<String> {
    let revision = settings.get("vcs.revision")?.get(..12)?;
    let time: String = settings
        .get("vcs.time")?
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    Some(format!("v0.0.0-{}-{revision}", time.get(..14)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Claim;

    fn section(version: &str, modules: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([8, INLINE]);
        bytes.resize(HEADER, 0);
        bytes.push(u8::try_from(version.len()).unwrap());
        bytes.extend(version.as_bytes());
        let length = modules.len() + 2 * MARK;
        bytes.extend([
            u8::try_from(length & 0x7f).unwrap() | 0x80,
            u8::try_from(length >> 7).unwrap(),
        ]);
        bytes.extend([1; MARK]);
        bytes.extend(modules.as_bytes());
        bytes.extend([2; MARK]);
        bytes
    }

    #[test]
    fn programs_without_modules_are_their_repositories() {
        for (path, flags, want) in [
            (
                "github.com/o/tool/cmd/tool",
                "-ldflags=\"-w -X github.com/o/tool/pkg.Version=v1.5+ds1 -X main.commit=5\"",
                "pkg:golang/github.com/o/tool@v1.5%2Bds1",
            ),
            (
                "github.com/o/tool",
                "-ldflags=-X=main.version=1.2",
                "pkg:golang/github.com/o/tool@1.2",
            ),
            (
                "github.com/o/tool",
                "-compiler=gc",
                "pkg:golang/github.com/o/tool",
            ),
        ] {
            let text = format!("path\t{path}\nbuild\t{flags}\n");
            let Some(Claim::Packages(packages)) = read(&section("go1.19.8", &text)).claim else {
                panic!()
            };
            assert_eq!(packages[0].purl(None), want);
            assert_eq!(packages.len(), 2);
        }
        assert_eq!(
            packages("go1.19.8", "path\tcommand-line-arguments\n").len(),
            1
        );
    }

    #[test]
    fn modules() {
        let modules = "path\tx/cmd\nmod\tgithub.com/A/x\t(devel)\t\ndep\tgolang.org/x/net\tv0.1.0\th1:x=\ndep\tgithub.com/old\tv1.0.0\n=>\tgithub.com/fork\tv1.1.0\th1:y=\nbuild\tvcs.revision=0123456789abcdef\nbuild\tvcs.time=2024-01-31T12:00:00Z\n";
        let Some(Claim::Packages(packages)) = read(&section("go1.21.5 X:x", modules)).claim else {
            panic!()
        };
        let shown: Vec<String> = packages.iter().map(|package| package.purl(None)).collect();
        assert_eq!(
            shown,
            [
                "pkg:golang/github.com/a/x@v0.0.0-20240131120000-0123456789ab",
                "pkg:golang/golang.org/x/net@v0.1.0",
                "pkg:golang/github.com/fork@v1.1.0",
                "pkg:golang/stdlib@1.21.5"
            ]
        );
    }

    #[test]
    fn damage_is_told() {
        let whole = section("go1.21", "mod\ta\tv1\n");
        assert_eq!(
            read(&whole[..40]).problems,
            ["Go's build information is damaged"]
        );
        assert_eq!(read(b"").problems.len(), 1);
        let mut old = whole;
        old[15] = 0;
        assert!(read(&old).problems[0].contains("before 1.18"));
    }
}
