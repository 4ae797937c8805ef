//! The commit that a directory is checked out from, read without git: a build must not wait for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// References lead no further than this.
const MAX_LINKS: usize = 5;

/// `revision`, and `source` where there is a remote repository; nothing outside of a checkout.
pub(super) fn of(directory: &Path) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    let git = directory
        .ancestors()
        .find_map(|directory| git_directory(&directory.join(".git")));
    let Some(git) = git else { return facts };
    let shared = std::fs::read_to_string(git.join("commondir"));
    let shared = shared.map_or_else(|_| git.clone(), |path| git.join(path.trim()));
    let revision = revision(&git, &shared);
    facts.extend(revision.map(|revision| ("revision".to_owned(), revision)));
    let remote = remote(&shared.join("config"));
    facts.extend(remote.map(|remote| ("source".to_owned(), remote)));
    facts
}

/// The directory itself, or what a worktree's file names.
fn git_directory(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let text = std::fs::read_to_string(path).ok()?;
    let target = text.strip_prefix("gitdir:")?.trim();
    Some(path.parent()?.join(target))
}

fn revision(git: &Path, shared: &Path) -> Option<String> {
    let mut text = std::fs::read_to_string(git.join("HEAD")).ok()?;
    for _ in 0..MAX_LINKS {
        let value = text.trim();
        let Some(name) = value.strip_prefix("ref: ") else {
            let is_commit = value.len() >= 40 && value.bytes().all(|b| b.is_ascii_hexdigit());
            return is_commit.then(|| value.to_owned());
        };
        let is_plain = name.starts_with("refs/") && !name.split('/').any(|part| part == "..");
        text = match std::fs::read_to_string(shared.join(name)) {
            _ if !is_plain => return None,
            Ok(text) => text,
            Err(_) => packed(&shared.join("packed-refs"), name)?,
        };
    }
    None
}

fn packed(file: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .find(|(_, own)| *own == name)
        .map(|(commit, _)| commit.to_owned())
}

/// The address of `origin`, or of the only remote.
fn remote(config: &Path) -> Option<String> {
    let text = std::fs::read_to_string(config).ok()?;
    let mut remotes = BTreeMap::new();
    let mut section = None;
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let name = header
                .strip_prefix("remote \"")
                .and_then(|rest| rest.strip_suffix("\"]"));
            section = name.map(str::to_owned);
        } else if let (Some(name), Some((key, value))) = (&section, line.split_once('='))
            && key.trim() == "url"
        {
            remotes.insert(name.clone(), value.trim().to_owned());
        }
    }
    let only = (remotes.len() == 1)
        .then(|| remotes.values().next().cloned())
        .flatten();
    remotes.remove("origin").or(only)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(directory: &Path, args: &str) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(args.split(' '))
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn what_git_says() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        assert!(of(directory).is_empty());
        git(directory, "init -q");
        git(directory, "commit -q --allow-empty -m x");
        git(directory, "remote add origin https://u:p@example.com/x.git");
        let commit = git(directory, "rev-parse HEAD");
        std::fs::create_dir(directory.join("sub")).unwrap();
        let found = of(&directory.join("sub"));
        assert_eq!(found["revision"], commit);
        assert_eq!(found["source"], "https://u:p@example.com/x.git");
        git(directory, "pack-refs --all");
        assert_eq!(of(directory)["revision"], commit);
        git(directory, "worktree add -q tree");
        assert_eq!(of(&directory.join("tree"))["revision"], commit);
        git(directory, "checkout -q --detach");
        assert_eq!(of(directory)["revision"], commit);
    }
}
