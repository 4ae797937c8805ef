//! Layers that no honest program makes: nothing outside of the directory is touched, and the manifest
//! says what the directory holds. `PROPTEST_CASES` makes these fuzzers that run as long as one likes.
#![allow(
    clippy::disallowed_methods,
    reason = "tests make and look at files of their own"
)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use kiln_graph::Node;
use kiln_image::layer::{UnpackOptions, Unpacked, unpack};
use kiln_tree::{OverlayXattrs, TreeRoot};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Made {
    name: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    pax: Vec<(String, Vec<u8>)>,
    data: Vec<u8>,
    size: Option<u64>,
    id: u64,
}

impl Made {
    fn new(name: &str, kind: u8) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            link: Vec::new(),
            kind,
            pax: Vec::new(),
            data: Vec::new(),
            size: None,
            id: 0,
        }
    }
}

fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let text = format!("{value:0width$o}");
    field[..width].copy_from_slice(&text.as_bytes()[text.len() - width..]);
}

fn block(name: &[u8], link: &[u8], kind: u8, size: u64, id: u64) -> [u8; 512] {
    let mut block = [0; 512];
    let put = |block: &mut [u8; 512], at: usize, bytes: &[u8]| {
        let count = bytes.len().min(100);
        block[at..at + count].copy_from_slice(&bytes[..count]);
    };
    put(&mut block, 0, name);
    octal(&mut block[100..108], 0o6755);
    octal(&mut block[108..116], id);
    octal(&mut block[116..124], id);
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], 1);
    block[156] = kind;
    put(&mut block, 157, link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], id % 3);
    octal(&mut block[337..345], id % 2);
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

fn padded(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (rest + 3).to_string().len();
    let mut out = format!("{} {key}=", rest + digits).into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

fn archive(entries: &[Made]) -> Vec<u8> {
    let mut out = Vec::new();
    for made in entries {
        let records = made.pax.iter().map(|(key, value)| record(key, value));
        let records: Vec<u8> = records.collect::<Vec<_>>().concat();
        if !records.is_empty() {
            out.extend(block(b"pax", b"", b'x', records.len() as u64, 0));
            padded(&mut out, &records);
        }
        let size = made.size.unwrap_or(made.data.len() as u64);
        out.extend(block(&made.name, &made.link, made.kind, size, made.id));
        padded(&mut out, &made.data);
    }
    out.resize(out.len() + 1024, 0);
    out
}

const NAMES: &[&str] = &[
    "a",
    "a/b",
    "a/b/c",
    "b",
    "./a",
    "a/",
    "/a",
    "..",
    "../a",
    "../../canary",
    "a/../../canary",
    "a/..",
    ".",
    "",
    "/",
    ".wh.a",
    ".wh.",
    ".wh..",
    ".wh...",
    ".wh..wh..opq",
    "a/.wh..wh..opq",
    "a/.wh.b",
    ".wh..wh.plnk",
    "a/.wh...",
    "a//b",
    "l",
    "l/x",
    "l/canary",
    "l/../canary",
    ".wh.l",
    "l/.wh.canary",
    "l/.wh..wh..opq",
    "\u{1b}[2J",
    "d/d/d/d/d/d/d/d",
];
const LINKS: &[&str] = &[
    "a",
    "b",
    "l",
    "/",
    "..",
    "../..",
    "../canary",
    "/etc/passwd",
    "a/b",
    ".",
    "",
    "l/x",
    "/proc/self/root",
];
const RECORDS: &[(&str, &str)] = &[
    ("path", "../canary"),
    ("linkpath", "/etc/passwd"),
    ("path", ""),
    ("size", "99999999999999"),
    ("size", "-1"),
    ("mtime", "-9223372036854775808.5"),
    ("mtime", "x"),
    ("mtime", "1.9999999999"),
    ("uid", "4294967295"),
    ("uid", "99999999999"),
    ("GNU.sparse.major", "1"),
    ("GNU.sparse.realsize", "1099511627776"),
    ("GNU.sparse.realsize", "100"),
    ("GNU.sparse.size", "1000"),
    ("GNU.sparse.map", "0,1,5,3"),
    ("GNU.sparse.name", "../canary"),
    ("SCHILY.xattr.trusted.overlay.redirect", "/../canary"),
    ("SCHILY.xattr.user.overlay.opaque", "y"),
    ("SCHILY.xattr.user.a", "1"),
    ("SCHILY.xattr.", "1"),
];

fn made() -> impl Strategy<Value = Made> {
    let name = prop_oneof![
        9 => prop::sample::select(NAMES).prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(1u8.., 0..30),
    ];
    let link = prop::sample::select(LINKS).prop_map(|link| link.as_bytes().to_vec());
    let kind = prop::sample::select(b"01122223455567gxLKSZ\0".to_vec());
    let known = prop::sample::select(RECORDS);
    let pax = prop_oneof![
        6 => Just(Vec::new()),
        1 => known.prop_map(|(key, value)| vec![(key.to_owned(), value.as_bytes().to_vec())]),
        1 => ("[a-zA-Z.]{0,9}", prop::collection::vec(any::<u8>(), 0..20)).prop_map(|pair| vec![pair]),
    ];
    let size = prop_oneof![
        9 => Just(None),
        1 => prop::sample::select(vec![1, 511, 4096, 1 << 32]).prop_map(Some),
    ];
    let data = prop::collection::vec(any::<u8>(), 0..600);
    let parts = (name, link, kind, pax, data, size, 0u64..2_000_000);
    parts.prop_map(|(name, link, kind, pax, data, size, id)| Made {
        name,
        link,
        kind,
        pax,
        data,
        size,
        id,
    })
}

fn options() -> UnpackOptions {
    UnpackOptions {
        xattrs: OverlayXattrs::Trusted,
        give_away: rustix::process::geteuid().is_root(),
        whiteouts: true,
    }
}

/// Unpacks into a directory beside a canary; what is outside must stay as it was.
fn try_out(bytes: &[u8]) -> Option<(tempfile::TempDir, Unpacked)> {
    let outer = tempfile::tempdir().unwrap();
    std::fs::write(outer.path().join("canary"), "alive").unwrap();
    let directory = outer.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let done = unpack(bytes, &TreeRoot::at(&directory), &options());
    assert_eq!(
        std::fs::read(outer.path().join("canary")).unwrap(),
        b"alive"
    );
    let outside = std::fs::read_dir(outer.path()).unwrap();
    let outside: BTreeSet<_> = outside.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside.len(), 2, "{outside:?}");
    assert!(std::fs::symlink_metadata(&directory).unwrap().is_dir());
    done.ok().map(|unpacked| (outer, unpacked))
}

/// The directory holds what the manifest says, and nothing else.
fn agrees(outer: &Path, unpacked: &Unpacked) {
    let directory = outer.join("directory");
    for entry in unpacked.manifest.entries() {
        let about = std::fs::symlink_metadata(entry.path.under(&directory));
        let about = about.unwrap_or_else(|error| panic!("{}: {error}", entry.path));
        let kind = about.file_type();
        let same = match &entry.node {
            Node::File { size, .. } => kind.is_file() && about.len() == *size,
            // A link to a link, or to a device, is another one of its kind.
            Node::HardLink { .. } => !kind.is_dir(),
            Node::Directory { .. } => kind.is_dir(),
            Node::Symlink { .. } => kind.is_symlink(),
            Node::Fifo => kind.is_fifo(),
            Node::CharDevice { .. } | Node::Whiteout => kind.is_char_device() || kind.is_file(),
            Node::BlockDevice { .. } => kind.is_block_device() || kind.is_file(),
            Node::Socket => false,
        };
        assert!(same, "{entry:?} is {kind:?}");
    }
    let mut open = vec![directory.clone()];
    let mut count = 0;
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            count += 1;
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    assert_eq!(count, unpacked.manifest.entries().len());
}

fn cases() -> u32 {
    let given = std::env::var("PROPTEST_CASES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(300)
}

const MAGIC: &[&[u8]] = &[
    b"",
    &[0x1f, 0x8b, 8],
    &[0x28, 0xb5, 0x2f, 0xfd],
    b"BZh9",
    &[0xfd, b'7', b'z', b'X', b'Z', 0],
];

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_of_every_kind(entries in prop::collection::vec(made(), 0..12)) {
        if let Some((outer, unpacked)) = try_out(&archive(&entries)) {
            agrees(outer.path(), &unpacked);
        }
    }

    #[test]
    fn damaged_archives(
        entries in prop::collection::vec(made(), 1..5),
        at: prop::sample::Index, byte: u8, end: prop::sample::Index,
    ) {
        let mut bytes = archive(&entries);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        _ = try_out(&bytes);
        _ = try_out(&bytes[..end.index(bytes.len())]);
    }

    #[test]
    fn any_bytes(start in prop::sample::select(MAGIC), bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        _ = try_out(&[start, &bytes].concat());
    }
}

/// A few compressed bytes that unpack to gigabytes of header take no memory to speak of.
#[test]
fn headers_without_end_are_refused() {
    for kind in [b'x', b'L', b'K'] {
        let mut bytes = block(b"a", b"", kind, 6 << 30, 0).to_vec();
        bytes.resize(64 << 20, b'1');
        let outer = tempfile::tempdir().unwrap();
        let error = unpack(&*bytes, &TreeRoot::at(outer.path()), &options()).unwrap_err();
        assert!(error.to_string().contains("larger than 4 MiB"), "{error}");
    }
}

#[test]
fn zeros_take_no_disk() {
    let data = vec![0; 64 << 20];
    let entry = Made {
        data,
        ..Made::new("zeros", b'0')
    };
    let (outer, unpacked) = try_out(&archive(&[entry])).unwrap();
    agrees(outer.path(), &unpacked);
    let about = std::fs::metadata(outer.path().join("directory/zeros")).unwrap();
    assert_eq!((about.len(), about.blocks()), (64 << 20, 0));
}

#[test]
fn overlayfs_is_told_nothing_by_a_layer() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = |name: &str, xattr: &str| Made {
        pax: vec![(format!("SCHILY.xattr.{xattr}"), b"y".to_vec())],
        ..Made::new(name, b'5')
    };
    let entries = [
        directory("a", "trusted.overlay.opaque"),
        directory("b", "user.overlay.redirect"),
        Made::new("gone", b'3'),
    ];
    let (outer, unpacked) = try_out(&archive(&entries)).unwrap();
    agrees(outer.path(), &unpacked);
    let entries = unpacked.manifest.entries();
    let nodes: Vec<&Node> = entries.iter().map(|entry| &entry.node).collect();
    let plain = Node::Directory { opaque: false };
    assert_eq!(nodes, [&plain, &plain, &Node::Whiteout]);
    assert!(entries.iter().all(|entry| entry.xattrs.is_empty()));
    let mut names = [0u8; 4096];
    for name in ["a", "b"] {
        let path = outer.path().join("directory").join(name);
        let count = rustix::fs::llistxattr(&path, &mut names).unwrap();
        let names = String::from_utf8_lossy(&names[..count]);
        assert!(!names.contains("overlay"), "{names}");
    }
}
