//! Tells what becomes of an action while it runs: that it waits, where it runs, what its steps write.

use kiln_solve::{Event, EventSink, Job, StepRef};

use crate::chain::Chain;
use crate::live::{LiveReader, LiveRecord};
use crate::outputs::Given;

/// What a server tells of an action.
#[derive(Debug)]
pub(crate) enum Told {
    /// It waits for a worker.
    Queued,
    /// It runs; on which worker, where that is known.
    Runs(Given),
    /// It was begun anew: what it wrote before is written again.
    Again,
    /// More of its standard output.
    Output(Vec<u8>),
}

/// Tells a build's events of one action.
pub(crate) struct Watch<'a> {
    events: &'a dyn EventSink,
    /// What the cluster is called.
    server: String,
    /// The steps of the action.
    steps: Vec<StepRef>,
    /// The one that began last, as far as is known.
    current: usize,
    reader: LiveReader,
    /// How many bytes of each step's output were shown.
    shown: Vec<u64>,
    given: Option<Given>,
}

impl<'a> Watch<'a> {
    /// Of an action that runs a chain.
    pub(crate) fn new(job: &Job<'a>, chain: &Chain<'_>, server: String) -> Self {
        let steps: Vec<StepRef> = chain.steps().map(StepRef::from).collect();
        Self {
            events: job.events,
            server,
            shown: vec![0; steps.len()],
            steps,
            current: 0,
            reader: LiveReader::default(),
            given: None,
        }
    }

    /// How many bytes of each step's output were shown.
    pub(crate) fn into_shown(self) -> Vec<u64> {
        self.shown
    }

    /// Takes what a server tells.
    pub(crate) fn take(&mut self, told: Told) {
        match told {
            Told::Queued => self.queued(),
            Told::Runs(given) => self.runs(given),
            Told::Again => {
                self.current = 0;
                self.reader = LiveReader::default();
                self.shown.fill(0);
            }
            Told::Output(bytes) => {
                for record in self.reader.read(&bytes) {
                    self.output(record);
                }
            }
        }
    }

    fn queued(&self) {
        self.events.event(Event::Placed {
            step: self.steps[0],
            place: Some(self.server.clone()),
            reason: None,
            queued: None,
            waiting: true,
        });
    }

    fn runs(&mut self, given: Given) {
        if self
            .given
            .as_ref()
            .is_some_and(|known| known.worker == given.worker)
        {
            return;
        }
        self.events
            .event(placed(self.steps[0], &self.server, Some(&given)));
        self.given = Some(given);
    }

    fn output(&mut self, record: LiveRecord) {
        match record {
            LiveRecord::Begins(at) => self.begins(at),
            LiveRecord::Wrote(stream, bytes) => {
                let at = self.current;
                let (Some(step), Some(shown)) = (self.steps.get(at), self.shown.get_mut(at)) else {
                    return;
                };
                *shown += bytes.len() as u64;
                self.events.event(Event::Output {
                    step: *step,
                    stream,
                    bytes,
                });
            }
        }
    }

    /// The first step has begun for the solver, and steps may be run again.
    fn begins(&mut self, at: usize) {
        let Some(step) = self.steps.get(at) else {
            return;
        };
        self.shown[at] = 0;
        if at > self.current {
            self.events.event(Event::Started { step: *step });
            let given = self.given.as_ref();
            self.events.event(placed(*step, &self.server, given));
        }
        self.current = at;
    }
}

/// Where a step runs.
pub(crate) fn placed(step: StepRef, server: &str, given: Option<&Given>) -> Event {
    let worker = given.map(|given| given.worker.as_str());
    let place = match worker {
        Some(worker) if !worker.is_empty() => format!("{server} ({worker})"),
        _ => server.to_owned(),
    };
    Event::Placed {
        step,
        place: Some(place),
        reason: None,
        queued: given.and_then(|given| given.queued),
        waiting: false,
    }
}
