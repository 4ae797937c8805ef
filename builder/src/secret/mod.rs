//! Secrets given on the command line: `--secret id=NAME,SOURCE`; agents: `--ssh`.
//!
//! SOURCE is `src=FILE`, `env=VARIABLE`, or `src=PROVIDER:ADDRESS` with one of the providers
//! below, each behind [`SecretSource`]; a program that embeds kiln adds its own with
//! [`Secrets::register`]. A value is fetched when the first step asks for it, once.

#[cfg(feature = "age")]
mod age;
mod agent;
#[cfg(feature = "ejson")]
mod ejson;
mod environment;
mod error;
mod exec;
#[cfg(test)]
mod provider_tests;
mod source;
mod vault;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_engine::{SecretError, SecretProvider, SecretValue};

pub(crate) use agent::Agent;
pub use agent::AgentError;
pub use error::BadSecret;
pub use source::SecretSource;

use crate::{FieldError, Fields};

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Variable(String),
    Source(Arc<dyn SecretSource>, String),
}

struct Secret {
    place: Place,
    in_key: bool,
    sensitive: bool,
    /// What was fetched; `None` until somebody asks.
    value: Mutex<Option<SecretValue>>,
}

/// The providers that a build of kiln has or lacks, by the features that bring them.
const OPTIONAL_PROVIDERS: [&str; 2] = ["age", "ejson"];

/// The secrets and SSH agents of one build.
pub struct Secrets {
    sources: Vec<Arc<dyn SecretSource>>,
    secrets: BTreeMap<String, Secret>,
    agents: BTreeMap<String, Agent>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&String> = self.secrets.keys().collect();
        f.debug_struct("Secrets")
            .field("ids", &ids)
            .finish_non_exhaustive()
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            sources: vec![
                Arc::new(exec::Exec),
                Arc::<vault::Vault>::default(),
                #[cfg(feature = "ejson")]
                Arc::<ejson::Ejson>::default(),
                #[cfg(feature = "age")]
                Arc::<age::Age>::default(),
            ],
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
        }
    }
}

impl Secrets {
    /// Adds a place that secrets can be had from; it hides an earlier one of the same name.
    pub fn register(&mut self, source: Arc<dyn SecretSource>) {
        self.sources.insert(0, source);
    }

    /// Adds a secret as `--secret` gives it.
    ///
    /// # Errors
    /// When it isn't of that form, or its provider isn't in this build of kiln.
    pub fn add(&mut self, text: &str) -> Result<(), BadSecret> {
        let spec = Spec::read(text)?;
        let place = match spec.origin() {
            Some(source) => self.place(&spec.id, source)?,
            None => Place::Variable(spec.variable.unwrap_or_else(|| spec.id.clone())),
        };
        let secret = Secret {
            place,
            in_key: spec.in_key,
            sensitive: spec.sensitive,
            value: Mutex::new(None),
        };
        self.secrets.insert(spec.id, secret);
        Ok(())
    }

    /// What a spec of `--secret` reads, when it is something beside a variable: whether it may be
    /// given isn't asked.
    ///
    /// # Errors
    /// When it isn't of that form.
    pub fn reads(&self, text: &str) -> Result<Option<SecretPlace>, BadSecret> {
        let spec = Spec::read(text)?;
        Ok(spec.origin().map(|source| match self.provider(source) {
            Some((known, _)) => SecretPlace::Provider(known.name().to_owned()),
            None => SecretPlace::File(source.into()),
        }))
    }

    /// The provider that a source names, and the address there.
    fn provider<'s>(&self, source: &'s str) -> Option<(&Arc<dyn SecretSource>, &'s str)> {
        let (name, address) = source.split_once(':')?;
        let known = self.sources.iter().find(|known| known.name() == name);
        known.map(|known| (known, address))
    }

    fn place(&self, id: &str, source: &str) -> Result<Place, BadSecret> {
        if let Some((known, address)) = self.provider(source) {
            return Ok(Place::Source(known.clone(), address.to_owned()));
        }
        if Path::new(source).exists() {
            return Ok(Place::File(source.into()));
        }
        let is_named = |name: &&&str| source.split_once(':').is_some_and(|(own, _)| own == **name);
        let id = id.to_owned();
        Err(match OPTIONAL_PROVIDERS.iter().find(is_named) {
            Some(provider) => BadSecret::NotInThisBuild { id, provider },
            None => BadSecret::NoFile {
                id,
                file: source.into(),
            },
        })
    }

    /// Adds an agent as `--ssh` gives it: `default`, `ID=SOCKET` or `ID=KEY[,KEY…]`.
    ///
    /// # Errors
    /// When there is no such agent or key.
    pub fn add_agent(&mut self, text: &str) -> Result<(), BadSecret> {
        let opened = Agent::open(text).map_err(|source| BadSecret::Agent {
            agent: text.to_owned(),
            source,
        });
        let (id, agent) = opened?;
        self.agents.insert(id, agent);
        Ok(())
    }
}

/// Where a secret is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// In a file.
    File(PathBuf),
    /// By a provider of this name, such as `exec`.
    Provider(String),
}

/// What `--secret` says.
struct Spec {
    id: String,
    source: Option<String>,
    variable: Option<String>,
    is_file: bool,
    in_key: bool,
    sensitive: bool,
}

impl Spec {
    /// What it is read from, unless that is a variable.
    fn origin(&self) -> Option<&str> {
        match (&self.source, &self.variable) {
            (Some(source), _) => Some(source),
            (None, None) if self.is_file => Some(&self.id),
            _ => None,
        }
    }

    /// Errors repeat no values: whoever mistypes a key may have written the secret itself.
    fn read(text: &str) -> Result<Self, BadSecret> {
        // A command may have commas: it is the last field, and goes to the end.
        let mut fields = Fields::with_tail(text, &["src=exec:", "source=exec:"]);
        let wrong = |error: FieldError| match error {
            FieldError::NotABool(key) => BadSecret::NotABool(key),
            FieldError::Unknown { key, .. } => BadSecret::UnknownKey(key),
            _ => BadSecret::NotAField,
        };
        let spec = Self {
            id: String::new(),
            source: fields.take("src").or(fields.take("source")),
            variable: fields.take("env"),
            is_file: fields.take("type").as_deref() == Some("file"),
            in_key: fields.flag("in-key").map_err(wrong)?.unwrap_or(false),
            sensitive: fields.flag("sensitive").map_err(wrong)?.unwrap_or(true),
        };
        let id = fields.take("id");
        fields.finish(&[]).map_err(wrong)?;
        Ok(Self {
            id: id.ok_or(BadSecret::NoId)?,
            ..spec
        })
    }
}

impl Place {
    fn fetch(&self) -> Result<Option<SecretValue>, SecretError> {
        match self {
            Self::File(file) => std::fs::read(file)
                .map(|bytes| Some(SecretValue::new(bytes)))
                .map_err(SecretError::of_file(file)),
            Self::Variable(name) => {
                use std::os::unix::ffi::OsStringExt as _;
                Ok(std::env::var_os(name).map(|value| SecretValue::new(value.into_vec())))
            }
            Self::Source(source, address) => {
                let failed = |error| SecretError::Provider {
                    provider: source.name().to_owned(),
                    source: Box::new(error),
                };
                source.fetch(address).map(Some).map_err(failed)
            }
        }
    }
}

impl SecretProvider for Secrets {
    fn secret(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        let Some(secret) = self.secrets.get(id) else {
            return Ok(None);
        };
        let mut value = secret.value.lock().unwrap_or_else(PoisonError::into_inner);
        if value.is_none() {
            *value = secret.place.fetch()?;
        }
        Ok(value.clone())
    }

    fn at_hand(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        let Some(secret) = self.secrets.get(id) else {
            return Ok(None);
        };
        match secret.place {
            Place::File(_) | Place::Variable(_) => self.secret(id),
            Place::Source(..) => {
                let value = secret.value.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(value.clone())
            }
        }
    }

    fn is_sensitive(&self, id: &str) -> bool {
        self.secrets.get(id).is_none_or(|secret| secret.sensitive)
    }

    fn ssh_agent(&self, id: &str) -> Option<PathBuf> {
        self.agents.get(id).map(|agent| agent.socket().to_owned())
    }

    fn is_in_key(&self, id: &str) -> bool {
        self.secrets.get(id).is_some_and(|secret| secret.in_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Option<String>, String> {
        let mut secrets = Secrets::default();
        secrets.add(text).map_err(|error| error.to_string())?;
        let value = secrets.secret("a").map_err(|error| error.to_string())?;
        Ok(value.map(|value| String::from_utf8_lossy(value.expose()).into_owned()))
    }

    #[test]
    fn where_values_come_from() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file").unwrap();
        let text = format!("id=a,src={}", file.path().display());
        assert_eq!(value(&text), Ok(Some("from a file".to_owned())));
        let path = std::env::var("PATH").ok();
        assert_eq!(value("id=a,env=PATH"), Ok(path));
        assert_eq!(value("id=a,env=NO_SUCH_VARIABLE"), Ok(None));
        let text = "id=a,src=exec:printf '%s' x,y";
        assert_eq!(value(text), Ok(Some("x,y".to_owned())));
        let wrong = [
            ("src=/dev/null", "an id is missing"),
            ("id=a,src=/no/such", "there is no file"),
            ("id=a,colour=red", "unknown key 'colour'"),
            ("id=a,src=exec:exit 3", "exit status"),
            ("id=a,sensitive=no", "true or false"),
        ];
        for (text, want) in wrong {
            let error = value(text).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn mistakes_repeat_no_values() {
        for text in [
            "id=a,value=hunter2",
            "hunter2",
            "id=a,src=exec:echo hunter2; exit 3",
            "id=a,in-key=hunter2",
            "value=hunter2,src=x",
        ] {
            let error = value(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn only_what_asks_nobody_is_at_hand() {
        let mut secrets = Secrets::default();
        secrets.add("id=a,src=exec:echo value").unwrap();
        secrets.add("id=b,env=PATH").unwrap();
        secrets.add("id=c,env=PATH,sensitive=false").unwrap();
        assert!(secrets.at_hand("a").unwrap().is_none());
        assert!(secrets.at_hand("b").unwrap().is_some());
        assert!(secrets.secret("a").unwrap().is_some());
        assert!(secrets.at_hand("a").unwrap().is_some());
        assert!(secrets.is_sensitive("a") && !secrets.is_sensitive("c"));
    }
}
