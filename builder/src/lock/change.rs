//! What differs between two locks.

use std::collections::BTreeMap;
use std::fmt;

use super::{Lock, find};

/// One entry that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// An image's name, a repository with its branch or tag, a file's address.
    name: String,
    before: Option<String>,
    after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                write!(f, "{name}  {} -> {}", short(before), short(after))
            }
            (None, Some(after)) => write!(f, "{name}  new: {}", short(after)),
            (Some(_), None) => write!(f, "{name}  no longer used"),
            (None, None) => f.write_str(name),
        }
    }
}

/// All that differs, by kind and name.
#[must_use]
pub fn changes(before: &Lock, after: &Lock) -> Vec<Change> {
    let (before, after) = (entries(before), entries(after));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| Change {
        name: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    let all = names.into_iter().map(change);
    all.filter(|change| change.before != change.after).collect()
}

impl Lock {
    /// Leaves an entry out, or all of them when the name is empty.
    ///
    /// # Errors
    /// In words, when there is no such entry.
    pub fn forget(&mut self, name: &str) -> Result<(), String> {
        if name.is_empty() {
            // Which signatures are wanted is what somebody wrote, not what a name stood for.
            *self = Self {
                signatures: std::mem::take(&mut self.signatures),
                ..Self::default()
            };
            return Ok(());
        }
        let own = find(&self.images, name).map(|(own, _)| own.clone());
        if own.is_none() && !entries(self).contains_key(name) {
            let known: Vec<String> = entries(self).into_keys().collect();
            let known = known.join(", ");
            return Err(format!(
                "--update {name}: there is no such entry in the lock, but {known}"
            ));
        }
        if let Some(own) = own {
            self.images.remove(&own);
        }
        self.sources.http.remove(name);
        let git = &mut self.sources.git;
        git.retain(|(remote, reference), _| shown(remote, reference) != name);
        Ok(())
    }

    /// Takes over which signatures images must have. An image that the build file doesn't name any
    /// more keeps its entry, for what somebody wrote there is to count again when it is named again.
    pub fn keep_signatures(&mut self, before: &Self) {
        for (name, rule) in &before.signatures {
            let own = find(&self.images, name).map(|(own, _)| own.clone());
            let own = own.unwrap_or_else(|| name.clone());
            if let Some(digest) = before.images.get(name) {
                self.images.entry(own.clone()).or_insert(*digest);
            }
            self.signatures.insert(own, rule.clone());
        }
    }

    /// Adds entries that aren't there.
    pub fn add(&mut self, other: Self) {
        for (name, digest) in other.images {
            if find(&self.images, &name).is_none() {
                self.images.insert(name, digest);
            }
        }
        for (name, commit) in other.sources.git {
            self.sources.git.entry(name).or_insert(commit);
        }
        for (url, checksum) in other.sources.http {
            self.sources.http.entry(url).or_insert(checksum);
        }
    }
}

/// A branch or tag of a repository; the repository alone stands for its default branch.
fn shown(remote: &str, reference: &str) -> String {
    match reference {
        "" => remote.to_owned(),
        reference => format!("{remote}#{reference}"),
    }
}

fn entries(lock: &Lock) -> BTreeMap<String, String> {
    let images = lock.images.iter();
    let images = images.map(|(name, digest)| (name.clone(), digest.to_string()));
    let git = lock.sources.git.iter();
    let git = git.map(|((remote, name), commit)| (shown(remote, name), commit.clone()));
    let http = lock.sources.http.iter();
    let http = http.map(|(url, sum)| (url.clone(), sum.to_string()));
    images.chain(git).chain(http).collect()
}

/// The beginning of a digest or commit.
fn short(digest: &str) -> &str {
    let end = match digest.starts_with("sha256:") {
        true => 19,
        false => 12,
    };
    digest.get(..end).unwrap_or(digest)
}
