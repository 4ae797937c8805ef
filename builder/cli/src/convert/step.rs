//! Steps of a graph as `[steps.NAME]`.

use kiln_graph::{
    CopyFiles, Exec, FileAction, Files, Network, Op, Owner, RunConfig, Security, StepId, UnixId,
};

use super::graph::Converter;
use super::mounts;
use super::text::{list, quote, table};

const PATH: &str = "PATH";

/// A step as it is written.
#[derive(Default)]
pub(super) struct Written {
    pub(super) name: String,
    /// Its line in the Dockerfile.
    pub(super) line: u32,
    /// Keys with their values.
    pub(super) lines: Vec<(&'static str, String)>,
    /// What the language can't say, and why.
    pub(super) marks: Vec<String>,
}

impl Written {
    pub(super) fn add(&mut self, key: &'static str, value: String) {
        self.lines.push((key, value));
    }

    pub(super) fn mark(&mut self, text: &str) {
        self.marks.push(text.to_owned());
    }

    pub(super) fn write(&self, out: &mut String) {
        out.push('\n');
        for mark in &self.marks {
            out.push_str(&format!("# by hand: {}\n", mark.replace('\n', " ")));
        }
        out.push_str(&format!("[steps.{}]\n", self.name));
        for (key, value) in &self.lines {
            out.push_str(&format!("{key} = {value}\n"));
        }
    }
}

impl Converter<'_> {
    /// A command.
    pub(super) fn exec(&mut self, id: StepId, exec: &Exec) {
        let root = self.graph.input(id, exec.root);
        let base = self.base_config(root);
        let mut step = self.start(id, root);
        let target = exec.cwd.to_string();
        let own_directory = if base.working_dir.is_empty() {
            "/"
        } else {
            &base.working_dir
        };
        if target != own_directory || self.merged.contains(&id) {
            step.add("workdir", quote(&target));
        }
        self.command(&mut step, exec);
        let env = environment(exec, &base);
        if !env.is_empty() {
            step.add("env", table(&env));
        }
        match &exec.user {
            Some(user) if *user != base.user => step.add("user", quote(user)),
            None if !base.user.is_empty() => step.add("user", quote("root")),
            _ => {}
        }
        match exec.network {
            Network::None => step.add("network", quote("none")),
            Network::Host => step.add("network", quote("host")),
            Network::Sandbox => step.add("network", quote("sandbox")),
            Network::Default => {}
        }
        if exec.security == Security::Insecure {
            step.mark("--security=insecure isn't in the language");
        }
        mounts::write(self, id, exec, &mut step);
        self.finish(id, step);
    }

    fn command(&self, step: &mut Written, exec: &Exec) {
        if let Some(script) = mounts::script(exec) {
            return step.add("script", script);
        }
        match &exec.args[..] {
            [shell, flag, text] if shell == "/bin/sh" && flag == "-c" => {
                step.add("run", quote(text));
            }
            words => step.add("run", list(words)),
        }
    }

    /// Files: copies, and directories.
    pub(super) fn files(&mut self, id: StepId, root: StepId, files: &Files, owner: StepId) {
        let mut step = self.start(id, root);
        let mut copies = Vec::new();
        for action in &files.actions {
            copies.extend(self.action(owner, action, &mut step));
        }
        let copies: Vec<String> = copies.iter().map(|copy| table(copy)).collect();
        step.add("copy", format!("[{}]", copies.join(", ")));
        self.finish(id, step);
    }

    fn action(
        &mut self,
        id: StepId,
        action: &FileAction,
        step: &mut Written,
    ) -> Option<Vec<(String, String)>> {
        match action {
            FileAction::Copy(copy) => Some(self.copy(id, copy, step)),
            FileAction::Directory { path, owner, .. } => {
                let to = format!("{}/", path.to_string().trim_end_matches('/'));
                let mut copy = pairs([("from", quote("scratch")), ("to", quote(&to))]);
                add_owner(owner.as_ref(), &mut copy);
                Some(copy)
            }
            FileAction::Write {
                dest,
                to_directory,
                name,
                content,
                mode,
                owner,
            } => {
                let Ok(text) = std::str::from_utf8(content) else {
                    step.mark("a here-document that isn't UTF-8 can't be written");
                    return None;
                };
                let to = if *to_directory {
                    dest.join(name)
                } else {
                    dest.clone()
                };
                let mut copy = pairs([("text", quote(text)), ("to", quote(&to.to_string()))]);
                if *mode != 0o644 {
                    copy.push(("mode".to_owned(), quote(&format!("{mode:04o}"))));
                }
                add_owner(owner.as_ref(), &mut copy);
                Some(copy)
            }
            FileAction::Symlink { .. }
            | FileAction::Remove { .. }
            | FileAction::Difference { .. } => {
                step.mark("links and removals are made by run");
                None
            }
        }
    }

    fn copy(&mut self, id: StepId, copy: &CopyFiles, step: &mut Written) -> Vec<(String, String)> {
        let source = self.graph.input(id, copy.from);
        let from = self.reference(source, step);
        let mut pairs = pairs([("from", quote(&from))]);
        if copy.sources != ["."] || !copy.to_directory {
            pairs.push(("paths".to_owned(), list(&copy.sources)));
        }
        let dest = copy.dest.to_string();
        let to = match copy.to_directory && !dest.ends_with('/') {
            true => format!("{dest}/"),
            false => dest,
        };
        pairs.push(("to".to_owned(), quote(&to)));
        match &copy.owner {
            None => pairs.push(("owner".to_owned(), quote("keep"))),
            owner => add_owner(owner.as_ref(), &mut pairs),
        }
        if let Some(chmod) = &copy.chmod {
            pairs.push(("mode".to_owned(), quote(&chmod.to_string())));
        }
        if !copy.exclude.is_empty() {
            pairs.push(("exclude".to_owned(), list(&copy.exclude)));
        }
        self.unsayable(source, copy, step);
        pairs
    }

    fn unsayable(&self, source: StepId, copy: &CopyFiles, step: &mut Written) {
        if copy.parents {
            step.mark("--parents: name each directory in a copy of its own");
        }
        let is_local = !matches!(self.graph.step(source).op, Op::Http(_) | Op::Git(_));
        if copy.unpack && is_local && copy.sources.iter().any(|path| may_be_archive(path)) {
            step.mark("ADD unpacks archives: copy them and unpack them with run");
        } else if copy.unpack && !is_local {
            step.mark("--unpack: unpack the file with run");
        }
        if !copy.to_directory && copy.sources.len() > 1 {
            step.mark("several paths are always copied into a directory");
        }
    }
}

/// Whether ADD might find an archive there.
fn may_be_archive(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends = [
        ".tar", "gz", "bz2", "xz", "zst", "zstd", ".tgz", ".txz", ".tbz", "*",
    ];
    ends.iter().any(|end| name.ends_with(end)) || !name.contains('.')
}

fn pairs<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, String)> {
    let owned = pairs.map(|(key, value)| (key.to_owned(), value));
    owned.to_vec()
}

fn add_owner(owner: Option<&Owner>, pairs: &mut Vec<(String, String)>) {
    let text = match owner {
        None
        | Some(Owner::Ids {
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
        }) => return,
        Some(Owner::Ids { uid, gid }) => format!("{uid}:{gid}"),
        Some(Owner::Names { user, group: None }) => user.clone(),
        Some(Owner::Names {
            user,
            group: Some(group),
        }) => format!("{user}:{group}"),
    };
    pairs.push(("owner".to_owned(), quote(&text)));
}

/// The variables that the base image doesn't have so.
fn environment(exec: &Exec, base: &RunConfig) -> Vec<(String, String)> {
    let has_path = base.env.iter().any(|pair| pair.starts_with("PATH="));
    let own = exec.env.iter().filter(|(name, value)| {
        let is_default = name == PATH && !has_path && *value == super::graph::DEFAULT_PATH;
        !is_default && !base.env.contains(&format!("{name}={value}"))
    });
    own.map(|(name, value)| (name.clone(), quote(value)))
        .collect()
}
