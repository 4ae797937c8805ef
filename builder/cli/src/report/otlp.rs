//! A build as an OpenTelemetry trace, sent by OTLP over HTTP in its JSON form
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>): one span for the build, one in it for
//! each step and transfer, links from steps to what they are made from.
//!
//! `OTEL_EXPORTER_OTLP_HEADERS` adds headers, `OTEL_SERVICE_NAME` names the service, and
//! `TRACEPARENT` (<https://www.w3.org/TR/trace-context/>) makes the build part of a trace.

use std::time::Duration;

use kiln_cache::{BuildRecord, BuiltStep, BuiltTransfer, StepOutcome};
use kiln_graph::Digest;
use kiln_image::{Client, ShortAnswer};
use serde_json::{Value, json};

/// How long a collector may take: a build doesn't wait for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The numbers that the protocol has for kinds of spans and for outcomes.
const INTERNAL: u8 = 1;
const OK: u8 = 1;
const ERROR: u8 = 2;

/// Sends a build's trace.
///
/// # Errors
/// Why the collector doesn't have it, in words.
pub(crate) fn send(client: &Client, endpoint: &str, build: &BuildRecord) -> Result<(), String> {
    if variable("OTEL_EXPORTER_OTLP_PROTOCOL").is_some_and(|name| name == "grpc") {
        return Err("OTEL_EXPORTER_OTLP_PROTOCOL asks for grpc: kiln sends http/json".to_owned());
    }
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(pairs(
        &variable("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default(),
    ));
    let trace = Trace::of(build, variable("TRACEPARENT").as_deref());
    let body = trace.document(build).to_string().into_bytes();
    match client.post(&url, &headers, body, PATIENCE) {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(ShortAnswer { status, .. }) => Err(format!("{url} answered with status {status}")),
        Err(error) => Err(error.to_string()),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `a=b,c=d`, as the variables of OpenTelemetry have it.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
}

/// The identity of a build's trace.
struct Trace {
    id: String,
    parent: Option<String>,
    /// Makes the ids of its spans its own.
    seed: String,
}

impl Trace {
    fn of(build: &BuildRecord, parent: Option<&str>) -> Self {
        let own = || Digest::of(build.id.as_bytes()).to_string()[..32].to_owned();
        let (id, parent) = match parent.and_then(read_parent) {
            Some((id, parent)) => (id, Some(parent)),
            None => (own(), None),
        };
        Self {
            id,
            parent,
            seed: build.id.clone(),
        }
    }

    fn span_id(&self, what: &str) -> String {
        Digest::of(format!("{} {what}", self.seed).as_bytes()).to_string()[..16].to_owned()
    }

    fn document(&self, build: &BuildRecord) -> Value {
        let service = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "kiln".to_owned());
        let began = build.steps.iter().enumerate();
        let began = began.filter(|(_, step)| step.outcome != StepOutcome::Waiting);
        let mut spans = vec![self.build_span(build)];
        spans.extend(began.map(|(place, step)| self.step_span(build, place, step)));
        let moved = build.transfers.iter().enumerate();
        spans.extend(moved.map(|(place, moved)| self.transfer_span(build, place, moved)));
        json!({ "resourceSpans": [{
            "resource": { "attributes": [text("service.name", &service)] },
            "scopeSpans": [{
                "scope": { "name": "kiln", "version": env!("CARGO_PKG_VERSION") },
                "spans": spans,
            }],
        }] })
    }

    /// What all spans have: times are in milliseconds after the build began.
    fn span(&self, id: &str, name: &str, build: &BuildRecord, began: u64, took: u64) -> Value {
        let nanos = |millis: u64| ((build.began + millis) * 1_000_000).to_string();
        json!({
            "traceId": self.id,
            "spanId": id,
            "parentSpanId": self.span_id("build"),
            "name": name.lines().next().unwrap_or_default(),
            "kind": INTERNAL,
            "startTimeUnixNano": nanos(began),
            "endTimeUnixNano": nanos(began + took),
        })
    }

    fn build_span(&self, build: &BuildRecord) -> Value {
        let (cached, all) = build.cached();
        let id = self.span_id("build");
        let name = format!("build {}", build.title);
        let mut span = self.span(&id, &name, build, 0, build.took);
        span["parentSpanId"] = json!(self.parent.as_deref().unwrap_or_default());
        span["attributes"] = json!([
            text("kiln.build.id", &build.id),
            number("kiln.steps", all as u64),
            number("kiln.steps.cached", cached as u64),
        ]);
        span["status"] = status(build.error.as_deref(), build.ok);
        span
    }

    fn step_span(&self, build: &BuildRecord, place: usize, step: &BuiltStep) -> Value {
        let id = |place: usize| self.span_id(&format!("step {place}"));
        let mut span = self.span(&id(place), &step.name, build, step.began, step.took);
        let mut attributes = vec![
            text("kiln.step", &step.name),
            text("kiln.step.outcome", outcome(step.outcome)),
            number("kiln.step.cpu_ms", step.cpu),
            number("kiln.step.memory_bytes", step.memory),
        ];
        let place = step.place.iter();
        attributes.extend(place.map(|place| text("kiln.step.place", place)));
        let queued = step.queued.into_iter();
        attributes.extend(queued.map(|millis| number("kiln.step.queued_ms", millis)));
        if let Some(location) = &step.location {
            attributes.push(text("code.file.path", &location.file));
            attributes.push(number("code.line.number", location.line.into()));
        }
        let link = |input: &usize| json!({ "traceId": self.id, "spanId": id(*input) });
        span["attributes"] = json!(attributes);
        span["links"] = step.inputs.iter().map(link).collect();
        span["status"] = status(None, step.outcome != StepOutcome::Failed);
        span
    }

    fn transfer_span(&self, build: &BuildRecord, place: usize, moved: &BuiltTransfer) -> Value {
        let id = self.span_id(&format!("transfer {place}"));
        let mut span = self.span(&id, &moved.name, build, moved.began, moved.took);
        span["attributes"] = json!([number("kiln.transfer.bytes", moved.bytes)]);
        span
    }
}

/// `00-TRACE-PARENT-FLAGS`.
fn read_parent(text: &str) -> Option<(String, String)> {
    let is_id = |part: &str, length: usize| {
        let digits = part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        part.len() == length && digits && part.bytes().any(|b| b != b'0')
    };
    match text.trim().split('-').collect::<Vec<_>>()[..] {
        [_, trace, parent, _] if is_id(trace, 32) && is_id(parent, 16) => {
            Some((trace.to_owned(), parent.to_owned()))
        }
        _ => None,
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// The protocol writes 64 bits as text.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn status(message: Option<&str>, ok: bool) -> Value {
    let code = if ok { OK } else { ERROR };
    json!({ "code": code, "message": message.unwrap_or_default() })
}

fn outcome(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Ran => "ran",
        StepOutcome::Cached => "cached",
        StepOutcome::Failed => "failed",
        StepOutcome::Cancelled => "stopped",
        StepOutcome::Waiting => "waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_parents_are_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, parent) = read_parent(good).unwrap();
        assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent, "00f067aa0ba902b7");
        for bad in [
            "",
            "00-1-2-01",
            &good
                .replace('4', "0")
                .replace(|c: char| c.is_alphanumeric(), "0"),
            &good[1..40],
        ] {
            assert_eq!(read_parent(bad), None, "{bad}");
        }
    }

    #[test]
    fn headers_are_pairs() {
        let read: Vec<_> = pairs("a=1, b = x=y,,c").collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(read, [pair("a", "1"), pair("b", "x=y")]);
    }
}
