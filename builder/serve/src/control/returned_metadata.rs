//! What a client says of a result beside its files, before it is believed.

use std::collections::HashMap;

use serde_json::Value;
use tonic::Status;

fn wrong(text: impl Into<String>) -> Status {
    Status::unknown(text)
}

/// A text of a document; nothing where it isn't there or empty.
fn text<'a>(document: &'a Value, key: &str) -> Option<&'a str> {
    let text = document.get(key)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

/// Checks the platforms and the configuration of a result.
pub(super) fn check(metadata: &HashMap<String, Vec<u8>>) -> Result<(), Status> {
    if let Some(json) = metadata.get("refs.platforms") {
        platforms(json)?;
    }
    match metadata.get("containerimage.config") {
        Some(json) => configuration(json),
        None => Ok(()),
    }
}

fn platforms(json: &[u8]) -> Result<(), Status> {
    let document: Value = match json {
        [] => Value::Null,
        json => serde_json::from_slice(json)
            .map_err(|error| wrong(format!("failed to parse platforms: {error}")))?,
    };
    let all = document.get("Platforms").and_then(Value::as_array);
    let Some(all) = all.filter(|all| !all.is_empty()) else {
        return Err(wrong("invalid empty platforms index for exporter"));
    };
    for one in all {
        if text(one, "ID").is_none() {
            return Err(wrong("invalid empty platform key for exporter"));
        }
        let platform = one.get("Platform").unwrap_or(&Value::Null);
        if text(platform, "os").is_none() || text(platform, "architecture").is_none() {
            return Err(wrong(format!(
                "invalid platform value {platform} for exporter"
            )));
        }
    }
    Ok(())
}

fn configuration(json: &[u8]) -> Result<(), Status> {
    let document: Value = serde_json::from_slice(json)
        .map_err(|error| wrong(format!("invalid image config for export: {error}")))?;
    if document.is_null() {
        return Err(wrong("invalid null image config for export"));
    }
    match (text(&document, "os"), text(&document, "architecture")) {
        (Some(_), Some(_)) | (None, None) => Ok(()),
        _ => Err(wrong(
            "invalid image config: os and architecture must be specified together",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told_in_the_words_of_buildkit() {
        let said = |key: &str, json: &str| {
            let metadata = HashMap::from([(key.to_owned(), json.as_bytes().to_vec())]);
            check(&metadata).map_err(|status| status.message().to_owned())
        };
        let good = r#"{"Platforms":[{"ID":"linux/amd64","Platform":{"os":"linux","architecture":"amd64"}}]}"#;
        assert_eq!(said("refs.platforms", good), Ok(()));
        let one = r#"{"Platforms":[{"ID":"","Platform":{"os":"linux","architecture":"amd64"}}]}"#;
        let other = r#"{"Platforms":[{"ID":"x","Platform":{"architecture":"amd64"}}]}"#;
        for (json, want) in [
            ("", "empty platforms index"),
            ("{}", "empty platforms index"),
            ("[", "failed to parse"),
            (one, "empty platform key"),
            (other, "invalid platform value"),
        ] {
            let told = said("refs.platforms", json).unwrap_err();
            assert!(told.contains(want), "{json}: {told}");
        }
        let key = "containerimage.config";
        assert_eq!(
            said(key, r#"{"os":"linux","architecture":"amd64"}"#),
            Ok(())
        );
        for (json, want) in [
            ("null", "null image config"),
            ("x", "invalid image config"),
            (r#"{"os":"linux"}"#, "specified together"),
        ] {
            let told = said(key, json).unwrap_err();
            assert!(told.contains(want), "{json}: {told}");
        }
    }
}
