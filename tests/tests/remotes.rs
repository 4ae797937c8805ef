//! What every kind of remote must do: directories, registries and buckets alike.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use kiln_cluster::{ReapiRemote, ReapiSettings};
use kiln_engine::RegistryRemote;
use kiln_graph::BlobDigest;
use kiln_image::{Client, ClientOptions};
use kiln_share::{
    DirectoryRemote, GhaRemote, GhaSettings, Remote, RemoteBlob, RemoteError, S3Keys, S3Remote,
    S3Settings,
};
use kiln_tests::{ActionsCache, Casd, KEY, S3, SECRET, noise};

/// A file with some content, as a blob.
struct File(tempfile::NamedTempFile, Vec<u8>);

impl File {
    fn new(content: Vec<u8>) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        Self(file, content)
    }

    fn blob(&self) -> RemoteBlob<'_> {
        RemoteBlob {
            digest: BlobDigest::of(&self.1),
            size: self.1.len() as u64,
            path: self.0.path(),
        }
    }
}

fn fetched(remote: &dyn Remote, content: &[u8]) -> Result<Vec<u8>, RemoteError> {
    let mut out = Vec::new();
    let size = content.len() as u64;
    remote.blob(&BlobDigest::of(content), size, &mut out)?;
    Ok(out)
}

/// `open` opens the same place each time, as another process does.
fn conforms(open: &(dyn Fn() -> Box<dyn Remote> + Sync)) {
    let remote = open();
    let seed = u64::from(std::process::id());
    let long = format!("volume-{}", "a".repeat(64));
    for name in ["step-1", &long] {
        assert_eq!(remote.entry(name), Ok(None));
        assert!(remote.put(name, b"{\"v\":1}", &[]).unwrap() >= 7);
        assert_eq!(open().entry(name), Ok(Some(b"{\"v\":1}".to_vec())));
        remote.put(name, b"{\"v\":2}", &[]).unwrap();
        assert_eq!(
            open().entry(name),
            Ok(Some(b"{\"v\":2}".to_vec())),
            "the later one counts"
        );
    }
    // A small blob, one that goes in parts, an empty one.
    let files = [noise(seed, 1000), noise(seed + 1, 20 << 20), Vec::new()].map(File::new);
    let blobs: Vec<RemoteBlob<'_>> = files.iter().map(File::blob).collect();
    assert!(remote.put("step-2", b"{}", &blobs).unwrap() > 20 << 20);
    let again = open().put("step-3", b"{}", &blobs).unwrap();
    assert!(again < 5000, "{again} bytes were sent again");
    for file in &files {
        assert!(fetched(&*open(), &file.1).unwrap() == file.1);
    }
    assert!(fetched(&*remote, b"never sent").is_err());
    writers_lose_nothing(open, seed);
}

/// Sixteen writers at once: half of them the same entry, all of them one shared blob.
fn writers_lose_nothing(open: &(dyn Fn() -> Box<dyn Remote> + Sync), seed: u64) {
    let shared = File::new(noise(seed + 2, 300_000));
    std::thread::scope(|scope| {
        for number in 0..16 {
            let shared = &shared;
            scope.spawn(move || {
                let own = File::new(noise(seed + 10 + number, 5000));
                let name = format!("step-own-{number}");
                let blobs = [shared.blob(), own.blob()];
                open().put(&name, name.as_bytes(), &blobs).unwrap();
                open()
                    .put("step-same", b"{\"same\":true}", &blobs[..1])
                    .unwrap();
            });
        }
    });
    for number in 0..16 {
        let name = format!("step-own-{number}");
        assert_eq!(open().entry(&name), Ok(Some(name.clone().into_bytes())));
        let own = noise(seed + 10 + number, 5000);
        assert_eq!(fetched(&*open(), &own), Ok(own.clone()));
    }
    assert_eq!(
        open().entry("step-same"),
        Ok(Some(b"{\"same\":true}".to_vec()))
    );
    assert!(fetched(&*open(), &shared.1).unwrap() == shared.1);
}

#[test]
fn a_directory() {
    let directory = tempfile::tempdir().unwrap();
    conforms(&|| Box::new(DirectoryRemote::new(directory.path().join("cache"))));
    let left: Vec<_> = ["entries", "blobs/sha256"]
        .iter()
        .flat_map(|part| std::fs::read_dir(directory.path().join("cache").join(part)).unwrap())
        .filter(|entry| entry.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.')
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_registry() {
    let name = format!("127.0.0.1:5000/remotes-{}:main", std::process::id());
    conforms(&|| {
        Box::new(RegistryRemote::new(
            Client::default(),
            name.parse().unwrap(),
        ))
    });
}

#[test]
fn a_registry_with_a_tag_as_long_as_may_be() {
    let name = format!(
        "127.0.0.1:5000/remotes-{}:{}",
        std::process::id(),
        "t".repeat(128)
    );
    let remote = RegistryRemote::new(Client::default(), name.parse().unwrap());
    let entry = format!("volume-{}", "b".repeat(64));
    remote.put(&entry, b"{}", &[]).unwrap();
    assert_eq!(remote.entry(&entry), Ok(Some(b"{}".to_vec())));
}

fn settings(server: &S3, prefix: &str) -> S3Settings {
    S3Settings {
        bucket: "bucket".to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(server.endpoint()),
        region: Some("eu-central-1".to_owned()),
        keys: Some(S3Keys {
            id: KEY.to_owned(),
            secret: SECRET.to_owned(),
            token: None,
        }),
        ..S3Settings::default()
    }
}

fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}

#[test]
fn a_bucket() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3::start(directory.path());
    conforms(&|| Box::new(S3Remote::new(settings(&server, "team/app/"))));
    assert!(exists(server.object("team/app/entries/step-1")));
    let named = S3Settings {
        name: Some("other".to_owned()),
        ..settings(&server, "team/app")
    };
    let named = S3Remote::new(named);
    assert_eq!(named.entry("step-1"), Ok(None), "entries are kept apart");
    assert!(fetched(&named, &[]).is_ok(), "blobs are not");
}

#[test]
fn a_bucket_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3::start(directory.path());
    let error = |change: &dyn Fn(&mut S3Settings)| {
        let mut settings = settings(&server, "");
        change(&mut settings);
        S3Remote::new(settings).entry("step-1").unwrap_err()
    };
    let keys = |id: &str, secret: &str| {
        Some(S3Keys {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: None,
        })
    };
    let secret = error(&|settings| settings.keys = keys(KEY, "wrong"));
    assert!(
        secret.to_string().contains("SignatureDoesNotMatch"),
        "{secret}"
    );
    assert!(
        secret.to_string().contains("check the credentials"),
        "{secret}"
    );
    // Whose fault it is, a program can tell as well.
    assert!(matches!(secret, RemoteError::Denied(_)), "{secret:?}");
    let id = error(&|settings| settings.keys = keys("unknown", SECRET));
    assert!(id.to_string().contains("check the credentials"), "{id}");
    let endpoint = error(&|settings| settings.endpoint = Some("host:1".to_owned()));
    assert!(endpoint.to_string().contains("http://"), "{endpoint}");
    assert!(
        matches!(endpoint, RemoteError::Unsupported(_)),
        "{endpoint:?}"
    );
}

fn cluster(url: &str) -> ReapiRemote {
    ReapiRemote::new(ReapiSettings::from_url(url).unwrap())
}

#[test]
fn a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Casd::start(directory.path()) else {
        return;
    };
    conforms(&|| Box::new(cluster(&server.url())));
}

/// Servers throw away what nobody used lately: an entry that has lost a blob is none.
#[test]
fn a_cluster_forgets() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Casd::start(directory.path()) else {
        return;
    };
    let file = File::new(noise(1, 5000));
    let remote = cluster(&server.url());
    remote.put("step-1", b"{}", &[file.blob()]).unwrap();
    assert_eq!(remote.entry("step-1"), Ok(Some(b"{}".to_vec())));
    std::fs::remove_file(server.blob(&BlobDigest::of(&file.1).hex())).unwrap();
    let lost = fetched(&remote, &file.1).unwrap_err();
    assert!(lost.to_string().contains("missing"), "{lost}");
    assert_eq!(remote.entry("step-1"), Ok(None));
    remote.put("step-1", b"{}", &[file.blob()]).unwrap();
    assert!(fetched(&remote, &file.1).unwrap() == file.1);
}

#[test]
fn a_cluster_that_restarts_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Casd::start(directory.path()) else {
        return;
    };
    let remote = cluster(&server.url());
    remote.put("step-1", b"{}", &[]).unwrap();
    let address = server.address.clone();
    drop(server);
    let later = std::thread::spawn({
        let (directory, address) = (directory.path().to_owned(), address);
        move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            Casd::start_at(&directory, &address)
        }
    });
    assert_eq!(remote.entry("step-1"), Ok(Some(b"{}".to_vec())));
    drop(later.join().unwrap());
    assert!(remote.entry("step-1").is_err());
}

#[test]
fn a_cluster_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Casd::start(directory.path()) else {
        return;
    };
    let settings = ReapiSettings::from_url(&server.url()).unwrap();
    let other = settings.clone().with_instance("other").unwrap();
    let error = ReapiRemote::new(other).entry("step-1").unwrap_err();
    assert!(
        error.to_string().contains("no instance named 'other'"),
        "{error}"
    );
    let closed = cluster("grpc://127.0.0.1:1").entry("step-1").unwrap_err();
    assert!(closed.to_string().contains("refused"), "{closed}");
    let tls = format!("grpcs://{}", server.address);
    assert!(cluster(&tls).entry("step-1").is_err());
    let mut helped = settings;
    helped.credential_helper = Some("/nonexistent".into());
    let error = ReapiRemote::new(helped).entry("step-1").unwrap_err();
    assert!(
        error.to_string().contains("credential helper /nonexistent"),
        "{error}"
    );
}

const MAIN: (&str, bool) = ("refs/heads/main", true);

/// The cache of a workflow with this token.
fn workflow(server: &ActionsCache, scope: &str, token: &str) -> GhaRemote {
    let (url, token, scope) = (server.url(), token.to_owned(), scope.to_owned());
    let settings = GhaSettings::read(|key| match key {
        "url_v2" => Some(url.clone()),
        "token" => Some(token.clone()),
        "scope" => Some(scope.clone()),
        _ => None,
    });
    let client = Client::new(ClientOptions {
        first_wait: std::time::Duration::from_millis(10),
        ..ClientOptions::default()
    });
    GhaRemote::new(client, settings.unwrap())
}

/// Makes each entry visible at once, as at the end of a build.
struct AtOnce(GhaRemote);

impl Remote for AtOnce {
    fn name(&self) -> String {
        self.0.name()
    }
    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        self.0.entry(name)
    }
    fn put(&self, name: &str, entry: &[u8], blobs: &[RemoteBlob<'_>]) -> Result<u64, RemoteError> {
        let sent = self.0.put(name, entry, blobs)?;
        self.0.finish().map(|()| sent)
    }
    fn blob(
        &self,
        digest: &BlobDigest,
        size: u64,
        out: &mut dyn std::io::Write,
    ) -> Result<(), RemoteError> {
        self.0.blob(digest, size, out)
    }
}

#[test]
fn a_workflows_cache() {
    let server = ActionsCache::start();
    let token = ActionsCache::token(&[MAIN]);
    conforms(&|| Box::new(AtOnce(workflow(&server, "app", &token))));
    kiln::conformance::remote(&workflow(&server, "tried", &token)).unwrap();
    let other = workflow(&server, "app#1", &token);
    assert_eq!(other.entry("step-1"), Ok(None), "entries are kept apart");
    assert!(fetched(&other, &[]).is_ok(), "blobs are not");
    let alone = server
        .keys("kiln-blob-1-")
        .iter()
        .all(|key| !key.contains('#'));
    assert!(alone, "what several write at once is there once");
}

#[test]
fn a_workflows_cache_belongs_to_a_branch() {
    let server = ActionsCache::start();
    let main = || workflow(&server, "app", &ActionsCache::token(&[MAIN]));
    let request = || {
        let token = ActionsCache::token(&[("refs/heads/main", false), ("refs/pull/1/merge", true)]);
        workflow(&server, "app", &token)
    };
    AtOnce(main()).put("step-1", b"main", &[]).unwrap();
    assert_eq!(request().entry("step-1"), Ok(Some(b"main".to_vec())));
    AtOnce(request()).put("step-2", b"request", &[]).unwrap();
    assert_eq!(request().entry("step-2"), Ok(Some(b"request".to_vec())));
    assert_eq!(main().entry("step-2"), Ok(None));
    // What main gets later is seen, too.
    AtOnce(main()).put("step-3", b"later", &[]).unwrap();
    assert_eq!(request().entry("step-3"), Ok(Some(b"later".to_vec())));
    let fork = workflow(
        &server,
        "app",
        &ActionsCache::token(&[("refs/heads/main", false)]),
    );
    assert!(fork.entry("step-1").unwrap().is_some());
    let refused = fork.put("step-4", b"{}", &[]).unwrap_err();
    assert!(matches!(refused, RemoteError::Denied(_)), "{refused:?}");
    assert_eq!(fork.finish(), Ok(()));
}

#[test]
fn a_workflows_cache_forgets() {
    let server = ActionsCache::start();
    let token = ActionsCache::token(&[MAIN]);
    let open = || workflow(&server, "app", &token);
    let file = File::new(noise(1, 5000));
    AtOnce(open()).put("step-1", b"{}", &[file.blob()]).unwrap();
    let early = open();
    assert_eq!(early.entry("step-1"), Ok(Some(b"{}".to_vec())));
    server.control("expire");
    assert!(fetched(&early, &file.1).unwrap() == file.1, "found anew");
    server.control("drop?prefix=kiln-blob");
    let lost = fetched(&open(), &file.1).unwrap_err();
    assert!(lost.to_string().contains("has dropped it"), "{lost}");
    let later = open();
    assert_eq!(later.entry("step-1"), Ok(None), "an entry without its blob");
    AtOnce(later).put("step-1", b"{}", &[file.blob()]).unwrap();
    assert_eq!(open().entry("step-1"), Ok(Some(b"{}".to_vec())));
    server.control("drop?prefix=kiln-index");
    assert_eq!(open().entry("step-1"), Ok(None));
}

/// What a killed writer began keeps its keys.
#[test]
fn a_workflows_cache_is_written_after_a_writer_was_killed() {
    let server = ActionsCache::start();
    let token = ActionsCache::token(&[MAIN]);
    let open = || workflow(&server, "app", &token);
    let file = File::new(noise(1, 5000));
    let put = || AtOnce(open()).put("step-1", b"{}", &[file.blob()]);
    put().unwrap();
    server.control("abandon?prefix=kiln-");
    assert_eq!(open().entry("step-1"), Ok(None));
    put().unwrap();
    assert_eq!(open().entry("step-1"), Ok(Some(b"{}".to_vec())));
    assert!(fetched(&open(), &file.1).unwrap() == file.1);
}

#[test]
fn a_workflows_cache_is_waited_for() {
    let server = ActionsCache::start();
    let token = ActionsCache::token(&[MAIN]);
    let open = || workflow(&server, "app", &token);
    let file = File::new(noise(1, 9 << 20));
    server.control("fault?limit=3&after=0&storage=3");
    AtOnce(open()).put("step-1", b"{}", &[file.blob()]).unwrap();
    server.control("fault?limit=2&storage=2&cut=2");
    assert!(open().entry("step-1").unwrap().is_some());
    assert!(fetched(&open(), &file.1).unwrap() == file.1);
    server.control("fault?limit=9&after=3600");
    let limited = open().entry("step-1").unwrap_err();
    assert!(
        limited.to_string().contains("limits how often"),
        "{limited}"
    );
    assert!(
        matches!(limited, RemoteError::Unreachable(_)),
        "{limited:?}"
    );
}

#[test]
fn a_workflows_cache_says_what_is_wrong() {
    let server = ActionsCache::start();
    let said = |token: &str| {
        let error = workflow(&server, "app", token).entry("step-1").unwrap_err();
        assert!(matches!(error, RemoteError::Denied(_)), "{error:?}");
        error.to_string()
    };
    assert!(said("guessed").contains("doesn't know the token"));
    let old = ActionsCache::signed(&serde_json::json!({ "ac": "[]", "exp": 7 }));
    assert!(said(&old).contains("has expired"));
    let elsewhere = |url: &str| {
        let url = url.to_owned();
        let settings = GhaSettings::read(|key| match key {
            "url_v2" => Some(url.clone()),
            "token" => Some("t".to_owned()),
            _ => None,
        });
        let remote = GhaRemote::new(Client::default(), settings.unwrap());
        remote.entry("step-1").unwrap_err().to_string()
    };
    let route = elsewhere(&format!("{}other", server.url()));
    assert!(route.contains("answered 404: no such call"), "{route}");
}
