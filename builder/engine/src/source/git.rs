//! Commits of git repositories. Each becomes a tree.

use std::path::Path;
use std::process::Command;

use kiln_cache::scan::upper::{self, UpperOptions};
use kiln_graph::{GitSource, ImagePath, Step, Timestamp, TreeId};

use super::memo_key;
use crate::step::{Done, Shared};
use crate::{Cancel, Engine, EngineError, Outcome};

impl Shared<'_> {
    /// Fetches a commit, unless the store has it.
    pub(crate) fn git(&self, step: &Step, source: &GitSource) -> Result<Done, EngineError> {
        let git = Git {
            step,
            source,
            engine: self.engine,
            cancel: &self.cancel,
        };
        let commit = git.resolve()?;
        let flags = format!("{} {} dated", source.keep_git_dir, source.submodules);
        let key = memo_key(&[&source.remote, &commit, &source.subdir.to_string(), &flags]);
        if let Some(id) = self.engine.store.memo::<TreeId>("git", &key)?
            && let Some(tree) = self.engine.store.tree(&id)?
        {
            return Ok(self.tree_done(&tree, Outcome::Cached));
        }
        let (checkout, staging) = (self.engine.store.staging()?, self.engine.store.staging()?);
        let commit_time = git.check_out(checkout.fs(), &commit)?;
        let Some(wanted) = folder_in(checkout.fs(), &source.subdir) else {
            return Err(git.fail(format!("commit {commit} has no folder {}", source.subdir)));
        };
        std::fs::remove_dir(staging.fs())
            .and_then(|()| std::fs::rename(&wanted, staging.fs()))
            .map_err(|source| EngineError::Output {
                what: "the checkout".to_owned(),
                source,
            })?;
        let fail = |error| git.fail(error);
        date_all(staging.fs(), commit_time).map_err(fail)?;
        let root_owns = |_: &ImagePath, _, _| (0, 0);
        let (xattrs, started) = (
            self.engine.store.xattrs(),
            Timestamp {
                seconds: i64::MIN,
                nanos: 0,
            },
        );
        let manifest = upper::scan(
            staging.fs(),
            &UpperOptions {
                xattrs,
                started,
                owner: &root_owns,
            },
        )?;
        let tree = self.engine.store.commit(staging, manifest)?;
        self.engine.store.put_memo("git", &key, &tree.id())?;
        Ok(self.tree_done(&tree, Outcome::Ran))
    }
}

/// A folder of a checkout. A repository's links may lead anywhere, and are not followed out of it.
fn folder_in(checkout: &Path, subdir: &ImagePath) -> Option<std::path::PathBuf> {
    let checkout = checkout.canonicalize().ok()?;
    let wanted = subdir.under(&checkout).canonicalize().ok()?;
    (wanted.is_dir() && wanted.starts_with(&checkout)).then_some(wanted)
}

/// The `git` command: it knows the user's credentials and every transport.
pub(crate) struct Git<'a> {
    pub(crate) step: &'a Step,
    pub(crate) source: &'a GitSource,
    pub(crate) engine: &'a Engine,
    pub(crate) cancel: &'a Cancel,
}

impl Git<'_> {
    fn fail(&self, reason: impl std::fmt::Display) -> EngineError {
        EngineError::Missing {
            message: format!("{}: {reason}", self.source.remote),
            location: self.step.location.clone(),
        }
    }

    fn run(&self, folder: &Path, args: &[&str]) -> Result<String, EngineError> {
        let mut command = Command::new("git");
        command.current_dir(folder).args([
            "-c",
            "advice.detachedHead=false",
            "-c",
            "safe.directory=*",
            // Runs any command.
            "-c",
            "protocol.ext.allow=never",
        ]);
        command.args(args).env("GIT_TERMINAL_PROMPT", "0");
        let cannot = |error: std::io::Error| self.fail(format!("git can't be run: {error}"));
        let guarded = self.engine.sandbox.guarded(&command);
        let (mut command, lifeline) = guarded.map_err(cannot)?;
        let _guard = self.cancel.on_cancel(move || lifeline.cut());
        let output = command.output().map_err(cannot)?;
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        if output.status.code() == Some(127) {
            return Err(self.fail("git can't be run: install it, or COPY a checkout"));
        }
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(self.fail(format!("git {} failed: {}", args[0], text.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The commit that the reference stands for now.
    pub(crate) fn resolve(&self) -> Result<String, EngineError> {
        if self.source.reference.starts_with('-') {
            return Err(self.fail("a branch, tag or commit does not begin with '-'"));
        }
        let wanted = match self.source.reference.as_str() {
            "" => "HEAD",
            reference => reference,
        };
        let is_commit = wanted.len() == 40 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        let commit = if is_commit {
            wanted.to_owned()
        } else {
            self.look_up(wanted)?
        };
        match &self.source.checksum {
            Some(sum) if !commit.starts_with(sum.as_str()) => Err(self.fail(format!(
                "{wanted} is commit {commit}, but --checksum demands {sum}"
            ))),
            _ => Ok(commit),
        }
    }

    fn look_up(&self, wanted: &str) -> Result<String, EngineError> {
        let listed = self.run(
            Path::new("/"),
            &[
                "ls-remote",
                "--",
                &self.source.remote,
                wanted,
                &format!("{wanted}^{{}}"),
            ],
        )?;
        let lines: Vec<(&str, &str)> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let rank = |name: &str| match name {
            name if name == format!("refs/tags/{wanted}^{{}}") => 0,
            name if name == format!("refs/tags/{wanted}") => 1,
            name if name == format!("refs/heads/{wanted}") => 2,
            name if name == wanted => 3,
            _ => 4,
        };
        let best = lines.iter().min_by_key(|(_, name)| rank(name));
        best.map(|(commit, _)| (*commit).to_owned())
            .ok_or_else(|| self.fail(format!("there is no branch, tag or commit {wanted}")))
    }

    /// Servers that only serve files can't make shallow clones.
    fn submodules(&self, folder: &Path) -> Result<(), EngineError> {
        let update = ["submodule", "update", "-q", "--init", "--recursive"];
        let shallow = [&update[..], &["--depth", "1"]].concat();
        if self.run(folder, &shallow).is_err() {
            self.run(folder, &update)?;
        }
        Ok(())
    }

    /// Brings a commit's files here; when it was made, in seconds since 1970.
    fn check_out(&self, folder: &Path, commit: &str) -> Result<i64, EngineError> {
        self.run(folder, &["init", "-q"])?;
        self.run(
            folder,
            &["remote", "add", "--", "origin", &self.source.remote],
        )?;
        if self
            .run(folder, &["fetch", "-q", "--depth", "1", "origin", commit])
            .is_err()
        {
            self.run(folder, &["fetch", "-q", "--tags", "origin"])?;
        }
        self.run(folder, &["checkout", "-q", commit])?;
        let time = self.run(folder, &["log", "-1", "--format=%ct"])?;
        if self.source.submodules && folder.join(".gitmodules").exists() {
            self.submodules(folder)?;
        }
        if !self.source.keep_git_dir {
            remove_git_dirs(folder).map_err(|error| self.fail(error))?;
        }
        let bad = |error| self.fail(format!("git gives no time for {commit}: {error}"));
        time.trim().parse().map_err(bad)
    }
}

/// Gives everything in a checkout the commit's time, which is the same wherever it is fetched.
fn date_all(folder: &Path, seconds: i64) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            date_all(&entry.path(), seconds)?;
        }
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, entry.path(), &times, flags)?;
    }
    Ok(())
}

/// Removes `.git` of the checkout and of its submodules.
fn remove_git_dirs(folder: &Path) -> std::io::Result<()> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let is_folder = entry.file_type()?.is_dir();
            match (entry.file_name() == ".git", is_folder) {
                (true, true) => std::fs::remove_dir_all(entry.path())?,
                (true, false) => std::fs::remove_file(entry.path())?,
                (false, true) => open.push(entry.path()),
                (false, false) => {}
            }
        }
    }
    Ok(())
}
