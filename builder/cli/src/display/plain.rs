//! Plain progress: one line a happening, each with its step's number.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use kiln_engine::{Event, EventSink, Outcome, PlannedStep, StepRef, Stream};

use crate::terminal::{last_of_line, shown, told};

/// A longer line is shown in parts: what has no end must not fill the memory.
const MOST_LINE: usize = 64 * 1024;

/// What is known of the steps.
#[derive(Default)]
pub(super) struct State {
    steps: BTreeMap<StepRef, Shown>,
    next: usize,
}

struct Shown {
    plan: PlannedStep,
    number: Option<usize>,
    started: Instant,
    /// The last line of each stream, as far as it has come.
    open: [Vec<u8>; 2],
}

/// Writes lines to standard error.
#[derive(Default)]
pub(crate) struct Plain(Mutex<State>);

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
        match event {
            Event::Planned { steps } => {
                for plan in steps {
                    let shown = Shown {
                        number: None,
                        started: Instant::now(),
                        open: Default::default(),
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
            Event::Transfer {
                name,
                done,
                finished: true,
                ..
            } => format!("{}: {}\n", told(&name), super::tty::size(done)).into_bytes(),
            Event::Warning { message } => format!("WARNING: {}\n", told(&message)).into_bytes(),
            _ => Vec::new(),
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
        shown.number = Some(next);
        shown.started = Instant::now();
        let name = shown.plan.name.replace('\r', " ").replace('\n', "\n    ");
        format!("#{next} {}\n", told(&name)).into_bytes()
    }

    fn output(&mut self, step: StepRef, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let Some(shown) = self.steps.get_mut(&step) else {
            return Vec::new();
        };
        let open = &mut shown.open[usize::from(stream == Stream::Stderr)];
        open.extend_from_slice(bytes);
        let end = match open.iter().rposition(|&b| b == b'\n') {
            Some(end) => end + 1,
            None if open.len() > MOST_LINE => open.len(),
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
