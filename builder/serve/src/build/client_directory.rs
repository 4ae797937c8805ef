//! What a client's directory gets of a result: some more files, or all that it then has.

use std::collections::BTreeMap;

use kiln_engine::OutputEntry;
use kiln_graph::ImagePath;
use tonic::Status;

use crate::error::BuildError;
use crate::proto::control::Exporter;

/// Whether the client wants its directory to have nothing but the result. It removes what isn't sent, so that
/// all must be sent at once.
pub(super) fn deletes(exporter: &Exporter) -> Result<bool, Status> {
    match exporter.attrs.get("mode").map(String::as_str) {
        None | Some("" | "copy") => Ok(false),
        Some("delete") => Ok(true),
        Some(other) => Err(Status::invalid_argument(format!(
            "invalid local exporter mode {other:?}: copy or delete"
        ))),
    }
}

/// The files of several platforms as those of one directory.
pub(super) fn merged(
    all: impl IntoIterator<Item = Vec<OutputEntry>>,
) -> Result<Vec<OutputEntry>, BuildError> {
    let mut whole: BTreeMap<ImagePath, OutputEntry> = BTreeMap::new();
    for entry in all.into_iter().flatten() {
        let path = entry.0.path.clone();
        match whole.get(&path) {
            None => _ = whole.insert(path, entry),
            // Both may have files in it.
            Some(before) if before.0.is_directory() && entry.0.is_directory() => {}
            Some(_) => {
                let text = format!("cannot overwrite {path} when split option is disabled");
                return Err(Status::unknown(text).into());
            }
        }
    }
    Ok(whole.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_entry::entry;

    #[test]
    fn platforms_share_directories_and_no_files() {
        let first = vec![entry("d", false), entry("d/b", true), entry("e", true)];
        let second = vec![entry("d", false), entry("d/a", true)];
        let whole = merged([first, second.clone()]).unwrap();
        let paths: Vec<String> = whole.iter().map(|(one, _)| one.path.to_string()).collect();
        assert_eq!(paths, ["/d", "/d/a", "/d/b", "/e"]);
        let refused = merged([second.clone(), second]).unwrap_err();
        assert!(refused.to_string().contains("cannot overwrite /d/a"));
    }

    #[test]
    fn modes_of_clients() {
        let mode = |mode: &str| {
            let attrs = [("mode".to_owned(), mode.to_owned())].into();
            let r#type = "local".to_owned();
            deletes(&Exporter { r#type, attrs })
        };
        assert!(!mode("copy").unwrap() && !mode("").unwrap() && mode("delete").unwrap());
        assert!(mode("move").is_err());
    }
}
