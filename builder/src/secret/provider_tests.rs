//! Each provider keeps what a provider keeps, and so do errors.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use kiln_graph::Fault;

use super::environment::Environment;
use super::*;
use crate::conformance;

/// Secrets as they are given, the providers told by these variables.
fn given(text: &str, sources: Vec<Arc<dyn SecretSource>>) -> Secrets {
    let mut secrets = Secrets::default();
    for source in sources {
        secrets.register(source);
    }
    secrets.add(text).unwrap();
    secrets
}

fn fails(text: &str, sources: Vec<Arc<dyn SecretSource>>, unsaid: &str) -> SecretError {
    let secrets = given(text, sources);
    conformance::failing_secret(&secrets, "a", unsaid).unwrap();
    secrets.secret("a").unwrap_err()
}

#[test]
fn files_variables_and_commands() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "value").unwrap();
    let of_file = format!("id=a,src={}", file.display());
    let random = "id=a,src=exec:head -c 16 /dev/urandom | base64";
    for text in [of_file.as_str(), "id=a,env=PATH", random] {
        conformance::secrets(&given(text, Vec::new()), "a", "b").unwrap();
    }
    let secrets = given(&of_file, Vec::new());
    std::fs::remove_file(&file).unwrap();
    conformance::failing_secret(&secrets, "a", "value").unwrap();
    assert_eq!(secrets.secret("a").unwrap_err().fault(), Fault::User);
    let failed = fails(
        "id=a,src=exec:echo hunter2 >&2; exit 3",
        Vec::new(),
        "hunter2",
    );
    assert_eq!(failed.fault(), Fault::User);
}

/// A server that answers as Vault does to whoever has the token; its address.
fn vault_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    _ = std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let (status, body) = match head.contains("x-vault-token: right\r\n") {
                true => ("200 OK", r#"{"data":{"data":{"key":"value"}}}"#),
                false => ("403 Forbidden", "{}"),
            };
            let length = body.len();
            _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    address
}

#[test]
fn vault() {
    let server = vault_server();
    let source = |variables: &[(&'static str, &str)]| -> Vec<Arc<dyn SecretSource>> {
        let variables = variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        vec![Arc::new(vault::Vault::of(Environment::of(variables)))]
    };
    let right = [("VAULT_ADDR", server.as_str()), ("VAULT_TOKEN", "right")];
    let secrets = given("id=a,src=vault:secret/app#key", source(&right));
    conformance::secrets(&secrets, "a", "b").unwrap();
    let wrong = [("VAULT_ADDR", server.as_str()), ("VAULT_TOKEN", "hunter2")];
    let nowhere = [
        ("VAULT_ADDR", "http://127.0.0.1:1"),
        ("VAULT_TOKEN", "hunter2"),
    ];
    let text = "id=a,src=vault:secret/app#key";
    let cases = [
        (text, &wrong[..], "refuses the token", Fault::User),
        (text, &nowhere[..], "127.0.0.1:1", Fault::Environment),
        (text, &right[1..], "set VAULT_ADDR", Fault::User),
        (text, &right[..1], "set VAULT_TOKEN", Fault::User),
        (
            "id=a,src=vault:secret/app#none",
            &right[..],
            "no field",
            Fault::User,
        ),
        (
            "id=a,src=vault:secret/app",
            &right[..],
            "write vault:",
            Fault::User,
        ),
    ];
    for (text, variables, want, fault) in cases {
        let error = fails(text, source(variables), "hunter2");
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(error.fault(), fault, "{error}");
    }
}

#[cfg(feature = "age")]
#[test]
fn age() {
    use ::age::secrecy::ExposeSecret as _;

    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let keys = [(), ()].map(|()| ::age::x25519::Identity::generate());
    let sealed = ::age::encrypt(&keys[0].to_public(), b"value").unwrap();
    std::fs::write(at("sealed"), sealed).unwrap();
    for (name, key) in ["right", "wrong"].iter().zip(&keys) {
        std::fs::write(at(name), key.to_string().expose_secret()).unwrap();
    }
    let source = |name: &str| -> Vec<Arc<dyn SecretSource>> {
        let environment = Environment::of([("AGE_IDENTITY", at(name))]);
        vec![Arc::new(age::Age::of(environment))]
    };
    let text = format!("id=a,src=age:{}", at("sealed"));
    conformance::secrets(&given(&text, source("right")), "a", "b").unwrap();
    for (name, want) in [
        ("wrong", "can't be decrypted"),
        ("none", "set AGE_IDENTITY"),
    ] {
        let error = fails(&text, source(name), keys[1].to_string().expose_secret());
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(error.fault(), Fault::User);
    }
}

#[cfg(feature = "ejson")]
#[test]
fn ejson() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file").display().to_string();
    let (key, sealed) = ejson::sealed(b"value");
    let document = serde_json::json!({ "_public_key": "p", "a": { "b": sealed } });
    std::fs::write(&file, document.to_string()).unwrap();
    let source = |key: &str| -> Vec<Arc<dyn SecretSource>> {
        let environment = Environment::of([("EJSON_PRIVATE_KEY", key.to_owned())]);
        vec![Arc::new(ejson::Ejson::of(environment))]
    };
    let text = format!("id=a,src=ejson:{file}#a.b");
    conformance::secrets(&given(&text, source(&key)), "a", "b").unwrap();
    let (wrong, missing) = ("ab".repeat(32), format!("id=a,src=ejson:{file}#a.c"));
    let cases = [
        (&text, wrong.as_str(), "can't be decrypted"),
        (&text, "hunter2", "64 hexadecimal digits"),
        (&missing, key.as_str(), "no text under"),
    ];
    for (text, key, want) in cases {
        let error = fails(text, source(key), key);
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(error.fault(), Fault::User);
    }
}
