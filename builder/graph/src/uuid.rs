//! UUIDs as text.

/// 16 bytes as RFC 9562 (section 4) writes them: `f81d4fae-7dec-11d0-a765-00a0c91e6bf6`.
#[must_use]
pub fn format_uuid(bytes: [u8; 16]) -> String {
    let hex = hex::encode(bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]);
    parts.join("-")
}

/// The same, marked as of a version, by RFC 9562's variant: 4 for random bytes, 8 for others.
#[must_use]
pub fn versioned_uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    format_uuid(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_the_rfc_has_them() {
        let bytes = [
            0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0, 0xa0, 0xc9, 0x1e, 0x6b,
            0xf6,
        ];
        assert_eq!(format_uuid(bytes), "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
        let ones = "ffffffff-ffff-8fff-bfff-ffffffffffff";
        assert_eq!(versioned_uuid([0xff; 16], 8), ones);
        let zeros = "00000000-0000-4000-8000-000000000000";
        assert_eq!(versioned_uuid([0; 16], 4), zeros);
    }
}
