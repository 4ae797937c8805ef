//! The examples of the book: each page is one session in a directory of its own. A block that is
//! tagged `file=NAME` is a file, one tagged `run` is a script.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_tests::{Registry, Run, kiln_binary, run};

/// A fenced block of a page.
struct Block {
    /// The words behind the fence: the language, then `run` or `file=NAME`.
    tags: Vec<String>,
    text: String,
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(tags) => {
                open = true;
                blocks.push(Block {
                    tags: tags.split(',').map(str::to_owned).collect(),
                    text: String::new(),
                    line: number + 1,
                });
            }
            None if open => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

fn pages(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(pages(&path)),
            false => found.push(path),
        }
    }
    found.retain(|path| path.extension().is_some_and(|end| end == "md"));
    found
}

/// A registry that has `busybox` where Docker Hub has it, and the settings that name it.
fn hub(directory: &Path) -> (Registry, PathBuf) {
    let registry = Registry::start(&directory.join("registry"), false);
    let from = format!("docker://{}", kiln_tests::BUSYBOX);
    let to = format!("docker://{}", registry.name("library/busybox:latest"));
    let flags = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    _ = run("skopeo", &["copy", flags[0], flags[1], &from, &to]);
    let config = directory.join("kiln.conf");
    let host = registry.name("");
    let text = format!(
        "[registries.\"docker.io\"]\nmirrors = [\"http://{}\"]\n",
        host.trim_end_matches('/')
    );
    std::fs::write(&config, text).unwrap();
    (registry, config)
}

#[test]
fn examples_work() {
    let directory = tempfile::tempdir().unwrap();
    let (_registry, config) = hub(directory.path());
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(kiln_binary(), bin.join("kiln")).unwrap();
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut scripts = 0;
    for (number, page) in pages(&book).iter().enumerate() {
        let text = std::fs::read_to_string(page).unwrap();
        let place = directory.path().join(number.to_string());
        std::fs::create_dir(&place).unwrap();
        for block in blocks(&text) {
            let file = block.tags.iter().find_map(|tag| tag.strip_prefix("file="));
            if let Some(name) = file {
                std::fs::write(place.join(name), &block.text).unwrap();
            }
            if !block.tags.iter().any(|tag| tag == "run") {
                continue;
            }
            scripts += 1;
            let output = Command::new("bash")
                .args(["-euo", "pipefail", "-c", &block.text])
                .current_dir(&place)
                .env("PATH", &path)
                .env("KILN_CONFIG", &config)
                .env("KILN_ROOT", directory.path().join("store"))
                .output();
            let run = Run::of(&output.unwrap());
            let at = format!("{}:{}", page.display(), block.line);
            assert_eq!(run.status, Some(0), "{at}\n{}{}", run.stdout, run.stderr);
        }
    }
    assert!(scripts >= 9, "only {scripts} scripts were found");
}

#[test]
fn the_summary_names_every_page() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src");
    let summary = std::fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    for page in pages(&book) {
        let name = page.strip_prefix(&book).unwrap().display().to_string();
        let is_named = summary.contains(&format!("({name})"));
        assert!(is_named || name == "SUMMARY.md", "{name}");
    }
}
