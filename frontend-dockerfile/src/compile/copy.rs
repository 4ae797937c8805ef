//! COPY and ADD.

use kiln_graph::address::redact;
use kiln_graph::{
    Chmod, CopyFiles, FileAction, Files, ImagePath, Input, LayerOrigin, Op, Owner, StepId, UnixId,
};

use kiln_graph::pattern::Matcher;

use super::stage::StageState;
use super::{Compiler, ContextKind, Stop};
use crate::DockerfileError;
use crate::ast::{Copy, Heredoc, Instruction};
use crate::error::fault;
use crate::parse::chomped;
use crate::remote::{is_remote, read_remote};
use kiln_graph::clean_path;

/// An instruction with its words expanded.
struct Plan {
    keyword: &'static str,
    /// The instruction as history has it.
    text: String,
    dest: ImagePath,
    to_directory: bool,
    owner: Option<Owner>,
    chmod: Option<Chmod>,
    checksum: Option<String>,
    exclude: Vec<String>,
    sources: Vec<String>,
    /// The texts of the here-documents.
    contents: Vec<String>,
    /// Whether the files are a tree of their own, laid over the stage.
    link: bool,
}

impl Compiler<'_> {
    /// COPY, and ADD when `is_add`.
    pub(crate) fn copy(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        copy: &Copy,
        is_add: bool,
    ) -> Result<(), Stop> {
        let plan = self.plan(state, at, copy, is_add)?;
        let mut inputs = match plan.link {
            true => Vec::new(),
            false => vec![state.root],
        };
        let mut actions = Vec::new();
        let mut local: Vec<String> = Vec::new();
        for source in &plan.sources {
            if !is_remote(source) {
                if copy.from.is_none() {
                    self.lint_ignored(at, source, is_add);
                }
                local.push(source.clone());
                continue;
            }
            let before = std::mem::take(&mut local);
            self.local_sources(state, at, copy, &plan, before, &mut inputs, &mut actions)?;
            self.remote_source(at, copy, &plan, source, &mut inputs, &mut actions)?;
        }
        self.local_sources(state, at, copy, &plan, local, &mut inputs, &mut actions)?;
        for (heredoc, content) in copy.heredocs.iter().zip(&plan.contents) {
            actions.push(plan.write(heredoc, content));
        }
        self.commit_copy(state, at, copy, &plan, inputs, actions)
    }

    #[expect(clippy::too_many_arguments, reason = "what is read and what is filled")]
    fn local_sources(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        copy: &Copy,
        plan: &Plan,
        sources: Vec<String>,
        inputs: &mut Vec<StepId>,
        actions: &mut Vec<FileAction>,
    ) -> Result<(), Stop> {
        if sources.is_empty() {
            return Ok(());
        }
        let from = self.copy_from(state, at, copy)?;
        let input = Input::add(inputs, from);
        let action = plan.copy_files(input, sources, copy, copy.from.is_some());
        actions.push(FileAction::Copy(Box::new(action)));
        Ok(())
    }

    /// Warns of a source that `.dockerignore` keeps out. With exceptions in it, that can't be told.
    fn lint_ignored(&mut self, at: &Instruction, source: &str, is_add: bool) {
        let Some(patterns) = self.options.ignore.get("context") else {
            return;
        };
        if patterns.iter().any(|pattern| pattern.starts_with('!')) {
            return;
        }
        let path = clean_path(source);
        let is_root = [".", "/"].contains(&path.as_str());
        let excludes_all = |pattern: &String| ["*", "**", "**/*"].contains(&pattern.as_str());
        if is_root && !patterns.iter().any(excludes_all) {
            return;
        }
        let Ok(matcher) = Matcher::new(patterns) else {
            return;
        };
        if matcher.excludes(path.as_bytes()) {
            let verb = if is_add { "Add" } else { "Copy" };
            self.lint.ignored(at.into(), &path, verb);
        }
    }

    /// All words, in the order in which BuildKit expands them.
    fn plan(
        &mut self,
        state: &StageState,
        at: &Instruction,
        copy: &Copy,
        is_add: bool,
    ) -> Result<Plan, Stop> {
        let mut flag = |text: &Option<String>| match text {
            Some(text) => self.expand(state, at, text),
            None => Ok(String::new()),
        };
        let (chown, chmod) = (flag(&copy.chown)?, flag(&copy.chmod)?);
        let checksum = flag(&copy.checksum)?;
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.push(self.expand(state, at, source)?);
        }
        let dest = self.expand(state, at, &copy.dest)?;
        let contents = self.contents(state, at, copy)?;
        let to_directory =
            dest.is_empty() || dest == "." || dest.ends_with('/') || dest.ends_with("/.");
        let mode = match chmod.as_str() {
            "" => None,
            text => Some(Chmod::parse(text).map_err(|error| fault(at, &error.to_string()))?),
        };
        check_checksum(&checksum, &sources).map_err(|message| fault(at, message))?;
        let directory = ImagePath::new(&state.config.config.working_dir);
        Ok(Plan {
            text: history(copy, is_add, [&chown, &chmod], &sources, &dest),
            keyword: if is_add { "ADD" } else { "COPY" },
            dest: directory.resolve(&dest),
            to_directory,
            owner: (!chown.is_empty()).then(|| parse_owner(&chown)),
            // A mode is given to what is there too, which a copy by itself knows nothing of.
            link: copy.link && chmod.is_empty(),
            chmod: mode,
            checksum: (!checksum.is_empty()).then_some(checksum),
            exclude: copy.exclude.iter().map(|text| clean_path(text)).collect(),
            sources,
            contents,
        })
    }

    fn contents(
        &mut self,
        state: &StageState,
        at: &Instruction,
        copy: &Copy,
    ) -> Result<Vec<String>, Stop> {
        let mut contents = Vec::new();
        for heredoc in &copy.heredocs {
            let content = match heredoc.chomp {
                true => chomped(&heredoc.content),
                false => heredoc.content.clone(),
            };
            contents.push(match heredoc.expand {
                true => self.expand_text(state, at, &content)?,
                false => content,
            });
        }
        Ok(contents)
    }

    fn commit_copy(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        copy: &Copy,
        plan: &Plan,
        inputs: Vec<StepId>,
        actions: Vec<FileAction>,
    ) -> Result<(), Stop> {
        let platform = state.platform.clone();
        let location = Some(at.location.clone());
        let base = (!plan.link).then_some(Input(0));
        let op = Op::Files(Files { base, actions });
        let shown = plan.shown(copy);
        let name = state.step_name(shown.clone());
        let mut step = self.add(op, inputs, name, location.clone(), &platform)?;
        if plan.link {
            let op = Op::Merge {
                layers: vec![Input(0), Input(1)],
            };
            let name = state.step_name(format!("LINK {shown}"));
            step = self.add(op, vec![state.root, step], name, location, &platform)?;
        }
        state.advance(step, &at.location);
        // The image's readers are not given what let the builder in.
        let text = format!("{} # buildkit", redact(&plan.text));
        self.record(state, text, LayerOrigin::Step(step))
    }

    fn remote_source(
        &mut self,
        at: &Instruction,
        copy: &Copy,
        plan: &Plan,
        source: &str,
        inputs: &mut Vec<StepId>,
        actions: &mut Vec<FileAction>,
    ) -> Result<(), Stop> {
        let op = read_remote(source, plan.checksum.as_deref(), copy.keep_git_dir)
            .map_err(|message| fault(at, &message))?;
        let is_git = matches!(op, Op::Git(_));
        if plan.keyword == "COPY" {
            let what = if is_git { "git ref" } else { "URL" };
            let text = format!("source can't be a {what} for COPY: use ADD {source}");
            return Err(fault(at, &text).into());
        }
        let build_platform = self.options.build_platform.clone();
        let step = self.source(source.to_owned(), op, &build_platform)?;
        let input = Input::add(inputs, step);
        let name = if is_git { "." } else { "*" };
        let mut action = plan.copy_files(input, vec![name.to_owned()], copy, false);
        action.unpack = !is_git && copy.unpack.unwrap_or(false);
        actions.push(FileAction::Copy(Box::new(action)));
        Ok(())
    }

    /// The step that a COPY's sources come from.
    fn copy_from(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        copy: &Copy,
    ) -> Result<StepId, Stop> {
        let Some(name) = &copy.from else {
            return self.context("context");
        };
        let stage = match name.parse::<usize>() {
            Ok(number) => Some(number),
            Err(_) => self.names.find(name),
        };
        match stage {
            Some(stage) if stage < state.index => {
                state.captured.sources.insert(stage);
                Ok(self.stage(stage)?.root)
            }
            Some(_) => {
                let (from, own) = (crate::quote::quote(name), crate::quote::quote(&state.name));
                let text = format!(
                    "cannot copy from stage {from}, it needs to be defined before current stage {own}"
                );
                Err(fault(at, &text).into())
            }
            None => self.other_source(name),
        }
    }

    /// A named context, nothing, or an image.
    pub(crate) fn other_source(&mut self, name: &str) -> Result<StepId, Stop> {
        let context = self.options.context_for(name, &self.target);
        let context = context.map(|(name, kind)| (name.to_owned(), kind.clone()));
        let platform = self.target.clone();
        match context {
            Some((name, ContextKind::Local)) => self.context(&name),
            Some((_, ContextKind::Image(image))) if image == "scratch" => {
                self.source("scratch".to_owned(), Op::Scratch, &platform)
            }
            Some((_, ContextKind::Image(image))) => Ok(self.image(&image, &platform)?.0),
            Some((name, ContextKind::Target(stage))) => {
                let index = self.names.find(&stage).ok_or_else(|| {
                    DockerfileError::whole(format!("context {name}: there is no stage {stage}"))
                })?;
                Ok(self.stage(index)?.root)
            }
            None if name == "scratch" => self.source("scratch".to_owned(), Op::Scratch, &platform),
            None => Ok(self.image(name, &platform)?.0),
        }
    }
}

impl Plan {
    fn copy_files(
        &self,
        from: Input,
        sources: Vec<String>,
        copy: &Copy,
        keep_owner: bool,
    ) -> CopyFiles {
        let root = Owner::Ids {
            uid: UnixId::ROOT,
            gid: UnixId::ROOT,
        };
        let owner = match (&self.owner, keep_owner) {
            (Some(owner), _) => Some(owner.clone()),
            (None, true) => None,
            (None, false) => Some(root),
        };
        CopyFiles {
            from,
            sources,
            dest: self.dest.clone(),
            to_directory: self.to_directory,
            owner,
            chmod: self.chmod.clone(),
            parents: copy.parents,
            keep_name: false,
            exclude: self.exclude.clone(),
            include: Vec::new(),
            unpack: copy.unpack.unwrap_or(self.keyword == "ADD"),
        }
    }

    fn write(&self, heredoc: &Heredoc, content: &str) -> FileAction {
        let mode = self.chmod.as_ref();
        FileAction::Write {
            dest: self.dest.clone(),
            to_directory: self.to_directory,
            name: heredoc.name.clone(),
            content: content.as_bytes().to_vec(),
            mode: mode.map_or(0o644, |chmod| chmod.apply(0o644, false)),
            owner: self.owner.clone(),
        }
    }

    /// The instruction with the flag that readers of progress need.
    fn shown(&self, copy: &Copy) -> String {
        match (&copy.from, self.text.split_once(' ')) {
            (Some(from), Some((keyword, rest))) => format!("{keyword} --from={from} {rest}"),
            _ => self.text.clone(),
        }
    }
}

/// The instruction as history has it.
fn history(
    copy: &Copy,
    is_add: bool,
    [chown, chmod]: [&str; 2],
    sources: &[String],
    dest: &str,
) -> String {
    let mut words = vec![if is_add { "ADD" } else { "COPY" }.to_owned()];
    if copy.parents {
        words.push("--parents".to_owned());
    }
    for (name, value) in [("chown", chown), ("chmod", chmod)] {
        if !value.is_empty() {
            words.push(format!("--{name}={value}"));
        }
    }
    words.extend_from_slice(sources);
    let heredocs = copy.heredocs.iter();
    words.extend(heredocs.map(|heredoc| format!("<<{}", heredoc.name)));
    words.push(dest.to_owned());
    words.join(" ")
}

fn check_checksum(checksum: &str, sources: &[String]) -> Result<(), &'static str> {
    match sources {
        _ if checksum.is_empty() => Ok(()),
        [only] if is_remote(only) => Ok(()),
        [_] => {
            Err("checksum requires HTTP(S) or Git sources: it can't be specified for local files")
        }
        _ => Err("checksum can't be specified for multiple sources"),
    }
}

/// `USER[:GROUP]`; a number alone is the group's, too.
pub(crate) fn parse_owner(text: &str) -> Owner {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    match (user.parse(), group.map(str::parse)) {
        // Root is what files without a word about their owner get, who keep theirs in an archive.
        (Ok(UnixId::ROOT), None | Some(Ok(UnixId::ROOT))) => Owner::Names {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        },
        (Ok(uid), Some(Ok(gid))) => Owner::Ids { uid, gid },
        (Ok(uid), None) => Owner::Ids { uid, gid: uid },
        _ => Owner::Names {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        },
    }
}
