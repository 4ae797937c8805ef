//! What a request asks for.

use std::str::FromStr;

use kiln_graph::BlobDigest;

/// A path of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Whether this is a registry.
    Ping,
    /// A manifest by its tag or digest.
    Manifest { name: String, reference: String },
    /// A blob.
    Blob { name: String, digest: BlobDigest },
}

impl Route {
    /// Reads the path of an address.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() || rest == "/" {
            return Some(Self::Ping);
        }
        let rest = rest.strip_prefix('/')?;
        let (front, last) = rest.rsplit_once('/')?;
        let (name, kind) = front.rsplit_once('/')?;
        let name = name.to_owned();
        match kind {
            "manifests" => Some(Self::Manifest {
                name,
                reference: last.to_owned(),
            }),
            "blobs" => Some(Self::Blob {
                name,
                digest: BlobDigest::from_str(last).ok()?,
            }),
            _ => None,
        }
    }
}

/// The bytes that a `Range` header asks for (RFC 9110, 14.2), of a body of some length; nothing when
/// it isn't one range from a first byte on, and all is sent.
pub(crate) fn range(header: &str, size: u64) -> Option<(u64, u64)> {
    let (start, end) = header.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = start.parse().ok()?;
    let last = size.checked_sub(1)?;
    let end = match end {
        "" => last,
        end => end.parse::<u64>().ok()?.min(last),
    };
    (start <= end).then_some((start, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_read() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let manifest = |name: &str, reference: &str| {
            Some(Route::Manifest {
                name: name.to_owned(),
                reference: reference.to_owned(),
            })
        };
        assert_eq!(Route::of("/v2/"), Some(Route::Ping));
        assert_eq!(Route::of("/v2"), Some(Route::Ping));
        assert_eq!(Route::of("/v2/a/manifests/v1"), manifest("a", "v1"));
        let deep = "/v2/r.example/a/manifests/manifests/v1";
        assert_eq!(Route::of(deep), manifest("r.example/a/manifests", "v1"));
        assert!(matches!(
            Route::of(&format!("/v2/a/b/blobs/{digest}")),
            Some(Route::Blob { .. })
        ));
        for other in [
            "",
            "/",
            "/v1/",
            "/v2/a",
            "/v2/a/blobs/x",
            "/v2/a/tags/list",
            "/v2x/a/manifests/v1",
        ] {
            assert_eq!(Route::of(other), None, "{other}");
        }
    }

    #[test]
    fn one_range_is_served() {
        for (header, want) in [
            ("bytes=0-", Some((0, 10))),
            ("bytes=3-5", Some((3, 6))),
            ("bytes=3-99", Some((3, 10))),
            ("bytes=10-", None),
            ("bytes=5-3", None),
            ("bytes=-3", None),
            ("bytes=0-1,4-5", None),
            ("lines=0-", None),
        ] {
            assert_eq!(range(header, 10), want, "{header}");
        }
        assert_eq!(range("bytes=0-", 0), None);
    }

    proptest! {
        #[test]
        fn no_path_panics(path: String, header: String) {
            _ = Route::of(&path);
            _ = range(&header, 7);
        }
    }
}
