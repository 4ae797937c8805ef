//! An operation as it is kept in the record of a step, for `kiln explain`: without credentials.
//!
//! Variables whose names say that they hold one keep a keyed digest of the value, so that a change of
//! it can still be told; addresses lose userinfo and queries; proxies are not kept, for no step
//! depends on them. The key is made of the operation as it is.

use kiln_cache::{Store, StoreError};
use kiln_graph::Op;
use kiln_graph::address::{REDACTED, names_a_credential, redact, redact_variable};
use serde_json::Value;

/// The operation as JSON.
pub(crate) fn operation(store: &Store, op: &Op) -> Result<Value, StoreError> {
    let mut value = match op {
        Op::Exec(exec) => {
            let mut exec = exec.clone();
            exec.proxy.clear();
            for (name, value) in &mut exec.env {
                *value = variable(store, name, value)?;
            }
            serde_json::to_value(Op::Exec(exec))
        }
        other => serde_json::to_value(other),
    }
    .unwrap_or_default();
    clean(&mut value);
    Ok(value)
}

fn variable(store: &Store, name: &str, value: &str) -> Result<String, StoreError> {
    if !names_a_credential(name) || value.is_empty() {
        return Ok(redact_variable(name, value).into_owned());
    }
    let digest = store.private_digest(value.as_bytes())?.short();
    Ok(format!("{REDACTED} ({digest})"))
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let std::borrow::Cow::Owned(redacted) = redact(text) {
                *text = redacted;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        _ => {}
    }
}
