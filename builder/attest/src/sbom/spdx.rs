//! SPDX 2.3 as JSON (<https://spdx.github.io/spdx-spec/v2.3/>). The document describes the image,
//! which contains its layers, which contain the packages that they brought.

use std::collections::BTreeSet;

use kiln_graph::Digest;
use serde_json::{Value, json};

use super::subject::{Subject, SubjectLayer, TOOL, identity, time};
use crate::license::references;
use crate::supplier::Supplier;
use crate::{FoundPackage, Inventory};

const UNKNOWN: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";

pub(super) fn document(subject: &Subject, inventory: &Inventory) -> Value {
    let created = time(subject.created);
    let mut packages = vec![image(subject)];
    let layers = subject.layers.iter().enumerate();
    packages.extend(layers.map(|(number, layer)| self::layer(subject, number, layer)));
    let found = inventory.packages.iter();
    packages.extend(found.map(|found| package(subject, found, &created)));
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": subject.name,
        "documentNamespace": format!("urn:kiln:sbom:{}", identity(subject, inventory)),
        "creationInfo": {
            "created": created,
            "creators": [format!("Tool: {TOOL}"), "Organization: kiln"],
        },
        "packages": packages,
        "relationships": relationships(subject, inventory),
    });
    let extracted = extracted(inventory);
    if !extracted.is_empty() {
        document["hasExtractedLicensingInfos"] = extracted.into();
    }
    document
}

fn image(subject: &Subject) -> Value {
    let mut package = plain(IMAGE, &subject.name, "CONTAINER");
    supply(&mut package, Supplier::of_image(&subject.name));
    if let Some(digest) = subject.digest {
        package["versionInfo"] = digest.to_string().into();
        package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": digest.hex()}]);
        package["externalRefs"] = purl(&subject.purl(&digest));
    }
    package
}

fn layer(subject: &Subject, number: usize, layer: &SubjectLayer) -> Value {
    let name = layer
        .diff_id
        .map_or_else(|| format!("layer {number}"), |id| id.to_string());
    let mut package = plain(&layer_id(number), &name, "CONTAINER");
    supply(&mut package, Supplier::of_image(&subject.name));
    if let Some(diff_id) = layer.diff_id {
        package["versionInfo"] = diff_id.to_string().into();
        package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": diff_id.hex()}]);
    }
    let step = layer.step_line();
    if !step.is_empty() {
        let place = layer
            .location
            .as_ref()
            .map_or(String::new(), |place| format!(" ({place})"));
        package["comment"] = format!("made by {step}{place}").into();
    }
    package
}

fn package(subject: &Subject, found: &FoundPackage, created: &str) -> Value {
    let mut package = plain(&package_id(found), &found.package.name, "LIBRARY");
    if !found.package.version.is_empty() {
        package["versionInfo"] = found.package.version.clone().into();
    }
    package["externalRefs"] = purl(&found.purl);
    if let Some(license) = &found.package.license {
        package["licenseDeclared"] = license.clone().into();
    }
    supply(&mut package, Supplier::of(&found.package));
    let paths: Vec<String> = found.paths.iter().map(ToString::to_string).collect();
    package["sourceInfo"] = format!("installed, as these say: {}", paths.join(", ")).into();
    if let Some(layer) = subject.layer(found) {
        let mut words = vec![format!("layer {}", found.layer)];
        words.extend(layer.diff_id.map(|id| id.to_string()));
        words.push(format!("step: {}", layer.step_line()));
        words.extend(layer.location.as_ref().map(|place| format!("at: {place}")));
        package["annotations"] = json!([{
            "annotationDate": created,
            "annotationType": "OTHER",
            "annotator": format!("Tool: {TOOL}"),
            "comment": words.join("; "),
        }]);
    }
    package
}

fn supply(package: &mut Value, supplier: Option<Supplier>) {
    if let Some(supplier) = supplier {
        package["supplier"] = supplier.spdx().into();
    }
}

fn plain(id: &str, name: &str, purpose: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "supplier": UNKNOWN,
        "primaryPackagePurpose": purpose,
    })
}

fn purl(url: &str) -> Value {
    json!([{
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": url,
    }])
}

fn layer_id(number: usize) -> String {
    format!("SPDXRef-Layer-{number}")
}

/// Letters, digits, dots and dashes only (section 3.2), and different for each package.
fn package_id(found: &FoundPackage) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    let name: String = found.package.name.chars().map(allowed).collect();
    let digest = Digest::of(found.purl.as_bytes()).short();
    format!(
        "SPDXRef-Package-{}-{name}-{digest}",
        found.package.ecosystem
    )
}

fn relationships(subject: &Subject, inventory: &Inventory) -> Vec<Value> {
    let one = |from: &str, kind: &str, to: &str| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
    let mut all = vec![one(DOCUMENT, "DESCRIBES", IMAGE)];
    for number in 0..subject.layers.len() {
        all.push(one(IMAGE, "CONTAINS", &layer_id(number)));
    }
    for found in &inventory.packages {
        let from = match subject.layer(found) {
            Some(_) => layer_id(found.layer),
            None => IMAGE.to_owned(),
        };
        all.push(one(&from, "CONTAINS", &package_id(found)));
    }
    all
}

/// Licences that the list of licences doesn't have.
fn extracted(inventory: &Inventory) -> Vec<Value> {
    let expressions = inventory
        .packages
        .iter()
        .filter_map(|found| found.package.license.as_deref());
    let named: BTreeSet<&str> = expressions.flat_map(references).collect();
    let one = |id: &str| {
        let name = id.strip_prefix("LicenseRef-").unwrap_or(id);
        json!({
            "licenseId": id,
            "name": name,
            "extractedText": format!("The package's metadata names its licence so: {name}"),
        })
    };
    named.into_iter().map(one).collect()
}
