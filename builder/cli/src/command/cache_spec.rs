//! What `--cache-from` and `--cache-to` say, in the words of `docker buildx build`.

use std::path::PathBuf;

#[cfg(feature = "reapi")]
use kiln_cluster::ReapiSettings;
use kiln_engine::{CacheMode, Volumes};
use kiln_image::Reference;
use kiln_share::{GhaSettings, GhaSettingsError, S3Keys, S3Settings};

use kiln::{Error, Fields, Shown, redact_fields};

/// Where a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Directory(PathBuf),
    Registry(Reference),
    S3(S3Settings),
    Gha(GhaSettings),
    #[cfg(feature = "reapi")]
    Reapi(ReapiSettings),
    /// In an image.
    Inline(Reference),
}

/// What is wanted by a spec.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Place(Box<Spec>),
    /// That the image which is built carries its cache.
    Inline,
    /// One that isn't here, and why: build files name caches that only a CI has.
    Elsewhere(String),
}

/// A remote, and what goes there.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) place: Place,
    pub(super) mode: CacheMode,
    pub(super) ignore_error: bool,
    pub(super) volumes: Volumes,
}

/// The keys that mean something in one kind of place or another.
const KEYS: [&str; 30] = [
    "type",
    "src",
    "dest",
    "ref",
    "mode",
    "ignore-error",
    "volumes",
    "bucket",
    "prefix",
    "name",
    "region",
    "endpoint_url",
    "use_path_style",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "url",
    "url_v2",
    "token",
    "scope",
    "version",
    "repository",
    "ghtoken",
    "timeout",
    "instance",
    "header",
    "ca",
    "cert",
    "key",
    "credential_helper",
];

/// Reads `type=KIND,KEY=VALUE,…`, or an image's name or `s3://BUCKET/PREFIX` for short.
pub(super) fn read(flag: &str, spec: &str) -> Result<Wanted, Error> {
    parse(spec).map_err(|reason| Error::Usage(format!("{flag} {}: {reason}", hidden(spec))))
}

/// The registry that a spec names, if it names one.
pub(super) fn registry(spec: &str) -> Option<Reference> {
    match parse(spec).ok()? {
        Wanted::Place(spec) => match spec.place {
            Place::Registry(name) | Place::Inline(name) => Some(name),
            _ => None,
        },
        Wanted::Inline | Wanted::Elsewhere(_) => None,
    }
}

fn parse(spec: &str) -> Result<Wanted, String> {
    let mut place = None;
    let mut fields = Fields::parse(spec);
    for word in fields.take_words() {
        place = Some(short(&word)?);
    }
    let kind = fields.take("type");
    if kind.as_deref() == Some("inline") && !fields.has("ref") {
        return inline(fields);
    }
    let place = match (place, kind) {
        (Some(place), None) => place,
        (None, Some(kind)) if kind == "gha" => match gha(&mut fields) {
            Ok(settings) => Place::Gha(settings),
            Err(error @ GhaSettingsError::Absent) => {
                return Ok(Wanted::Elsewhere(error.to_string()));
            }
            Err(error) => return Err(error.to_string()),
        },
        (None, Some(kind)) => place_of(&kind, &mut fields)?,
        _ => {
            return Err(
                "write type=local|registry|s3|gha|reapi|inline, a name or s3://BUCKET".to_owned(),
            );
        }
    };
    let mode = match fields.take("mode").as_deref() {
        None | Some("min") => CacheMode::Min,
        Some("max") => CacheMode::Max,
        Some(other) => return Err(format!("mode '{other}': use min or max")),
    };
    let spec = Spec {
        place,
        mode,
        ignore_error: fields.flag("ignore-error")?.unwrap_or(true),
        volumes: volumes(fields.take("volumes").as_deref()),
    };
    fields.finish(&KEYS)?;
    Ok(Wanted::Place(Box::new(spec)))
}

fn inline(mut fields: Fields) -> Result<Wanted, String> {
    if let Some(mode) = fields.take("mode").filter(|mode| mode != "min") {
        return Err(format!(
            "an image carries only its own steps: mode={mode} is not possible"
        ));
    }
    fields.finish(&["type", "mode"])?;
    Ok(Wanted::Inline)
}

fn short(text: &str) -> Result<Place, String> {
    match S3Settings::from_url(text) {
        Some(settings) => Ok(Place::S3(settings)),
        None if text.starts_with("s3:") => Err("write s3://BUCKET/PREFIX".to_owned()),
        None => reference(text).map(Place::Registry),
    }
}

fn reference(text: &str) -> Result<Reference, String> {
    text.parse()
        .map_err(|error: kiln_image::BadReference| error.to_string())
}

fn place_of(kind: &str, fields: &mut Fields) -> Result<Place, String> {
    match kind {
        "local" => {
            let directory = fields.take("src").or(fields.take("dest"));
            let directory = directory.ok_or("src=DIRECTORY or dest=DIRECTORY is missing")?;
            Ok(Place::Directory(directory.into()))
        }
        "registry" => reference(&fields.needed("ref", "ref=NAME")?).map(Place::Registry),
        "inline" => reference(&fields.needed("ref", "ref=NAME")?).map(Place::Inline),
        "s3" => s3(fields).map(Place::S3),
        "reapi" => reapi(fields),
        other => Err(format!(
            "type '{other}': use local, registry, s3, gha, reapi or inline"
        )),
    }
}

#[cfg(feature = "reapi")]
fn reapi(fields: &mut Fields) -> Result<Place, String> {
    let url = fields.needed("url", "url=grpcs://HOST:PORT")?;
    reapi_server(&url, fields).map(Place::Reapi)
}

/// The server at an address, spoken to as the fields say.
#[cfg(feature = "reapi")]
pub(super) fn reapi_server(url: &str, fields: &mut Fields) -> Result<ReapiSettings, String> {
    let reason = |error: kiln_cluster::BadSettings| error.to_string();
    let mut settings = ReapiSettings::from_url(url).map_err(reason)?;
    if let Some(instance) = fields.take("instance") {
        settings = settings.with_instance(&instance).map_err(reason)?;
    }
    for header in fields.take_all("header") {
        settings = settings.with_header(&header).map_err(reason)?;
    }
    for (name, value) in fields.take_prefixed("header.") {
        let header = format!("{name}:{value}");
        settings = settings.with_header(&header).map_err(reason)?;
    }
    settings.ca = fields.take("ca").map(PathBuf::from);
    settings.identity = match (fields.take("cert"), fields.take("key")) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => return Err(kiln_cluster::BadSettings::HalfIdentity.to_string()),
    };
    settings.credential_helper = fields.take("credential_helper").map(PathBuf::from);
    Ok(settings)
}

#[cfg(not(feature = "reapi"))]
fn reapi(_: &mut Fields) -> Result<Place, String> {
    Err("this kiln was built without clusters: use a release, or build kiln with '--features reapi'".to_owned())
}

/// The cache of a workflow of GitHub's. What BuildKit needs besides (`repository`, `ghtoken`) changes nothing here.
fn gha(fields: &mut Fields) -> Result<GhaSettings, GhaSettingsError> {
    _ = (fields.take("repository"), fields.take("ghtoken"));
    let keys = ["url_v2", "url", "token", "scope", "version", "timeout"];
    let given = keys.map(|key| (key, fields.take(key)));
    GhaSettings::of_workflow(|key| {
        let mut all = given.iter();
        all.find(|(own, _)| *own == key)?.1.clone()
    })
}

fn s3(fields: &mut Fields) -> Result<S3Settings, String> {
    let keys = match (
        fields.take("access_key_id"),
        fields.take("secret_access_key"),
        fields.take("session_token"),
    ) {
        (Some(id), Some(secret), token) => Some(S3Keys { id, secret, token }),
        (None, None, None) => None,
        (None, None, Some(_)) => {
            return Err("session_token goes with access_key_id and secret_access_key".to_owned());
        }
        _ => return Err("access_key_id and secret_access_key go together".to_owned()),
    };
    Ok(S3Settings {
        bucket: fields.needed("bucket", "bucket=NAME")?,
        prefix: fields.take("prefix").unwrap_or_default(),
        name: fields.take("name"),
        region: fields.take("region"),
        endpoint: fields.take("endpoint_url"),
        path_style: fields.flag("use_path_style")?,
        keys,
    })
}

fn volumes(text: Option<&str>) -> Volumes {
    match text {
        None => Volumes::None,
        Some("all") => Volumes::All,
        Some(names) => Volumes::Named(names.split('+').map(str::to_owned).collect()),
    }
}

/// Keys whose values are shown nowhere.
const SECRETS: [&str; 4] = ["secret_access_key", "session_token", "token", "ghtoken"];

/// A spec without its secrets. A header's value may hold commas, so what follows one goes too unless quotes end it.
pub(super) fn hidden(spec: &str) -> String {
    redact_fields(spec, |field, key, _| match key {
        key if SECRETS.contains(&key) => Shown::Instead("…".to_owned()),
        key if is_header(key) && field.is_quoted() => Shown::Instead("…".to_owned()),
        key if is_header(key) => Shown::Last("…".to_owned()),
        _ => Shown::All,
    })
}

/// Whether a key's value is sent with calls to a server: what lets somebody in, mostly.
pub(super) fn is_header(key: &str) -> bool {
    key == "header" || key.starts_with("header.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_quotes_too() {
        for (spec, want) in [
            ("type=gha,token=a,scope=b", "type=gha,token=…,scope=b"),
            ("type=gha,\"token=a,b\",scope=c", "type=gha,token=…,scope=c"),
            ("type=gha,token=\"a,b\",scope=c", "type=gha,token=…,scope=c"),
            ("type=gha, token=a,scope=c", "type=gha,token=…,scope=c"),
            ("\"token=a\"\",b\",scope=c", "token=…,scope=c"),
            ("\"token=a,b", "token=…"),
            ("type=reapi,header=a: b,c", "type=reapi,header=…"),
            ("type=reapi,header.a=b,c=d", "type=reapi,header.a=…"),
            (
                "type=reapi,\"header=a: b,c\",url=x",
                "type=reapi,header=…,url=x",
            ),
        ] {
            assert_eq!(hidden(spec), want);
        }
    }

    #[test]
    fn places() {
        let place = |spec| match parse(spec) {
            Ok(Wanted::Place(spec)) => Ok(spec.place),
            Ok(Wanted::Inline) => Err("inline".to_owned()),
            Ok(Wanted::Elsewhere(reason)) | Err(reason) => Err(reason),
        };
        assert_eq!(place("type=local,dest=a"), Ok(Place::Directory("a".into())));
        let registry = place("type=registry,ref=r.example/a:b");
        assert!(matches!(registry, Ok(Place::Registry(_))));
        assert_eq!(place("r.example/a:b"), registry);
        let bucket = |settings| Ok(Place::S3(settings));
        assert_eq!(place("type=inline"), Err("inline".to_owned()));
        assert!(matches!(place("type=inline,ref=a"), Ok(Place::Inline(_))));
        let workflow = "type=gha,url_v2=https://h,token=t,scope=s,repository=a/b,mode=max";
        assert!(matches!(place(workflow), Ok(Place::Gha(_))));
        assert_eq!(
            place("s3://b/p"),
            bucket(S3Settings {
                bucket: "b".to_owned(),
                prefix: "p".to_owned(),
                ..S3Settings::default()
            })
        );
        let full = "type=s3,bucket=b,prefix=p/,name=n,region=r,endpoint_url=http://e,use_path_style=true,access_key_id=i,secret_access_key=s,session_token=t,mode=max";
        assert_eq!(
            place(full),
            bucket(S3Settings {
                bucket: "b".to_owned(),
                prefix: "p/".to_owned(),
                name: Some("n".to_owned()),
                region: Some("r".to_owned()),
                endpoint: Some("http://e".to_owned()),
                path_style: Some(true),
                keys: Some(S3Keys {
                    id: "i".to_owned(),
                    secret: "s".to_owned(),
                    token: Some("t".to_owned()),
                }),
            })
        );
    }

    #[test]
    fn other_fields() {
        let parsed = parse("r.example/a,mode=max,ignore-error=false,volumes=a+b");
        let Ok(Wanted::Place(spec)) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!((spec.mode, spec.ignore_error), (CacheMode::Max, false));
        assert!(spec.volumes.has("b") && !spec.volumes.has("c"));
    }

    #[test]
    fn mistakes() {
        for (spec, reason) in [
            ("type=local", "src=DIRECTORY"),
            ("type=azblob", "use local"),
            (
                "type=gha,url_v2=https://h,token=t,version=1",
                "was switched off",
            ),
            ("type=gha,url_v2=h,token=t", "http:// or https://"),
            ("type=gha,url_v2=https://h,token=t,to=b", "unknown key 'to'"),
            ("type=registry,dest=a", "ref=NAME is missing"),
            ("type=local,src=a,to=b", "unknown key 'to'"),
            ("type=s3", "bucket=NAME is missing"),
            ("type=s3,bucket=b,access_key_id=i", "go together"),
            (
                "type=s3,bucket=b,session_token=i",
                "goes with access_key_id",
            ),
            ("type=s3,bucket=b,use_path_style=x", "true or false"),
            ("s3://", "s3://BUCKET/PREFIX"),
            ("type=reapi", "url=grpcs://HOST:PORT is missing"),
            ("type=reapi,url=http://h", "the address of a server"),
            (
                "type=reapi,url=grpc://h,instance=a/blobs",
                "a meaning of its own",
            ),
            ("type=reapi,url=grpc://h,header=x", "NAME:VALUE"),
            ("type=reapi,url=grpc://h,cert=c", "cert and key go together"),
            ("mode=max", "write type="),
            ("type=inline,mode=max", "only its own steps"),
            ("type=inline,dest=a", "unknown key 'dest'"),
        ] {
            let error = parse(spec).unwrap_err();
            assert!(error.contains(reason), "{spec}: {error}");
        }
        for text in [
            "type=s3,secret_access_key=sesame,session_token=sesame,bucket=",
            "type=reapi,url=x,header=authorization:sesame",
            "type=gha,token=sesame,ghtoken=sesame,url_v2=x",
            "type=reapi,\"header=a: b,sesame\",url=x",
            "type=reapi,url=x,header.authorization=sesame",
            "type=s3,\"secret_access_key=a,sesame\",session_token=\"b,sesame\",bucket=",
        ] {
            let error = read("--cache-to", text).unwrap_err().to_string();
            assert!(!error.contains("sesame"), "{error}");
        }
    }
}
