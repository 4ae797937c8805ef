//! Progress in place: running steps with their time and last line, finished ones above them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kiln_engine::{Event, EventSink, Outcome, StepRef};

#[derive(Default)]
struct State {
    names: BTreeMap<StepRef, String>,
    instructions: BTreeMap<StepRef, bool>,
    bars: BTreeMap<StepRef, ProgressBar>,
    transfers: BTreeMap<String, ProgressBar>,
}

/// Draws on standard error.
pub(crate) struct Tty {
    screen: MultiProgress,
    state: Mutex<State>,
}

impl Tty {
    pub(crate) fn new() -> Self {
        Self {
            screen: MultiProgress::new(),
            state: Mutex::default(),
        }
    }

    fn start(&self, state: &mut State, step: StepRef) {
        let name = state.names.get(&step).cloned().unwrap_or_default();
        let bar = self.screen.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {prefix} {elapsed} {wide_msg:.dim}"));
        bar.set_prefix(first_line(&name));
        bar.enable_steady_tick(Duration::from_millis(100));
        state.bars.insert(step, bar);
    }

    fn finish(&self, state: &mut State, step: StepRef, outcome: Outcome, duration: Duration) {
        if let Some(bar) = state.bars.remove(&step) {
            bar.finish_and_clear();
        }
        let name = first_line(state.names.get(&step).map_or("", String::as_str));
        let is_instruction = state.instructions.get(&step).copied().unwrap_or(false);
        let line = match outcome {
            Outcome::Cached if !is_instruction => return,
            Outcome::Cached => format!("{} {name}", console::style("CACHED").cyan()),
            Outcome::Ran => format!(
                "{} {name} {:.1}s",
                console::style("✔").green(),
                duration.as_secs_f64()
            ),
            Outcome::Failed => format!("{} {name}", console::style("✘").red()),
            Outcome::Cancelled => format!("{} {name}", console::style("stopped").yellow()),
        };
        _ = self.screen.println(line);
    }

    fn transfer(
        &self,
        state: &mut State,
        name: &str,
        done: u64,
        total: Option<u64>,
        finished: bool,
    ) {
        if finished {
            if let Some(bar) = state.transfers.remove(name) {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = state.transfers.entry(name.to_owned()).or_insert_with(|| {
            let bar = self.screen.add(ProgressBar::new(total.unwrap_or(0)));
            bar.set_style(style(
                "  {prefix} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ));
            bar.set_prefix(name.to_owned());
            bar
        });
        bar.set_position(done);
    }
}

impl EventSink for Tty {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { steps } => {
                for step in steps {
                    state.instructions.insert(step.step, step.instruction);
                    state.names.insert(step.step, step.name);
                }
            }
            Event::Started { step } => self.start(&mut state, step),
            Event::Output { step, bytes, .. } => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let last = text.lines().rev().find(|line| !line.trim().is_empty());
                if let (Some(bar), Some(last)) = (state.bars.get(&step), last) {
                    bar.set_message(console::strip_ansi_codes(last).into_owned());
                }
            }
            Event::Finished {
                step,
                outcome,
                duration,
                ..
            } => {
                self.finish(&mut state, step, outcome, duration);
            }
            Event::Transfer {
                name,
                done,
                total,
                finished,
            } => {
                self.transfer(&mut state, &name, done, total, finished);
            }
            Event::Warning { message } => {
                _ = self
                    .screen
                    .println(format!("{} {message}", console::style("warning:").yellow()));
            }
            _ => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn first_line(name: &str) -> String {
    let line = name.lines().next().unwrap_or_default();
    line.chars().take(100).collect()
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
