//! Builds as OpenTelemetry traces.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use kiln_tests::{BUSYBOX, Cluster, Fault, Run, Script, Space};
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
    build_with(space, port, token, &[])
}

fn build_with(space: &Space, port: u16, token: &str, more: &[&str]) -> Run {
    let endpoint = format!("http://127.0.0.1:{port}/");
    let args = [&["build", "context", "--otlp-endpoint", &endpoint], more].concat();
    let mut command = space.command(&args);
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

/// What was sent to a cluster says where it ran in each report of the build, and what wasn't, why.
#[test]
fn reports_say_where_steps_ran() {
    let space = Space::new();
    let steps = "RUN echo 1 > /one\nRUN --mount=type=cache,target=/cache echo 2 > /two\n";
    space.write("Dockerfile", format!("FROM {BUSYBOX}\n{steps}"));
    let kept = space.path("kept.json");
    let server = Script::python_with(COLLECTOR, &[("KEPT", kept.to_str().unwrap())]);
    let cluster = Cluster::start(None, Fault::None);
    let executor = cluster.executor();
    _ = build_with(&space, server.port(), "open", &["--executor", &executor]).ok();
    let worker = format!("{} (worker-1)", cluster.url());
    let sent: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    let spans = &sent["resourceSpans"][0]["scopeSpans"][0]["spans"];
    let place_of = |name: &str| {
        let mut spans = spans.as_array().unwrap().iter();
        let span = spans.find(|span| span["name"].as_str().unwrap().contains(name));
        let attributes = span.unwrap()["attributes"].as_array().unwrap().iter();
        let mut places = attributes.filter(|one| one["key"] == "kiln.step.place");
        places
            .next()
            .map(|one| one["value"]["stringValue"].as_str().unwrap().to_owned())
    };
    assert_eq!(place_of("echo 1"), Some(worker.clone()));
    assert_eq!(place_of("echo 2"), None);
    let explained = space.kiln(&["explain"]).ok().stdout;
    assert!(explained.contains(&format!(" on {worker}")), "{explained}");
    _ = space.kiln(&["timeline", "-o", "t.html"]).ok();
    let page = kiln_tests::read(space.path("t.html"));
    assert!(page.contains(&worker), "the page lacks the worker");
    assert!(
        page.contains("a step uses a cache volume"),
        "the page lacks the reason"
    );
    let history: Value =
        serde_json::from_str(&space.kiln(&["history", "--json"]).ok().stdout).unwrap();
    let steps = history[0]["steps"].as_array().unwrap();
    let places: Vec<&str> = steps
        .iter()
        .filter_map(|step| step["place"].as_str())
        .collect();
    assert_eq!(places, [worker.as_str()]);
}
