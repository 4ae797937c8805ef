//! What the steps of an action write, while they run: the action's standard output, which some
//! servers stream. Format 1: records as a log has them (see [`crate::report`]), and one of stream 0
//! where a step begins, with its position (4 bytes, little-endian): a lower one than before when the
//! steps are run again. What goes beyond [`MAX_LIVE`] is left out; reports name the
//! whole logs.

use kiln_solve::Stream;

use crate::report::{STEP_BEGINS, first_record, record};

/// What is sent of an action's output while it runs, in bytes.
pub(crate) const MAX_LIVE: usize = 4 << 20;

/// Writes records, on a worker.
#[derive(Debug)]
pub(crate) struct LiveWriter {
    left: usize,
}

impl Default for LiveWriter {
    fn default() -> Self {
        Self { left: MAX_LIVE }
    }
}

impl LiveWriter {
    /// The bytes that tell that the step at a position begins.
    pub(crate) fn begins(&mut self, position: u32) -> Vec<u8> {
        self.limited(record(STEP_BEGINS, 0, &position.to_le_bytes()))
    }

    /// The bytes that tell of what a step wrote.
    pub(crate) fn wrote(&mut self, stream: Stream, millis: u32, bytes: &[u8]) -> Vec<u8> {
        self.limited(record(stream_number(stream), millis, bytes))
    }

    /// Once one record is left out, all are: each belongs to the last step that began.
    fn limited(&mut self, record: Vec<u8>) -> Vec<u8> {
        match self.left.checked_sub(record.len()) {
            Some(left) => {
                self.left = left;
                record
            }
            None => {
                self.left = 0;
                Vec::new()
            }
        }
    }
}

pub(crate) fn stream_number(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

/// The stream that a number of a record stands for.
pub(crate) fn stream_of(number: u8) -> Option<Stream> {
    match number {
        1 => Some(Stream::Stdout),
        2 => Some(Stream::Stderr),
        _ => None,
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LiveRecord {
    /// The step at a position begins.
    Begins(usize),
    /// The step that began last wrote something.
    Wrote(Stream, Vec<u8>),
}

/// Reads records from a stream that is cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct LiveReader {
    rest: Vec<u8>,
}

impl LiveReader {
    /// The records that more bytes complete. What can't be understood is never completed.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<LiveRecord> {
        if self.rest.len() + bytes.len() > 2 * MAX_LIVE {
            return Vec::new();
        }
        self.rest.extend_from_slice(bytes);
        let mut records = Vec::new();
        let mut rest = &self.rest[..];
        while let Some(((kind, bytes), after)) = first_record(rest) {
            rest = after;
            records.extend(match kind {
                STEP_BEGINS => position(bytes).map(LiveRecord::Begins),
                kind => stream_of(kind).map(|stream| LiveRecord::Wrote(stream, bytes.to_vec())),
            });
        }
        self.rest = rest.to_vec();
        records
    }
}

fn position(bytes: &[u8]) -> Option<usize> {
    let bytes = bytes.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_are_read_however_the_stream_is_cut(
            written in prop::collection::vec(
                prop::option::of(prop::collection::vec(any::<u8>(), 0..30)), 0..10,
            ),
            cut in 1usize..40,
        ) {
            let mut writer = LiveWriter::default();
            let mut stream = Vec::new();
            let mut want = Vec::new();
            for bytes in written {
                stream.extend(match &bytes {
                    Some(bytes) => writer.wrote(Stream::Stderr, 3, bytes),
                    None => writer.begins(7),
                });
                want.push(match bytes {
                    Some(bytes) => LiveRecord::Wrote(Stream::Stderr, bytes),
                    None => LiveRecord::Begins(7),
                });
            }
            let mut reader = LiveReader::default();
            let read: Vec<_> = stream.chunks(cut).flat_map(|part| reader.read(part)).collect();
            prop_assert_eq!(read, want);
        }

        #[test]
        fn no_stream_panics_or_grows(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut reader = LiveReader::default();
            for part in parts {
                _ = reader.read(&part);
            }
        }
    }

    #[test]
    fn output_beyond_the_limit_is_left_out() {
        let mut writer = LiveWriter::default();
        let large = vec![b'x'; MAX_LIVE - 20];
        assert!(!writer.wrote(Stream::Stdout, 0, &large).is_empty());
        assert_eq!(writer.wrote(Stream::Stdout, 0, &[b'x'; 30]), b"");
        assert_eq!(writer.begins(1), b"");
    }
}
