//! Plain progress: one line a happening, each with its step's number; and one every five seconds
//! while nothing happens.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kiln_engine::{Event, EventSink, Outcome, PlannedStep, StepRef, Stream};

use super::heartbeat::{self, Alive};
use super::placed::placed;
use super::transfer::Transfer;
use crate::terminal::{last_of_line, shown, told};

/// A longer line is shown in parts: what has no end must not fill the memory.
const MAX_LINE: usize = 64 * 1024;

/// How many of the steps and transfers that go on are named in one line.
const MAX_NAMED: usize = 4;
/// How much of a step's name is, in characters.
const NAME_WIDTH: usize = 40;

/// What is known of the steps.
pub(super) struct State {
    steps: BTreeMap<StepRef, Shown>,
    next: usize,
    /// Those that run, in the order they began.
    running: Vec<StepRef>,
    /// Those that go on, in the order they began.
    transfers: Vec<Transfer>,
    /// When something was written last.
    written: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self {
            steps: BTreeMap::new(),
            next: 0,
            running: Vec::new(),
            transfers: Vec::new(),
            written: Instant::now(),
        }
    }
}

struct Shown {
    plan: PlannedStep,
    number: Option<usize>,
    started: Instant,
    /// The last line of each stream, as far as it has come.
    open: [Vec<u8>; 2],
    /// Where it was said to run.
    place: String,
}

/// Writes lines to standard error.
pub(crate) struct Plain(Arc<Mutex<State>>);

impl Plain {
    pub(crate) fn start() -> Self {
        let state = Arc::default();
        heartbeat::start(&state);
        Self(state)
    }
}

impl Alive for State {
    fn last_written(&self) -> Instant {
        self.written
    }

    fn still(&mut self) -> Vec<u8> {
        let steps = self.running.iter().filter_map(|step| {
            let shown = self.steps.get(step)?;
            let name = shown.plan.name.lines().next().unwrap_or_default();
            let name: String = name.chars().take(NAME_WIDTH).collect();
            let seconds = shown.started.elapsed().as_secs();
            Some(format!("#{} {name} ({seconds} s)", shown.number?))
        });
        let moved = self.transfers.iter();
        let moved = moved.map(|transfer| format!("{} ({})", transfer.name, transfer.progress()));
        let all: Vec<String> = moved.chain(steps).collect();
        if all.is_empty() {
            return Vec::new();
        }
        self.written = Instant::now();
        let more = match all.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = all[..all.len().min(MAX_NAMED)].join(", ");
        format!("... {}{more}\n", told(&named)).into_bytes()
    }
}

impl EventSink for Plain {
    fn event(&self, event: Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = state.take(event);
        if !text.is_empty() {
            _ = std::io::stderr().lock().write_all(&text);
        }
    }
}

impl State {
    /// The lines that tell of an event.
    pub(super) fn take(&mut self, event: Event) -> Vec<u8> {
        let text = self.lines(event);
        if !text.is_empty() {
            self.written = Instant::now();
        }
        text
    }

    fn lines(&mut self, event: Event) -> Vec<u8> {
        match event {
            Event::Planned { steps } => {
                for plan in steps {
                    let shown = Shown {
                        number: None,
                        started: Instant::now(),
                        open: Default::default(),
                        place: String::new(),
                        plan,
                    };
                    self.steps.insert(shown.plan.step, shown);
                }
                Vec::new()
            }
            Event::Started { step } => self.begin(step),
            Event::Output {
                step,
                stream,
                bytes,
            } => self.output(step, stream, &bytes),
            Event::Finished {
                step,
                outcome,
                duration,
                ..
            } => self.finish(step, outcome, duration.as_secs_f64()),
            Event::Placed {
                step,
                place,
                reason,
                queued,
                waiting,
            } => {
                let text = placed(place.as_deref(), reason.as_deref(), queued, waiting);
                self.place(step, text)
            }
            Event::Transfer {
                name,
                done,
                total,
                finished,
            } => self.transfer(&name, done, total, finished),
            Event::Warning { message } => format!("WARNING: {}\n", told(&message)).into_bytes(),
            _ => Vec::new(),
        }
    }

    fn transfer(&mut self, name: &str, done: u64, total: Option<u64>, over: bool) -> Vec<u8> {
        let at = self.transfers.iter().position(|one| one.name == name);
        let at = at.unwrap_or_else(|| {
            self.transfers.push(Transfer::new(name, done, total));
            self.transfers.len() - 1
        });
        self.transfers[at].set(done);
        if !over {
            return Vec::new();
        }
        let ended = self.transfers.remove(at);
        match ended.is_told() {
            true => format!("{}: {}\n", told(name), ended.outcome()).into_bytes(),
            false => Vec::new(),
        }
    }

    fn begin(&mut self, step: StepRef) -> Vec<u8> {
        let next = self.next + 1;
        let Some(shown) = self.steps.get_mut(&step) else {
            return Vec::new();
        };
        if shown.number.is_some() {
            return Vec::new();
        }
        self.next = next;
        self.running.push(step);
        shown.number = Some(next);
        shown.started = Instant::now();
        let name = shown.plan.name.replace('\r', " ").replace('\n', "\n    ");
        format!("#{next} {}\n", told(&name)).into_bytes()
    }

    /// Where a step runs, said once as long as it stays there.
    fn place(&mut self, step: StepRef, text: String) -> Vec<u8> {
        let Some(shown) = self.steps.get_mut(&step) else {
            return Vec::new();
        };
        match shown.number {
            Some(number) if shown.place != text => {
                shown.place = text;
                format!("#{number} [{}]\n", told(&shown.place)).into_bytes()
            }
            _ => Vec::new(),
        }
    }

    fn output(&mut self, step: StepRef, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let Some(shown) = self.steps.get_mut(&step) else {
            return Vec::new();
        };
        let open = &mut shown.open[usize::from(stream == Stream::Stderr)];
        open.extend_from_slice(bytes);
        let end = match open.iter().rposition(|&b| b == b'\n') {
            Some(end) => end + 1,
            None if open.len() > MAX_LINE => open.len(),
            None => return Vec::new(),
        };
        let rest = open.split_off(end);
        let whole = std::mem::replace(open, rest);
        let (number, seconds) = (
            shown.number.unwrap_or(0),
            shown.started.elapsed().as_secs_f64(),
        );
        let mut text = Vec::new();
        for line in whole.split_inclusive(|&b| b == b'\n') {
            text.extend_from_slice(numbered(number, seconds, line).as_bytes());
        }
        text
    }

    fn finish(&mut self, step: StepRef, outcome: Outcome, seconds: f64) -> Vec<u8> {
        let is_instruction = self
            .steps
            .get(&step)
            .is_some_and(|shown| shown.plan.instruction);
        let cached = outcome == Outcome::Cached;
        if cached && !is_instruction {
            return Vec::new();
        }
        let mut text = self.begin(step);
        self.running.retain(|running| *running != step);
        let Some(shown) = self.steps.get_mut(&step) else {
            return text;
        };
        let number = shown.number.unwrap_or(0);
        for open in &mut shown.open {
            if !open.is_empty() {
                let line = std::mem::take(open);
                text.extend_from_slice(numbered(number, seconds, &line).as_bytes());
            }
        }
        let end = match outcome {
            Outcome::Ran => format!("#{number} DONE {seconds:.1}s\n\n"),
            Outcome::Cached => format!("#{number} CACHED\n\n"),
            Outcome::Failed => format!("#{number} ERROR\n\n"),
            Outcome::Cancelled => format!("#{number} CANCELED\n\n"),
        };
        text.extend_from_slice(end.as_bytes());
        text
    }
}

/// One line of output as it is shown.
fn numbered(number: usize, seconds: f64, line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let line = last_of_line(line.strip_suffix('\n').unwrap_or(&line));
    format!("#{number} {seconds:.3} {}\n", shown(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn where_a_step_runs_is_said_once() {
        let mut state = State::default();
        let step = StepRef(0);
        let planned = PlannedStep {
            step,
            name: "RUN true".to_owned(),
            location: None,
            inputs: Vec::new(),
            instruction: true,
        };
        let placed = |place: Option<&str>| Event::Placed {
            step,
            place: place.map(str::to_owned),
            reason: None,
            queued: place.map(|_| Duration::from_millis(200)),
            waiting: false,
        };
        let events = [
            Event::Planned {
                steps: vec![planned],
            },
            Event::Started { step },
            placed(Some("grpc://one")),
            placed(Some("grpc://one")),
            placed(None),
        ];
        let text: Vec<u8> = events.into_iter().flat_map(|e| state.take(e)).collect();
        let text = String::from_utf8(text).unwrap();
        let want =
            "#1 RUN true\n#1 [on grpc://one, after 0.2s in its queue]\n#1 [on this machine]\n";
        assert_eq!(text, want);
    }
}
