//! Progress in place: finished steps scroll by above; below, each running step with its time and the
//! last lines that it wrote, as many as the terminal has room for, transfers, and a line that sums up.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use console::{Term, style, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use kiln_engine::{Event, EventSink, Outcome, StepRef};

use super::last_lines::{LastLines, readable};

/// How many lines of a step's output are shown at most.
const MOST_LINES: usize = 4;
/// How often times move on.
const TICK: Duration = Duration::from_millis(100);

/// Draws on standard error.
pub(crate) struct Tty {
    screen: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: BTreeMap<StepRef, Named>,
    /// In the order they began; those that there is no room for have no bar.
    running: Vec<Running>,
    transfers: BTreeMap<String, ProgressBar>,
    /// The line that sums up, while something runs.
    footer: Option<ProgressBar>,
    done: usize,
    cached: usize,
}

struct Named {
    name: String,
    instruction: bool,
}

struct Running {
    step: StepRef,
    lines: LastLines,
    bar: Option<ProgressBar>,
}

/// How running steps are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    columns: usize,
    /// How many steps are shown.
    steps: usize,
    /// How many lines of output each has below it; none: it is on the step's own line.
    lines: usize,
}

impl Layout {
    fn of(rows: usize, columns: usize, running: usize, transfers: usize) -> Self {
        // One line sums up, one is the cursor's.
        let room = rows.saturating_sub(2 + transfers).max(1);
        let steps = running.min(room);
        let lines = (room / steps.max(1)).saturating_sub(1).min(MOST_LINES);
        Self {
            columns,
            steps,
            lines,
        }
    }

    fn style(self) -> ProgressStyle {
        match self.lines {
            0 => template(&format!(
                "{{spinner:.cyan}} {{prefix:{}!}}  {{wide_msg:.dim}} {{took:>7}}",
                self.name_width()
            )),
            _ => template(&format!(
                "{{spinner:.cyan}} {{prefix:{}!}} {{took:>7}}{{msg:.dim}}",
                self.name_width()
            )),
        }
    }

    /// The columns that a step's name may have.
    fn name_width(self) -> usize {
        match self.lines {
            0 => self.columns * 45 / 100,
            _ => self.columns.saturating_sub(11),
        }
    }

    fn message(self, lines: &LastLines) -> String {
        if self.lines == 0 {
            return lines.last(1).next().unwrap_or_default();
        }
        let width = self.columns.saturating_sub(5);
        let line = |line: String| format!("\n    {}", truncate_str(&line, width, "…"));
        lines.last(self.lines).map(line).collect()
    }
}

impl Tty {
    pub(crate) fn new() -> Self {
        Self {
            screen: MultiProgress::new(),
            state: Mutex::default(),
        }
    }

    fn start(&self, state: &mut State, step: StepRef) {
        state.running.push(Running {
            step,
            lines: LastLines::new(MOST_LINES),
            bar: None,
        });
        self.lay_out(state);
    }

    /// Gives bars to the steps that there is room for, and each the lines it may have.
    fn lay_out(&self, state: &mut State) {
        let layout = state.layout();
        self.sum_up(state);
        for running in state.running.iter_mut().take(layout.steps) {
            let bar = running.bar.get_or_insert_with(|| {
                let bar = self.screen.insert_from_back(1, ProgressBar::new_spinner());
                bar.enable_steady_tick(TICK);
                bar
            });
            let name = state.steps.get(&running.step).map(Named::line);
            let name = name.unwrap_or_default();
            bar.set_prefix(truncate_str(&name, layout.name_width(), "…").into_owned());
            bar.set_style(layout.style());
            bar.set_message(layout.message(&running.lines));
        }
    }

    fn sum_up(&self, state: &mut State) {
        if state.running.is_empty() && state.transfers.is_empty() {
            if let Some(footer) = state.footer.take() {
                footer.finish_and_clear();
            }
            return;
        }
        let text = format!(
            "{} of {} steps done, {} of them cached, {} running",
            state.done,
            state.authored(),
            state.cached,
            state.running.len()
        );
        let footer = state.footer.get_or_insert_with(|| {
            let footer = self.screen.add(ProgressBar::new_spinner());
            footer.set_style(template("{msg:.bold}"));
            footer
        });
        footer.set_message(text);
    }

    fn output(state: &mut State, step: StepRef, bytes: &[u8]) {
        let layout = state.layout();
        let running = state
            .running
            .iter_mut()
            .find(|running| running.step == step);
        let Some(running) = running else { return };
        running.lines.push(bytes);
        if let Some(bar) = &running.bar {
            bar.set_message(layout.message(&running.lines));
        }
    }

    fn finish(&self, state: &mut State, step: StepRef, outcome: Outcome, duration: Duration) {
        if let Some(at) = state
            .running
            .iter()
            .position(|running| running.step == step)
            && let Some(bar) = state.running.remove(at).bar
        {
            bar.finish_and_clear();
        }
        if let Some(named) = state.steps.get(&step) {
            if named.instruction {
                state.done += 1;
                state.cached += usize::from(outcome == Outcome::Cached);
            }
            if named.instruction || outcome != Outcome::Cached {
                let line = ended(&named.line(), outcome, duration, columns());
                _ = self.screen.println(line);
            }
        }
        self.lay_out(state);
    }

    fn transfer(&self, state: &mut State, name: &str, done: u64, total: Option<u64>, over: bool) {
        if over {
            if let Some(bar) = state.transfers.remove(name) {
                bar.finish_and_clear();
            }
            return self.lay_out(state);
        }
        if let Some(bar) = state.transfers.get(name) {
            return bar.set_position(done);
        }
        let bar = ProgressBar::new(total.unwrap_or(0));
        bar.set_style(template(&format!(
            "  {{prefix:{}!}} {{wide_bar:.cyan/dim}} {{bytes:>10}}/{{total_bytes:>10}} {{bytes_per_sec:>12}} {{eta:>4}}",
            columns() / 3
        )));
        bar.set_prefix(readable(&crate::terminal::told(name)));
        state.transfers.insert(name.to_owned(), bar.clone());
        self.sum_up(state);
        self.screen.insert_from_back(1, bar).set_position(done);
        self.lay_out(state);
    }
}

impl State {
    fn layout(&self) -> Layout {
        let (rows, columns) = Term::stderr().size();
        Layout::of(
            rows.into(),
            columns.into(),
            self.running.len(),
            self.transfers.len(),
        )
    }

    /// How many steps are the author's.
    fn authored(&self) -> usize {
        self.steps.values().filter(|step| step.instruction).count()
    }
}

impl Named {
    /// The name's first line.
    fn line(&self) -> String {
        let line = self.name.lines().next().unwrap_or_default();
        readable(line)
    }
}

fn columns() -> usize {
    Term::stderr().size().1.into()
}

/// How a step ended: its name, and at the right how long it took.
fn ended(name: &str, outcome: Outcome, duration: Duration, columns: usize) -> String {
    let (mark, end) = match outcome {
        Outcome::Cached => (style("=").cyan(), style("cached".to_owned()).cyan()),
        Outcome::Ran => {
            let took = format!("{:.1}s", duration.as_secs_f64());
            (style("✔").green(), style(took))
        }
        Outcome::Failed => (style("✘").red(), style("failed".to_owned()).red()),
        Outcome::Cancelled => (style("-").yellow(), style("stopped".to_owned()).yellow()),
    };
    let width = columns.saturating_sub(11);
    let name = truncate_str(name, width, "…");
    let (mark, end) = (mark.for_stderr(), end.for_stderr());
    format!("{mark} {name:<width$} {end:>7}")
}

fn template(text: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(text);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    style.with_key(
        "took",
        |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            _ = write!(out, "{:.1}s", state.elapsed().as_secs_f64());
        },
    )
}

impl EventSink for Tty {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { steps } => {
                let named = |step: kiln_engine::PlannedStep| {
                    let (name, instruction) = (step.name, step.instruction);
                    (step.step, Named { name, instruction })
                };
                state.steps = steps.into_iter().map(named).collect();
            }
            Event::Started { step } => self.start(&mut state, step),
            Event::Output { step, bytes, .. } => Self::output(&mut state, step, &bytes),
            Event::Finished {
                step,
                outcome,
                duration,
                ..
            } => self.finish(&mut state, step, outcome, duration),
            Event::Transfer {
                name,
                done,
                total,
                finished,
            } => self.transfer(&mut state, &name, done, total, finished),
            Event::Warning { message } => {
                let message = crate::terminal::told(&message);
                let line = format!("{} {message}", style("warning:").yellow().for_stderr());
                _ = self.screen.println(line);
            }
            _ => {}
        }
    }
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_the_lines_that_there_is_room_for() {
        let layout = |rows, running, transfers| {
            let layout = Layout::of(rows, 80, running, transfers);
            (layout.steps, layout.lines)
        };
        assert_eq!(layout(24, 1, 0), (1, 4));
        assert_eq!(layout(24, 6, 0), (6, 2));
        assert_eq!(layout(24, 12, 0), (12, 0));
        assert_eq!(layout(24, 30, 4), (18, 0));
        assert_eq!(layout(2, 3, 9), (1, 0));
    }

    #[test]
    fn times_stand_at_the_right() {
        let shown = |name: &str, outcome| {
            let line = ended(name, outcome, Duration::from_millis(2540), 30);
            console::strip_ansi_codes(&line).into_owned()
        };
        assert_eq!(
            shown("a[2] RUN x", Outcome::Ran),
            "✔ a[2] RUN x             2.5s"
        );
        assert_eq!(
            shown("a[2] RUN a long command", Outcome::Failed),
            "✘ a[2] RUN a long co…  failed"
        );
        assert_eq!(shown("a", Outcome::Cached), "= a                    cached");
    }
}
