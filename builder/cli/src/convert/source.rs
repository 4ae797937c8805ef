//! Contexts, git repositories and downloads as `[sources.NAME]`.

use kiln_graph::{GitSource, HttpSource, Op, StepId};

use super::graph::Converter;
use super::text::quote;

type Lines = Vec<(&'static str, String)>;

impl Converter<'_> {
    pub(super) fn source(&mut self, id: StepId, op: &Op) {
        let mut marks = Vec::new();
        let (name, lines) = match op {
            Op::Context(_) => ("context".to_owned(), vec![("context", quote("."))]),
            Op::Git(git) => (self.take("repository"), git_lines(git, &mut marks)),
            Op::Http(http) => (self.take("download"), http_lines(http)),
            _ => return,
        };
        self.sources.push('\n');
        for mark in marks {
            self.sources.push_str(&format!("# by hand: {mark}\n"));
        }
        self.sources.push_str(&format!("[sources.{name}]\n"));
        for (key, value) in lines {
            self.sources.push_str(&format!("{key} = {value}\n"));
        }
        self.names.insert(id, name);
    }
}

fn git_lines(git: &GitSource, marks: &mut Vec<&'static str>) -> Lines {
    let mut lines = vec![("git", quote(&git.remote))];
    if !git.reference.is_empty() {
        lines.push(("ref", quote(&git.reference)));
    }
    if !git.subdir.is_root() {
        lines.push(("subdir", quote(&git.subdir.to_string())));
    }
    if let Some(checksum) = &git.checksum {
        lines.push(("checksum", quote(checksum)));
    }
    if git.keep_git_dir {
        marks.push("the directory .git isn't kept: clone with run if it is needed");
    }
    if !git.submodules {
        marks.push("submodules are always fetched");
    }
    lines
}

fn http_lines(http: &HttpSource) -> Lines {
    let mut lines = vec![("http", quote(&http.url))];
    if let Some(checksum) = &http.checksum {
        lines.push(("checksum", quote(&checksum.to_string())));
    }
    if let Some(name) = &http.file_name {
        lines.push(("file", quote(name)));
    }
    lines
}
