//! `copy`: files of other steps and sources, and files whose content stands in the build file.

use kiln_graph::{Chmod, CopyFiles, FileAction, Files, Input, Op, Owner, StepId, UnixId};

use super::compiler::Compiler;
use super::source::patterns;
use super::step::Work;
use crate::error::Wrong;
use crate::model::Copy;
use crate::text::Text;

const ROOT: Owner = Owner::Ids {
    uid: UnixId::ROOT,
    gid: UnixId::ROOT,
};

impl<'a> Compiler<'a> {
    /// All copies of a step, which are one change.
    pub(super) fn copies(&mut self, work: &mut Work<'a, '_>) -> Result<(), Wrong> {
        let copies = &work.step.copy;
        let mut inputs = vec![work.made.step];
        let mut actions = Vec::new();
        let mut shown = Vec::new();
        for copy in copies {
            shown.push(work.view.fill(&copy.to)?);
            actions.push(match (&copy.from, &copy.text) {
                (Some(from), None) => self.copied(work, copy, from, &mut inputs)?,
                (None, Some(text)) => written(work, copy, text)?,
                _ => {
                    let message = "a copy needs exactly one of from and text";
                    return Err(Wrong::at(&copy.to.span, message));
                }
            });
        }
        inputs.extend(&work.needed);
        let op = Op::Files(Files {
            base: Some(Input(0)),
            actions,
        });
        let text = format!("copy to {}", shown.join(", "));
        self.advance(work, op, inputs, &text, &copies[0].to)
    }

    fn copied(
        &mut self,
        work: &Work<'a, '_>,
        copy: &Copy,
        from: &Text,
        inputs: &mut Vec<StepId>,
    ) -> Result<FileAction, Wrong> {
        let input = Input::add(inputs, self.named(from, work.view)?.step);
        let paths = work.view.fill_all(&copy.paths)?;
        let dest = work.view.fill(&copy.to)?;
        Ok(FileAction::Copy(Box::new(CopyFiles {
            from: input,
            to_directory: dest.ends_with('/') || paths.len() > 1,
            sources: if paths.is_empty() {
                vec![".".to_owned()]
            } else {
                paths
            },
            dest: work.directory()?.resolve(dest),
            owner: owner(work, copy)?,
            chmod: chmod(work, copy)?,
            parents: false,
            keep_name: false,
            exclude: patterns(&copy.exclude, work.view)?,
            include: Vec::new(),
            unpack: false,
        })))
    }
}

fn written(work: &Work<'_, '_>, copy: &Copy, text: &Text) -> Result<FileAction, Wrong> {
    if let Some(useless) = copy.paths.first().or(copy.exclude.first()) {
        let message = "a copy of a text has neither paths nor exclude: leave this out";
        return Err(Wrong::at(&useless.span, message));
    }
    let dest = work.view.fill(&copy.to)?;
    if dest.ends_with('/') {
        let message = "this names a directory: end it with the file's name";
        return Err(Wrong::at(&copy.to.span, message));
    }
    let mode = chmod(work, copy)?;
    Ok(FileAction::Write {
        dest: work.directory()?.resolve(dest),
        to_directory: false,
        name: String::new(),
        content: work.view.fill(text)?.into_bytes(),
        mode: mode.map_or(0o644, |mode| mode.apply(0o644, false)),
        owner: owner(work, copy)?.or(Some(ROOT)),
    })
}

fn chmod(work: &Work<'_, '_>, copy: &Copy) -> Result<Option<Chmod>, Wrong> {
    let read = |text: &Text| {
        let parsed = Chmod::parse(&work.view.fill(text)?);
        parsed.map_err(|error| Wrong::at(&text.span, format!("mode: {error}")))
    };
    copy.mode.as_ref().map(read).transpose()
}

/// The owner; `None` for the one that the files have.
fn owner(work: &Work<'_, '_>, copy: &Copy) -> Result<Option<Owner>, Wrong> {
    let Some(text) = &copy.owner else {
        return Ok(Some(ROOT));
    };
    let filled = work.view.fill(text)?;
    if filled == "keep" {
        return Ok(None);
    }
    if let Some((uid, gid)) = ids(&filled) {
        return Ok(Some(Owner::Ids { uid, gid }));
    }
    let (user, group) = filled
        .split_once(':')
        .map_or((filled.as_str(), None), |(user, group)| (user, Some(group)));
    if user.is_empty() || group == Some("") {
        let message = format!("'{filled}' is no owner: write USER or USER:GROUP");
        return Err(Wrong::at(&text.span, message));
    }
    Ok(Some(Owner::Names {
        user: user.to_owned(),
        group: group.map(str::to_owned),
    }))
}

/// `UID[:GID]`; a number alone is the group's, too.
pub(super) fn ids(text: &str) -> Option<(UnixId, UnixId)> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    Some((user.parse().ok()?, group.parse().ok()?))
}
