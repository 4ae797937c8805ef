//! Secrets given on the command line: `--secret id=NAME,src=FILE` or `,env=VARIABLE`; `--ssh`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_engine::{SecretProvider, SecretValue};

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Variable(String),
}

/// The secrets and SSH agents of one build.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    secrets: BTreeMap<String, Source>,
    agents: BTreeMap<String, PathBuf>,
}

impl Secrets {
    /// Adds a secret as `--secret` gives it.
    ///
    /// # Errors
    /// In plain words, when it isn't of that form.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let fields: BTreeMap<&str, &str> = text
            .split(',')
            .filter_map(|field| field.split_once('='))
            .collect();
        let id = fields
            .get("id")
            .ok_or_else(|| format!("--secret {text}: an id is missing: write id=NAME,src=FILE"))?;
        let source = match (
            fields.get("src").or(fields.get("source")),
            fields.get("env"),
        ) {
            (Some(file), _) => Source::File(file.into()),
            (None, Some(name)) => Source::Variable((*name).to_owned()),
            (None, None) if fields.get("type") == Some(&"file") => Source::File(id.into()),
            (None, None) => Source::Variable((*id).to_owned()),
        };
        if let Source::File(file) = &source
            && !file.exists()
        {
            return Err(format!(
                "--secret {text}: there is no file {}",
                file.display()
            ));
        }
        self.secrets.insert((*id).to_owned(), source);
        Ok(())
    }

    /// Adds an agent as `--ssh` gives it: `default`, or `ID=SOCKET`.
    ///
    /// # Errors
    /// In plain words, when there is no such agent.
    pub fn add_agent(&mut self, text: &str) -> Result<(), String> {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id, Some(PathBuf::from(socket))),
            None => (text, std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from)),
        };
        let socket = socket.filter(|socket| socket.exists()).ok_or_else(|| {
            format!("--ssh {text}: no agent is running: start ssh-agent, or give {id}=SOCKET")
        })?;
        self.agents.insert(id.to_owned(), socket);
        Ok(())
    }
}

impl SecretProvider for Secrets {
    fn secret(&self, id: &str) -> Result<Option<SecretValue>, String> {
        let bytes = match self.secrets.get(id) {
            None => return Ok(None),
            Some(Source::File(file)) => {
                std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?
            }
            Some(Source::Variable(name)) => match std::env::var(name) {
                Ok(value) => value.into_bytes(),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(SecretValue::new(bytes)))
    }

    fn ssh_agent(&self, id: &str) -> Option<PathBuf> {
        self.agents.get(id).cloned()
    }
}
