//! Tar headers: ustar where everything fits, PAX records for what doesn't (POSIX.1-2001, `pax`).

use kiln_graph::{Entry, Node, Timestamp};

pub(crate) const BLOCK: usize = 512;
const MAX_NAME: usize = 100;
const MAX_ID: u32 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// What a header says of an entry.
pub(crate) struct Header<'a> {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) link: &'a [u8],
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) entry: &'a Entry,
    pub(crate) mtime: Timestamp,
}

impl Header<'_> {
    /// The header blocks: with PAX records before them where needed.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let records = self.records();
        let mut out = Vec::with_capacity(BLOCK * 3);
        if !records.is_empty() {
            let fields = Fields {
                name: b"PaxHeaders/entry",
                kind: b'x',
                ..self.fields()
            };
            let size = records.len() as u64;
            out.extend(
                Fields {
                    link: b"",
                    size,
                    mtime: 0,
                    device: None,
                    ..fields
                }
                .block(),
            );
            out.extend_from_slice(&records);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out.extend(self.fields().block());
        out
    }

    fn fields(&self) -> Fields<'_> {
        let is_device = matches!(
            self.entry.node,
            Node::CharDevice { .. } | Node::BlockDevice { .. }
        );
        Fields {
            name: &self.name,
            mode: self.entry.mode,
            uid: self.entry.uid,
            gid: self.entry.gid,
            size: self.size,
            mtime: u64::try_from(self.mtime.seconds).unwrap_or(0),
            kind: self.kind,
            link: self.link,
            device: is_device.then_some(self.device),
        }
    }

    fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !fits(&self.name) {
            record(&mut out, b"path", &self.name);
        }
        if !fits(self.link) {
            record(&mut out, b"linkpath", self.link);
        }
        if self.size > MAX_SIZE {
            record(&mut out, b"size", self.size.to_string().as_bytes());
        }
        for (key, id) in [(b"uid", self.entry.uid), (b"gid", self.entry.gid)] {
            if id > MAX_ID {
                record(&mut out, key, id.to_string().as_bytes());
            }
        }
        if self.mtime.nanos != 0 || self.mtime.seconds < 0 {
            record(&mut out, b"mtime", time_text(self.mtime).as_bytes());
        }
        for (name, value) in &self.entry.xattrs {
            let mut key = b"SCHILY.xattr.".to_vec();
            key.extend_from_slice(name);
            record(&mut out, &key, value);
        }
        out
    }
}

fn fits(name: &[u8]) -> bool {
    name.len() <= MAX_NAME && name.is_ascii()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn time_text(time: Timestamp) -> String {
    let (sign, seconds, nanos) = match (time.seconds, time.nanos) {
        (seconds, 0) => return seconds.to_string(),
        (seconds, nanos) if seconds < 0 => {
            ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos)
        }
        (seconds, nanos) => ("", seconds.unsigned_abs(), nanos),
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').to_owned()
}

#[derive(Clone, Copy)]
struct Fields<'a> {
    name: &'a [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    kind: u8,
    link: &'a [u8],
    device: Option<(u32, u32)>,
}

impl Fields<'_> {
    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block[..100], self.name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], self.uid.min(MAX_ID).into());
        octal(&mut block[116..124], self.gid.min(MAX_ID).into());
        octal(&mut block[124..136], self.size.min(MAX_SIZE));
        octal(&mut block[136..148], self.mtime.min(MAX_SIZE));
        block[156] = self.kind;
        put(&mut block[157..257], self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        if let Some((major, minor)) = self.device {
            octal(&mut block[329..337], major.into());
            octal(&mut block[337..345], minor.into());
        }
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        block
    }
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let count = field.len().min(bytes.len());
    field[..count].copy_from_slice(&bytes[..count]);
}

/// Octal digits that fill the field but for its last byte, which is NUL.
fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let text = format!("{value:0width$o}");
    field[..width].copy_from_slice(&text.as_bytes()[text.len() - width..]);
    field[width] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_count_themselves() {
        let cases = [(1, "6 a=x\n".len()), (94, 99), (95, 101), (992, 998)];
        for (value, _) in cases {
            let mut out = Vec::new();
            record(&mut out, b"a", &vec![b'x'; value]);
            let text = String::from_utf8(out).unwrap();
            let said: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, text.len());
        }
    }

    #[test]
    fn times_with_fractions() {
        let text = |seconds, nanos| time_text(Timestamp { seconds, nanos });
        assert_eq!(text(5, 0), "5");
        assert_eq!(text(5, 500_000_000), "5.5");
        assert_eq!(text(-2, 750_000_000), "-1.25");
        assert_eq!(text(-2, 0), "-2");
    }
}
