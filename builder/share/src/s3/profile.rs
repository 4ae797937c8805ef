//! The profile that the AWS tools share: `[NAME]` in `~/.aws/credentials` and `[profile NAME]`
//! (or `[default]`) in `~/.aws/config`, as the AWS SDKs' reference guide describes the files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::S3Keys;

/// A profile's settings, by their names in the files.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Profile(BTreeMap<String, String>);

impl Profile {
    /// The profile `$AWS_PROFILE`, else `default`. Files that aren't there have nothing to say.
    pub(super) fn load() -> Result<Self, String> {
        let wanted = std::env::var("AWS_PROFILE")
            .ok()
            .filter(|name| !name.is_empty());
        let name = wanted.as_deref().unwrap_or("default");
        let read = |variable: &str, file: &str| {
            std::fs::read_to_string(place(variable, file)).unwrap_or_default()
        };
        let credentials = read("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let config = read("AWS_CONFIG_FILE", "config");
        let profile = Self::find(name, &credentials, &config);
        match wanted.is_some() && profile.0.is_empty() {
            true => Err(format!(
                "AWS_PROFILE is {name}, but no file has this profile"
            )),
            false => Ok(profile),
        }
    }

    fn find(name: &str, credentials: &str, config: &str) -> Self {
        let mut all = section(config, &[&format!("profile {name}"), name]);
        all.extend(section(credentials, &[name]));
        Self(all)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn keys(&self) -> Option<S3Keys> {
        Some(S3Keys {
            id: self.get("aws_access_key_id")?.to_owned(),
            secret: self.get("aws_secret_access_key")?.to_owned(),
            token: self.get("aws_session_token").map(str::to_owned),
        })
    }
}

fn place(variable: &str, file: &str) -> PathBuf {
    let given = std::env::var_os(variable).filter(|path| !path.is_empty());
    given.map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_default();
            PathBuf::from(home).join(".aws").join(file)
        },
        PathBuf::from,
    )
}

/// The settings of the sections with some names. Indented lines belong to the setting above them,
/// and none of those is of use here.
fn section(text: &str, names: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            inside = names.contains(&name.0.trim());
        } else if inside
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        let credentials = "[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n[ci]\naws_access_key_id=C\n";
        let config = "[default]\nregion = r1\ns3 =\n  region = no\n# region = no\n[profile ci]\nregion = r2\nendpoint_url = http://e\n";
        let default = Profile::find("default", credentials, config);
        assert_eq!(default.get("region"), Some("r1"));
        let keys = default.keys().unwrap();
        assert_eq!(
            (keys.id, keys.secret, keys.token),
            ("A".into(), "B=".into(), None)
        );
        let ci = Profile::find("ci", credentials, config);
        assert_eq!(ci.get("endpoint_url"), Some("http://e"));
        assert_eq!(ci.keys(), None, "half a key is none");
        assert!(Profile::find("other", credentials, config).0.is_empty());
    }
}
