//! Changes to files. Actions that each change what the one before made are one step; others are a step
//! each.

use bollard_buildkit_proto::pb;
use bollard_buildkit_proto::pb::file_action::Action;
use bollard_buildkit_proto::pb::user_opt::User;
use kiln_graph::{Chmod, CopyFiles, FileAction, Files, ImagePath, Input, Op, Owner, StepId};

use crate::compile::{Compiler, Place};
use crate::error::{LlbError, malformed, unsupported};
use crate::exec::id;

/// Directories, files and links without a mode of their own.
const DIRECTORY: u32 = 0o755;
const FILE: u32 = 0o644;

/// Makes the steps of an operation.
pub(crate) fn file(
    compiler: &mut Compiler<'_>,
    place: &Place<'_>,
    op: &pb::FileOp,
) -> Result<(), LlbError> {
    if op.actions.is_empty() {
        return Err(malformed("a file operation without actions"));
    }
    let given = place.op.inputs.len();
    // What each action made. Nothing is made from the parts of a chain.
    let mut made: Vec<StepId> = Vec::new();
    let is_chain = is_chain(op, given);
    let mut chain = Chain::on(None);
    for (number, action) in op.actions.iter().enumerate() {
        let tree = |index: i64| match usize::try_from(index) {
            Err(_) => Ok(None),
            Ok(index) if index < given => compiler.input(place, index as i64),
            Ok(index) => made
                .get(index - given)
                .copied()
                .map(Some)
                .ok_or_else(|| malformed("an action is made from one that comes later")),
        };
        let from = tree(action.secondary_input)?;
        if number == 0 || !is_chain {
            chain = Chain::on(tree(action.input)?);
        }
        let read = chain.read(action, from, compiler, place)?;
        chain.files.actions.push(read);
        if is_chain && number + 1 < op.actions.len() {
            continue;
        }
        let Chain { files, inputs } = std::mem::replace(&mut chain, Chain::on(None));
        let step = compiler.add(place, Op::Files(files), inputs)?;
        made.push(step);
        if let Ok(output) = usize::try_from(action.output) {
            compiler.output(place, output, step)?;
        }
    }
    Ok(())
}

/// Whether what is removed is found by a pattern.
fn is_pattern(removed: &pb::FileActionRm) -> bool {
    removed.allow_wildcard && removed.path.contains(['*', '?', '['])
}

/// Whether each action changes what the one before made, and only the last one is a result.
fn is_chain(op: &pb::FileOp, given: usize) -> bool {
    let last = op.actions.len() - 1;
    // Patterns are for what is there before the step.
    let by_pattern = |action: &pb::FileAction| matches!(&action.action, Some(Action::Rm(removed)) if is_pattern(removed));
    if op.actions.iter().any(by_pattern) {
        return false;
    }
    op.actions.iter().enumerate().all(|(number, action)| {
        let before = i64::try_from(given + number).map(|next| next - 1);
        let follows = number == 0 || before == Ok(action.input);
        let is_result = action.output >= 0;
        let uses = usize::try_from(action.secondary_input).is_ok_and(|index| index >= given);
        follows && is_result == (number == last) && !uses
    })
}

/// Actions on one tree.
struct Chain {
    files: Files,
    inputs: Vec<StepId>,
}

impl Chain {
    fn on(base: Option<StepId>) -> Self {
        Self {
            files: Files {
                base: base.map(|_| Input(0)),
                actions: Vec::new(),
            },
            inputs: base.into_iter().collect(),
        }
    }

    fn read(
        &mut self,
        action: &pb::FileAction,
        from: Option<StepId>,
        compiler: &mut Compiler<'_>,
        place: &Place<'_>,
    ) -> Result<FileAction, LlbError> {
        match action.action.as_ref() {
            Some(Action::Copy(copy)) => {
                let from = match from {
                    Some(from) => from,
                    None => compiler.scratch(place)?,
                };
                copied(copy, Input::add(&mut self.inputs, from))
            }
            Some(Action::Mkfile(file)) => {
                untimed(file.timestamp)?;
                Ok(FileAction::Write {
                    dest: ImagePath::new(&file.path),
                    to_directory: false,
                    name: String::new(),
                    content: file.data.clone(),
                    mode: mode(file.mode, FILE),
                    owner: owner(file.owner.as_ref())?,
                })
            }
            Some(Action::Mkdir(directory)) => {
                untimed(directory.timestamp)?;
                Ok(FileAction::Directory {
                    path: ImagePath::new(&directory.path),
                    owner: owner(directory.owner.as_ref())?,
                    mode: mode(directory.mode, DIRECTORY),
                })
            }
            Some(Action::Rm(removed)) => Ok(FileAction::Remove {
                path: ImagePath::new(&removed.path),
                wildcard: is_pattern(removed),
                allow_missing: removed.allow_not_found,
            }),
            Some(Action::Symlink(link)) => {
                untimed(link.timestamp)?;
                Ok(FileAction::Symlink {
                    path: ImagePath::new(&link.newpath),
                    target: link.oldpath.clone(),
                    owner: owner(link.owner.as_ref())?,
                })
            }
            None => Err(unsupported("a file action that is newer than this kiln")),
        }
    }
}

fn mode(mode: i32, usual: u32) -> u32 {
    u32::try_from(mode).map_or(usual, |mode| mode & 0o7777)
}

/// Refuses times: files are as old as their step.
fn untimed(timestamp: i64) -> Result<(), LlbError> {
    match timestamp {
        ..=0 => Ok(()),
        _ => Err(unsupported("the time of a file")),
    }
}

fn copied(copy: &pb::FileActionCopy, from: Input) -> Result<FileAction, LlbError> {
    untimed(copy.timestamp)?;
    for (is_asked, what) in [
        (!copy.required_paths.is_empty(), "required paths of a copy"),
        (
            copy.always_replace_existing_dest_paths,
            "replacing what is there in a copy",
        ),
    ] {
        if is_asked {
            return Err(unsupported(what));
        }
    }
    if !copy.allow_wildcard && copy.src.contains(['*', '?', '[', '\\']) {
        return Err(unsupported("a name with the signs of patterns in a copy"));
    }
    let chmod = match (copy.mode_str.as_str(), copy.mode) {
        ("", ..0) => None,
        ("", mode) => Some(format!("{mode:o}")),
        (text, _) => Some(text.to_owned()),
    };
    let chmod = chmod.map(|text| Chmod::parse(&text)).transpose();
    Ok(FileAction::Copy(Box::new(CopyFiles {
        from,
        sources: vec![copy.src.clone()],
        dest: ImagePath::new(&copy.dest),
        to_directory: copy.dest.ends_with('/'),
        owner: owner(copy.owner.as_ref())?,
        chmod: chmod.map_err(|error| malformed(error.to_string()))?,
        parents: false,
        keep_name: !copy.dir_copy_contents,
        exclude: copy.exclude_patterns.clone(),
        include: copy.include_patterns.clone(),
        unpack: copy.attempt_unpack_docker_compatibility,
    })))
}

fn owner(owner: Option<&pb::ChownOpt>) -> Result<Option<Owner>, LlbError> {
    let Some(owner) = owner else {
        return Ok(None);
    };
    let of = |one: &Option<pb::UserOpt>| one.as_ref().and_then(|one| one.user.clone());
    match (of(&owner.user), of(&owner.group)) {
        (None, None) => Ok(None),
        (Some(User::ById(uid)), None) => Ok(Some(Owner::Ids {
            uid: id(uid)?,
            gid: id(uid)?,
        })),
        (Some(User::ById(uid)), Some(User::ById(gid))) => Ok(Some(Owner::Ids {
            uid: id(uid)?,
            gid: id(gid)?,
        })),
        (Some(user), group) => {
            let name = |user: User| match user {
                User::ByName(user) => user.name,
                User::ById(number) => number.to_string(),
            };
            Ok(Some(Owner::Names {
                user: name(user),
                group: group.map(name),
            }))
        }
        (None, Some(_)) => Err(unsupported("a group without an owner")),
    }
}
