//! Entries as results of actions.

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use reapi::action_cache_client::ActionCacheClient;
use reapi::{Action, ActionResult, Command, Digest, Directory, OutputFile};
use tonic::Code;

use crate::ClusterError;
use crate::channel::Service;
use crate::digest::Stored;
use crate::retry::retried;

/// The entry's bytes among an action's outputs.
const ENTRY: &str = "entry";
/// Larger entries are nobody's, in bytes.
const MAX_ENTRY: i64 = 16 << 20;

/// The action that an entry is the result of.
#[derive(Clone, Debug)]
pub(crate) struct EntryAction {
    command: Stored,
    root: Stored,
    action: Stored,
}

impl EntryAction {
    pub(crate) fn of(name: &str) -> Self {
        let arguments = ["kiln", "cache-entry", "1", name].map(str::to_owned);
        let command = Stored::message(&Command {
            arguments: arguments.to_vec(),
            output_paths: vec![ENTRY.to_owned()],
            ..Command::default()
        });
        let root = Stored::message(&Directory::default());
        let action = Stored::message(&Action {
            command_digest: Some(command.digest.clone()),
            input_root_digest: Some(root.digest.clone()),
            ..Action::default()
        });
        Self {
            command,
            root,
            action,
        }
    }

    /// What a server wants to have before it takes the action's result.
    pub(crate) fn messages(&self) -> [&Stored; 3] {
        [&self.command, &self.root, &self.action]
    }
}

/// An entry as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(Vec<u8>),
    /// In the storage.
    Blob(Digest),
}

/// Looks an entry up.
pub(crate) async fn get(
    service: &Service,
    instance: &str,
    action: &EntryAction,
) -> Result<Option<Found>, ClusterError> {
    let request = reapi::GetActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: Some(action.action.digest.clone()),
        inline_output_files: vec![ENTRY.to_owned()],
        ..reapi::GetActionResultRequest::default()
    };
    let answer = retried(async || {
        let mut client = ActionCacheClient::new(service.clone());
        Ok(client.get_action_result(request.clone()).await?)
    });
    match answer.await {
        Ok(answer) => found(answer.into_inner()),
        Err(ClusterError::Call {
            code: Code::NotFound,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An empty `contents` is what a server says that sends none along.
fn found(result: ActionResult) -> Result<Option<Found>, ClusterError> {
    let entry = result
        .output_files
        .into_iter()
        .find(|file| file.path == ENTRY);
    let Some(entry) = entry.filter(|_| result.exit_code == 0) else {
        return Ok(None);
    };
    let digest = entry
        .digest
        .ok_or(ClusterError::Protocol("an output file without a digest"))?;
    if !(0..=MAX_ENTRY).contains(&digest.size_bytes) {
        return Err(ClusterError::Protocol("an entry of no possible size"));
    }
    Ok(Some(match entry.contents.is_empty() {
        true => Found::Blob(digest),
        false => Found::Bytes(entry.contents),
    }))
}

/// Files an entry whose bytes and blobs the server has.
pub(crate) async fn put(
    service: &Service,
    instance: &str,
    action: &EntryAction,
    entry: Digest,
    blobs: impl Iterator<Item = Digest>,
) -> Result<(), ClusterError> {
    let file = |path: String, digest| OutputFile {
        path,
        digest: Some(digest),
        ..OutputFile::default()
    };
    let mut files: Vec<OutputFile> = blobs
        .map(|digest| file(format!("blobs/{}", digest.hash), digest))
        .chain([file(ENTRY.to_owned(), entry)])
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    let request = reapi::UpdateActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: Some(action.action.digest.clone()),
        action_result: Some(ActionResult {
            output_files: files,
            ..ActionResult::default()
        }),
        ..reapi::UpdateActionResultRequest::default()
    };
    let answer = retried(async || {
        let mut client = ActionCacheClient::new(service.clone());
        Ok(client.update_action_result(request.clone()).await?)
    });
    match answer.await {
        Ok(_) => Ok(()),
        Err(ClusterError::Refused(_)) => Err(ClusterError::ReadOnly),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wire format: entries that other versions wrote are found.
    #[test]
    fn the_digest_of_an_entrys_action() {
        let action = EntryAction::of("step-1");
        assert_eq!(action.root.bytes, b"");
        assert_eq!(
            action.action.digest,
            EntryAction::of("step-1").action.digest
        );
        assert_ne!(
            action.action.digest,
            EntryAction::of("step-2").action.digest
        );
        let shown = format!(
            "{}/{}",
            action.action.digest.hash, action.action.digest.size_bytes
        );
        assert_eq!(
            shown,
            "0040ec04192996949cc467a0a7794effa3e08fa27a5ffab5bb5527d5e1adf0ca/138"
        );
    }

    #[test]
    fn results_of_others_are_no_entries() {
        let digest = |size_bytes| Digest {
            hash: "aa".to_owned(),
            size_bytes,
        };
        let result = |path: &str, exit_code, contents: &[u8], size| ActionResult {
            exit_code,
            output_files: vec![OutputFile {
                path: path.to_owned(),
                digest: Some(digest(size)),
                contents: contents.to_vec(),
                ..OutputFile::default()
            }],
            ..ActionResult::default()
        };
        let found = |result| found(result).ok();
        let there = found(result("entry", 0, b"", 5));
        assert_eq!(there, Some(Some(Found::Blob(digest(5)))));
        let inline = found(result("entry", 0, b"12345", 5));
        assert_eq!(inline, Some(Some(Found::Bytes(b"12345".to_vec()))));
        assert_eq!(found(result("other", 0, b"", 5)), Some(None));
        assert_eq!(found(result("entry", 1, b"", 5)), Some(None));
        assert_eq!(found(result("entry", 0, b"", -1)), None);
        assert_eq!(found(result("entry", 0, b"", i64::MAX)), None);
    }
}
