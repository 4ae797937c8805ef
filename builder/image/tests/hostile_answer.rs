//! Answers that no honest registry gives: they end in an error or an image, never in a panic, and
//! soon. `PROPTEST_CASES` makes this a fuzzer that runs as long as one likes.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use kiln_graph::Platform;
use kiln_image::{Client, ClientOptions};
use proptest::prelude::*;

/// Answers each connection with the bytes it was given last.
fn server() -> (u16, Sender<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, answers) = channel::<Vec<u8>>();
    std::thread::spawn(move || {
        let mut answer = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            while let Ok(next) = answers.try_recv() {
                answer = next;
            }
            _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            _ = stream.read(&mut [0; 4096]);
            _ = stream.write_all(&answer);
        }
    });
    (port, send)
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const STATUS: &[&str] = &[
    "200 OK", "401 No", "307 Go", "404 No", "429 Wait", "206 Part", "500 No", "304 Same", "999 X",
    "200",
];
const HEADERS: &[&str] = &[
    "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/t\",service=\"s",
    "WWW-Authenticate: Basic",
    "WWW-Authenticate: Bearer realm",
    "WWW-Authenticate: Bearer =,=\"",
    "Location: /v2/a/manifests/b",
    "Location: http://[::",
    "Location: file:///etc/passwd",
    "Location: //",
    "Content-Length: 99999999999",
    "Content-Length: -1",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Retry-After: 0",
    "Retry-After: x",
    "Content-Type: \u{fe}",
    "Docker-Content-Digest: sha256:zz",
];

fn body() -> impl Strategy<Value = String> {
    let descriptor = prop::sample::select(vec![
        format!(r#"{{"mediaType":"","digest":"{DIGEST}","size":0}}"#),
        format!(
            r#"{{"mediaType":"x","digest":"{DIGEST}","size":18446744073709551615,"platform":{{"os":"linux","architecture":"amd64"}}}}"#
        ),
        r#"{"mediaType":"x","digest":"sha256:../../etc","size":1}"#.to_owned(),
        r#"{"mediaType":"x","digest":"md5:00","size":-1}"#.to_owned(),
        "null".to_owned(),
    ]);
    let layers = prop::collection::vec(descriptor.clone(), 0..3);
    let manifest = (descriptor.clone(), layers.clone()).prop_map(|(config, layers)| {
        format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
            layers.join(",")
        )
    });
    let index = layers.prop_map(|layers| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            layers.join(",")
        )
    });
    prop_oneof![
        3 => manifest,
        3 => index,
        1 => Just("[".repeat(100_000)),
        1 => "\\PC{0,40}",
        1 => Just(r#"{"schemaVersion":1}"#.to_owned()),
        1 => Just(r#"{"token":1}"#.to_owned()),
    ]
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let headers = prop::collection::vec(prop::sample::select(HEADERS), 0..3);
    let built =
        (prop::sample::select(STATUS), headers, body()).prop_map(|(status, headers, body)| {
            let lines = headers
                .iter()
                .map(|line| format!("{line}\r\n"))
                .collect::<String>();
            format!("HTTP/1.1 {status}\r\n{lines}Connection: close\r\n\r\n{body}").into_bytes()
        });
    prop_oneof![9 => built, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

#[test]
fn answers_of_every_kind() {
    let (port, send) = server();
    let options = ClientOptions {
        first_wait: Duration::from_micros(1),
        ..ClientOptions::default()
    };
    let client = Client::new(options);
    let given = std::env::var("PROPTEST_CASES").ok();
    let cases = given.and_then(|text| text.parse().ok()).unwrap_or(200);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(bytes in answer(), tag in "[a-z]{8}")| {
        send.send(bytes).unwrap();
        let name = format!("127.0.0.1:{port}/a:{tag}");
        _ = client.resolve(&name, &Platform::host());
    });
}

#[test]
fn what_is_sent_to_one_server_is_sent_to_no_other() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let place = other.local_addr().unwrap();
    for (kind, status) in [
        ("post", "301 Moved"),
        ("post", "307 Temporary Redirect"),
        ("get", "307 Temporary Redirect"),
    ] {
        let secret = ("X-Vault-Token".to_owned(), "secret".to_owned());
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", server.local_addr().unwrap());
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: http://{place}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut asked = [0; 4096];
            _ = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let client = Client::new(ClientOptions::default());
        let within = Duration::from_secs(60);
        let said = match kind {
            "post" => client.post(&url, &[], b"secret".to_vec(), within),
            _ => client.get(&url, &[secret], within),
        };
        let said = said.unwrap();
        serving.join().unwrap();
        assert!(status.starts_with(&said.status.to_string()), "{said:?}");
        assert_eq!(said.location, Some(format!("http://{place}/")));
    }
    assert!(other.accept().is_err(), "nobody came");
}

#[test]
fn an_answer_that_never_ends_is_given_up() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut asked = [0; 4096];
        _ = stream.read(&mut asked).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let client = Client::new(ClientOptions::default());
    let begun = std::time::Instant::now();
    let within = Duration::from_millis(500);
    assert!(client.get(&url, &[], within).is_err());
    assert!(begun.elapsed() < Duration::from_secs(10));
}
