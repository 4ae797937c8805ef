//! `FileSync.DiffCopy`: reads directories of the client's.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Status, Streaming};

use super::Session;
use super::mirror::{Mirror, Update};
use super::receive::{ReceiveError, Target, Wire, receive};
use super::stat::{Described, Kind};
use crate::proto::fsutil::Packet;

const PATH: &str = "/moby.filesync.v1.FileSync/DiffCopy";
/// Build files and ignore lists are no larger, all together.
const MAX_SMALL: u64 = 64 << 20;
/// A header list is no larger for Go; what goes beyond is filtered here.
const MAX_METADATA: usize = 900 << 10;

/// Which files of a directory are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// These, and what they link to; all, when there are none.
    pub(crate) follow: Vec<String>,
    /// What matches these patterns; all, when there are none.
    pub(crate) include: Vec<String>,
    /// Without what these patterns of an ignore list match.
    pub(crate) exclude: Vec<String>,
}

impl Filter {
    /// Some files only.
    pub(crate) fn only(names: impl IntoIterator<Item = String>) -> Self {
        Self {
            follow: names.into_iter().collect(),
            include: Vec::new(),
            exclude: Vec::new(),
        }
    }

    fn metadata(&self, directory: &str) -> Result<MetadataMap, Status> {
        let mut metadata = MetadataMap::new();
        append(&mut metadata, "dir-name", &[directory.to_owned()])?;
        append(&mut metadata, "followpaths", &self.follow)?;
        append(&mut metadata, "include-patterns", &self.include)?;
        let size: usize = self.exclude.iter().map(|text| text.len() + 64).sum();
        if size < MAX_METADATA {
            append(&mut metadata, "exclude-patterns", &self.exclude)?;
        }
        Ok(metadata)
    }
}

/// Adds values; when one isn't ASCII, all are escaped as a query's are, and this is said.
fn append(metadata: &mut MetadataMap, key: &'static str, values: &[String]) -> Result<(), Status> {
    let is_plain = |text: &String| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let escape = !values.iter().all(is_plain);
    for value in values {
        let text = match escape {
            true => url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
            false => value.clone(),
        };
        let value = MetadataValue::try_from(text);
        metadata.append(key, value.map_err(|_| Status::internal("metadata"))?);
    }
    if escape {
        let key: tonic::metadata::AsciiMetadataKey = format!("{key}-encoded")
            .parse()
            .map_err(|_| Status::internal("metadata"))?;
        metadata.insert(key, MetadataValue::from_static("1"));
    }
    Ok(())
}

/// The call as the receiver sees it, from a thread of its own.
struct Call {
    incoming: mpsc::Receiver<Result<Packet, Status>>,
    outgoing: mpsc::UnboundedSender<Packet>,
}

impl Wire for Call {
    fn receive(&mut self) -> Result<Option<Packet>, ReceiveError> {
        match self.incoming.blocking_recv() {
            Some(Ok(packet)) => Ok(Some(packet)),
            Some(Err(status)) => Err(ReceiveError::Call(Box::new(status))),
            None => Ok(None),
        }
    }

    fn send(&mut self, packet: Packet) -> Result<(), ReceiveError> {
        // Whoever doesn't take it any more says why in what they send.
        _ = self.outgoing.send(packet);
        Ok(())
    }
}

/// Passes on what comes, until nobody wants it.
async fn forward(mut from: Streaming<Packet>, to: mpsc::Sender<Result<Packet, Status>>) {
    while let Some(next) = from.next().await {
        let is_over = next.is_err();
        if to.send(next).await.is_err() || is_over {
            return;
        }
    }
}

/// Receives a directory; blocks.
fn receive_directory<T: Target>(
    runtime: &tokio::runtime::Handle,
    session: &Arc<Session>,
    directory: &str,
    filter: &Filter,
    target: &mut T,
) -> Result<(), ReceiveError> {
    let metadata = filter.metadata(directory).map_err(Box::new)?;
    let (outgoing, to_send) = mpsc::unbounded_channel();
    let packets = futures_util::stream::unfold(to_send, |mut packets| async {
        let packet: Packet = packets.recv().await?;
        Some((packet, packets))
    });
    let call = session.streaming(PATH, metadata, packets);
    let from = runtime.block_on(call).map_err(Box::new)?;
    let (to, incoming) = mpsc::channel(64);
    runtime.spawn(forward(from, to));
    receive(&mut Call { incoming, outgoing }, target)
}

/// The contents of some small files of a directory, by their paths; links are followed. Blocks.
pub(crate) fn read_files(
    runtime: &tokio::runtime::Handle,
    session: &Arc<Session>,
    directory: &str,
    names: &[String],
) -> Result<BTreeMap<String, Vec<u8>>, ReceiveError> {
    let mut small = Small::default();
    let filter = Filter::only(names.iter().cloned());
    receive_directory(runtime, session, directory, &filter, &mut small)?;
    let found = names.iter().filter_map(|name| {
        let path = kiln_graph::ImagePath::new(name);
        Some((name.clone(), small.read(&path)?))
    });
    Ok(found.collect())
}

/// Brings a mirror up to date; returns how many bytes came. Blocks.
pub(crate) fn mirror(
    runtime: &tokio::runtime::Handle,
    session: &Arc<Session>,
    directory: &str,
    filter: &Filter,
    mirror: &Mirror,
    progress: &dyn Fn(u64),
) -> Result<u64, ReceiveError> {
    let mut update = Watched {
        update: mirror.update()?,
        progress,
    };
    receive_directory(runtime, session, directory, filter, &mut update)?;
    Ok(update.update.received)
}

/// An update that tells how far it is.
struct Watched<'a> {
    update: Update,
    progress: &'a dyn Fn(u64),
}

impl Target for Watched<'_> {
    fn entry(&mut self, entry: &Described) -> Result<bool, ReceiveError> {
        self.update.entry(entry)
    }

    fn leave(&mut self, directory: &Described) -> Result<(), ReceiveError> {
        self.update.leave(directory)
    }

    fn data(&mut self, id: u32, file: &Described, bytes: &[u8]) -> Result<(), ReceiveError> {
        self.update.data(id, file, bytes)?;
        (self.progress)(self.update.received);
        Ok(())
    }

    fn whole(&mut self, id: u32, file: &Described) -> Result<(), ReceiveError> {
        self.update.whole(id, file)
    }

    fn finish(&mut self) -> Result<(), ReceiveError> {
        self.update.finish()
    }
}

/// Files in memory.
#[derive(Default)]
struct Small {
    files: BTreeMap<kiln_graph::ImagePath, Vec<u8>>,
    links: BTreeMap<kiln_graph::ImagePath, Vec<u8>>,
    coming: BTreeMap<u32, Vec<u8>>,
    size: u64,
}

impl Small {
    /// The content at a path, links followed.
    fn read(&self, path: &kiln_graph::ImagePath) -> Option<Vec<u8>> {
        let mut path = path.clone();
        for _ in 0..kiln_graph::MAX_LINKS {
            if let Some(bytes) = self.files.get(&path) {
                return Some(bytes.clone());
            }
            let target = self.links.get(&path)?;
            path = path.parent().unwrap_or_default().resolve(target);
        }
        None
    }
}

impl Target for Small {
    fn entry(&mut self, entry: &Described) -> Result<bool, ReceiveError> {
        match &entry.kind {
            Kind::Symlink(target) => _ = self.links.insert(entry.path.clone(), target.clone()),
            Kind::HardLink(first) => {
                let first = [b"/", first.relative_bytes()].concat();
                self.links.insert(entry.path.clone(), first);
            }
            Kind::File(size) => {
                self.size = self.size.saturating_add(*size);
                if self.size > MAX_SMALL {
                    let text = format!("{} is too large for what it is read for", entry.path);
                    return Err(ReceiveError::Client(text));
                }
                return Ok(true);
            }
            Kind::Directory | Kind::Special => {}
        }
        Ok(false)
    }

    fn leave(&mut self, _: &Described) -> Result<(), ReceiveError> {
        Ok(())
    }

    fn data(&mut self, id: u32, _: &Described, bytes: &[u8]) -> Result<(), ReceiveError> {
        self.coming.entry(id).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn whole(&mut self, id: u32, file: &Described) -> Result<(), ReceiveError> {
        let bytes = self.coming.remove(&id).unwrap_or_default();
        self.files.insert(file.path.clone(), bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ReceiveError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_ascii_are_escaped_and_this_is_said() {
        let filter = Filter::only(["a b".to_owned(), "ü/x".to_owned()]);
        let metadata = filter.metadata("context").unwrap();
        let all: Vec<_> = metadata.get_all("followpaths").iter().collect();
        assert_eq!(all, ["a+b", "%C3%BC%2Fx"]);
        assert_eq!(metadata.get("followpaths-encoded").unwrap(), "1");
        assert!(metadata.get("dir-name-encoded").is_none());
        let plain = Filter::only(["a b".to_owned()])
            .metadata("context")
            .unwrap();
        assert_eq!(plain.get("followpaths").unwrap(), "a b");
    }
}
