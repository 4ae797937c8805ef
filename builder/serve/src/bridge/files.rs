//! `ReadFile`, `ReadDir` and `StatFile`: a client looks into a result.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use kiln_engine::{EngineError, OutputEntry};
use kiln_graph::pattern::matches;
use kiln_graph::{Entry, ImagePath};
use tonic::{Request, Status};

use super::job_of;
use crate::build::Kept;
use crate::proto::frontend::{
    ReadDirRequest, ReadDirResponse, ReadFileRequest, ReadFileResponse, StatFileRequest,
    StatFileResponse,
};
use crate::server::Server;
use crate::session::stat_of;

/// A file that is read is no larger, in bytes: an answer is one message.
const MAX_FILE: u64 = 15 << 20;

/// Does something with the result of a name.
async fn with<T: Send + 'static>(
    server: Arc<Server>,
    id: &str,
    work: impl FnOnce(&Kept) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let kept = server.jobs.result(id)?;
    let done = tokio::task::spawn_blocking(move || work(&kept)).await;
    done.map_err(|_| Status::internal("looking into a result ended early"))?
}

fn absent(path: &ImagePath) -> Status {
    Status::not_found(format!("lstat {path}: no such file or directory"))
}

fn broken(error: &std::io::Error) -> Status {
    Status::unknown(format!("cannot read the result: {error}"))
}

/// What is at a path of a result: a file or link by itself, or what a directory holds.
fn at(kept: &Kept, path: &ImagePath) -> Result<Vec<OutputEntry>, Status> {
    let target = kept.target().ok_or_else(|| absent(path))?;
    let (solved, events) = (&kept.built.solved, &*kept.built.journal);
    let found = match path.is_root() {
        true => solved.root_files(target, events).map(Some),
        false => solved.files_at(target.root, path, events),
    };
    let found = found.map_err(|error: EngineError| Status::unknown(error.to_string()))?;
    found.ok_or_else(|| absent(path))
}

/// The only file, unless entries are what a directory holds: that is among them itself.
fn single<'a>(path: &ImagePath, entries: &'a [OutputEntry]) -> Option<&'a OutputEntry> {
    match entries {
        [only] if !path.is_root() && !only.0.path.is_root() => Some(only),
        _ => None,
    }
}

/// Answers `ReadFile`.
pub(super) async fn read_file(
    server: Arc<Server>,
    request: Request<ReadFileRequest>,
) -> Result<ReadFileResponse, Status> {
    _ = job_of(&server, &request).await?;
    let request = request.into_inner();
    let id = request.r#ref.clone();
    with(server, &id, move |kept| {
        let path = ImagePath::new(&request.file_path);
        let entries = at(kept, &path)?;
        let (_, place) = single(&path, &entries)
            .ok_or_else(|| Status::unknown(format!("read {path}: is a directory")))?;
        let mut file = place.open_file().map_err(|error| broken(&error))?;
        let range = request.range.unwrap_or_default();
        let start = u64::try_from(range.offset).unwrap_or(0);
        let length = u64::try_from(range.length)
            .ok()
            .filter(|length| *length > 0);
        file.seek(SeekFrom::Start(start))
            .map_err(|error| broken(&error))?;
        let mut data = Vec::new();
        let wanted = length.unwrap_or(u64::MAX).min(MAX_FILE + 1);
        file.take(wanted)
            .read_to_end(&mut data)
            .map_err(|error| broken(&error))?;
        match data.len() as u64 > MAX_FILE {
            true => Err(Status::resource_exhausted(format!(
                "{path} is larger than 15 MiB"
            ))),
            false => Ok(ReadFileResponse { data }),
        }
    })
    .await
}

/// Answers `StatFile`.
pub(super) async fn stat_file(
    server: Arc<Server>,
    request: Request<StatFileRequest>,
) -> Result<StatFileResponse, Status> {
    _ = job_of(&server, &request).await?;
    let request = request.into_inner();
    let id = request.r#ref.clone();
    with(server, &id, move |kept| {
        let path = ImagePath::new(&request.path);
        let entries = at(kept, &path)?;
        let name = path.components().next_back().unwrap_or(b".");
        let entry = match single(&path, &entries) {
            Some((entry, _)) => entry.clone(),
            None => {
                let mut own = entries.iter().map(|(entry, _)| entry);
                let own = own.find(|entry| entry.path.is_root());
                own.cloned()
                    .unwrap_or_else(|| Entry::directory(path.clone()))
            }
        };
        let mut stat = stat_of(&entry).ok_or_else(|| absent(&path))?;
        stat.path = String::from_utf8_lossy(name).into_owned();
        Ok(StatFileResponse { stat: Some(stat) })
    })
    .await
}

/// Answers `ReadDir`.
pub(super) async fn read_dir(
    server: Arc<Server>,
    request: Request<ReadDirRequest>,
) -> Result<ReadDirResponse, Status> {
    _ = job_of(&server, &request).await?;
    let request = request.into_inner();
    let pattern = request.include_pattern.clone();
    let bad = matches(&pattern, b"").err();
    if let Some(error) = bad {
        return Err(Status::invalid_argument(error.to_string()));
    }
    let id = request.r#ref.clone();
    with(server, &id, move |kept| {
        let path = ImagePath::new(&request.dir_path);
        let entries = at(kept, &path)?;
        if single(&path, &entries).is_some() {
            return Err(Status::unknown(format!("readdir {path}: not a directory")));
        }
        let own = entries.iter().map(|(entry, _)| entry);
        let is_wanted = |entry: &&Entry| {
            let name = entry.path.file_name().unwrap_or_default();
            pattern.is_empty() || matches(&pattern, name).unwrap_or(false)
        };
        let direct = own.filter(|entry| entry.path.components().count() == 1);
        let direct = direct.filter(is_wanted);
        Ok(ReadDirResponse {
            entries: direct.filter_map(stat_of).collect(),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_entry::entry;

    #[test]
    fn a_directory_with_one_file_is_no_file() {
        // A link leads to a file of another name.
        let file = [entry("busybox", true)];
        let directory = [entry("", false), entry("busybox", true)];
        let empty = [entry("", false)];
        let path = ImagePath::new("/bin/sh");
        assert!(single(&path, &file).is_some());
        assert!(single(&path, &directory).is_none());
        assert!(single(&path, &empty).is_none());
        assert!(single(&ImagePath::root(), &file).is_none());
    }
}
