//! What fuzzing tries: a client's packets, written into a directory.

use std::collections::VecDeque;
use std::path::Path;

use prost::Message as _;

use super::mirror::Mirrors;
use super::receive::{ReceiveError, Wire, receive};
use crate::proto::fsutil::Packet;

/// Packets that were read from bytes.
struct Bytes(VecDeque<Packet>);

impl Wire for Bytes {
    fn receive(&mut self) -> Result<Option<Packet>, ReceiveError> {
        Ok(self.0.pop_front())
    }

    fn send(&mut self, _: Packet) -> Result<(), ReceiveError> {
        Ok(())
    }
}

/// Receives a directory from packets, each behind its length in two bytes (little-endian), into the
/// mirror of a store's directory. Nothing beside the mirror may change, and nothing may panic.
pub fn receive_directory(store: &Path, mut bytes: &[u8]) {
    let mut packets = VecDeque::new();
    while let [low, high, rest @ ..] = bytes {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (packet, rest) = rest.split_at(length);
        packets.extend(Packet::decode(packet));
        bytes = rest;
    }
    let mirror = Mirrors::of(store).lease("fuzz");
    if let Ok(mirror) = mirror
        && let Ok(mut update) = mirror.update()
    {
        _ = receive(&mut Bytes(packets), &mut update);
    }
}
