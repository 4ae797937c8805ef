//! Sources: images, repositories, files of web servers, directories of clients.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb;
use kiln_graph::{BlobDigest, ContextSource, GitSource, HttpRequest, HttpSource, ImagePath, Op};

use crate::error::{LlbError, malformed, unsupported};

/// What sources that are results of other builds begin with.
pub const RESULT: &str = "kiln-ref://";

/// Begins the names that results of other builds have while a build is made from them.
pub const OWN_RESULTS: &str = "kiln-ref.invalid/";
/// Begins the identifiers of images in layouts of the client's.
pub const LAYOUT: &str = "oci-layout://";

/// The image's name that the result of another build has for a build that is made from it.
///
/// # Errors
/// When the result's name isn't one.
pub fn image_of_ref(id: &str) -> Result<String, LlbError> {
    let is_name = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_name {
        true => Ok(format!("{OWN_RESULTS}{}:latest", &id[..32])),
        false => Err(malformed("the name of another build's result")),
    }
}

/// A directory of the client's, as a definition wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalSource {
    /// The client's name for it.
    pub directory: String,
    /// The session that has it, when it isn't the build's.
    pub session: Option<String>,
    /// These paths only, and what they link to; all, when there are none.
    pub follow: Vec<String>,
    /// What matches these patterns only; all, when there are none.
    pub include: Vec<String>,
    /// Without what matches these patterns.
    pub exclude: Vec<String>,
    /// What the client says the directory is like from one build to the next.
    pub shared_key: String,
}

/// What a source is.
#[derive(Debug)]
pub(crate) enum Source {
    /// An image, by its name.
    Image(String),
    /// A directory of the client's.
    Local(LocalSource),
    /// Anything that needs nothing to be known of it.
    Plain(Op),
}

/// Attributes of a source. What is not taken by the end changes nothing, or is refused.
struct Attributes<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Attributes<'a> {
    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.remove(key).filter(|value| !value.is_empty())
    }

    fn flag(&mut self, key: &str) -> bool {
        self.take(key) == Some("true")
    }

    /// A list as JSON.
    fn list(&mut self, key: &str) -> Result<Vec<String>, LlbError> {
        let text = self.take(key).unwrap_or("[]");
        let read: Option<Vec<String>> =
            serde_json::from_str(text).map_err(|error| malformed(format!("{key}: {error}")))?;
        Ok(read.unwrap_or_default())
    }

    /// Headers of a request, by name: those that BuildKit sends.
    fn headers(&mut self) -> Result<Vec<(String, String)>, LlbError> {
        let is_sent = |key: &&str| {
            let name = key
                .strip_prefix("http.header.")
                .map(str::to_ascii_lowercase);
            name.is_some_and(|name| ["accept", "user-agent"].contains(&name.as_str()))
        };
        let keys: Vec<&str> = self.0.keys().copied().filter(is_sent).collect();
        let header = |key: &str| {
            let value = self.0.remove(key).unwrap_or_default();
            let name = key["http.header.".len()..].to_ascii_lowercase();
            match value.contains(|c: char| c.is_control()) {
                true => Err(malformed(format!("the value of {key}"))),
                false => Ok((name, value.to_owned())),
            }
        };
        keys.into_iter().map(header).collect()
    }

    /// Refuses what is left, but for what changes nothing.
    fn finish(self, without_effect: &[&str]) -> Result<(), LlbError> {
        let left = self.0.keys().find(|key| !without_effect.contains(key));
        match left {
            Some(key) => Err(unsupported(format!("the attribute {key}"))),
            None => Ok(()),
        }
    }
}

/// Reads a source.
pub(crate) fn source(source: &pb::SourceOp) -> Result<Source, LlbError> {
    let pairs = source.attrs.iter();
    let attributes = Attributes(pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect());
    let (scheme, rest) = source
        .identifier
        .split_once("://")
        .ok_or_else(|| malformed(format!("source {:?} has no scheme", source.identifier)))?;
    match scheme {
        "docker-image" => {
            attributes.finish(&["image.resolvemode", "image.recordtype", "image.checksum"])?;
            if source
                .attrs
                .get("image.checksum")
                .is_some_and(|sum| !rest.ends_with(sum.as_str()))
            {
                return Err(unsupported("the attribute image.checksum"));
            }
            Ok(Source::Image(rest.to_owned()))
        }
        "git" => git(rest, attributes).map(Source::Plain),
        "http" | "https" => http(&source.identifier, attributes).map(Source::Plain),
        "local" => local(rest, attributes).map(Source::Local),
        "kiln-ref" => Ok(Source::Image(image_of_ref(rest)?)),
        "oci-layout" => layout(&source.identifier, attributes).map(Source::Image),
        other => Err(unsupported(format!("the source {other}://"))),
    }
}

fn git(rest: &str, mut attributes: Attributes<'_>) -> Result<Op, LlbError> {
    let (address, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let remote = match attributes.take("git.fullurl") {
        Some(full) => full.split('#').next().unwrap_or(full).to_owned(),
        None => format!("git://{address}"),
    };
    let is_address = ["https://", "http://", "git://", "ssh://", "git@"]
        .iter()
        .any(|start| remote.starts_with(start));
    if !is_address {
        return Err(malformed("a git source whose address is none"));
    }
    let git = GitSource {
        remote,
        reference: reference.to_owned(),
        subdir: ImagePath::new(subdir),
        keep_git_dir: attributes.flag("git.keepgitdir"),
        checksum: attributes.take("git.checksum").map(str::to_owned),
        submodules: !attributes.flag("git.skipsubmodules"),
    };
    // Credentials are asked of the client for each repository, by these very names.
    attributes.finish(&[
        "git.authtokensecret",
        "git.authheadersecret",
        "git.mountsshsock",
        "git.knownsshhosts",
    ])?;
    Ok(Op::Git(git))
}

fn http(url: &str, mut attributes: Attributes<'_>) -> Result<Op, LlbError> {
    let checksum = attributes
        .take("http.checksum")
        .map(str::parse::<BlobDigest>);
    let checksum = checksum
        .transpose()
        .map_err(|error| malformed(format!("http.checksum: {error}")))?;
    let file_name = attributes.take("http.filename").map(str::to_owned);
    if attributes
        .take("http.perm")
        .is_some_and(|mode| !matches!(mode, "0600" | "0o600" | "384"))
    {
        return Err(unsupported("the attribute http.perm"));
    }
    let request = HttpRequest {
        secret: attributes.take("http.authheadersecret").map(str::to_owned),
        headers: attributes.headers()?,
    };
    attributes.finish(&[])?;
    Ok(Op::Http(HttpSource {
        url: url.to_owned(),
        checksum,
        file_name,
        request,
    }))
}

/// An image in a layout of the client's, with the session and the layout's name there behind it.
fn layout(identifier: &str, mut attributes: Attributes<'_>) -> Result<String, LlbError> {
    let session = attributes.take("oci.session").unwrap_or_default();
    let store = attributes.take("oci.store").unwrap_or_default();
    attributes.finish(&["image.recordtype"])?;
    Ok(format!("{identifier}#{session}#{store}"))
}

fn local(name: &str, mut attributes: Attributes<'_>) -> Result<LocalSource, LlbError> {
    let local = LocalSource {
        directory: name.to_owned(),
        session: attributes.take("local.session").map(str::to_owned),
        follow: attributes.list("local.followpaths")?,
        include: attributes.list("local.includepattern")?,
        exclude: attributes.list("local.excludepatterns")?,
        shared_key: attributes
            .take("local.sharedkeyhint")
            .unwrap_or_default()
            .to_owned(),
    };
    attributes.finish(&["local.unique", "local.differ"])?;
    Ok(local)
}

impl LocalSource {
    /// The source as a context of this name.
    pub(crate) fn op(&self, name: &str) -> Op {
        Op::Context(ContextSource {
            name: name.to_owned(),
            ignore: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_files_have_headers_and_a_secret() {
        let read = |attrs: &[(&str, &str)]| {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let op = pb::SourceOp {
                identifier: "https://x.example/a".to_owned(),
                attrs: attrs.iter().map(owned).collect(),
            };
            match source(&op).unwrap() {
                Source::Plain(Op::Http(http)) => http.request,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(read(&[]), HttpRequest::default());
        let request = read(&[
            ("http.header.Accept", "text/plain"),
            ("http.authheadersecret", "mine"),
        ]);
        let accept = ("accept".to_owned(), "text/plain".to_owned());
        assert_eq!(request.headers, [accept]);
        assert_eq!(request.secret.as_deref(), Some("mine"));
    }
}
