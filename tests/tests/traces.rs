//! Builds as OpenTelemetry traces.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Run, Script, Space};
use serde_json::Value;

/// A collector that keeps what it is sent in a file, with its token checked.
const COLLECTOR: &str = r#"
import http.server, os
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        good = self.path == "/v1/traces" and self.headers["x-token"] == "open" \
            and self.headers["content-type"] == "application/json"
        body = self.rfile.read(int(self.headers["content-length"]))
        if good:
            open(os.environ["KEPT"], "wb").write(body)
        self.send_response(200 if good else 401)
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
print("port", server.server_port, flush=True)
server.serve_forever()
"#;

fn build(space: &Space, port: u16, token: &str) -> Run {
    let endpoint = format!("http://127.0.0.1:{port}/");
    let mut command = space.command(&["build", "context", "--otlp-endpoint", &endpoint]);
    command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("x-token={token}"));
    command.env("OTEL_SERVICE_NAME", "images");
    command.env(
        "TRACEPARENT",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    );
    Run::of(&command.output().unwrap())
}

#[test]
fn a_collector_gets_the_steps() {
    let space = Space::new();
    space.write(
        "Dockerfile",
        format!("FROM {BUSYBOX}\nRUN sleep 0.1\nRUN exit 3\n"),
    );
    let kept = space.path("kept.json");
    let server = Script::python_with(COLLECTOR, &[("KEPT", kept.to_str().unwrap())]);
    build(&space, server.port(), "open").fails_with(&["exit code: 3"]);
    let sent: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    let resource = &sent["resourceSpans"][0];
    assert_eq!(
        resource["resource"]["attributes"][0]["value"]["stringValue"],
        "images"
    );
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    let span = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    let (ran, failed) = (
        span("stage-0[2] RUN sleep 0.1"),
        span("stage-0[3] RUN exit 3"),
    );
    assert_eq!(spans[0]["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(ran["parentSpanId"], spans[0]["spanId"]);
    assert_eq!(ran["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(failed["links"][0]["spanId"], ran["spanId"]);
    assert_eq!(
        (&failed["status"]["code"], &ran["status"]["code"]),
        (&2.into(), &1.into())
    );
    let time = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    let took = time(ran, "endTimeUnixNano") - time(ran, "startTimeUnixNano");
    assert!(took >= 100_000_000, "{took} ns");
}

#[test]
fn a_build_is_good_without_its_collector() {
    let space = Space::new();
    space.write("Dockerfile", format!("FROM {BUSYBOX}\nRUN true\n"));
    let kept = space.path("kept.json");
    let server = Script::python_with(COLLECTOR, &[("KEPT", kept.to_str().unwrap())]);
    let refused = build(&space, server.port(), "shut").ok();
    assert!(
        refused.stderr.contains("trace was not sent"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("status 401"), "{}", refused.stderr);
    let port = server.port();
    drop(server);
    let gone = build(&space, port, "open").ok();
    assert!(
        gone.stderr.contains("trace was not sent"),
        "{}",
        gone.stderr
    );
    assert!(!kept.exists());
}
