//! Names of images, as far as their form goes (`distribution/reference`): whether a text is one,
//! and how people shorten it.

/// What is wrong with a text that names no image.
pub(crate) type BadName = String;

/// Longest path of a repository.
const MAX_PATH: usize = 255;

/// Longest tag.
const MAX_TAG: usize = 128;

/// Checks the form of an image's name.
///
/// # Errors
/// In the words of BuildKit.
pub(crate) fn check(name: &str) -> Result<(), BadName> {
    Parts::of(name).map(|_| ())
}

/// The name as people write it, without what goes without saying: Docker's registry, its directory of
/// official images, the tag `latest`. Texts that name no image stay as they are.
pub(crate) fn familiar(name: &str) -> String {
    let Ok(parts) = Parts::of(name) else {
        return name.to_owned();
    };
    let host = match parts.host {
        "docker.io" | "index.docker.io" => "",
        host => host,
    };
    let path = match host {
        "" => parts.path.strip_prefix("library/").unwrap_or(parts.path),
        _ => parts.path,
    };
    let mut out = match host {
        "" => path.to_owned(),
        host => format!("{host}/{path}"),
    };
    if let Some(tag) = parts
        .tag
        .filter(|tag| *tag != "latest" || parts.digest.is_some())
    {
        out.push(':');
        out.push_str(tag);
    }
    if let Some(digest) = parts.digest {
        out.push('@');
        out.push_str(digest);
    }
    out
}

struct Parts<'a> {
    /// Empty where none is given.
    host: &'a str,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(name: &'a str) -> Result<Self, BadName> {
        const FORMAT: &str = "invalid reference format";
        let is_hex = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
        if name.len() == 64 && name.chars().all(is_hex) {
            return Err(format!(
                "invalid repository name ({name}), cannot specify 64-byte hexadecimal strings"
            ));
        }
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        let (host, rest) = match rest.split_once('/') {
            Some((host, rest)) if is_host(host) => (host, rest),
            _ => ("", rest),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            let is_official = ["", "docker.io", "index.docker.io"].contains(&host);
            let full = match is_official && !path.contains('/') {
                true => format!("library/{path}"),
                false => path.to_owned(),
            };
            return Err(format!(
                "{FORMAT}: repository name ({full}) must be lowercase"
            ));
        }
        let fits = path.split('/').all(is_component)
            && (host.is_empty() || is_domain(host))
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest);
        match fits {
            true if path.len() > MAX_PATH => Err(format!(
                "repository name must not be more than {MAX_PATH} characters"
            )),
            true => Ok(Self {
                host,
                path,
                tag,
                digest,
            }),
            false => Err(FORMAT.to_owned()),
        }
    }
}

/// Whether the part before the first slash is a registry.
fn is_host(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost" || text.chars().any(|c| c.is_ascii_uppercase())
}

fn is_domain(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(address) => match address.split_once(']') {
            Some((address, port)) => {
                let is_address = |c: char| c.is_ascii_hexdigit() || c == ':';
                if address.is_empty() || !address.chars().all(is_address) {
                    return false;
                }
                (
                    "",
                    port.strip_prefix(':').or(port.is_empty().then_some("0")),
                )
            }
            None => return false,
        },
        None => match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, Some("0")),
        },
    };
    let label = |label: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        ends(label.chars().next())
            && ends(label.chars().next_back())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let is_port = |port: &str| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    (name.is_empty() && text.starts_with('[') || name.split('.').all(label))
        && port.is_some_and(is_port)
}

/// Letters and digits, with single separators between them: `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let mut rest = text;
    let word = |text: &str| {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        text.find(|c: char| !is_word(c)).unwrap_or(text.len())
    };
    loop {
        match word(rest) {
            0 => return false,
            end => rest = &rest[end..],
        }
        if rest.is_empty() {
            return true;
        }
        let dashes = rest.len() - rest.trim_start_matches('-').len();
        let separator = match dashes {
            0 if rest.starts_with("__") => 2,
            0 if rest.starts_with(['_', '.']) => 1,
            0 => return false,
            dashes => dashes,
        };
        rest = &rest[separator..];
    }
}

fn is_tag(tag: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=MAX_TAG).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.chars().all(inside)
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let length = match algorithm {
        "sha256" => hex.len() == 64,
        "sha384" => hex.len() == 96,
        "sha512" => hex.len() == 128,
        _ => hex.len() >= 32,
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && length
        && hex.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        let good = [
            "a",
            "a:1",
            "r.example:5000/a/b:v1.2",
            &digest,
            "scratch",
            "a__b/c--d.e",
            "localhost/a",
            "[::1]:5000/a",
            "127.0.0.1:5000/a",
            "HOST/a",
        ];
        for name in good {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let bad = [
            ("", "invalid reference format"),
            ("a:", "invalid reference format"),
            (":1", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a:-x", "invalid reference format"),
            ("/a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a@sha256:1", "invalid reference format"),
            ("oci-archive:/a", "invalid reference format"),
            (
                "Two",
                "invalid reference format: repository name (library/Two) must be lowercase",
            ),
        ];
        for (name, want) in bad {
            assert_eq!(check(name), Err(want.to_owned()), "{name}");
        }
    }

    #[test]
    fn what_goes_without_saying() {
        let cases = [
            ("alpine", "alpine"),
            ("alpine:latest", "alpine"),
            ("docker.io/library/alpine:3", "alpine:3"),
            ("docker.io/me/app", "me/app"),
            ("r.example/library/a:latest", "r.example/library/a"),
            ("Not One", "Not One"),
        ];
        for (name, want) in cases {
            assert_eq!(familiar(name), want);
        }
    }
}
