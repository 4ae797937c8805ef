//! The paths that every build goes through: `cargo bench -p kiln-benches`.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::fs::File;
use std::path::Path;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kiln_cache::scan::context::{Decision, Selection, scan};
use kiln_cache::{KeyParts, Options, Record, Store};
use kiln_frontend_dockerfile as dockerfile;
use kiln_graph::{Digest, Entry, ImagePath, Manifest, Node, StepKey};
use kiln_image::layer::{Codec, EncodeOptions, UnpackOptions, encode, unpack};
use kiln_tree::{OverlayXattrs, TreeRoot};

const FILES: usize = 5_000;
const SIZE: usize = 4_096;

fn main() {
    divan::main();
}

/// Bytes that compress about as well as programs do.
fn content(seed: usize) -> Vec<u8> {
    let noise = Digest::of(&seed.to_le_bytes());
    let line = noise
        .as_bytes()
        .iter()
        .chain(b"the same words again and again ");
    line.copied().cycle().take(SIZE).collect()
}

fn write_files(directory: &Path) {
    for number in 0..FILES {
        let parent = directory.join(format!("d{}", number % 50));
        std::fs::create_dir_all(&parent).unwrap();
        std::fs::write(parent.join(format!("f{number}")), content(number)).unwrap();
    }
}

fn manifest() -> Manifest {
    let entry = |number: usize| Entry {
        node: Node::File {
            size: SIZE as u64,
            digest: Digest::of(&content(number)),
        },
        ..Entry::directory(ImagePath::new(format!("/d{}/f{number}", number % 50)))
    };
    let directories = (0..50).map(|n| Entry::directory(ImagePath::new(format!("/d{n}"))));
    directories.chain((0..FILES).map(entry)).collect()
}

#[divan::bench]
fn parse_a_dockerfile(bencher: Bencher<'_, '_>) {
    let steps: String = (0..200)
        .map(|n| format!("RUN --mount=type=cache,target=/c{n} make step-{n} \\\n  && true\n"))
        .collect();
    let text = format!("FROM scratch\n{steps}");
    bencher
        .counter(ItemsCount::new(200usize))
        .bench(|| dockerfile::parse("Dockerfile", black_box(&text)).unwrap());
}

#[divan::bench]
fn compile_a_dockerfile(bencher: Bencher<'_, '_>) {
    let steps: String = (0..200).map(|n| format!("RUN make step-{n}\n")).collect();
    let file = dockerfile::parse("Dockerfile", &format!("FROM scratch\n{steps}")).unwrap();
    let (options, images) = (
        dockerfile::Options::default(),
        dockerfile::ImageTable::new(),
    );
    bencher
        .counter(ItemsCount::new(200usize))
        .bench(|| dockerfile::compile(black_box(&file), &options, &images).unwrap());
}

#[divan::bench]
fn tree_digest(bencher: Bencher<'_, '_>) {
    let manifest = manifest();
    bencher
        .counter(ItemsCount::new(FILES))
        .bench(|| black_box(&manifest).id());
}

fn scan_with(bencher: Bencher<'_, '_>, warm: bool) {
    let directory = tempfile::tempdir().unwrap();
    let context = directory.path().join("context");
    std::fs::create_dir(&context).unwrap();
    write_files(&context);
    // Files written just now are not remembered.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let roots = [ImagePath::root()];
    let wanted = Selection {
        roots: &roots,
        filter: &|_, _| Decision::Take,
    };
    let open = |name: &str| Store::open(&directory.path().join(name), Options::default()).unwrap();
    let store = open("store");
    _ = scan(&store, &context, &wanted).unwrap();
    let number = std::cell::Cell::new(0);
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| {
        if warm {
            return scan(&store, &context, &wanted).unwrap();
        }
        number.set(number.get() + 1);
        scan(&open(&number.get().to_string()), &context, &wanted).unwrap()
    });
}

#[divan::bench]
fn scan_unchanged_files(bencher: Bencher<'_, '_>) {
    scan_with(bencher, true);
}

#[divan::bench(sample_count = 20)]
fn scan_files_never_seen(bencher: Bencher<'_, '_>) {
    scan_with(bencher, false);
}

#[divan::bench]
fn look_a_step_up(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store"), Options::default()).unwrap();
    let tree = store.trees().empty().unwrap();
    let key = |n: u32| StepKey(Digest::of(&n.to_le_bytes()));
    for n in 0..1_000 {
        let record = Record {
            key: key(n),
            output: vec![tree.id()],
            parts: KeyParts {
                definition: kiln_graph::DefinitionDigest(Digest::of(b"x")),
                operation: serde_json::Value::Null,
                inputs: Vec::new(),
            },
            name: "step".to_owned(),
            location: None,
            duration: std::time::Duration::ZERO,
            created: 0,
            stdout: None,
        };
        store.records().put(&record).unwrap();
    }
    bencher.bench(|| store.records().get(black_box(&key(500))).unwrap().unwrap());
}

fn encode_with(bencher: Bencher<'_, '_>, codec: Codec) {
    let directory = tempfile::tempdir().unwrap();
    write_files(directory.path());
    let manifest = manifest();
    let source = |entry: &Entry| File::open(entry.path.under(directory.path()));
    bencher.counter(BytesCount::new(FILES * SIZE)).bench(|| {
        let out = tempfile::tempfile().unwrap();
        let options = EncodeOptions::default();
        encode(manifest.entries(), &source, codec, out, &options).unwrap()
    });
}

#[divan::bench(sample_count = 20)]
fn layer_as_gzip(bencher: Bencher<'_, '_>) {
    encode_with(bencher, Codec::Gzip(6));
}

#[divan::bench(sample_count = 20)]
fn layer_as_zstd(bencher: Bencher<'_, '_>) {
    encode_with(bencher, Codec::Zstd(3));
}

#[divan::bench(sample_count = 20)]
fn layer_as_tar(bencher: Bencher<'_, '_>) {
    encode_with(bencher, Codec::Uncompressed);
}

#[divan::bench(sample_count = 10)]
fn unpack_a_layer(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    write_files(&files);
    let manifest = manifest();
    let source = |entry: &Entry| File::open(entry.path.under(&files));
    let layer = directory.path().join("layer");
    let options = EncodeOptions::default();
    let out = File::create(&layer).unwrap();
    _ = encode(manifest.entries(), &source, Codec::Gzip(6), out, &options).unwrap();
    bencher
        .counter(BytesCount::new(FILES * SIZE))
        .with_inputs(|| tempfile::tempdir_in(directory.path()).unwrap())
        .bench_values(|target| {
            let options = UnpackOptions {
                xattrs: OverlayXattrs::User,
                give_away: false,
                whiteouts: true,
            };
            _ = unpack(
                File::open(&layer).unwrap(),
                &TreeRoot::at(target.path()),
                &options,
            )
            .unwrap();
            target
        });
}
