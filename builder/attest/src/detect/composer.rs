//! PHP's packages: `vendor/composer/installed.json`, of Composer 1 (a list) and 2 (an object).

use serde_json::Value;

use super::Reading;
use super::reading::List;
use crate::license;
use crate::{Ecosystem, Package};

pub(super) fn read(text: &str) -> Reading {
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => return Reading::problem(format!("not valid JSON: {error}")),
    };
    let Some(listed) = document["packages"]
        .as_array()
        .or_else(|| document.as_array())
    else {
        return Reading::problem("no packages listed");
    };
    let packages: Vec<Package> = listed.iter().filter_map(package).collect();
    let broken = listed.len() - packages.len();
    let mut list = List::default();
    if broken > 0 {
        list.problem(format!(
            "{broken} of its packages have no name or no version"
        ));
    }
    list.extend(packages);
    list.into()
}

fn package(value: &Value) -> Option<Package> {
    let mut package = Package::new(
        Ecosystem::Composer,
        value["name"].as_str()?,
        value["version"].as_str()?,
    );
    let licenses = value["license"].as_array().into_iter().flatten();
    let licenses = licenses.filter_map(|one| license::expression(one.as_str()?));
    package.license = license::joined(&licenses.collect(), "OR");
    package.supplier = value["authors"][0]["name"].as_str().map(str::to_owned);
    Some(package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Claim;

    #[test]
    fn both_forms() {
        let one = r#"[{"name":"Monolog/monolog","version":"2.9.1","license":["MIT","GPL-2.0-only"]},{"name":"x"}]"#;
        for text in [one.to_owned(), format!(r#"{{"packages":{one}}}"#)] {
            let reading = read(&text);
            let Some(Claim::Packages(packages)) = reading.claim else {
                panic!()
            };
            assert_eq!(packages[0].purl(None), "pkg:composer/monolog/monolog@2.9.1");
            assert_eq!(packages[0].license.as_deref(), Some("GPL-2.0-only OR MIT"));
            assert_eq!(reading.problems.len(), 1);
        }
    }
}
