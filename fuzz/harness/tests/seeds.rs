//! Every harness takes its seeds, and seeds changed at random. `KILN_FUZZ_RUNS` and
//! `KILN_FUZZ_SEED` make this a fuzzer that runs as long as one likes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "these are tests"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_fuzz_harness::{HARNESSES, Harness};

/// Longest that an input of at most [`MAX_INPUT`] bytes may take.
const PATIENCE: Duration = Duration::from_secs(10);

const MAX_INPUT: usize = 1 << 16;

/// Pieces that formats give a meaning to.
const PIECES: &[&[u8]] = &[
    b"\n",
    b"\\\n",
    b" ",
    b"\t",
    b"\0",
    b"\"",
    b"'",
    b"$",
    b"${",
    b"}",
    b":-",
    b"//",
    b"*",
    b"**",
    b"[",
    b"]",
    b"{",
    b"<<E\n",
    b"#",
    b"!",
    b"..",
    b"/",
    b"=",
    b",",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xc3\xa9",
    b"FROM a\n",
    b"RUN ",
    b"COPY ",
    b"ENV A=",
    b"[steps.a]\n",
];

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }

    fn change(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(20)).min(bytes.len());
        match self.below(7) {
            0 => _ = bytes.splice(at..end, []),
            1 => {
                let piece = PIECES[self.below(PIECES.len())];
                _ = bytes.splice(at..at, piece.iter().copied());
            }
            2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            3 if at < bytes.len() => bytes[at] = self.next().to_le_bytes()[0],
            4 => {
                let piece = bytes[at..end].to_vec();
                let times = 1 + self.below(50);
                _ = bytes.splice(at..at, piece.repeat(times));
            }
            5 => {
                let other = &others[self.below(others.len())];
                let from = self.below(other.len() + 1);
                let to = (from + self.below(200)).min(other.len());
                _ = bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes.truncate(at),
        }
        bytes.truncate(MAX_INPUT);
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../seeds")
        .join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no seeds", directory.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn try_out(name: &str, harness: Harness, input: &[u8]) {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| harness(input)));
    let took = started.elapsed();
    let shown = || input.escape_ascii().to_string();
    assert!(outcome.is_ok(), "{name} panics at \"{}\"", shown());
    assert!(took < PATIENCE, "{name} takes {took:?} for \"{}\"", shown());
}

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn fuzz(name: &str) {
    let (_, harness) = HARNESSES.iter().find(|(known, _)| *known == name).unwrap();
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| try_out(name, *harness, seed));
    // Each asks a server, or writes files.
    let default = match name {
        "context_stream" | "registry_answer" => 40,
        _ => 400,
    };
    let runs = number("KILN_FUZZ_RUNS", default);
    let mut random = Random(number("KILN_FUZZ_SEED", 1) | 1 << 40);
    for _ in 0..runs {
        let mut input = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(6) {
            random.change(&mut input, &seeds);
        }
        try_out(name, *harness, &input);
    }
    println!("{name}: {} seeds, {runs} changed", seeds.len());
}

macro_rules! harnesses {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name));
            }
        )*

        #[test]
        fn none_is_left_out() {
            let tested = [$(stringify!($name)),*];
            let all: Vec<&str> = HARNESSES.iter().map(|(name, _)| *name).collect();
            assert_eq!(tested.to_vec(), all);
        }
    };
}

harnesses! {
    cache_entry context_stream delta dockerfile expansion globs ignore_file kiln_toml layer_tar
    manifest registry_answer rpm_database
}
