//! Addresses of git repositories and of files on web servers, as ADD and build contexts take them.

use kiln_graph::{BlobDigest, GitSource, HttpRequest, HttpSource, ImagePath, Op, address};

use crate::git_query;

/// Whether a source is an address rather than a path.
#[must_use]
pub fn is_remote(source: &str) -> bool {
    let lower = source.to_ascii_lowercase();
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|start| lower.starts_with(start))
}

/// What an address stands for: a commit when it speaks of a git repository (any scheme but HTTP,
/// or a path that ends in `.git`), else a file.
///
/// After `#`, `REF:SUBDIR` choose a commit and a directory of it; a query may instead.
///
/// # Errors
/// In plain words, when the checksum or the query makes no sense.
pub fn read_remote(
    source: &str,
    checksum: Option<&str>,
    keep_git_dir: Option<bool>,
) -> Result<Op, String> {
    let (address, fragment) = source.split_once('#').unwrap_or((source, ""));
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let is_http = path.to_ascii_lowercase().starts_with("http");
    if is_http && !path.trim_end_matches('/').ends_with(".git") {
        return file(source, checksum);
    }
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut git = GitSource {
        remote: path.to_owned(),
        reference: reference.to_owned(),
        subdir: ImagePath::new(subdir),
        keep_git_dir: keep_git_dir.unwrap_or(false),
        checksum: checksum.map(str::to_owned),
        submodules: true,
    };
    git_query::apply(&mut git, query)?;
    if keep_git_dir.is_some_and(|keep| keep != git.keep_git_dir) {
        return Err("inconsistent keep-git-dir configuration".to_owned());
    }
    match (checksum, &git.checksum) {
        (Some(given), Some(own)) if given != own => Err(format!(
            "checksum mismatch \"{given}\" != \"{own}\": the flag and the address disagree"
        )),
        _ => Ok(Op::Git(git)),
    }
}

/// What BuildKit calls a file whose URL names none.
const UNNAMED: &str = "__unnamed__";

/// A file has the name that its URL gives it, never one that the server says.
fn file(url: &str, checksum: Option<&str>) -> Result<Op, String> {
    let name = address::file_name(url);
    let checksum = checksum.map(str::parse::<BlobDigest>).transpose();
    let checksum = checksum.map_err(|error| format!("--checksum: {error}"))?;
    Ok(Op::Http(HttpSource {
        url: url.to_owned(),
        checksum,
        file_name: Some(name.unwrap_or_else(|| UNNAMED.to_owned())),
        request: HttpRequest::default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let git = |text: &str| match read_remote(text, None, None) {
            Ok(Op::Git(git)) => format!("{} {} {}", git.remote, git.reference, git.subdir),
            Ok(other) => format!("{other:?}"),
            Err(message) => message,
        };
        let cases = [
            ("https://x.example/a.git", "https://x.example/a.git  /"),
            (
                "https://x.example/a.git#v1:sub",
                "https://x.example/a.git v1 /sub",
            ),
            ("git@x.example:a/b#main", "git@x.example:a/b main /"),
            (
                "https://x.example/a.git?tag=v1&subdir=s",
                "https://x.example/a.git refs/tags/v1 /s",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(git(text), want, "{text}");
        }
        let keeps = |text: &str| match read_remote(text, None, None) {
            Ok(Op::Git(git)) => (git.keep_git_dir, git.submodules),
            other => panic!("{other:?}"),
        };
        assert_eq!(keeps("https://x.example/a.git"), (false, true));
        assert_eq!(keeps("https://x.example/a.git?keep-git-dir"), (true, true));
        assert_eq!(
            keeps("https://x.example/a.git?keep-git-dir=1&submodules=0"),
            (true, false)
        );
        assert_eq!(
            keeps("https://x.example/a.git?keep-git-dir=F&submodules=true"),
            (false, true)
        );
        assert!(matches!(
            read_remote("https://x.example/a.tar", None, None),
            Ok(Op::Http(_))
        ));
        assert!(read_remote("https://x.example/a", Some("md5:1"), None).is_err());
        assert!(!is_remote("file.txt") && is_remote("HTTPS://x.example"));
    }
}
