//! What is heard of a step that runs in two places: one of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_solve::{Event, EventSink, StepRef};

use super::places::Taker;
use super::placing::Place;

/// More output than this isn't kept until it is known who wins, in bytes.
const MAX_WITHHELD: usize = 16 << 20;

/// The events of one run of a step.
pub(crate) struct Voice<'a> {
    to: &'a dyn EventSink,
    step: StepRef,
    /// Where it runs; is told when a worker takes the step.
    taker: Taker,
    state: Mutex<State>,
}

struct State {
    speech: Speech,
    /// How many bytes of the step's output were told.
    shown: usize,
    /// Whether a step after it has begun in the same run.
    went_on: bool,
}

enum Speech {
    Told,
    Withheld { events: Vec<Event>, bytes: usize },
    Dropped,
}

impl<'a> Voice<'a> {
    /// One whose events are told as they come.
    pub(crate) fn new(to: &'a dyn EventSink, step: StepRef, taker: Taker) -> Self {
        let state = State {
            speech: Speech::Told,
            shown: 0,
            went_on: false,
        };
        Self {
            to,
            step,
            taker,
            state: Mutex::new(state),
        }
    }

    /// One whose events are kept until it is told to speak.
    pub(crate) fn withheld(to: &'a dyn EventSink, step: StepRef, taker: Taker) -> Self {
        let voice = Self::new(to, step, taker);
        voice.lock().speech = Speech::Withheld {
            events: Vec::new(),
            bytes: 0,
        };
        voice
    }

    pub(crate) fn place(&self) -> Place {
        self.taker.place()
    }

    /// Nothing is told of this run any more. How many bytes of output were.
    pub(crate) fn silence(&self) -> usize {
        let mut state = self.lock();
        state.speech = Speech::Dropped;
        state.shown
    }

    /// Tells what was kept, and from now on all, but for the first bytes of output, which were told by
    /// another run.
    pub(crate) fn speak(&self, mut shown: usize) {
        let mut state = self.lock();
        let Speech::Withheld { events, .. } = std::mem::replace(&mut state.speech, Speech::Told)
        else {
            return;
        };
        for event in events {
            match event {
                Event::Output {
                    step,
                    stream,
                    mut bytes,
                } => {
                    let seen = shown.min(bytes.len());
                    shown -= seen;
                    let bytes = bytes.split_off(seen);
                    if !bytes.is_empty() {
                        self.to.event(Event::Output {
                            step,
                            stream,
                            bytes,
                        });
                    }
                }
                other => self.to.event(other),
            }
        }
    }

    /// Whether a step after it has begun in the same run.
    pub(crate) fn went_on(&self) -> bool {
        self.lock().went_on
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The step that an event is about.
fn subject(event: &Event) -> Option<StepRef> {
    match event {
        Event::Started { step }
        | Event::Output { step, .. }
        | Event::Used { step, .. }
        | Event::Placed { step, .. } => Some(*step),
        _ => None,
    }
}

impl EventSink for Voice<'_> {
    fn event(&self, event: Event) {
        let Some(step) = subject(&event) else {
            return self.to.event(event);
        };
        if let Event::Placed { waiting: false, .. } = event {
            self.taker.runs();
        }
        let mut state = self.lock();
        state.went_on |= step != self.step;
        let length = match &event {
            Event::Output { step, bytes, .. } if *step == self.step => bytes.len(),
            _ => 0,
        };
        match &mut state.speech {
            Speech::Told => {
                state.shown += length;
                self.to.event(event);
            }
            Speech::Withheld { events, bytes } if *bytes + length <= MAX_WITHHELD => {
                *bytes += length;
                events.push(event);
            }
            Speech::Withheld { .. } | Speech::Dropped => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elsewhere::AtOnce;
    use crate::elsewhere::places::Places;
    use kiln_solve::Stream;

    fn output(step: usize, text: &str) -> Event {
        Event::Output {
            step: StepRef(step),
            stream: Stream::Stdout,
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_second_run_is_heard_from_where_the_first_was_silenced() {
        let heard = Mutex::new(String::new());
        let sink = |event: Event| {
            if let Event::Output { bytes, .. } = event {
                heard
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes));
            }
        };
        let places = Places::new(AtOnce { here: 1, there: 1 });
        let [there, here] =
            [Place::There, Place::Here].map(|place| places.take_now(place).unwrap());
        let first = Voice::new(&sink, StepRef(1), there);
        let second = Voice::withheld(&sink, StepRef(1), here);
        first.event(output(1, "abc"));
        second.event(output(1, "ab"));
        second.event(output(1, "cde"));
        second.speak(first.silence());
        first.event(output(1, "x"));
        second.event(output(1, "f"));
        assert_eq!(*heard.lock().unwrap(), "abcdef");
        assert!(!second.went_on());
        second.event(Event::Started { step: StepRef(2) });
        assert!(second.went_on());
    }
}
