//! A package's header as rpm's database has it: the number of entries and of bytes of data, the
//! entries (tag, type, offset, count), the data; all numbers most significant byte first
//! (<https://rpm-software-management.github.io/rpm/manual/format_header.html>).

use super::Installed;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;
const SOURCE: u32 = 1044;
const DIRECTORY_OF: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORIES: u32 = 1118;
const ENTRY: usize = 16;

/// A package.
pub(super) struct Package {
    pub(super) name: String,
    /// The paths of its files and directories.
    pub(super) files: Vec<Vec<u8>>,
}

impl Package {
    /// Reads a header. Its paths are taken from `left`, the bytes that paths may still have.
    pub(super) fn read(bytes: &[u8], left: &mut usize) -> Option<Self> {
        let header = Header::open(bytes)?;
        let name = header.texts(NAME)?.first()?.to_vec();
        let files = header.files(left).unwrap_or_default();
        Some(Self {
            name: String::from_utf8(name).ok()?,
            files,
        })
    }
}

/// What a header says of a package but for its files.
pub(super) fn installed(bytes: &[u8]) -> Option<Installed> {
    let header = Header::open(bytes)?;
    Some(Installed {
        name: header.text(NAME)?,
        epoch: header.find(EPOCH).and_then(|(data, _)| number(data, 0)),
        version: header.text(VERSION)?,
        release: header.text(RELEASE)?,
        architecture: header.text(ARCHITECTURE),
        license: header.text(LICENSE),
        vendor: header.text(VENDOR),
        source: header.text(SOURCE),
    })
}

struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let entries = usize::try_from(number(bytes, 0)?)
            .ok()?
            .checked_mul(ENTRY)?;
        let data = usize::try_from(number(bytes, 4)?).ok()?;
        let (entries, rest) = bytes.get(8..)?.split_at_checked(entries)?;
        Some(Self {
            entries,
            data: rest.get(..data)?,
        })
    }

    /// The data of a tag and what follows it, and how many values it has.
    fn find(&self, tag: u32) -> Option<(&'a [u8], usize)> {
        let entry = self.entries.chunks_exact(ENTRY);
        let entry = entry
            .into_iter()
            .find(|entry| number(entry, 0) == Some(tag))?;
        let offset = usize::try_from(number(entry, 8)?).ok()?;
        let count = usize::try_from(number(entry, 12)?).ok()?;
        Some((self.data.get(offset..)?, count))
    }

    /// Texts, each of which ends with a zero.
    fn texts(&self, tag: u32) -> Option<Vec<&'a [u8]>> {
        let (data, count) = self.find(tag)?;
        let texts: Vec<_> = data.split(|byte| *byte == 0).take(count).collect();
        (texts.len() == count).then_some(texts)
    }

    /// The first text of a tag.
    fn text(&self, tag: u32) -> Option<String> {
        let text = self.texts(tag)?.first()?.to_vec();
        let text = String::from_utf8(text).ok()?;
        (!text.is_empty() && text != "(none)").then_some(text)
    }

    fn files(&self, left: &mut usize) -> Option<Vec<Vec<u8>>> {
        let (names, directories) = (self.texts(BASE_NAMES)?, self.texts(DIRECTORIES)?);
        let (places, count) = self.find(DIRECTORY_OF)?;
        let path = |(at, name): (usize, &&[u8])| {
            let directory = number(places, at * 4).filter(|_| at < count)?;
            let directory = *directories.get(usize::try_from(directory).ok()?)?;
            *left = left.checked_sub(directory.len() + name.len())?;
            Some([directory, *name].concat())
        };
        names.iter().enumerate().map(path).collect()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_header_panics(mut bytes in prop::collection::vec(any::<u8>(), 8..600)) {
            bytes[..7].copy_from_slice(&[0, 0, 0, 4, 0, 0, 0]);
            _ = Package::read(&bytes, &mut 1000);
            _ = installed(&bytes);
        }
    }
}
