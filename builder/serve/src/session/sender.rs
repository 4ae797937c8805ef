//! The sending side of fsutil's protocol: see `receive`.

use std::io::Read as _;

use kiln_engine::OutputEntry;
use tokio::sync::mpsc;
use tonic::Status;

use super::receive::of_type;
use super::stat::stat_of;
use crate::proto::fsutil::packet::PacketType;
use crate::proto::fsutil::{Packet, Stat};

/// Bytes of a file in one packet: what clients' own senders use.
const PIECE: u64 = 32 << 10;

/// Files to be sent, with what the client is told of each.
pub(super) struct Sender {
    files: Vec<(Stat, OutputEntry)>,
}

impl Sender {
    /// Sends what can be told to a client: sockets and marks of overlayfs can't.
    pub(super) fn new(files: Vec<OutputEntry>) -> Self {
        let files = files.into_iter().filter(|(entry, _)| !entry.path.is_root());
        let told = files.filter_map(|file| Some((stat_of(&file.0)?, file)));
        Self {
            files: told.collect(),
        }
    }

    /// Sends the list, then the files that are asked for; blocks.
    pub(super) fn send(
        &self,
        to: &mpsc::Sender<Packet>,
        mut requests: mpsc::UnboundedReceiver<Packet>,
    ) -> Result<(), Status> {
        let gone = |_| Status::unavailable("the client stopped taking files");
        for (stat, _) in &self.files {
            let packet = Packet {
                stat: Some(stat.clone()),
                ..of_type(PacketType::PacketStat)
            };
            to.blocking_send(packet).map_err(gone)?;
        }
        to.blocking_send(of_type(PacketType::PacketStat))
            .map_err(gone)?;
        while let Some(packet) = requests.blocking_recv() {
            match PacketType::try_from(packet.r#type) {
                Ok(PacketType::PacketReq) => self.file(packet.id, to)?,
                Ok(PacketType::PacketFin) => {
                    return to
                        .blocking_send(of_type(PacketType::PacketFin))
                        .map_err(gone);
                }
                Ok(PacketType::PacketErr) => {
                    let text = String::from_utf8_lossy(&packet.data);
                    return Err(Status::unknown(format!("the client: {text}")));
                }
                _ => {
                    return Err(Status::invalid_argument(
                        "a packet that only a sender sends",
                    ));
                }
            }
        }
        Err(Status::unavailable("the client stopped taking files"))
    }

    fn file(&self, id: u32, to: &mpsc::Sender<Packet>) -> Result<(), Status> {
        let found = usize::try_from(id).ok().and_then(|id| self.files.get(id));
        let Some((stat, (entry, place))) = found else {
            return Err(Status::invalid_argument("a file that isn't in the list"));
        };
        if !matches!(entry.node, kiln_graph::Node::File { .. }) {
            let text = format!("{} has no bytes to send", stat.path);
            return Err(Status::invalid_argument(text));
        }
        let wrong = |error: std::io::Error| Status::unknown(format!("{}: {error}", stat.path));
        let mut file = place.open_file().map_err(wrong)?;
        loop {
            let mut data = Vec::new();
            let count = file.by_ref().take(PIECE).read_to_end(&mut data);
            let is_over = count.map_err(wrong)? == 0;
            let packet = Packet {
                id,
                data,
                ..of_type(PacketType::PacketData)
            };
            let sent = to.blocking_send(packet);
            sent.map_err(|_| Status::unavailable("the client stopped taking files"))?;
            if is_over {
                return Ok(());
            }
        }
    }
}
