//! The bytes of caches, which lie in Azure's blob storage behind addresses that let their holders in ("Put Blob",
//! "Put Block", "Put Block List" of its REST API).

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_image::{Answer, Exchange, ImageError};
use kiln_tree::host;

use super::service::{Found, Service, TIMEOUT};
use crate::{RemoteBlob, RemoteError};

/// What is no longer goes in one request; the length of each block of what is, in bytes.
const BLOCK: u64 = 4 << 20;
/// How many blocks of one cache are on their way at once.
const AT_ONCE: usize = 4;
/// How often a transfer that breaks is taken up.
const TRIES: u32 = 4;

impl Service {
    /// Sends a document.
    pub(super) fn upload_bytes(&self, url: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        self.put(url, "", &[("x-ms-blob-type", "BlockBlob")], bytes)
    }

    /// Sends a file.
    pub(super) fn upload(&self, url: &str, blob: &RemoteBlob<'_>) -> Result<(), RemoteError> {
        let file = host::open(blob.path).map_err(|error| RemoteError::local(&error))?;
        if blob.size <= BLOCK {
            return self.upload_bytes(url, piece(&file, 0, blob.size)?);
        }
        let count = blob.size.div_ceil(BLOCK);
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let work = || -> Result<(), RemoteError> {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(());
                    }
                    let start = number * BLOCK;
                    let bytes = piece(&file, start, BLOCK.min(blob.size - start))?;
                    let query = format!("comp=block&blockid={}", block_id(number));
                    let sent = self.put(url, &query, &[], bytes);
                    if sent.is_err() {
                        // The others need not go on.
                        next.store(count, Ordering::Relaxed);
                    }
                    sent?;
                }
            };
            let threads = [(); AT_ONCE].map(|()| scope.spawn(work));
            let ended = threads.map(|thread| {
                let died = || Err(RemoteError::Local("a thread ended early".to_owned()));
                thread.join().unwrap_or_else(|_| died())
            });
            ended.into_iter().collect::<Result<(), _>>()
        })?;
        let headers = [("content-type", "application/xml")];
        self.put(url, "comp=blocklist", &headers, block_list(count))
    }

    fn put(
        &self,
        url: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<(), RemoteError> {
        let answer = self.send(&Exchange {
            method: "PUT",
            url: &with_query(url, query),
            headers,
            body: body.into(),
            within: TIMEOUT,
        })?;
        match answer.status {
            200..=299 => Ok(()),
            _ => Err(refused(&answer)),
        }
    }

    /// Writes a cache to `out`, which `again` finds anew when its address has run out. Gives its length.
    ///
    /// # Errors
    /// When it can't be had, or has more than `max` bytes.
    pub(super) fn download(
        &self,
        mut found: Found,
        max: u64,
        again: &dyn Fn() -> Result<Option<Found>, RemoteError>,
        out: &mut dyn Write,
    ) -> Result<u64, RemoteError> {
        let (mut done, mut tried) = (0, 1);
        loop {
            let failed = match self.client().fetch_more(&found.url, max, &mut done, out) {
                Ok(()) => return Ok(done),
                Err(error) => error,
            };
            match &failed {
                _ if tried == TRIES => return Err(failed.into()),
                ImageError::Answer {
                    status: 401 | 403 | 404,
                    ..
                } => found = again()?.ok_or_else(gone)?,
                ImageError::Answer {
                    status: 408 | 429 | 500..,
                    ..
                }
                | ImageError::Unreachable { .. } => {
                    self.client().pause(self.pause_before(tried))?;
                }
                _ => return Err(failed.into()),
            }
            tried += 1;
        }
    }
}

/// What is said of a blob that the service has dropped.
pub(super) fn gone() -> RemoteError {
    RemoteError::Damaged("the service has dropped it: nobody used it for a while".to_owned())
}

fn piece(file: &File, start: u64, length: u64) -> Result<Vec<u8>, RemoteError> {
    let length = usize::try_from(length).map_err(|error| RemoteError::local(&error))?;
    let mut bytes = vec![0; length];
    let read = file.read_exact_at(&mut bytes, start);
    read.map_err(|error| RemoteError::local(&error))?;
    Ok(bytes)
}

/// A block's name; all have one length. Nine digits need no padding as base64, and none of its marks.
fn block_id(number: u64) -> String {
    STANDARD.encode(format!("{number:09}"))
}

fn block_list(count: u64) -> Vec<u8> {
    let mut text = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>".to_owned();
    for number in 0..count {
        _ = write!(text, "<Latest>{}</Latest>", block_id(number));
    }
    text.push_str("</BlockList>");
    text.into_bytes()
}

fn with_query(url: &str, query: &str) -> String {
    match query {
        "" => url.to_owned(),
        _ if url.contains('?') => format!("{url}&{query}"),
        _ => format!("{url}?{query}"),
    }
}

fn refused(answer: &Answer) -> RemoteError {
    let text = String::from_utf8_lossy(&answer.body);
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map_or(String::new(), |(code, _)| format!(" ({code})"));
    let status = answer.status;
    RemoteError::Unreachable(format!("the cache's storage answered {status}{code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_names_of_one_length() {
        let ids: Vec<String> = [0, 7, 49_999, 123_456_789].map(block_id).to_vec();
        let is_plain =
            |id: &String| id.len() == 12 && id.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(ids.iter().all(is_plain), "{ids:?}");
        let list = String::from_utf8(block_list(2)).unwrap();
        let want = format!(
            "<Latest>{}</Latest><Latest>{}</Latest>",
            block_id(0),
            block_id(1)
        );
        assert!(list.contains(&want), "{list}");
    }

    #[test]
    fn addresses_keep_their_signatures() {
        assert_eq!(
            with_query("http://a/b?sig=x", "comp=block"),
            "http://a/b?sig=x&comp=block"
        );
        assert_eq!(
            with_query("http://a/b", "comp=block"),
            "http://a/b?comp=block"
        );
        assert_eq!(with_query("http://a/b?sig=x", ""), "http://a/b?sig=x");
    }

    #[test]
    fn storage_says_why() {
        let answer = Answer {
            status: 403,
            body: b"<?xml?><Error><Code>AuthenticationFailed</Code></Error>".to_vec(),
            ..Answer::default()
        };
        assert!(
            refused(&answer)
                .to_string()
                .ends_with("403 (AuthenticationFailed)")
        );
    }
}
