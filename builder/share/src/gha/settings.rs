//! Which service, and who asks.

use std::fmt;
use std::time::Duration;

use kiln_graph::parse_duration;

/// The scope of those who name none, as in BuildKit.
const SCOPE: &str = "buildkit";
/// The patience of those who say nothing.
const PATIENCE: Duration = Duration::from_secs(120);
/// The variables that GitHub gives to actions.
pub(super) const URL_VARIABLE: &str = "ACTIONS_RESULTS_URL";
pub(super) const TOKEN_VARIABLE: &str = "ACTIONS_RUNTIME_TOKEN";
/// GitHub's own service, which old clients give the address of as that of the first API.
const GITHUB: &str = "results-receiver.actions.githubusercontent.com";

/// Where a cache of GitHub Actions is, and what lets one in.
#[derive(Clone, PartialEq, Eq)]
pub struct GhaSettings {
    pub(super) url: String,
    pub(super) token: String,
    pub(super) scope: String,
    /// How long a build waits in all for a service that fails or wants to be left alone.
    pub(super) patience: Duration,
}

/// Why a cache of GitHub Actions can't be used as it is described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GhaSettingsError {
    /// Neither address nor token is there: this is no workflow of GitHub's.
    #[error(
        "neither url_v2 nor token is given, and {URL_VARIABLE} and {TOKEN_VARIABLE} are not set: GitHub gives them to actions, and crazy-max/ghaction-github-runtime to the commands of a workflow"
    )]
    Absent,
    /// The address is missing.
    #[error("url_v2=URL is missing: GitHub gives it to actions as {URL_VARIABLE}")]
    NoUrl,
    /// The token is missing.
    #[error("token=TOKEN is missing: GitHub gives it to actions as {TOKEN_VARIABLE}")]
    NoToken,
    /// The address is none.
    #[error("url_v2 '{0}': write http:// or https:// and a host")]
    BadUrl(String),
    /// Only the first API is wanted.
    #[error(
        "the first version of the cache's API was switched off by GitHub and is not spoken: leave out version={0}, and give url_v2"
    )]
    Version(String),
    /// The time is none.
    #[error("timeout '{0}': write it as 90s, 10m or 1m30s")]
    BadTimeout(String),
    /// The scope is none.
    #[error("scope '{0}': write up to 200 characters, and no commas")]
    BadScope(String),
}

impl GhaSettings {
    /// Reads what is said by `field` (`url_v2`, `url`, `token`, `scope`, `version`, `timeout`).
    ///
    /// # Errors
    /// What is missing or can't be read.
    pub fn read(field: impl Fn(&str) -> Option<String>) -> Result<Self, GhaSettingsError> {
        let text = |key: &str| field(key).filter(|text| !text.is_empty());
        if let Some(version) = text("version").filter(|version| version != "2") {
            return Err(GhaSettingsError::Version(version));
        }
        let is_second = |url: &String| text("version").is_some() || url.contains(GITHUB);
        let url = text("url_v2").or_else(|| text("url").filter(is_second));
        let (url, token) = match (url, text("token")) {
            (None, None) => return Err(GhaSettingsError::Absent),
            (None, _) => return Err(GhaSettingsError::NoUrl),
            (_, None) => return Err(GhaSettingsError::NoToken),
            (Some(url), Some(token)) => (url, token),
        };
        let url = url.trim_end_matches('/').to_owned();
        let rest = url.strip_prefix("https://").or(url.strip_prefix("http://"));
        if rest.is_none_or(str::is_empty) || url.contains(['?', '#', '@', ' ']) {
            return Err(GhaSettingsError::BadUrl(url));
        }
        let scope = text("scope").unwrap_or_else(|| SCOPE.to_owned());
        if scope.len() > 200 || scope.contains(',') {
            return Err(GhaSettingsError::BadScope(scope));
        }
        let patience = match text("timeout") {
            None => PATIENCE,
            Some(text) => patience(&text).ok_or(GhaSettingsError::BadTimeout(text))?,
        };
        Ok(Self {
            url,
            token,
            scope,
            patience,
        })
    }

    /// Reads the same; what isn't said is taken from the variables that GitHub gives to actions. Their token is
    /// for their address only: another may be a stranger's.
    ///
    /// # Errors
    /// As [`GhaSettings::read`].
    pub fn of_workflow(field: impl Fn(&str) -> Option<String>) -> Result<Self, GhaSettingsError> {
        Self::with_variables(field, |name| std::env::var(name).ok())
    }

    fn with_variables(
        field: impl Fn(&str) -> Option<String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, GhaSettingsError> {
        let text = |key: &str| field(key).filter(|text| !text.is_empty());
        let own = variable(URL_VARIABLE).filter(|url| !url.is_empty());
        let bare = |url: &String| url.trim_end_matches('/').to_owned();
        let given = text("url_v2").or_else(|| text("url"));
        let is_own = given.is_none() || given.as_ref().map(bare) == own.as_ref().map(bare);
        Self::read(|key| {
            let said = text(key);
            match key {
                "url_v2" if given.is_none() => said.or_else(|| own.clone()),
                "token" if is_own => said.or_else(|| variable(TOKEN_VARIABLE)),
                _ => said,
            }
        })
    }
}

/// A duration as Go writes it, in whole numbers: `1m30s`. Nothing is no limit that was meant.
fn patience(text: &str) -> Option<Duration> {
    let mut all = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit())?;
        let next = rest[unit..].find(|c: char| c.is_ascii_digit());
        let (part, after) = rest.split_at(next.map_or(rest.len(), |next| unit + next));
        all = all.checked_add(parse_duration(part).ok()?)?;
        rest = after;
    }
    Some(all).filter(|all| !all.is_zero())
}

impl fmt::Debug for GhaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GhaSettings({}, {})", self.url, self.scope)
    }
}

impl fmt::Display for GhaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gha:{}", self.scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<GhaSettings, GhaSettingsError> {
        GhaSettings::read(|key| {
            let found = pairs.iter().find(|(own, _)| *own == key);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_clients_say() {
        let (url, token) = (("url_v2", "https://a.example/x/"), ("token", "secret"));
        let settings = read(&[url, token]).unwrap();
        assert_eq!(settings.url, "https://a.example/x");
        assert_eq!(settings.to_string(), "gha:buildkit");
        assert!(!format!("{settings:?}").contains("secret"));
        let scope = read(&[url, token, ("scope", "main/app")]).unwrap();
        assert_eq!(scope.to_string(), "gha:main/app");
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1m30s", 90), ("1h1ms", 3600)] {
            let settings = read(&[url, token, ("timeout", text)]).unwrap();
            assert_eq!(settings.patience.as_secs(), seconds, "{text}");
        }
        let old = "https://results-receiver.actions.githubusercontent.com/";
        assert!(read(&[("url", old), token]).is_ok());
        assert!(read(&[("url", "http://a"), ("version", "2"), token]).is_ok());
    }

    #[test]
    fn a_workflows_token_is_for_its_own_service() {
        let variable = |name: &str| {
            let all = [
                (URL_VARIABLE, "https://own.example/"),
                (TOKEN_VARIABLE, "own"),
            ];
            let found = all.into_iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_owned())
        };
        let read = |pairs: &[(&str, &str)]| {
            let field = |key: &str| {
                let found = pairs.iter().find(|(own, _)| *own == key);
                found.map(|(_, value)| (*value).to_owned())
            };
            GhaSettings::with_variables(field, variable)
        };
        let own = read(&[]).unwrap();
        assert_eq!(
            (own.url.as_str(), own.token.as_str()),
            ("https://own.example", "own")
        );
        assert_eq!(read(&[("url_v2", "https://own.example")]), Ok(own));
        for key in ["url_v2", "url"] {
            let stranger = (
                key,
                "https://results-receiver.actions.githubusercontent.com.evil",
            );
            assert_eq!(read(&[stranger]), Err(GhaSettingsError::NoToken));
        }
        let hidden = read(&[("url_v2", ""), ("url", "https://evil"), ("version", "2")]);
        assert_eq!(hidden, Err(GhaSettingsError::NoToken));
        let both = read(&[("url_v2", "https://other.example"), ("token", "given")]);
        assert_eq!(both.unwrap().token, "given");
        let none = GhaSettings::with_variables(|_| None, |_| None);
        assert_eq!(none, Err(GhaSettingsError::Absent));
    }

    #[test]
    fn what_is_missing_or_wrong() {
        use GhaSettingsError::{Absent, BadScope, BadTimeout, BadUrl, NoToken, NoUrl, Version};
        let (url, token) = (("url_v2", "https://a.example"), ("token", "t"));
        let long = "a".repeat(201);
        for (pairs, want) in [
            (vec![], Absent),
            (vec![("scope", "a")], Absent),
            (vec![url], NoToken),
            (vec![url, ("token", "")], NoToken),
            (vec![token], NoUrl),
            (vec![token, ("url", "https://a.example/v1")], NoUrl),
            (vec![url, token, ("version", "1")], Version("1".to_owned())),
            (
                vec![("url_v2", "a.example"), token],
                BadUrl("a.example".to_owned()),
            ),
            (
                vec![("url_v2", "https://"), token],
                BadUrl("https:".to_owned()),
            ),
            (
                vec![("url_v2", "file:///etc"), token],
                BadUrl("file:///etc".to_owned()),
            ),
            (
                vec![url, token, ("timeout", "soon")],
                BadTimeout("soon".to_owned()),
            ),
            (
                vec![url, token, ("timeout", "0s")],
                BadTimeout("0s".to_owned()),
            ),
            (
                vec![url, token, ("timeout", "1m5")],
                BadTimeout("1m5".to_owned()),
            ),
            (
                vec![url, token, ("scope", "a,b")],
                BadScope("a,b".to_owned()),
            ),
            (vec![url, token, ("scope", &long)], BadScope(long.clone())),
        ] {
            assert_eq!(read(&pairs), Err(want), "{pairs:?}");
        }
    }
}
