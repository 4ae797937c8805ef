//! Image configurations that strangers made, before anything is run with them or passed on.
//!
//! The specification (config.md, `Env`) wants `NAME=VALUE`; other entries mean something else to some
//! programs: a name alone, or a pattern, takes variables of whoever starts a container
//! (CVE-2026-57231). They are dropped, so that neither a step nor an image that is built has them.

use crate::ImageConfig;

/// How many variables, lines of history and so on a configuration may have.
pub const MAX_CONFIG_ENTRIES: usize = 10_000;
/// How long the name of an operating system or processor may be, in bytes.
const MAX_PLATFORM_NAME: usize = 64;

/// Why a configuration can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    /// Programs can't be given such texts.
    #[error("its configuration has a NUL byte in {0}")]
    Nul(&'static str),
    /// No honest image has so many.
    #[error(
        "its configuration has {count} entries in {field}: at most {MAX_CONFIG_ENTRIES} are read"
    )]
    TooMany {
        /// Where.
        field: &'static str,
        /// How many.
        count: usize,
    },
    /// It runs on nothing that has such a name.
    #[error("its configuration has an {0} that is no such name")]
    Platform(&'static str),
}

impl ImageConfig {
    /// Drops what is no variable from the environment, and says how many entries that were.
    ///
    /// # Errors
    /// When the rest can't be used.
    pub fn check(&mut self) -> Result<usize, BadConfig> {
        self.check_sizes()?;
        self.check_platform()?;
        self.check_texts()?;
        let env = &mut self.config.env;
        let before = env.len();
        env.retain(|entry| is_variable(entry));
        Ok(before - env.len())
    }

    fn check_sizes(&self) -> Result<(), BadConfig> {
        let config = &self.config;
        let sizes = [
            ("Env", config.env.len()),
            ("Labels", config.labels.len()),
            ("ExposedPorts", config.exposed_ports.len()),
            ("Volumes", config.volumes.len()),
            ("OnBuild", config.on_build.len()),
            ("history", self.history.len()),
        ];
        let found = sizes
            .into_iter()
            .find(|(_, count)| *count > MAX_CONFIG_ENTRIES);
        found.map_or(Ok(()), |(field, count)| {
            Err(BadConfig::TooMany { field, count })
        })
    }

    fn check_platform(&self) -> Result<(), BadConfig> {
        let names = [
            ("operating system", &self.os),
            ("architecture", &self.architecture),
            ("architecture's variant", &self.variant),
        ];
        let is_name = |text: &str| {
            let inside = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
            text.len() <= MAX_PLATFORM_NAME && text.bytes().all(inside)
        };
        let wrong = names.into_iter().find(|(_, name)| !is_name(name));
        wrong.map_or(Ok(()), |(what, _)| Err(BadConfig::Platform(what)))
    }

    fn check_texts(&self) -> Result<(), BadConfig> {
        let config = &self.config;
        let test = config.healthcheck.as_ref().map(|check| &check.test);
        let lists = [
            ("Entrypoint", config.entrypoint.as_ref()),
            ("Cmd", config.cmd.as_ref()),
            ("Shell", Some(&config.shell)),
            ("OnBuild", Some(&config.on_build)),
            ("Healthcheck", test),
        ];
        let singles = [
            ("User", &config.user),
            ("WorkingDir", &config.working_dir),
            ("StopSignal", &config.stop_signal),
        ];
        let lists = lists
            .into_iter()
            .flat_map(|(field, list)| list.into_iter().flatten().map(move |text| (field, text)));
        let ports = config
            .exposed_ports
            .keys()
            .map(|text| ("ExposedPorts", text));
        let volumes = config.volumes.keys().map(|text| ("Volumes", text));
        let mut all = singles.into_iter().chain(lists).chain(ports).chain(volumes);
        match all.find(|(_, text)| text.contains('\0')) {
            Some((field, _)) => Err(BadConfig::Nul(field)),
            None => Ok(()),
        }
    }
}

/// Whether an entry of an environment is a variable with a value.
fn is_variable(entry: &str) -> bool {
    let name = entry.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| !name.is_empty() && !name.contains('*')) && !entry.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Platform;

    fn config() -> ImageConfig {
        ImageConfig::scratch(&Platform::host())
    }

    #[test]
    fn only_variables_stay() {
        let mut config = config();
        let all = [
            "A=1", "B=", "C", "*", "D*", "=x", "", "E=a\0b", "F\0=", "G==", "*=1", "A B=1",
        ];
        config.config.env = all.map(str::to_owned).to_vec();
        assert_eq!(config.check(), Ok(8));
        assert_eq!(config.config.env, ["A=1", "B=", "G==", "A B=1"]);
    }

    #[test]
    fn what_can_not_be_used() {
        type Change = fn(&mut ImageConfig);
        let cases: [(Change, &str); 6] = [
            (|c| c.config.user = "a\0".to_owned(), "NUL byte in User"),
            (
                |c| c.config.cmd = Some(vec!["\0".to_owned()]),
                "NUL byte in Cmd",
            ),
            (
                |c| c.config.env = vec!["A=".to_owned(); 10_001],
                "10001 entries in Env",
            ),
            (
                |c| c.history = vec![crate::History::default(); 10_001],
                "entries in history",
            ),
            (|c| c.architecture = "../x".to_owned(), "an architecture"),
            (|c| c.os = "x".repeat(65), "an operating system"),
        ];
        for (change, want) in cases {
            let mut config = config();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        assert_eq!(config().check(), Ok(0));
    }
}
