//! Commits of git repositories. Each becomes a tree.

use std::path::Path;
use std::process::Command;

use kiln_cache::{Staging, Store, StoreError};
use kiln_graph::address::redact;
use kiln_graph::{Digest, GitSource, ImagePath, Step, Timestamp, is_commit, resolve};
use kiln_sandbox::Sandbox;
use kiln_solve::{Cancel, Job, Outcome, ResolvedSource};
use kiln_tree::upper::{self, UpperOptions};
use kiln_tree::{Decision, Found, TreePath, TreeRoot, walk};

use super::git_access::{Access, GitOptions};
use super::resolved::{memo_key, resolved};
use crate::EngineError;

/// Fetches commits.
#[derive(Debug)]
pub struct GitResolver<'a> {
    /// Keeps the trees.
    pub store: &'a Store,
    /// Runs git below a guard.
    pub sandbox: &'a Sandbox,
    /// What git may use.
    pub options: &'a GitOptions,
}

impl GitResolver<'_> {
    /// The commit that a source stands for now.
    ///
    /// # Errors
    /// When it can't be asked for.
    pub fn commit(
        &self,
        step: &Step,
        source: &GitSource,
        cancel: &Cancel,
    ) -> Result<String, EngineError> {
        Ok(self.git(step, source, cancel).resolve()?.0)
    }

    fn git<'a>(&'a self, step: &'a Step, source: &'a GitSource, cancel: &'a Cancel) -> Git<'a> {
        Git {
            step,
            source,
            sandbox: self.sandbox,
            cancel,
            options: self.options,
        }
    }

    /// Fetches a commit, unless the store has it.
    pub(crate) fn resolve(
        &self,
        job: &Job<'_>,
        source: &GitSource,
    ) -> Result<ResolvedSource, EngineError> {
        let git = self.git(job.step, source, job.cancel);
        let (commit, tag) = git.resolve()?;
        // Only a kept `.git` knows the tag.
        let tag = tag.filter(|_| source.keep_git_dir).unwrap_or_default();
        let opened_by = git.opened_by()?;
        let key = tree_key(source, &commit, &tag, opened_by);
        if let Some(tree) = self.store.memos().tree("git", &key)? {
            // Whoever has other credentials may not be let in.
            if opened_by == OpenedBy::Given && git.names_a_commit() {
                git.list("HEAD")?;
            }
            return Ok(ResolvedSource {
                revision: Some(commit),
                ..resolved(&tree, Outcome::Cached)
            });
        }
        let (staging, commit_time) = self.check_out(&git, &commit, &tag)?;
        date_all(staging.root(), commit_time).map_err(|error| git.fail(error))?;
        let options = UpperOptions {
            xattrs: self.store.xattrs(),
            started: Timestamp {
                seconds: i64::MIN,
                nanos: 0,
            },
            owner: &|_: &ImagePath, _, _| (0, 0),
        };
        let manifest = upper::scan(staging.root(), &options).map_err(StoreError::from)?;
        let tree = self.store.trees().commit(staging, manifest)?;
        self.store.memos().put("git", &key, &tree.id())?;
        Ok(ResolvedSource {
            revision: Some(commit),
            ..resolved(&tree, Outcome::Ran)
        })
    }

    /// The wanted directory of a commit, and when the commit was made, in seconds since 1970.
    fn check_out(
        &self,
        git: &Git<'_>,
        commit: &str,
        tag: &str,
    ) -> Result<(Staging, i64), EngineError> {
        let checkout = self.store.staging()?;
        let time = git.check_out(checkout.fs(), commit, tag)?;
        let subdir = &git.source.subdir;
        let Some(wanted) = directory_in(checkout.root(), subdir) else {
            return Err(git.fail(format!("commit {commit} has no directory {subdir}")));
        };
        match wanted.is_root() {
            true => Ok((checkout, time)),
            false => Ok((self.moved(&checkout.root().join(wanted))?, time)),
        }
    }

    /// A staging directory with the names that a directory of a checkout has.
    fn moved(&self, directory: &TreePath) -> Result<Staging, EngineError> {
        let staging = self.store.staging()?;
        let move_all = || -> std::io::Result<()> {
            for name in directory.root.names(&directory.path)? {
                let to = staging.root().join(ImagePath::new(&name));
                directory.root.rename(&directory.path.join(&name), &to)?;
            }
            Ok(())
        };
        move_all().map_err(|source| EngineError::Output {
            what: "the checkout".to_owned(),
            source,
        })?;
        Ok(staging)
    }
}

/// Whose credentials open a repository.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenedBy {
    Nobody,
    /// Those that were given for the build.
    Given,
    /// The user's own.
    Own,
}

/// What the tree of a commit is remembered under. What credentials opened is not for whoever knows a
/// commit's name.
fn tree_key(source: &GitSource, commit: &str, tag: &str, opened_by: OpenedBy) -> Digest {
    let own = match opened_by {
        OpenedBy::Nobody => "",
        OpenedBy::Given => " given",
        OpenedBy::Own => " own",
    };
    let flags = format!("{} {} dated{own}", source.keep_git_dir, source.submodules);
    let flags = match tag {
        "" => flags,
        tag => format!("{flags} {tag}"),
    };
    memo_key(&[&source.remote, commit, &source.subdir.to_string(), &flags])
}

/// A directory of a checkout. A repository's links may lead anywhere, and are followed inside it.
fn directory_in(checkout: &TreeRoot, subdir: &ImagePath) -> Option<ImagePath> {
    let wanted = resolve(subdir, true, |path| checkout.read_link(path).ok()).ok()?;
    checkout.is_directory(&wanted).then_some(wanted)
}

/// The `git` command, for one source: it knows every transport.
struct Git<'a> {
    step: &'a Step,
    source: &'a GitSource,
    sandbox: &'a Sandbox,
    cancel: &'a Cancel,
    options: &'a GitOptions,
}

impl Git<'_> {
    fn fail(&self, reason: impl std::fmt::Display) -> EngineError {
        EngineError::Source {
            address: redact(&self.source.remote).into_owned(),
            reason: reason.to_string(),
            location: self.step.location.clone(),
        }
    }

    fn access(&self) -> Result<Access, EngineError> {
        Access::of(self.options, &self.source.remote).map_err(|reason| self.fail(reason))
    }

    /// Runs git without a server.
    fn run(&self, directory: &Path, args: &[&str]) -> Result<String, EngineError> {
        self.output(Access::local(), directory, args, |said| {
            said.trim().to_owned()
        })
    }

    /// Runs git where it speaks to servers.
    fn reach(
        &self,
        access: &Access,
        command: Command,
        directory: &Path,
        args: &[&str],
    ) -> Result<String, EngineError> {
        self.output(command, directory, args, |said| access.explain(said))
    }

    /// Runs git; `explain` makes of what it said on failure what the user is told.
    fn output(
        &self,
        mut command: Command,
        directory: &Path,
        args: &[&str],
        explain: impl Fn(&str) -> String,
    ) -> Result<String, EngineError> {
        command.current_dir(directory).args(args);
        let cannot = |error: std::io::Error| self.fail(format!("git can't be run: {error}"));
        let guarded = self.sandbox.guarded(&command);
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
            let said = explain(&format!("git {} failed: {}", args[0], text.trim()));
            return Err(self.fail(said));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The commit that the reference stands for now, and the tag that it is, if it is one.
    fn resolve(&self) -> Result<(String, Option<String>), EngineError> {
        if self.source.reference.starts_with('-') {
            return Err(self.fail("a branch, tag or commit does not begin with '-'"));
        }
        let wanted = match self.source.reference.as_str() {
            "" => "HEAD",
            reference => reference,
        };
        let (commit, tag) = if self.names_a_commit() {
            (wanted.to_owned(), None)
        } else {
            self.look_up(wanted)?
        };
        match &self.source.checksum {
            Some(sum) if !commit.starts_with(sum.as_str()) => Err(self.fail(format!(
                "expected checksum to match {sum}, but {wanted} is commit {commit}"
            ))),
            _ => Ok((commit, tag)),
        }
    }

    fn opened_by(&self) -> Result<OpenedBy, EngineError> {
        Ok(match self.options.own_git {
            true => OpenedBy::Own,
            false if self.access()?.has_credentials() => OpenedBy::Given,
            false => OpenedBy::Nobody,
        })
    }

    /// Whether the reference is a commit, of which no server need be asked.
    fn names_a_commit(&self) -> bool {
        is_commit(&self.source.reference)
    }

    /// What the server says of a reference.
    fn list(&self, wanted: &str) -> Result<String, EngineError> {
        let access = self.access()?;
        let peeled = format!("{wanted}^{{}}");
        let args = ["ls-remote", "--", &access.remote.address, wanted, &peeled];
        self.reach(&access, access.fetching(), Path::new("/"), &args)
    }

    fn look_up(&self, wanted: &str) -> Result<(String, Option<String>), EngineError> {
        let listed = self.list(wanted)?;
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
        let (commit, name) = best.ok_or_else(|| self.fail(no_such(wanted)))?;
        let name = name.strip_suffix("^{}").unwrap_or(name);
        let tag = name.starts_with("refs/tags/").then(|| name.to_owned());
        Ok(((*commit).to_owned(), tag))
    }

    /// Servers that only serve files can't make shallow clones.
    fn submodules(&self, access: &Access, directory: &Path) -> Result<(), EngineError> {
        let update = ["submodule", "update", "-q", "--init", "--recursive"];
        let shallow = [&update[..], &["--depth", "1"]].concat();
        let run = |args: &[&str]| self.reach(access, access.fetching_more(), directory, args);
        if run(&shallow).is_err() {
            run(&update)?;
        }
        Ok(())
    }

    fn fetch(
        &self,
        access: &Access,
        directory: &Path,
        commit: &str,
        tag: &str,
    ) -> Result<(), EngineError> {
        let address = access.remote.address.as_str();
        let fetch = ["fetch", "-q", "--no-recurse-submodules"];
        let run = |args: &[&str]| {
            let args = [&fetch[..], args].concat();
            self.reach(access, access.fetching(), directory, &args)
        };
        if run(&["--depth", "1", "--", address, commit]).is_err() {
            let all = "+refs/heads/*:refs/remotes/origin/*";
            run(&["--tags", "--", address, all])?;
        }
        if !tag.is_empty() {
            let same = format!("+{tag}:{tag}");
            run(&["--depth", "1", "--", address, &same])
                .or_else(|_| run(&["--", address, &same]))?;
        }
        Ok(())
    }

    /// Brings a commit's files here, and the tag, unless it is empty; when it was made, in seconds since 1970.
    fn check_out(&self, directory: &Path, commit: &str, tag: &str) -> Result<i64, EngineError> {
        let access = self.access()?;
        let mut init = vec!["init", "-q", "--template="];
        if commit.len() == SHA256 {
            init.push("--object-format=sha256");
        }
        self.run(directory, &init)?;
        // Relative addresses of submodules are relative to it.
        self.run(
            directory,
            &["remote", "add", "--", "origin", &access.remote.address],
        )?;
        self.fetch(&access, directory, commit, tag)?;
        let git = access.checking_out(self.options);
        self.reach(&access, git, directory, &["checkout", "-q", commit])?;
        let time = self.run(directory, &["log", "-1", "--format=%ct"])?;
        if self.source.submodules && has_submodules(directory) {
            self.submodules(&access, directory)?;
        }
        if !self.source.keep_git_dir {
            remove_git_dirs(&TreeRoot::at(directory)).map_err(|error| self.fail(error))?;
        }
        let bad = |error| self.fail(format!("git gives no time for {commit}: {error}"));
        time.trim().parse().map_err(bad)
    }
}

/// The length of a commit's name in a repository with SHA-256.
const SHA256: usize = 64;

fn no_such(wanted: &str) -> String {
    format!("repository does not contain ref {wanted}: there is no such branch, tag or commit")
}

fn has_submodules(checkout: &Path) -> bool {
    let list = TreeRoot::at(checkout).open_file(&"/.gitmodules".into());
    list.is_ok()
}

/// Gives everything in a checkout the commit's time, which is the same wherever it is fetched.
fn date_all(checkout: &TreeRoot, seconds: i64) -> std::io::Result<()> {
    let time = Timestamp { seconds, nanos: 0 };
    for path in all_paths(checkout)? {
        checkout.set_time(&path, time)?;
    }
    Ok(())
}

/// Everything in a checkout, what a directory holds before the directory.
fn all_paths(checkout: &TreeRoot) -> std::io::Result<Vec<ImagePath>> {
    let take_all = |_: &ImagePath, _: bool| Decision::Take;
    let visit = |found: &Found<'_>| Ok(Some(found.path.clone()));
    let mut all = walk(checkout, &ImagePath::root(), &take_all, &visit)?;
    all.sort_by(|a, b| b.cmp(a));
    Ok(all)
}

/// Removes `.git` of the checkout and of its submodules.
fn remove_git_dirs(checkout: &TreeRoot) -> std::io::Result<()> {
    let filter = |path: &ImagePath, _: bool| match path.parent() {
        Some(parent) if parent.file_name() == Some(b".git") => Decision::SkipAll,
        _ => Decision::Take,
    };
    let is_git = |found: &Found<'_>| {
        let path = &found.path;
        Ok((path.file_name() == Some(b".git")).then(|| path.clone()))
    };
    for path in walk(checkout, &ImagePath::root(), &filter, &is_git)? {
        checkout.remove(&path)?;
    }
    Ok(())
}
