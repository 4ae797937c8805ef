//! Plain progress in the groups that CI services fold: GitHub's workflow commands and GitLab's
//! collapsible sections.
//!
//! Groups can't be in each other, so one step is shown as it runs; what runs beside it is held back
//! until that one ends. What steps write and are called is made safe by [`crate::terminal`].

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kiln_engine::{Event, EventSink, StepRef};

use super::heartbeat::{self, Alive};
use super::plain;
use crate::terminal::told;

/// Whose groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// GitHub Actions.
    GitHub,
    /// GitLab CI.
    GitLab,
}

impl Service {
    /// The service that runs this program, by the variables that they document.
    pub(crate) fn detect() -> Option<Self> {
        let is_set = |name| std::env::var(name).is_ok_and(|value| value == "true");
        match () {
            () if is_set("GITHUB_ACTIONS") => Some(Self::GitHub),
            () if is_set("GITLAB_CI") => Some(Self::GitLab),
            () => None,
        }
    }

    fn open(self, step: StepRef, title: &str) -> String {
        match self {
            Self::GitHub => format!("::group::{}\n", data(title)),
            Self::GitLab => format!(
                "\x1b[0Ksection_start:{}:kiln_{}[collapsed=true]\r\x1b[0K{title}\n",
                now(),
                step.0
            ),
        }
    }

    fn close(self, step: StepRef) -> String {
        match self {
            Self::GitHub => "::endgroup::\n".to_owned(),
            Self::GitLab => format!("\x1b[0Ksection_end:{}:kiln_{}\r\x1b[0K\n", now(), step.0),
        }
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// Writes groups to standard error.
pub(crate) struct Ci {
    service: Service,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    plain: plain::State,
    /// The step whose group is open.
    shown: Option<StepRef>,
    /// The others that have begun, in their order, with what they have written so far.
    held: Vec<Held>,
}

struct Held {
    step: StepRef,
    text: Vec<u8>,
    ended: bool,
}

impl Ci {
    pub(crate) fn new(service: Service) -> Self {
        let state = Arc::default();
        heartbeat::start(&state);
        Self { service, state }
    }
}

impl Alive for State {
    fn last_written(&self) -> Instant {
        self.plain.last_written()
    }

    fn still(&mut self) -> Vec<u8> {
        one_line_each(self.plain.still())
    }
}

impl EventSink for Ci {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = state.take(self.service, event);
        if !text.is_empty() {
            _ = std::io::stderr().lock().write_all(&text);
        }
    }
}

impl State {
    /// What is to be written now.
    fn take(&mut self, service: Service, event: Event) -> Vec<u8> {
        let (step, ended) = match &event {
            Event::Started { step } | Event::Output { step, .. } => (*step, false),
            Event::Finished { step, .. } => (*step, true),
            _ => return one_line_each(self.plain.take(event)),
        };
        let begins = matches!(event, Event::Started { .. });
        let text = one_line_each(self.plain.take(event));
        if begins && !text.is_empty() {
            self.held.push(Held {
                step,
                text: grouped(service, step, &text),
                ended: false,
            });
            return self.show_next();
        }
        let text = match ended {
            true if self.has_begun(step) => closed(service, step, &text),
            _ => text,
        };
        self.write(step, text, ended)
    }

    fn has_begun(&self, step: StepRef) -> bool {
        self.shown == Some(step) || self.held.iter().any(|held| held.step == step)
    }

    fn write(&mut self, step: StepRef, mut text: Vec<u8>, ended: bool) -> Vec<u8> {
        if self.shown == Some(step) {
            if ended {
                self.shown = None;
                text.extend(self.show_next());
            }
            return text;
        }
        match self.held.iter_mut().find(|held| held.step == step) {
            Some(held) => {
                held.text.append(&mut text);
                held.ended |= ended;
                Vec::new()
            }
            // A step that was cached has one line, which needs no group but must be in none.
            None if self.shown.is_some() && !text.is_empty() => {
                self.held.push(Held { step, text, ended });
                Vec::new()
            }
            None => text,
        }
    }

    /// Ended groups, and the first that goes on, when none is open.
    fn show_next(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.shown.is_none() && !self.held.is_empty() {
            let mut next = self.held.remove(0);
            out.append(&mut next.text);
            if !next.ended {
                self.shown = Some(next.step);
            }
        }
        out
    }
}

/// Services take what follows a carriage return for a line of its own.
fn one_line_each(mut text: Vec<u8>) -> Vec<u8> {
    for byte in text.iter_mut().filter(|byte| **byte == b'\r') {
        *byte = b' ';
    }
    text
}

/// A step's first lines: the first is the group's title.
fn grouped(service: Service, step: StepRef, text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let mut out = service.open(step, title);
    out.push_str(rest);
    out.into_bytes()
}

/// A step's last lines: how it ended is told outside of the group.
fn closed(service: Service, step: StepRef, text: &[u8]) -> Vec<u8> {
    let trimmed = text.trim_ascii_end();
    let end = trimmed
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    let mut out = text[..end].to_vec();
    out.extend(service.close(step).into_bytes());
    out.extend(&trimmed[end..]);
    out.push(b'\n');
    out
}

/// A remark beside a line of a file, for GitHub.
pub(crate) fn annotation(kind: &str, file: &str, line: u32, message: &str) -> String {
    let message = told(message);
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!(
        "::{kind} file={},line={line}::{}",
        property(file),
        data(&message)
    )
}

/// Text in a command to GitHub's runner.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_engine::{Outcome, PlannedStep, Stream};
    use std::time::Duration;

    fn shown(events: Vec<Event>) -> String {
        let mut state = State::default();
        let steps = (0..3).map(|n| PlannedStep {
            step: StepRef(n),
            name: format!("s[{n}] RUN {n}\nmore"),
            location: None,
            inputs: Vec::new(),
            instruction: true,
        });
        _ = state.take(
            Service::GitHub,
            Event::Planned {
                steps: steps.collect(),
            },
        );
        let parts = events
            .into_iter()
            .map(|event| String::from_utf8(state.take(Service::GitHub, event)).unwrap());
        let all: String = parts.collect();
        // Times differ from run to run.
        let lines = all.lines().map(|line| match line.split_once(" 0.") {
            Some((number, rest)) => format!("{number} TIME{}\n", &rest[3..]),
            None => format!("{line}\n"),
        });
        lines.collect()
    }

    fn started(step: usize) -> Event {
        Event::Started {
            step: StepRef(step),
        }
    }

    fn output(step: usize, text: &str) -> Event {
        Event::Output {
            step: StepRef(step),
            stream: Stream::Stdout,
            bytes: text.into(),
        }
    }

    fn finished(step: usize, outcome: Outcome) -> Event {
        Event::Finished {
            step: StepRef(step),
            outcome,
            duration: Duration::from_secs(1),
            key: None,
            trees: Vec::new(),
            layers: Vec::new(),
        }
    }

    #[test]
    fn steps_side_by_side_are_shown_one_after_the_other() {
        insta::assert_snapshot!(shown(vec![
            started(0),
            started(1),
            output(1, "a\r::set-env::y\n::set-env::x\n"),
            finished(2, Outcome::Cached),
            output(0, "::set-env::x\n"),
            finished(1, Outcome::Failed),
            finished(0, Outcome::Ran),
        ]), @r"
        ::group::#1 s[0] RUN 0
            more
        #1 TIME : :set-env::x
        ::endgroup::
        #1 DONE 1.0s
        ::group::#2 s[1] RUN 1
            more
        #2 TIME : :set-env::y
        #2 TIME : :set-env::x
        ::endgroup::
        #2 ERROR
        #3 s[2] RUN 2
            more
        #3 CACHED
        ");
    }

    #[test]
    fn remarks_can_not_be_broken_out_of() {
        assert_eq!(
            annotation("error", "a,b:c", 3, "50%\n::set-env::x"),
            "::error file=a%2Cb%3Ac,line=3::50%25%0A: :set-env::x"
        );
    }
}
