//! The query of a git address: what is wanted of the repository, by key.
//!
//! `ref`, `branch` and `tag` name a commit, `commit` or `checksum` say which one it must be, `subdir`
//! takes a directory of it. `fetch-by-commit` trusts the commit and doesn't ask where the reference
//! is. `keep-git-dir` and `submodules` are truths, and true without a value. `mtime` is accepted: files
//! always have the commit's time.

use std::collections::BTreeSet;

use kiln_graph::{GitSource, ImagePath, is_commit, parse_bool};

/// Keys that stand for themselves without a value.
const FLAGS: &[&str] = &["fetch-by-commit", "keep-git-dir", "submodules"];

/// What has to be seen whole before it means anything.
#[derive(Default)]
struct Wanted {
    tag: Option<String>,
    branch: Option<String>,
    commit: Option<String>,
    by_commit: bool,
}

/// Reads a query into a source.
pub(crate) fn apply(git: &mut GitSource, query: &str) -> Result<(), String> {
    let mut wanted = Wanted::default();
    let mut seen = BTreeSet::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if value.is_empty() && !FLAGS.contains(&&*key) {
            return Err(format!("query \"{key}\" has no value"));
        }
        wanted.set(git, &key, &value)?;
        if let Some(key) = seen.replace(key) {
            return Err(format!("query \"{key}\" has multiple values"));
        }
    }
    wanted.finish(git)
}

impl Wanted {
    fn set(&mut self, git: &mut GitSource, key: &str, value: &str) -> Result<(), String> {
        match key {
            "ref" => refer(git, value)?,
            "branch" => self.branch = Some(below("refs/heads/", value)),
            "tag" => self.tag = Some(below("refs/tags/", value)),
            "commit" => self.commit = Some(value.to_owned()),
            "checksum" => git.checksum = Some(value.to_owned()),
            "subdir" => choose(git, value)?,
            "keep-git-dir" => git.keep_git_dir = truth(key, value)?,
            "submodules" => git.submodules = truth(key, value)?,
            "fetch-by-commit" => self.by_commit = truth(key, value)?,
            "mtime" if matches!(value, "checkout" | "commit") => {}
            "mtime" => {
                return Err(format!(
                    "invalid mtime value '{value}' in a git address: use checkout or commit"
                ));
            }
            other => {
                return Err(format!(
                    "unexpected query key '{other}' in a git address: use ref, branch, tag, commit, checksum, subdir, fetch-by-commit, keep-git-dir, mtime or submodules"
                ));
            }
        }
        Ok(())
    }

    fn finish(self, git: &mut GitSource) -> Result<(), String> {
        if self.tag.is_some() && self.branch.is_some() {
            return Err("branch conflicts with tag".to_owned());
        }
        for reference in [self.tag, self.branch].into_iter().flatten() {
            refer(git, &reference)?;
        }
        let Some(commit) = self.commit.or_else(|| {
            let demanded = git.checksum.clone();
            demanded.filter(|_| self.by_commit)
        }) else {
            return match self.by_commit {
                true => Err("fetch-by-commit needs a commit: add commit=DIGEST".to_owned()),
                false => Ok(()),
            };
        };
        match &git.checksum {
            Some(checksum) if *checksum != commit => {
                return Err(format!(
                    "checksum conflicts: \"{checksum}\" vs \"{commit}\""
                ));
            }
            _ => git.checksum = Some(commit.clone()),
        }
        // Servers know whole names only: a part of one is what the commit of the branch begins with.
        if self.by_commit || git.reference.is_empty() && is_commit(&commit) {
            git.reference = commit;
        }
        Ok(())
    }
}

fn below(prefix: &str, name: &str) -> String {
    match name.starts_with(prefix) {
        true => name.to_owned(),
        false => format!("{prefix}{name}"),
    }
}

fn refer(git: &mut GitSource, reference: &str) -> Result<(), String> {
    if !git.reference.is_empty() && git.reference != reference {
        let own = &git.reference;
        return Err(format!("ref conflicts: \"{own}\" vs \"{reference}\""));
    }
    reference.clone_into(&mut git.reference);
    Ok(())
}

fn choose(git: &mut GitSource, subdir: &str) -> Result<(), String> {
    let (own, subdir) = (&git.subdir, ImagePath::new(subdir));
    if !own.is_root() && *own != subdir {
        return Err(format!("subdir conflicts: \"{own}\" vs \"{subdir}\""));
    }
    git.subdir = subdir;
    Ok(())
}

/// A truth value; nothing is true.
fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" => Ok(true),
        value => parse_bool(value).ok_or_else(|| {
            format!("invalid {key} value '{value}' in a git address: use true or false")
        }),
    }
}

#[cfg(test)]
mod tests {
    use kiln_graph::Op;

    use crate::read_remote;

    const COMMIT: &str = "24b111c66055b3d800342eab80044ed288fc137e";

    fn wanted(rest: &str) -> String {
        match read_remote(&format!("https://x.example/a.git{rest}"), None, None) {
            Ok(Op::Git(git)) => {
                let checksum = git.checksum.unwrap_or_default();
                format!("{} {} {checksum}", git.reference, git.subdir)
            }
            Ok(other) => format!("{other:?}"),
            Err(message) => message,
        }
    }

    #[test]
    fn queries() {
        let cases = [
            ("?tag=v1&subdir=s", "refs/tags/v1 /s "),
            ("?tag=refs/tags/v1", "refs/tags/v1 / "),
            ("?branch=feature%2Fx", "refs/heads/feature/x / "),
            ("?ref=main#main:s", "main /s "),
            ("?ref=v1#main", r#"ref conflicts: "main" vs "v1""#),
            (
                "?branch=main#main",
                r#"ref conflicts: "main" vs "refs/heads/main""#,
            ),
            ("?subdir=t#main:s", r#"subdir conflicts: "/s" vs "/t""#),
            ("?tag=v1&branch=main", "branch conflicts with tag"),
            ("?ref=", r#"query "ref" has no value"#),
            ("?ref=a&ref=a", r#"query "ref" has multiple values"#),
            ("?mtime=commit", " / "),
            (
                "?fetch-by-commit",
                "fetch-by-commit needs a commit: add commit=DIGEST",
            ),
            ("?commit=1&checksum=2", r#"checksum conflicts: "2" vs "1""#),
        ];
        for (rest, want) in cases {
            assert_eq!(wanted(rest), want, "{rest}");
        }
        assert!(wanted("?colour=red").contains("'colour'"));
        assert!(wanted("?mtime=now").contains("'now'"));
        assert!(wanted("?keep-git-dir=perhaps").contains("'perhaps'"));
    }

    #[test]
    fn a_commit_is_what_a_reference_must_be() {
        let cases = [
            (format!("?commit={COMMIT}"), format!("{COMMIT} / {COMMIT}")),
            (
                format!("?ref=main&commit={COMMIT}"),
                format!("main / {COMMIT}"),
            ),
            (
                format!("?ref=main&fetch-by-commit=true&checksum={COMMIT}"),
                format!("{COMMIT} / {COMMIT}"),
            ),
        ];
        for (rest, want) in cases {
            assert_eq!(wanted(&rest), want, "{rest}");
        }
    }
}
