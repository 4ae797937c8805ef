//! CycloneDX 1.6 as JSON (<https://cyclonedx.org/docs/1.6/json/>).

use serde_json::{Value, json};

use super::subject::{Subject, identity, time};
use crate::supplier::Supplier;
use crate::{Distribution, FoundPackage, Inventory};

const IMAGE: &str = "image";

pub(super) fn document(subject: &Subject, inventory: &Inventory) -> Value {
    let mut components: Vec<Value> = inventory.distribution.iter().map(system).collect();
    components.extend(
        inventory
            .packages
            .iter()
            .map(|found| component(subject, found)),
    );
    let contained: Vec<&str> = inventory
        .packages
        .iter()
        .map(|found| &*found.purl)
        .collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", uuid(*identity(subject, inventory).as_bytes())),
        "version": 1,
        "metadata": {
            "timestamp": time(subject.created),
            "tools": {"components": [{
                "type": "application",
                "name": "kiln",
                "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": image(subject),
        },
        "components": components,
        "dependencies": [{"ref": IMAGE, "dependsOn": contained}],
    })
}

fn image(subject: &Subject) -> Value {
    let mut image = json!({"type": "container", "bom-ref": IMAGE, "name": subject.name});
    if let Some(digest) = subject.digest {
        image["version"] = digest.to_string().into();
        image["hashes"] = json!([{"alg": "SHA-256", "content": digest.hex()}]);
        image["purl"] = subject.purl(&digest).into();
    }
    let layers = subject.layers.iter().enumerate();
    let properties: Vec<Value> = layers
        .filter_map(|(number, layer)| {
            Some(property(
                &format!("layer:{number}"),
                &layer.diff_id?.to_string(),
            ))
        })
        .collect();
    if !properties.is_empty() {
        image["properties"] = properties.into();
    }
    image
}

fn system(distribution: &Distribution) -> Value {
    let mut system = json!({
        "type": "operating-system",
        "bom-ref": "distribution",
        "name": distribution.id,
    });
    if !distribution.version.is_empty() {
        system["version"] = distribution.version.clone().into();
    }
    if !distribution.name.is_empty() {
        system["description"] = distribution.name.clone().into();
    }
    system
}

fn component(subject: &Subject, found: &FoundPackage) -> Value {
    let package = &found.package;
    let (group, name) = match package.name.split_once(':') {
        Some((group, name)) if package.ecosystem == crate::Ecosystem::Maven => (Some(group), name),
        _ => (None, &*package.name),
    };
    let mut component = json!({
        "type": "library",
        "bom-ref": found.purl,
        "name": name,
        "purl": found.purl,
    });
    if let Some(group) = group {
        component["group"] = group.into();
    }
    if !package.version.is_empty() {
        component["version"] = package.version.clone().into();
    }
    if let Some(license) = &package.license {
        component["licenses"] = json!([{"expression": license}]);
    }
    if let Some(supplier) = Supplier::of(package) {
        component["supplier"] = json!({"name": supplier.name});
    }
    let occurrences: Vec<Value> = found
        .paths
        .iter()
        .map(|path| json!({"location": path.to_string()}))
        .collect();
    component["evidence"] = json!({"occurrences": occurrences});
    component["properties"] = origin(subject, found).into();
    component
}

/// Where a package comes from.
fn origin(subject: &Subject, found: &FoundPackage) -> Vec<Value> {
    let mut properties = vec![property("layer", &found.layer.to_string())];
    if let Some(layer) = subject.layer(found) {
        properties.extend(
            layer
                .diff_id
                .map(|id| property("layer:diffID", &id.to_string())),
        );
        properties.push(property("step", &layer.step_line()));
        properties.extend(
            layer
                .location
                .as_ref()
                .map(|place| property("location", place)),
        );
    }
    properties
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": format!("kiln:{name}"), "value": value})
}

/// A UUID of version 8 (RFC 9562) from a digest.
fn uuid(digest: [u8; 32]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    kiln_graph::versioned_uuid(bytes, 8)
}
