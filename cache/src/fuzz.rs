//! What fuzzers call: readers of formats that the crate keeps to itself.

use kiln_graph::Digest;

/// Reads a manifest whose checksum is right, whatever it says.
pub fn manifest(content: &[u8]) {
    let mut bytes = content.to_vec();
    bytes.extend_from_slice(Digest::of(content).as_bytes());
    if let Some(manifest) = crate::manifest_file::read(&bytes) {
        let again = crate::manifest_file::write(&manifest);
        _ = crate::remote::read_manifest(&again, &manifest.id());
    }
}
