//! Alpine's packages: `/lib/apk/db/installed` (apk-package(5)).

use super::Reading;
use super::reading::List;
use super::stanza::{Stanza, stanzas};
use crate::license;
use crate::{Ecosystem, Package};

pub(super) fn read(text: &str) -> Reading {
    let mut list = List::default();
    for stanza in stanzas(text) {
        match package(&stanza) {
            Some(package) => list.push(package),
            None => {
                let line = stanza.first_line();
                list.problem(format!("the paragraph '{line}' has no P: or no V:"));
            }
        }
    }
    list.into()
}

fn package(stanza: &Stanza<'_>) -> Option<Package> {
    let name = stanza.exact("P")?;
    let mut package = Package::new(Ecosystem::Apk, name, stanza.exact("V")?)
        .qualify("arch", stanza.exact("A"))
        .qualify(
            "upstream",
            stanza.exact("o").filter(|origin| *origin != name),
        );
    package.license = stanza.exact("L").and_then(license::expression);
    package.supplier = stanza.exact("m").map(str::to_owned);
    Some(package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Claim;

    #[test]
    fn what_is_installed() {
        let text = "C:Q1=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld.so\na:0:0:755\n\nP:ssl_client\nV:1-r0\nL:GPL-2.0-only\no:busybox\n\nF:etc\n";
        let reading = read(text);
        let Some(Claim::Packages(packages)) = reading.claim else {
            panic!()
        };
        assert_eq!(packages[0].purl(None), "pkg:apk/musl@1.2.5-r0?arch=x86_64");
        assert_eq!(
            packages[1].purl(None),
            "pkg:apk/ssl_client@1-r0?upstream=busybox"
        );
        assert_eq!(packages[1].license.as_deref(), Some("GPL-2.0-only"));
        assert_eq!(
            reading.problems,
            ["the paragraph 'F:etc' has no P: or no V:"]
        );
    }
}
