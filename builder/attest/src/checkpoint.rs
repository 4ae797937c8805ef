//! What a transparency log says of itself: its size and the root of its tree, as a signed note
//! (<https://c2sp.org/tlog-checkpoint>, <https://c2sp.org/signed-note>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::log_key::LogKey;
use crate::merkle::Hash;

/// The length of what a signature has before it: a hash of the key's name.
const KEY_ID: usize = 4;

/// A log at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// How many leaves its tree has.
    pub(crate) size: u64,
    /// The root of its tree.
    pub(crate) root: Hash,
}

impl Checkpoint {
    /// Reads a checkpoint that a log has signed; `None` when the key has not, or it can't be read.
    pub(crate) fn read(note: &str, key: &LogKey) -> Option<Self> {
        let (text, signatures) = note.rsplit_once("\n\n")?;
        let signed = &note[..=text.len()];
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty())?;
        let size = lines.next()?.parse().ok()?;
        let root = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        let holds = |line: &str| {
            let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            let signature = STANDARD.decode(signature).ok()?;
            let signature = signature.get(KEY_ID..)?;
            let verified = key.verify(signed.as_bytes(), signature);
            (is_of(origin, name) && verified.is_ok()).then_some(())
        };
        signatures.split('\n').find_map(holds)?;
        Some(Self { size, root })
    }
}

/// Whether a log with a name writes such an origin. Rekor's first version has the number of its tree behind
/// the name: `rekor.example - 123`.
fn is_of(origin: &str, name: &str) -> bool {
    let rest = origin.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" - "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    fn key() -> (Ed25519KeyPair, LogKey) {
        let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(bytes.as_ref()).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        (pair, LogKey::Ed25519(public))
    }

    fn note(text: &str, name: &str, pair: &Ed25519KeyPair) -> String {
        let signature = [&[1, 2, 3, 4], pair.sign(text.as_bytes()).as_ref()].concat();
        format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signature))
    }

    #[test]
    fn only_what_the_log_signed() {
        let (pair, public) = key();
        let (other, _) = key();
        let root = STANDARD.encode([7; 32]);
        let text = format!("log.example\n12\n{root}\n");
        let good = note(&text, "log.example", &pair);
        let want = Some(Checkpoint {
            size: 12,
            root: [7; 32],
        });
        assert_eq!(Checkpoint::read(&good, &public), want);
        // Witnesses sign too.
        let both = format!("{}\n", note(&text, "witness.example", &other).trim_end());
        let both = both + good.rsplit_once("\n\n").unwrap().1;
        assert_eq!(Checkpoint::read(&both, &public), want);
        let numbered = note(
            &text.replace("example", "example - 5"),
            "log.example",
            &pair,
        );
        assert_eq!(Checkpoint::read(&numbered, &public), want);
        for bad in [
            good.replace("12", "13"),
            note(
                &text.replace("example", "example.org"),
                "log.example",
                &pair,
            ),
            good.replace("\n\n", "\n"),
            note(&text, "log.example", &other),
            note(&text, "other.example", &pair),
            note("log.example\n12\nAAAA\n", "log.example", &pair),
            note(&format!("log.example\n-1\n{root}\n"), "log.example", &pair),
            text.clone(),
            String::new(),
        ] {
            assert_eq!(Checkpoint::read(&bad, &public), None, "{bad}");
        }
    }
}
