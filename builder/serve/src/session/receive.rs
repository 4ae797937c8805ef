//! The receiving side of fsutil's protocol, by which a client sends a directory's files.
//!
//! The client describes every entry in the order of a walk, parents first, names ascending; an empty
//! description ends the list. Entries are numbered from 0. Files that are wanted are asked for by
//! number, at any time, and come in pieces; an empty piece ends a file. When all is there, both sides
//! say that they are done.
//!
//! A client may be hostile: an order that isn't one, paths that leave the directory, bytes of files
//! that nobody asked for, and more of anything than there may be are errors.

use std::collections::HashMap;

use kiln_graph::ImagePath;

use super::call::is_absent;
use super::stat::{BadStat, Described, Kind};
use crate::proto::fsutil::Packet;
use crate::proto::fsutil::packet::PacketType;

/// Entries of one directory are no more.
const MAX_ENTRIES: u32 = 4_000_000;
/// Files come interleaved, but not more than this at once; clients send four.
const MAX_OPEN: usize = 64;

/// Why a client's files can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The client broke the protocol.
    #[error("the client sent a directory in a way that can't be: {0}")]
    Protocol(String),
    /// The client says why.
    #[error("the client could not send its files: {0}")]
    Client(String),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] Box<tonic::Status>),
    /// A file was changed while it was sent.
    #[error("{0} changed while it was sent: build again")]
    Changed(String),
    /// The files can't be written here.
    #[error("cannot write the build context: {0}")]
    Write(#[from] std::io::Error),
}

impl ReceiveError {
    /// Whether the client has no such directory, or none at all.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Call(status) if is_absent(status))
    }
}

impl From<BadStat> for ReceiveError {
    fn from(error: BadStat) -> Self {
        Self::Protocol(error.to_string())
    }
}

fn protocol<T>(text: impl Into<String>) -> Result<T, ReceiveError> {
    Err(ReceiveError::Protocol(text.into()))
}

/// Where packets come from and go to.
pub(super) trait Wire {
    /// The next packet; nothing at the end.
    fn receive(&mut self) -> Result<Option<Packet>, ReceiveError>;
    /// Sends a packet; never waits for the other side.
    fn send(&mut self, packet: Packet) -> Result<(), ReceiveError>;
}

/// What becomes of the files.
pub(super) trait Target {
    /// Takes an entry whose parent was taken; whether the bytes of a file are wanted.
    fn entry(&mut self, entry: &Described) -> Result<bool, ReceiveError>;
    /// The directory that was entered last is left.
    fn leave(&mut self, directory: &Described) -> Result<(), ReceiveError>;
    /// The next bytes of a file; they are never more than it has.
    fn data(&mut self, id: u32, file: &Described, bytes: &[u8]) -> Result<(), ReceiveError>;
    /// A file is whole.
    fn whole(&mut self, id: u32, file: &Described) -> Result<(), ReceiveError>;
    /// Everything is there.
    fn finish(&mut self) -> Result<(), ReceiveError>;
}

/// A file that was asked for.
struct Asked {
    file: Described,
    received: u64,
}

/// One directory on its way here.
struct Receiver<'a, T> {
    target: &'a mut T,
    order: Order,
    next: u32,
    asked: HashMap<u32, Asked>,
    /// How many of them have begun to come.
    open: usize,
    is_listed: bool,
    is_done: bool,
}

/// Receives a directory.
pub(super) fn receive<T: Target>(wire: &mut dyn Wire, target: &mut T) -> Result<(), ReceiveError> {
    let mut receiver = Receiver {
        target,
        order: Order::default(),
        next: 0,
        asked: HashMap::new(),
        open: 0,
        is_listed: false,
        is_done: false,
    };
    while let Some(packet) = wire.receive()? {
        if receiver.packet(&packet, wire)? {
            return Ok(());
        }
    }
    protocol("it ended in the middle")
}

impl<T: Target> Receiver<'_, T> {
    /// Takes a packet; whether it was the last.
    fn packet(&mut self, packet: &Packet, wire: &mut dyn Wire) -> Result<bool, ReceiveError> {
        let Ok(kind) = PacketType::try_from(packet.r#type) else {
            return protocol(format!("packet of type {}", packet.r#type));
        };
        match kind {
            PacketType::PacketStat => self.described(packet, wire)?,
            PacketType::PacketData => self.data(packet.id, &packet.data)?,
            PacketType::PacketErr => {
                let text = String::from_utf8_lossy(&packet.data);
                return Err(ReceiveError::Client(text.chars().take(1000).collect()));
            }
            PacketType::PacketFin if self.is_done => return Ok(true),
            PacketType::PacketFin => return protocol("it ended before its files were asked for"),
            PacketType::PacketReq => return protocol("a request from the sender"),
        }
        if self.is_listed && self.asked.is_empty() && !self.is_done {
            self.target.finish()?;
            self.is_done = true;
            wire.send(of_type(PacketType::PacketFin))?;
        }
        Ok(false)
    }

    fn described(&mut self, packet: &Packet, wire: &mut dyn Wire) -> Result<(), ReceiveError> {
        if self.is_listed {
            return protocol("an entry after the end of the list");
        }
        let Some(stat) = &packet.stat else {
            self.is_listed = true;
            return self.leave_all();
        };
        if self.next == MAX_ENTRIES {
            return protocol(format!("more than {MAX_ENTRIES} entries"));
        }
        let id = self.next;
        self.next += 1;
        let entry = Described::of(stat)?;
        for left in self.order.enter(&entry)? {
            self.target.leave(&left)?;
        }
        if self.target.entry(&entry)? && entry.has_data() {
            let request = Packet {
                id,
                ..of_type(PacketType::PacketReq)
            };
            wire.send(request)?;
            let asked = Asked {
                file: entry,
                received: 0,
            };
            self.asked.insert(id, asked);
        }
        Ok(())
    }

    fn leave_all(&mut self) -> Result<(), ReceiveError> {
        for left in self.order.end() {
            self.target.leave(&left)?;
        }
        Ok(())
    }

    fn data(&mut self, id: u32, bytes: &[u8]) -> Result<(), ReceiveError> {
        let Some(asked) = self.asked.get_mut(&id) else {
            return protocol(format!("bytes of file {id}, which nobody asked for"));
        };
        let Kind::File(size) = asked.file.kind else {
            return protocol("bytes of what is no file");
        };
        if bytes.is_empty() {
            if asked.received != size {
                return Err(ReceiveError::Changed(asked.file.path.to_string()));
            }
            self.open -= usize::from(asked.received > 0);
            self.target.whole(id, &asked.file)?;
            self.asked.remove(&id);
            return Ok(());
        }
        if asked.received == 0 {
            self.open += 1;
            if self.open > MAX_OPEN {
                return protocol(format!("more than {MAX_OPEN} files at once"));
            }
        }
        asked.received += bytes.len() as u64;
        if asked.received > size {
            return Err(ReceiveError::Changed(asked.file.path.to_string()));
        }
        self.target.data(id, &asked.file, bytes)
    }
}

/// An empty packet of a kind.
pub(super) fn of_type(kind: PacketType) -> Packet {
    Packet {
        r#type: kind.into(),
        ..Packet::default()
    }
}

/// Holds a walk to its order.
#[derive(Default)]
struct Order {
    /// The directories that are open, the root's own being none.
    open: Vec<Described>,
    /// The last entry.
    last: Option<ImagePath>,
}

impl Order {
    /// Checks the next entry; gives the directories that are left by it, the innermost first.
    fn enter(&mut self, entry: &Described) -> Result<Vec<Described>, ReceiveError> {
        // Paths are ordered by their components: a directory comes before all that is below it.
        if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
            return protocol(format!("{} is out of order", entry.path));
        }
        let parent = entry.path.parent().unwrap_or_default();
        let mut left = Vec::new();
        while let Some(open) = self.open.pop_if(|open| open.path != parent) {
            left.push(open);
        }
        let is_there = match self.open.last() {
            Some(_) => true,
            None => parent.is_root(),
        };
        if !is_there {
            return protocol(format!("{} without its directory", entry.path));
        }
        if entry.kind == Kind::Directory {
            self.open.push(entry.clone());
        }
        self.last = Some(entry.path.clone());
        Ok(left)
    }

    /// The directories that are open at the end, the innermost first.
    fn end(&mut self) -> Vec<Described> {
        self.open.drain(..).rev().collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::proto::fsutil::Stat;

    /// A client that says what it was told to, and takes what comes.
    #[derive(Default)]
    pub(in super::super) struct Script {
        pub(in super::super) packets: std::collections::VecDeque<Packet>,
        pub(in super::super) sent: Vec<Packet>,
    }

    impl Wire for Script {
        fn receive(&mut self) -> Result<Option<Packet>, ReceiveError> {
            Ok(self.packets.pop_front())
        }

        fn send(&mut self, packet: Packet) -> Result<(), ReceiveError> {
            self.sent.push(packet);
            Ok(())
        }
    }

    #[derive(Default)]
    struct Seen {
        entries: Vec<String>,
        bytes: HashMap<u32, Vec<u8>>,
        whole: Vec<u32>,
        left: Vec<String>,
        is_finished: bool,
    }

    impl Target for Seen {
        fn entry(&mut self, entry: &Described) -> Result<bool, ReceiveError> {
            self.entries.push(entry.path.to_string());
            Ok(true)
        }
        fn leave(&mut self, directory: &Described) -> Result<(), ReceiveError> {
            self.left.push(directory.path.to_string());
            Ok(())
        }
        fn data(&mut self, id: u32, _: &Described, bytes: &[u8]) -> Result<(), ReceiveError> {
            self.bytes.entry(id).or_default().extend_from_slice(bytes);
            Ok(())
        }
        fn whole(&mut self, id: u32, _: &Described) -> Result<(), ReceiveError> {
            self.whole.push(id);
            Ok(())
        }
        fn finish(&mut self) -> Result<(), ReceiveError> {
            self.is_finished = true;
            Ok(())
        }
    }

    pub(in super::super) const DIRECTORY: u32 = 1 << 31 | 0o755;

    pub(in super::super) fn entry(path: &str, mode: u32, size: i64) -> Packet {
        Packet {
            stat: Some(Stat {
                path: path.to_owned(),
                mode,
                size,
                ..Stat::default()
            }),
            ..of_type(PacketType::PacketStat)
        }
    }

    pub(in super::super) fn data(id: u32, bytes: &[u8]) -> Packet {
        Packet {
            id,
            data: bytes.to_vec(),
            ..of_type(PacketType::PacketData)
        }
    }

    pub(in super::super) fn end() -> Packet {
        of_type(PacketType::PacketStat)
    }

    pub(in super::super) fn fin() -> Packet {
        of_type(PacketType::PacketFin)
    }

    fn run(packets: Vec<Packet>) -> (Result<(), ReceiveError>, Seen, Vec<Packet>) {
        let mut script = Script {
            packets: packets.into(),
            ..Script::default()
        };
        let mut seen = Seen::default();
        let done = receive(&mut script, &mut seen);
        (done, seen, script.sent)
    }

    #[test]
    fn a_directory_comes_whole() {
        let (done, seen, sent) = run(vec![
            entry("a", DIRECTORY, 0),
            entry("a/x", 0o644, 3),
            entry("a-b", 0o644, 0),
            end(),
            data(2, b""),
            data(1, b"ab"),
            data(1, b"c"),
            data(1, b""),
            fin(),
        ]);
        done.unwrap();
        assert!(seen.is_finished);
        assert_eq!(seen.entries, ["/a", "/a/x", "/a-b"]);
        assert_eq!((seen.left, seen.whole), (vec!["/a".to_owned()], vec![2, 1]));
        assert_eq!(seen.bytes[&1], b"abc");
        let ids: Vec<u32> = sent.iter().map(|packet| packet.id).collect();
        assert_eq!(ids, [1, 2, 0]);
    }

    #[test]
    fn an_empty_directory_needs_two_words() {
        let (done, _, sent) = run(vec![end(), fin()]);
        done.unwrap();
        assert_eq!(sent, [fin()]);
    }

    #[test]
    fn hostile_streams_are_refused() {
        let file = |path| entry(path, 0o644, 1);
        let cases: Vec<(&str, Vec<Packet>)> = vec![
            ("out of order", vec![file("b"), file("a")]),
            ("out of order", vec![file("a"), file("a")]),
            (
                "out of order",
                vec![entry("a", DIRECTORY, 0), file("b"), file("a/x")],
            ),
            ("without its directory", vec![file("a/b")]),
            ("without its directory", vec![file("a"), file("a/b")]),
            ("invalid path", vec![file("../a")]),
            ("invalid path", vec![file("/a")]),
            ("nobody asked for", vec![data(0, b"x")]),
            (
                "nobody asked for",
                vec![entry("l", DIRECTORY, 0), data(0, b"x")],
            ),
            ("changed while", vec![file("a"), data(0, b"xy")]),
            ("changed while", vec![file("a"), data(0, b"")]),
            ("after the end of the list", vec![end(), file("a")]),
            ("ended before", vec![file("a"), end(), fin()]),
            ("in the middle", vec![file("a"), end()]),
            (
                "request from the sender",
                vec![of_type(PacketType::PacketReq)],
            ),
            (
                "packet of type 77",
                vec![Packet {
                    r#type: 77,
                    ..Packet::default()
                }],
            ),
            (
                "no such disk",
                vec![Packet {
                    data: b"no such disk".to_vec(),
                    ..of_type(PacketType::PacketErr)
                }],
            ),
        ];
        for (says, packets) in cases {
            let error = run(packets).0.unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
