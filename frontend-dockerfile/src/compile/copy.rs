//! COPY and ADD.

use kiln_graph::{
    Chmod, CopyFiles, FileAction, Files, ImagePath, Input, LayerOrigin, Op, Owner, StepId, UnixId,
};

use kiln_graph::pattern::Matcher;

use super::args::fault;
use super::stage::StageState;
use super::{Compiler, ContextKind, Stop};
use crate::ast::{Copy, Heredoc, Instruction};
use crate::remote::{is_remote, read_remote};

/// An instruction with its words expanded.
struct Plan {
    keyword: &'static str,
    dest: ImagePath,
    to_directory: bool,
    owner: Option<Owner>,
    chmod: Option<Chmod>,
    exclude: Vec<String>,
    is_add: bool,
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
        let (plan, text) = self.plan(state, at, copy, is_add)?;
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.push(self.expand(state, at, source)?);
        }
        let mut shown = sources.clone();
        shown.extend(
            copy.heredocs
                .iter()
                .map(|heredoc| format!("<<{}", heredoc.name)),
        );
        shown.push(text);
        let text = format!("{} {}", plan.keyword, shown.join(" "));
        let mut inputs = if copy.link {
            Vec::new()
        } else {
            vec![state.root]
        };
        let mut actions = Vec::new();
        let (remote, local): (Vec<String>, Vec<String>) =
            sources.into_iter().partition(|source| is_remote(source));
        self.remote_sources(at, copy, &plan, &remote, &mut inputs, &mut actions)?;
        if !local.is_empty() {
            if copy.from.is_none() {
                self.lint_ignored(at, &local, if is_add { "Add" } else { "Copy" });
            }
            let from = self.copy_from(state, at, copy)?;
            let keep_owner = copy.from.is_some();
            let input = push(&mut inputs, from);
            let action = plan.copy_files(input, local, copy, keep_owner);
            actions.push(FileAction::Copy(Box::new(action)));
        }
        for heredoc in &copy.heredocs {
            actions.push(self.write(state, at, &plan, heredoc)?);
        }
        self.commit_copy(state, at, copy, &text, inputs, actions)
    }

    /// Warns of sources that `.dockerignore` keeps out.
    fn lint_ignored(&mut self, at: &Instruction, sources: &[String], verb: &str) {
        let Some(patterns) = self.options.ignore.get("context") else {
            return;
        };
        let Ok(matcher) = Matcher::new(patterns) else {
            return;
        };
        for source in sources {
            let path = ImagePath::new(source);
            if !path.is_root() && matcher.excludes(path.relative_bytes()) {
                self.lint.ignored(at, source, verb);
            }
        }
    }

    fn plan(
        &mut self,
        state: &StageState,
        at: &Instruction,
        copy: &Copy,
        is_add: bool,
    ) -> Result<(Plan, String), Stop> {
        let keyword = if is_add { "ADD" } else { "COPY" };
        let dest = self.expand(state, at, &copy.dest)?;
        let to_directory =
            dest.is_empty() || dest == "." || dest.ends_with('/') || dest.ends_with("/.");
        let folder = ImagePath::new(&state.config.config.working_dir);
        let owner = match &copy.chown {
            Some(text) => Some(parse_owner(&self.expand(state, at, text)?)),
            None => None,
        };
        let chmod = match &copy.chmod {
            Some(text) => {
                let text = self.expand(state, at, text)?;
                Some(Chmod::parse(&text).map_err(|error| fault(at, &error.to_string()))?)
            }
            None => None,
        };
        let exclude = copy.exclude.clone();
        let plan = Plan {
            keyword,
            dest: folder.resolve(&dest),
            to_directory,
            owner,
            chmod,
            exclude,
            is_add,
        };
        Ok((plan, dest))
    }

    fn commit_copy(
        &mut self,
        state: &mut StageState,
        at: &Instruction,
        copy: &Copy,
        text: &str,
        inputs: Vec<StepId>,
        actions: Vec<FileAction>,
    ) -> Result<(), Stop> {
        let platform = state.platform.clone();
        let location = Some(at.location.clone());
        let base = if copy.link { None } else { Some(Input(0)) };
        let op = Op::Files(Files { base, actions });
        let mut step = self.add(
            op,
            inputs,
            state.step_name(shown(copy, text)),
            location.clone(),
            &platform,
        )?;
        if copy.link {
            let op = Op::Merge {
                layers: vec![Input(0), Input(1)],
            };
            let name = state.step_name(format!("LINK {}", shown(copy, text)));
            step = self.add(op, vec![state.root, step], name, location, &platform)?;
        }
        state.advance(step, &at.location);
        let text = format!("{text} # buildkit");
        state.record(text, LayerOrigin::Step(step), self.created.as_ref());
        Ok(())
    }

    fn remote_sources(
        &mut self,
        at: &Instruction,
        copy: &Copy,
        plan: &Plan,
        sources: &[String],
        inputs: &mut Vec<StepId>,
        actions: &mut Vec<FileAction>,
    ) -> Result<(), Stop> {
        if copy.checksum.is_some() && sources.is_empty() {
            let text =
                "checksum can't be specified for local files: it is for HTTP and git sources";
            return Err(fault(at, text).into());
        }
        for source in sources {
            if !plan.is_add {
                let text = format!("source can't be a URL for COPY: use ADD {source}");
                return Err(fault(at, &text).into());
            }
            let op = read_remote(source, copy.checksum.as_deref(), copy.keep_git_dir)
                .map_err(|message| fault(at, &message))?;
            let is_git = matches!(op, Op::Git(_));
            let build_platform = self.options.build_platform.clone();
            let step = self.source(source.clone(), op, &build_platform)?;
            let input = push(inputs, step);
            let name = if is_git {
                ".".to_owned()
            } else {
                "*".to_owned()
            };
            let mut action = plan.copy_files(input, vec![name], copy, false);
            action.unpack = !is_git && copy.unpack.unwrap_or(false);
            actions.push(FileAction::Copy(Box::new(action)));
        }
        Ok(())
    }

    /// The step that a COPY's sources come from.
    fn copy_from(
        &mut self,
        state: &StageState,
        at: &Instruction,
        copy: &Copy,
    ) -> Result<StepId, Stop> {
        match &copy.from {
            None => self.context("context"),
            Some(name) if name.contains('$') => {
                let text = format!(
                    "'{name}': variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
                );
                Err(fault(at, &text).into())
            }
            Some(name) => self.named_source(state, at, name, "--from"),
        }
    }

    /// A stage by name or number, a named context, or an image.
    pub(crate) fn named_source(
        &mut self,
        state: &StageState,
        at: &Instruction,
        name: &str,
        what: &str,
    ) -> Result<StepId, Stop> {
        match self.options.contexts.get(name).cloned() {
            Some(ContextKind::Local) => return self.context(name),
            Some(ContextKind::Image(image)) => return Ok(self.image(&image, &state.platform)?.0),
            Some(ContextKind::Target(stage)) => return self.stage_root(state, at, &stage, what),
            None => {}
        }
        if let Ok(number) = name.parse::<usize>() {
            if number >= state.index {
                let text = format!(
                    "invalid {what} value {name}: there is no stage of that number before this one"
                );
                return Err(fault(at, &text).into());
            }
            return Ok(self.stage(number, &state.platform)?.root);
        }
        if name.eq_ignore_ascii_case("scratch") {
            return self.source("scratch".to_owned(), Op::Scratch, &state.platform.clone());
        }
        self.stage_root(state, at, name, what)
    }

    fn stage_root(
        &mut self,
        state: &StageState,
        at: &Instruction,
        name: &str,
        what: &str,
    ) -> Result<StepId, Stop> {
        if let Some(stage) = self.find_stage(name, state.index) {
            return Ok(self.stage(stage, &state.platform)?.root);
        }
        if self.find_stage(name, self.stages.len()).is_some() {
            let text =
                format!("invalid {what} value {name}: a stage can only use stages before it");
            return Err(fault(at, &text).into());
        }
        Ok(self.image(name, &state.platform)?.0)
    }

    fn write(
        &mut self,
        state: &StageState,
        at: &Instruction,
        plan: &Plan,
        heredoc: &Heredoc,
    ) -> Result<FileAction, Stop> {
        let content = match heredoc.expand {
            true => self.expand_text(state, at, &heredoc.content)?,
            false => heredoc.content.clone(),
        };
        Ok(FileAction::Write {
            dest: plan.dest.clone(),
            to_directory: plan.to_directory,
            name: heredoc.name.clone(),
            content: content.into_bytes(),
            mode: plan
                .chmod
                .as_ref()
                .map_or(0o644, |chmod| chmod.apply(0o644, false)),
            owner: plan.owner.clone(),
        })
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
            exclude: self.exclude.clone(),
            unpack: self.is_add && copy.unpack.unwrap_or(true),
        }
    }
}

fn push(inputs: &mut Vec<StepId>, step: StepId) -> Input {
    inputs.push(step);
    Input(u32::try_from(inputs.len() - 1).unwrap_or(u32::MAX))
}

/// `USER[:GROUP]`; a number alone is the group's, too.
pub(crate) fn parse_owner(text: &str) -> Owner {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    match (user.parse(), group.map(str::parse)) {
        (Ok(uid), Some(Ok(gid))) => Owner::Ids { uid, gid },
        (Ok(uid), None) => Owner::Ids { uid, gid: uid },
        _ => Owner::Names {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        },
    }
}

/// The instruction with the flag that readers of progress need.
fn shown(copy: &Copy, text: &str) -> String {
    match (&copy.from, text.split_once(' ')) {
        (Some(from), Some((keyword, rest))) => format!("{keyword} --from={from} {rest}"),
        _ => text.to_owned(),
    }
}
