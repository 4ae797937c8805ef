//! What is written is read back, whatever the files; what strangers write is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write as _};

use kiln_delta::{
    Catalog, DeltaError, Level, Limits, OldEntry, OldFile, OldFiles, Saved, apply, diff,
};
use kiln_graph::Digest;
use proptest::prelude::*;

#[derive(Clone, Debug, Default)]
struct Image(BTreeMap<String, Vec<u8>>);

impl Image {
    fn of(files: &[(&str, &[u8])]) -> Self {
        let one = |(path, content): &(&str, &[u8])| ((*path).to_owned(), content.to_vec());
        Self(files.iter().map(one).collect())
    }

    fn catalog(&self) -> Catalog {
        let entry = |(path, content): (&String, &Vec<u8>)| OldEntry {
            path: path.clone(),
            size: content.len() as u64,
            digest: Digest::of(content),
        };
        self.0.iter().map(entry).collect()
    }

    fn tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder
                .append_data(&mut header, path, &content[..])
                .unwrap();
        }
        builder.into_inner().unwrap()
    }
}

impl OldFiles for Image {
    fn open(&self, path: &str) -> io::Result<Option<OldFile>> {
        let open = |content: &Vec<u8>| OldFile {
            size: content.len() as u64,
            content: Box::new(Cursor::new(content.clone())),
        };
        Ok(self.0.get(path).map(open))
    }
}

fn delta(old: &Image, tar: &[u8], level: Level) -> (Vec<u8>, Saved) {
    diff(tar, &old.catalog(), old, level, Vec::new()).unwrap()
}

fn applied(delta: &[u8], old: &Image, limit: u64) -> Result<Vec<u8>, DeltaError> {
    let mut out = Vec::new();
    apply(delta, old, &mut out, Limits { tar: limit })?;
    Ok(out)
}

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(seed | 1);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

fn edited(content: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut edited = content.to_vec();
    let at = at.min(edited.len());
    edited.splice(at..at, with.iter().copied());
    edited
}

#[test]
fn changed_renamed_and_moved_files_cost_little() {
    let library = noise(1, 300_000);
    let old = Image::of(&[
        ("usr/lib/libfoo.so.1.2.3", &library),
        ("usr/bin/tool", &noise(2, 50_000)),
        ("etc/moved", &noise(3, 40_000)),
    ]);
    let new = Image::of(&[
        (
            "usr/lib/libfoo.so.1.2.4",
            &edited(&library, 100_000, b"new code"),
        ),
        ("usr/bin/tool", &edited(&noise(2, 50_000), 9, b"x")),
        ("opt/elsewhere", &noise(3, 40_000)),
    ]);
    let tar = new.tar();
    for level in [Level::Fast, Level::Best] {
        let (delta, saved) = delta(&old, &tar, level);
        assert!(delta.len() < 2000, "{level:?}: {}", delta.len());
        assert_eq!((saved.tar, saved.copied), (tar.len() as u64, 40_000));
        assert!(applied(&delta, &old, tar.len() as u64).unwrap() == tar);
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let old = Image::of(&[("a", &noise(1, 200_000)), ("b", &noise(2, 10))]);
    let tar = Image::of(&[
        ("a", &edited(&noise(1, 200_000), 5, b"y")),
        ("c", &noise(4, 999)),
    ])
    .tar();
    assert!(delta(&old, &tar, Level::Fast) == delta(&old, &tar, Level::Fast));
}

#[test]
fn a_difference_gives_no_more_than_it_may() {
    let old = Image::of(&[("a", &noise(1, 5000))]);
    let tar = Image::of(&[
        ("a", &noise(1, 5000)),
        ("b", &edited(&noise(1, 5000), 7, b"z")),
    ])
    .tar();
    let (delta, _) = delta(&old, &tar, Level::Fast);
    for limit in [0, 1, 512, 6000, tar.len() as u64 - 1] {
        let error = applied(&delta, &old, limit).unwrap_err();
        assert!(
            matches!(error, DeltaError::TooLarge { .. }),
            "{limit}: {error}"
        );
    }
}

/// A difference with these operations.
fn raw(ops: &[u8]) -> Vec<u8> {
    let mut out = b"tardf2\n\0".to_vec();
    out.extend(zstd::bulk::compress(ops, 3).unwrap());
    out
}

fn op(code: u8, number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![code];
    let mut number = number;
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out.extend(bytes);
    out
}

/// A name, operations, and what their refusal says.
type Hostile = (&'static str, Vec<u8>, &'static str);

/// Reads of the old image that can't be.
fn hostile_reads() -> Vec<Hostile> {
    let open = op(1, 1, b"a");
    let after_open = |then: Vec<u8>| [open.clone(), then].concat();
    let bomb = {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(&vec![0; 4 << 20]).unwrap();
        encoder.finish().unwrap()
    };
    vec![
        ("no file open", op(2, 1, b""), "before it opens"),
        ("seek with no file", op(4, 0, b""), "before it opens"),
        ("frame with no file", op(5, 0, b""), "before it opens"),
        (
            "copy past the end",
            after_open(op(2, 11, b"")),
            "past the end",
        ),
        (
            "copy past all numbers",
            after_open([op(2, 1, b""), op(2, u64::MAX, b"")].concat()),
            "past the end",
        ),
        (
            "seek past the end",
            after_open(op(4, 11, b"")),
            "past the end",
        ),
        (
            "add past the end",
            after_open(op(3, 11, &[1; 11])),
            "past the end",
        ),
        (
            "add of too much",
            after_open(op(3, 200 << 20, b"")),
            "adds more",
        ),
        ("a path that leaves", op(1, 12, b"../../etc/xx"), "no file"),
        ("a path from the root", op(1, 11, b"/etc/passwd"), "no file"),
        ("no path", op(1, 0, b""), "no file"),
        ("a long path", op(1, 1 << 20, b"x"), "longer than"),
        ("a path that is no text", op(1, 2, b"\xff\xfe"), "UTF-8"),
        ("a frame that is none", after_open(op(5, 3, b"abc")), ""),
        ("a frame that isn't there", after_open(op(5, 3, b"a")), ""),
        (
            "a bomb",
            after_open(op(5, bomb.len() as u64, &bomb)),
            "more than the",
        ),
    ]
}

/// Operations that are none, end too early or are too many.
fn hostile_streams() -> Vec<Hostile> {
    let many = |one: Vec<u8>| one.repeat(200_000);
    vec![
        ("data that isn't there", op(0, 5, b"abc"), "truncated"),
        (
            "data of all numbers",
            op(0, u64::MAX, b"abc"),
            "more than the",
        ),
        ("a number that isn't there", vec![0], "truncated"),
        (
            "a number without end",
            [vec![0], vec![0xff; 20]].concat(),
            "64 bits",
        ),
        ("an unknown operation", op(9, 0, b""), "unknown operation 9"),
        (
            "nothing done often",
            many(op(0, 0, b"")),
            "more than a layer",
        ),
        (
            "files opened often",
            many(op(1, 1, b"a")),
            "more than a layer",
        ),
    ]
}

#[test]
fn hostile_differences_are_refused() {
    let old = Image::of(&[("a", b"0123456789")]);
    for (name, ops, want) in hostile_reads().into_iter().chain(hostile_streams()) {
        let error = applied(&raw(&ops), &old, 100_000)
            .expect_err(name)
            .to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
    for (name, bytes) in [
        ("nothing", &b""[..]),
        ("text", b"hello, this is text"),
        ("magic", b"tardf2\n\0ab"),
    ] {
        assert!(applied(bytes, &old, 100).is_err(), "{name}");
    }
}

#[test]
fn version_1_has_no_frames_but_all_else() {
    let old = Image::of(&[("a", b"0123456789")]);
    let frame = zstd::bulk::compress(b"new", 3).unwrap();
    let ops = [
        op(1, 1, b"a"),
        op(4, 2, b""),
        op(2, 3, b""),
        op(3, 2, &[1, 255]),
        op(0, 1, b"!"),
    ]
    .concat();
    let version_1 = |ops: &[u8]| {
        let mut bytes = raw(ops);
        bytes[5] = b'1';
        bytes
    };
    assert_eq!(applied(&version_1(&ops), &old, 100).unwrap(), b"23465!");
    let with_frame = [op(1, 1, b"a"), op(5, frame.len() as u64, &frame)].concat();
    assert_eq!(applied(&raw(&with_frame), &old, 100).unwrap(), b"new");
    let error = applied(&version_1(&with_frame), &old, 100).unwrap_err();
    assert!(matches!(error, DeltaError::UnknownOp(5)), "{error}");
}

#[test]
fn a_truncated_difference_is_never_taken_for_whole() {
    let old = Image::of(&[("a", &noise(1, 9000))]);
    let tar = Image::of(&[("a", &edited(&noise(1, 9000), 7, b"abc"))]).tar();
    let (delta, _) = delta(&old, &tar, Level::Fast);
    for cut in 0..delta.len() {
        let given = applied(&delta[..cut], &old, tar.len() as u64);
        assert!(given.is_err(), "{cut} of {}", delta.len());
    }
}

fn images() -> impl Strategy<Value = (Image, Image)> {
    let file = (0usize..6, 0u64..4, 0usize..5000);
    let files = proptest::collection::vec(file, 0..6);
    let edits = proptest::collection::vec((0usize..6, 0usize..5000, any::<[u8; 3]>()), 0..6);
    (files, edits).prop_map(|(files, edits)| {
        let name = |number: usize| format!("dir{}/lib{number}.so.1.{number}", number % 2);
        let old: BTreeMap<String, Vec<u8>> = files
            .iter()
            .map(|(number, seed, size)| (name(*number), noise(*seed, *size)))
            .collect();
        let mut new = old.clone();
        for (number, at, with) in edits {
            let before = old.get(&name(number)).cloned().unwrap_or_default();
            let path = match at % 3 {
                0 => name(number),
                1 => format!("dir0/lib{number}.so.2.0"),
                _ => format!("new{number}"),
            };
            new.insert(path, edited(&before, at, &with));
        }
        (Image(old), Image(new))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_files_the_tar_is_rebuilt((old, new) in images()) {
        let tar = new.tar();
        let (delta, saved) = delta(&old, &tar, Level::Fast);
        prop_assert_eq!(saved.tar, tar.len() as u64);
        prop_assert!(applied(&delta, &old, tar.len() as u64).unwrap() == tar);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let old = Image::of(&[("a", b"0123456789")]);
        _ = applied(&raw(&bytes), &old, 10_000);
        _ = applied(&bytes, &old, 10_000);
    }

    #[test]
    fn what_is_no_tar_is_rebuilt_too(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let old = Image::of(&[("a", &bytes)]);
        let (delta, _) = delta(&old, &bytes, Level::Fast);
        prop_assert!(applied(&delta, &old, bytes.len() as u64).unwrap() == bytes);
    }
}
