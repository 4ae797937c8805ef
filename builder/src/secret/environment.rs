//! What providers are told by environment variables.

use std::sync::Arc;

/// Gives the value of a variable, when it is set.
type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The variables that say where a provider finds secrets and what lets it in.
#[derive(Clone)]
pub(super) struct Environment(Arc<Lookup>);

impl Default for Environment {
    /// Those of this process.
    fn default() -> Self {
        Self(Arc::new(|name| std::env::var(name).ok()))
    }
}

impl Environment {
    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// A path below the user's home directory.
    pub(super) fn home(&self, path: &str) -> String {
        format!("{}/{path}", self.get("HOME").unwrap_or_default())
    }

    /// These variables and no others.
    #[cfg(test)]
    pub(super) fn of(variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let variables: std::collections::BTreeMap<_, _> = variables.into_iter().collect();
        Self(Arc::new(move |name| variables.get(name).cloned()))
    }
}
