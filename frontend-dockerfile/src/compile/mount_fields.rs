//! The fields of a `--mount`, with their variables expanded. They are read in order: what some say
//! depends on the type, which has to stand before them.

use kiln_graph::{BadUnixId, MountAccess, Sharing, UnixId, parse_bool};

use crate::quote::quote;
use crate::suggest::did_you_mean;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const KINDS: &[(&str, Kind)] = &[
    ("bind", Kind::Bind),
    ("cache", Kind::Cache),
    ("tmpfs", Kind::Tmpfs),
    ("secret", Kind::Secret),
    ("ssh", Kind::Ssh),
];

const NAMES: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

const SHARINGS: &[(&str, Sharing)] = &[
    ("shared", Sharing::Shared),
    ("private", Sharing::Private),
    ("locked", Sharing::Locked),
];

/// What a mount says; texts are empty where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) kind: Kind,
    pub(super) from: Option<String>,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    pub(super) size: Option<u64>,
    pub(super) id: String,
    pub(super) sharing: Option<Sharing>,
    pub(super) required: bool,
    pub(super) env: Option<String>,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<UnixId>,
    pub(super) gid: Option<UnixId>,
    /// Whether it is said that the mount can or can't be written to.
    is_access_said: bool,
}

impl Fields {
    pub(super) fn read(fields: &[(&str, Option<String>)]) -> Result<Self, String> {
        let mut all = Self::default();
        for (name, value) in fields {
            let lower = name.to_ascii_lowercase();
            match value {
                Some(value) => all.set(&lower, value)?,
                None => all.set_alone(&lower, name)?,
            }
        }
        if !all.is_access_said {
            all.read_only = !matches!(all.kind, Kind::Cache | Kind::Tmpfs);
        }
        all.check()?;
        Ok(all)
    }

    /// Who owns what is mounted, as far as it says so.
    pub(super) fn access(&self, usual: MountAccess) -> MountAccess {
        MountAccess {
            uid: self.uid.unwrap_or(usual.uid),
            gid: self.gid.unwrap_or(usual.gid),
            mode: self.mode.unwrap_or(usual.mode),
        }
    }

    fn set_alone(&mut self, name: &str, field: &str) -> Result<(), String> {
        match name {
            "readonly" | "ro" | "readwrite" | "rw" | "required" => self.set(name, "true"),
            _ => Err(format!("invalid field '{field}' must be a key=value pair")),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("invalid value for {name}: {value}");
        match name {
            "type" => self.kind = named("mount type", value, KINDS)?,
            "from" => self.from = Some(value.to_owned()).filter(|from| !from.is_empty()),
            "source" | "src" => value.clone_into(&mut self.source),
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "readonly" | "ro" => {
                self.read_only = parse_bool(value).ok_or_else(wrong)?;
                self.is_access_said = true;
            }
            "readwrite" | "rw" => {
                self.read_only = !parse_bool(value).ok_or_else(wrong)?;
                self.is_access_said = true;
            }
            "required" if matches!(self.kind, Kind::Secret | Kind::Ssh) => {
                self.required = parse_bool(value).ok_or_else(wrong)?;
            }
            "size" if self.kind == Kind::Tmpfs => {
                self.size = Some(size(value).ok_or_else(wrong)?).filter(|size| *size > 0);
            }
            "required" | "size" => {
                let kind = self.kind.name();
                return Err(format!(
                    "unexpected key '{name}' for mount type '{kind}': type= has to stand before it"
                ));
            }
            "id" => value.clone_into(&mut self.id),
            "sharing" => self.sharing = Some(named("sharing value", value, SHARINGS)?),
            "mode" => self.mode = Some(mode(value)?),
            "uid" => self.uid = Some(id(name, value)?),
            "gid" => self.gid = Some(id(name, value)?),
            "env" => self.env = Some(value.to_owned()),
            _ => {
                let hint = did_you_mean(name, NAMES.iter().copied());
                return Err(format!("unexpected key '{name}' in '{name}={value}'{hint}"));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let kind = self.kind.name();
        if matches!(self.kind, Kind::Bind | Kind::Tmpfs) {
            let given = [
                ("mode", self.mode.is_some()),
                ("uid", self.uid.is_some()),
                ("gid", self.gid.is_some()),
            ];
            if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
                return Err(format!("{name} not allowed for \"{kind}\" type mounts"));
            }
        }
        if self.kind == Kind::Secret {
            self.check_secret()?;
        }
        if self.sharing.is_some() && self.kind != Kind::Cache {
            return Err(format!("invalid cache sharing set for {kind} mount"));
        }
        Ok(())
    }

    fn check_secret(&self) -> Result<(), String> {
        let wrong = if self.from.is_some() {
            "secret mount should not have a from"
        } else if self.sharing.is_some() {
            "secret mount should not define sharing"
        } else if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
            "invalid secret mount. one of source, target required: give it an id"
        } else if !self.source.is_empty() && !self.id.is_empty() {
            "both source and id can't be set"
        } else if self.env.as_deref() == Some("") {
            "invalid secret mount: env has to be the name of a variable"
        } else {
            return Ok(());
        };
        Err(wrong.to_owned())
    }
}

impl Kind {
    fn name(self) -> &'static str {
        let found = KINDS.iter().find(|(_, kind)| *kind == self);
        found.map_or("bind", |(name, _)| name)
    }
}

fn named<T: Copy>(what: &str, text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let lower = text.to_ascii_lowercase();
    let found = known.iter().find(|(name, _)| *name == lower);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let hint = did_you_mean(text, known.iter().map(|(name, _)| *name));
        format!("unsupported {what} {}{hint}", quote(text))
    })
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("invalid value {text} for mode: write an octal number up to 7777"))
}

fn id(name: &str, text: &str) -> Result<UnixId, String> {
    let id = text.parse();
    id.map_err(|error: BadUnixId| format!("invalid value {text} for {name}: {error}"))
}

/// A number of bytes as Go's `units.RAMInBytes` reads it: `64m`, `1.5 GiB`.
fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        unit => {
            let letter = unit.strip_suffix("ib").or(unit.strip_suffix('b'));
            let letter = letter.unwrap_or(unit);
            i32::try_from("kmgtp".find(letter).filter(|_| letter.len() == 1)?).ok()? + 1
        }
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * 1024_f64.powi(power);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to integer casts saturate, and digits have no sign"
    )]
    (bytes <= 9e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Fields, String> {
        let fields: Vec<(&str, Option<String>)> = text
            .split(',')
            .map(|field| match field.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (field, None),
            })
            .collect();
        Fields::read(&fields)
    }

    #[test]
    fn what_mounts_say() {
        let bind = read("target=/x").unwrap();
        assert!(bind.kind == Kind::Bind && bind.read_only);
        assert!(!read("target=/x,rw").unwrap().read_only);
        assert!(!read("TYPE=cache,dst=/x").unwrap().read_only);
        assert!(read("type=cache,dst=/x,rw,ro=1").unwrap().read_only);
        assert_eq!(read("type=tmpfs,size=1.5k").unwrap().size, Some(1536));
        assert!(read("type=secret,id=x,required").unwrap().required);
    }

    #[test]
    fn what_no_mount_says() {
        let cases = [
            (
                "type=cash",
                "unsupported mount type \"cash\" (did you mean cache?)",
            ),
            (
                "required,type=secret,id=x",
                "unexpected key 'required' for mount type 'bind'",
            ),
            ("size=1", "unexpected key 'size'"),
            ("sharing=shared", "invalid cache sharing set for bind mount"),
            ("type=cache,sharing=some", "unsupported sharing value"),
            ("mode=755", "mode not allowed for \"bind\" type mounts"),
            (
                "type=secret,id=a,source=b",
                "both source and id can't be set",
            ),
            ("type=secret", "one of source, target required"),
            (
                "type=secret,id=a,env=",
                "env has to be the name of a variable",
            ),
            ("type=secret,id=a,from=b", "should not have a from"),
            (
                "type=cache,uid=4294967295",
                "invalid value 4294967295 for uid",
            ),
            ("ro=maybe", "invalid value for ro: maybe"),
            (
                "tarket=/x",
                "unexpected key 'tarket' in 'tarket=/x' (did you mean target?)",
            ),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("type=tmpfs,size=x", "invalid value for size: x"),
        ];
        for (text, want) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("64m", 64 << 20),
            ("1 GiB", 1 << 30),
            ("2kb", 2048),
        ];
        for (text, want) in cases {
            assert_eq!(size(text), Some(want), "{text}");
        }
        for bad in ["", "x", "1x", "-1", "1mm", "1.2.3"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
