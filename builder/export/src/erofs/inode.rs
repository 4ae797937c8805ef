//! Inodes as they are written: the extended form.

use std::io::{self, Read as _, Seek as _, SeekFrom};

use super::format::{INODE_SIZE, check};
use super::layout::{Layout, Place};
use super::nodes::{Content, INode, Nodes};
use super::{directory, xattr};
use kiln_graph::Digest;
use kiln_image::layer::ContentChanged;

/// The extended form.
const EXTENDED: u16 = 1;
/// All of the content in blocks.
const FLAT_PLAIN: u16 = 0;
/// The end of the content behind the inode.
const FLAT_INLINE: u16 = 2 << 1;

/// Everything up to the contents, without the superblock; directories that are in blocks become plain
/// bytes there.
pub(super) fn metadata(nodes: &Nodes<'_>, layout: &Layout) -> io::Result<Vec<u8>> {
    let mut out = vec![0; usize::try_from(layout.metadata).map_err(io::Error::other)?];
    for (number, (node, place)) in nodes.iter().zip(&layout.places).enumerate() {
        let mut bytes = header(node, place, number);
        bytes.extend_from_slice(&node.xattrs);
        if place.is_inline {
            bytes.extend(tail(node, place, layout)?);
        }
        let start = usize::try_from(place.inode).map_err(io::Error::other)?;
        out[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    Ok(out)
}

fn header(node: &INode<'_>, place: &Place, number: usize) -> Vec<u8> {
    let layout = if place.is_inline {
        FLAT_INLINE
    } else {
        FLAT_PLAIN
    };
    let union = match node.content {
        Content::Special(device) => device,
        _ => place.block,
    };
    let mut out = Vec::with_capacity(INODE_SIZE as usize);
    out.extend((EXTENDED | layout).to_le_bytes());
    out.extend(xattr::count(&node.xattrs).to_le_bytes());
    out.extend(node.mode.to_le_bytes());
    out.extend([0; 2]);
    out.extend(node.size().to_le_bytes());
    out.extend(union.to_le_bytes());
    out.extend((number as u32 + 1).to_le_bytes());
    out.extend(node.uid.to_le_bytes());
    out.extend(node.gid.to_le_bytes());
    out.extend(node.mtime.seconds.to_le_bytes());
    out.extend(node.mtime.nanos.to_le_bytes());
    out.extend(node.links.to_le_bytes());
    out.resize(INODE_SIZE as usize, 0);
    out
}

/// The end of an inode's content.
fn tail(node: &INode<'_>, place: &Place, layout: &Layout) -> io::Result<Vec<u8>> {
    let start = usize::try_from(place.full).map_err(io::Error::other)?;
    match &node.content {
        Content::Bytes(bytes) => Ok(bytes[start..].to_vec()),
        Content::Directory(names) => Ok(directory::encode(names, layout)[start..].to_vec()),
        Content::Special(_) => Ok(Vec::new()),
        Content::File { entry, place: at } => {
            let changed = || io::Error::from(ContentChanged(entry.path.to_string()));
            let mut file = at.open_file()?;
            file.seek(SeekFrom::Start(place.full))?;
            let size = usize::try_from(entry.size() - place.full).map_err(io::Error::other)?;
            let mut bytes = vec![0; size];
            file.read_exact(&mut bytes).map_err(|_| changed())?;
            if place.full == 0 {
                check(entry, Digest::of(&bytes))?;
            }
            Ok(bytes)
        }
    }
}

/// The end of an inode's content, as [`metadata`] has it.
pub(super) fn written_tail<'a>(metadata: &'a [u8], node: &INode<'_>, place: &Place) -> &'a [u8] {
    if !place.is_inline {
        return &[];
    }
    let start = place.inode + INODE_SIZE + node.xattrs.len() as u64;
    let end = start + node.size() - place.full;
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    range
        .and_then(|(start, end)| metadata.get(start..end))
        .unwrap_or_default()
}
