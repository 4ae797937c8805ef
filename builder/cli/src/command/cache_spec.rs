//! What `--cache-from` and `--cache-to` say, in the words of `docker buildx build`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_engine::{CacheMode, Volumes};
use kiln_image::Reference;
use kiln_share::{S3Keys, S3Settings};

use kiln::Error;

/// Where a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Registry(Reference),
    S3(S3Settings),
    /// In an image.
    Inline(Reference),
}

/// What is wanted by a spec.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Place(Box<Spec>),
    /// That the image which is built carries its cache.
    Inline,
}

/// A remote, and what goes there.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) place: Place,
    pub(super) mode: CacheMode,
    pub(super) ignore_error: bool,
    pub(super) volumes: Volumes,
}

/// The fields of a spec, each to be taken once.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.remove(key)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.take(key).map(str::to_owned)
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, String> {
        self.take(key)
            .map(|text| match text {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(format!("{key} is true or false")),
            })
            .transpose()
    }

    fn needed(&mut self, key: &str) -> Result<&'a str, String> {
        let found = self.take(key).filter(|text| !text.is_empty());
        found.ok_or_else(|| format!("{key}= is missing"))
    }
}

/// Reads `type=KIND,KEY=VALUE,…`, or an image's name or `s3://BUCKET/PREFIX` for short.
pub(super) fn read(flag: &str, spec: &str) -> Result<Wanted, Error> {
    parse(spec).map_err(|reason| Error::Usage(format!("{flag} {}: {reason}", hidden(spec))))
}

fn parse(spec: &str) -> Result<Wanted, String> {
    let mut place = None;
    let mut fields = Fields(BTreeMap::new());
    for field in spec.split(',') {
        match field.split_once('=') {
            Some((key, value)) => _ = fields.0.insert(key, value),
            None => place = Some(short(field)?),
        }
    }
    let kind = fields.take("type");
    if kind == Some("inline") && !fields.0.contains_key("ref") {
        return inline(fields);
    }
    let place = match (place, kind) {
        (Some(place), None) => place,
        (None, Some(kind)) => place_of(kind, &mut fields)?,
        _ => {
            return Err("write type=local|registry|s3|inline, a name or s3://BUCKET".to_owned());
        }
    };
    let mode = match fields.take("mode") {
        None | Some("min") => CacheMode::Min,
        Some("max") => CacheMode::Max,
        Some(other) => return Err(format!("mode '{other}': use min or max")),
    };
    let spec = Spec {
        place,
        mode,
        ignore_error: fields.flag("ignore-error")?.unwrap_or(true),
        volumes: volumes(fields.take("volumes")),
    };
    match fields.0.keys().next() {
        None => Ok(Wanted::Place(Box::new(spec))),
        Some(key) => Err(format!("'{key}' is not known here")),
    }
}

fn inline(mut fields: Fields<'_>) -> Result<Wanted, String> {
    if let Some(mode) = fields.take("mode").filter(|mode| *mode != "min") {
        return Err(format!(
            "an image carries only its own steps: mode={mode} is not possible"
        ));
    }
    match fields.0.keys().next() {
        None => Ok(Wanted::Inline),
        Some(key) => Err(format!("'{key}' is not known here")),
    }
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

fn place_of(kind: &str, fields: &mut Fields<'_>) -> Result<Place, String> {
    match kind {
        "local" => {
            let folder = fields.take("src").or(fields.take("dest"));
            let folder = folder.ok_or("src=FOLDER or dest=FOLDER is missing")?;
            Ok(Place::Folder(folder.into()))
        }
        "registry" => reference(fields.needed("ref")?).map(Place::Registry),
        "inline" => reference(fields.needed("ref")?).map(Place::Inline),
        "s3" => s3(fields).map(Place::S3),
        other => Err(format!("type '{other}': use local, registry, s3 or inline")),
    }
}

fn s3(fields: &mut Fields<'_>) -> Result<S3Settings, String> {
    let keys = match (
        fields.text("access_key_id"),
        fields.text("secret_access_key"),
    ) {
        (Some(id), Some(secret)) => {
            let token = fields.text("session_token");
            Some(S3Keys { id, secret, token })
        }
        (None, None) => None,
        _ => return Err("access_key_id and secret_access_key go together".to_owned()),
    };
    Ok(S3Settings {
        bucket: fields.needed("bucket")?.to_owned(),
        prefix: fields.text("prefix").unwrap_or_default(),
        name: fields.text("name"),
        region: fields.text("region"),
        endpoint: fields.text("endpoint_url"),
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

/// A spec without its secrets.
fn hidden(spec: &str) -> String {
    let field = |field: &str| match field.split_once('=') {
        Some((key @ ("secret_access_key" | "session_token"), _)) => format!("{key}=…"),
        _ => field.to_owned(),
    };
    spec.split(',').map(field).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let place = |spec| match parse(spec) {
            Ok(Wanted::Place(spec)) => Ok(spec.place),
            Ok(Wanted::Inline) => Err("inline".to_owned()),
            Err(reason) => Err(reason),
        };
        assert_eq!(place("type=local,dest=a"), Ok(Place::Folder("a".into())));
        let registry = place("type=registry,ref=r.example/a:b");
        assert!(matches!(registry, Ok(Place::Registry(_))));
        assert_eq!(place("r.example/a:b"), registry);
        let bucket = |settings| Ok(Place::S3(settings));
        assert_eq!(place("type=inline"), Err("inline".to_owned()));
        assert!(matches!(place("type=inline,ref=a"), Ok(Place::Inline(_))));
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
            ("type=local", "src=FOLDER"),
            ("type=gha", "use local"),
            ("type=registry,dest=a", "ref= is missing"),
            ("type=local,src=a,to=b", "'to' is not known"),
            ("type=s3", "bucket= is missing"),
            ("type=s3,bucket=b,access_key_id=i", "go together"),
            ("type=s3,bucket=b,use_path_style=x", "true or false"),
            ("s3://", "s3://BUCKET/PREFIX"),
            ("mode=max", "write type="),
            ("type=inline,mode=max", "only its own steps"),
            ("type=inline,dest=a", "'dest' is not known"),
        ] {
            let error = parse(spec).unwrap_err();
            assert!(error.contains(reason), "{spec}: {error}");
        }
        let text = "type=s3,secret_access_key=sesame,session_token=t0k,bucket=";
        let error = read("--cache-to", text).unwrap_err().to_string();
        assert!(
            !error.contains("sesame") && !error.contains("t0k"),
            "{error}"
        );
    }
}
