//! A package's header as rpm's database has it: the number of entries and of bytes of data, the
//! entries (tag, type, offset, count), the data; all numbers most significant byte first
//! (<https://rpm-software-management.github.io/rpm/manual/format_header.html>).

const NAME: u32 = 1000;
const DIRECTORY_OF: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORIES: u32 = 1118;
const ENTRY: usize = 16;

/// A package.
pub(super) struct Package {
    pub(super) name: String,
    /// The paths of its files and folders.
    pub(super) files: Vec<Vec<u8>>,
}

impl Package {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let header = Header::open(bytes)?;
        let name = header.texts(NAME)?.first()?.to_vec();
        let files = header.files().unwrap_or_default();
        Some(Self {
            name: String::from_utf8(name).ok()?,
            files,
        })
    }
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

    fn files(&self) -> Option<Vec<Vec<u8>>> {
        let (names, folders) = (self.texts(BASE_NAMES)?, self.texts(DIRECTORIES)?);
        let (places, count) = self.find(DIRECTORY_OF)?;
        let path = |(at, name): (usize, &&[u8])| {
            let folder = number(places, at * 4).filter(|_| at < count)?;
            Some([*folders.get(usize::try_from(folder).ok()?)?, *name].concat())
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
            _ = Package::read(&bytes);
        }
    }
}
