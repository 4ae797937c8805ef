//! Progress in place: finished steps scroll by above; below, transfers, each running step with its
//! time and the last lines that it wrote, as many as the terminal has room for, and a line that
//! sums up.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use console::{Alignment, Term, pad_str, style, truncate_str};
use kiln_engine::{Event, EventSink, Outcome, StepRef};

use super::last_lines::{LastLines, readable};
use super::placed::placed;
use super::screen::Screen;
use super::transfer::Transfer;
use crate::terminal::told;

/// How many lines of a step's output are shown at most.
const MAX_LINES: usize = 4;
/// How often times move on.
const TICK: Duration = Duration::from_millis(100);
/// How many transfers are shown at once.
const MAX_TRANSFERS: usize = 6;
/// The fewest columns that a transfer's name gets.
const MIN_NAME: usize = 12;
/// How much of a long name's end is shown.
const NAME_END: usize = 10;
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Draws on standard error.
pub(crate) struct Tty(Arc<Mutex<State>>);

/// The display that draws now, if any: what else is said goes above its lines.
static DRAWING: Mutex<Weak<Mutex<State>>> = Mutex::new(Weak::new());

/// Says something above the lines that are drawn; whether any are.
pub(super) fn print_above(text: &str) -> bool {
    let drawing = lock(&DRAWING).upgrade();
    let Some(state) = drawing else {
        return false;
    };
    let mut state = lock(&state);
    if state.is_idle() {
        return false;
    }
    state.screen.print(text);
    state.draw();
    true
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct State {
    steps: BTreeMap<StepRef, Named>,
    /// In the order they began.
    running: Vec<Running>,
    transfers: Vec<Transfer>,
    done: usize,
    cached: usize,
    screen: Screen,
    began: Instant,
    drawn: Option<Instant>,
}

struct Named {
    name: String,
    instruction: bool,
}

struct Running {
    step: StepRef,
    began: Instant,
    lines: LastLines,
    /// Where it runs, if it could run elsewhere.
    place: Option<String>,
}

/// How running steps are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    columns: usize,
    /// How many transfers are shown.
    transfers: usize,
    /// How many steps are shown.
    steps: usize,
    /// How many lines of output each has below it; none: it is on the step's own line.
    lines: usize,
}

impl Layout {
    fn of(rows: usize, columns: usize, running: usize, transfers: usize) -> Self {
        // One line sums up, one is the cursor's.
        let room = rows.saturating_sub(2).max(1);
        let transfers = transfers.min(MAX_TRANSFERS).min(room.saturating_sub(1));
        let room = room - transfers;
        let steps = running.min(room);
        let lines = (room / steps.max(1)).saturating_sub(1).min(MAX_LINES);
        Self {
            columns,
            transfers,
            steps,
            lines,
        }
    }
}

impl Tty {
    /// Starts to draw.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::new()));
        *lock(&DRAWING) = Arc::downgrade(&state);
        let weak = Arc::downgrade(&state);
        std::thread::spawn(move || while tick(&weak) {});
        Self(state)
    }
}

/// Moves times on; whether there still is a display.
fn tick(state: &Weak<Mutex<State>>) -> bool {
    std::thread::sleep(TICK);
    let Some(state) = state.upgrade() else {
        return false;
    };
    let mut state = lock(&state);
    if !state.is_idle() || state.screen.has_news() {
        state.draw();
    }
    true
}

impl Drop for Tty {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.running.clear();
        state.transfers.clear();
        state.draw();
    }
}

impl State {
    fn new() -> Self {
        Self {
            steps: BTreeMap::new(),
            running: Vec::new(),
            transfers: Vec::new(),
            done: 0,
            cached: 0,
            screen: Screen::default(),
            began: Instant::now(),
            drawn: None,
        }
    }

    /// Whether there is nothing to draw again and again.
    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.transfers.is_empty()
    }

    fn draw(&mut self) {
        let (rows, columns) = Term::stderr().size();
        let lines = self.lines(rows.into(), columns.into());
        let frame = self.screen.frame(&lines, columns.into());
        self.drawn = Some(Instant::now());
        if !frame.is_empty() {
            _ = std::io::stderr().lock().write_all(frame.as_bytes());
        }
    }

    /// Draws, unless it was drawn a moment ago and will be soon.
    fn draw_soon(&mut self) {
        let is_recent = self.drawn.is_some_and(|drawn| drawn.elapsed() < TICK / 2);
        if self.is_idle() || !is_recent {
            self.draw();
        }
    }

    /// The lines below what scrolls by.
    fn lines(&self, rows: usize, columns: usize) -> Vec<String> {
        if self.is_idle() {
            return Vec::new();
        }
        let layout = Layout::of(rows, columns, self.running.len(), self.transfers.len());
        let spinner = self.began.elapsed().as_millis() / TICK.as_millis();
        let spinner = SPINNER[usize::try_from(spinner).unwrap_or(0) % SPINNER.len()];
        let transfers = self.transfers.iter().take(layout.transfers);
        let mut lines: Vec<String> = transfers
            .map(|transfer| transfer_line(transfer, columns))
            .collect();
        for running in self.running.iter().take(layout.steps) {
            let name = self.steps.get(&running.step).map(Named::line);
            let mut name = name.unwrap_or_default();
            if let Some(place) = &running.place {
                name.push_str(&format!(" [{}]", told(place)));
            }
            lines.extend(running.drawn(layout, spinner, &name));
        }
        lines.push(
            style(fitted(&self.sum(), columns))
                .bold()
                .for_stderr()
                .to_string(),
        );
        lines
    }

    fn sum(&self) -> String {
        format!(
            "{} of {} steps done, {} of them cached, {} running",
            self.done,
            self.authored(),
            self.cached,
            self.running.len()
        )
    }

    fn output(&mut self, step: StepRef, bytes: &[u8]) {
        let mut running = self.running.iter_mut();
        if let Some(running) = running.find(|running| running.step == step) {
            running.lines.push(bytes);
        }
    }

    fn finish(&mut self, step: StepRef, outcome: Outcome, duration: Duration) {
        self.running.retain(|running| running.step != step);
        let Some(named) = self.steps.get(&step) else {
            return;
        };
        if named.instruction {
            self.done += 1;
            self.cached += usize::from(outcome == Outcome::Cached);
        }
        if named.instruction || outcome != Outcome::Cached {
            let columns = Term::stderr().size().1.into();
            let line = ended(&named.line(), outcome, duration, columns);
            self.screen.print(&line);
        }
    }

    fn transfer(&mut self, name: &str, done: u64, total: Option<u64>, over: bool) {
        let at = self.transfers.iter().position(|one| one.name == name);
        match at {
            Some(at) if over => _ = self.transfers.remove(at),
            Some(at) => self.transfers[at].set(done),
            None if over => {}
            None => self.transfers.push(Transfer::new(name, done, total)),
        }
    }

    /// How many steps are the author's.
    fn authored(&self) -> usize {
        self.steps.values().filter(|step| step.instruction).count()
    }

    /// A step that ran along with one before it begins twice.
    fn begin(&mut self, step: StepRef) {
        if self.running.iter().all(|running| running.step != step) {
            self.running.push(Running {
                step,
                began: Instant::now(),
                lines: LastLines::new(MAX_LINES),
                place: None,
            });
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Planned { steps } => {
                let named = |step: kiln_engine::PlannedStep| {
                    let (name, instruction) = (step.name, step.instruction);
                    (step.step, Named { name, instruction })
                };
                self.steps = steps.into_iter().map(named).collect();
            }
            Event::Started { step } => self.begin(step),
            Event::Placed {
                step,
                place,
                reason,
                queued,
                waiting,
            } => {
                let text = placed(place.as_deref(), reason.as_deref(), queued, waiting);
                let mut running = self.running.iter_mut();
                if let Some(running) = running.find(|running| running.step == step) {
                    running.place = Some(text);
                }
            }
            Event::Output { step, bytes, .. } => self.output(step, &bytes),
            Event::Finished {
                step,
                outcome,
                duration,
                ..
            } => self.finish(step, outcome, duration),
            Event::Transfer {
                name,
                done,
                total,
                finished,
            } => self.transfer(&name, done, total, finished),
            Event::Warning { message } => {
                let message = told(&message);
                let line = format!("{} {message}", style("warning:").yellow().for_stderr());
                self.screen.print(&line);
            }
            _ => {}
        }
    }
}

impl Running {
    /// A running step: its name, its time at the right, its last lines below.
    fn drawn(&self, layout: Layout, spinner: &str, name: &str) -> Vec<String> {
        let took = format!("{:.1}s", self.began.elapsed().as_secs_f64());
        let spinner = style(spinner).cyan().for_stderr();
        if layout.lines == 0 {
            let width = layout.columns * 45 / 100;
            let rest = layout.columns.saturating_sub(width + 13);
            let last = self.lines.last(1).next().unwrap_or_default();
            let last = style(fitted(&last, rest)).dim().for_stderr();
            return vec![format!(
                "{spinner} {}  {last} {took:>7}",
                fitted(name, width)
            )];
        }
        let width = layout.columns.saturating_sub(11);
        let mut lines = vec![format!("{spinner} {} {took:>7}", fitted(name, width))];
        for line in self.lines.last(layout.lines) {
            let line = truncate_str(&line, layout.columns.saturating_sub(5), "…");
            lines.push(format!("    {}", style(line).dim().for_stderr()));
        }
        lines
    }
}

/// A transfer: its name, a bar when its length is known, and how far it is.
fn transfer_line(transfer: &Transfer, columns: usize) -> String {
    let text = transfer.progress();
    let text = match text.split_once(", ") {
        Some((bytes, _)) if text.len() + MIN_NAME + 6 > columns => bytes.to_owned(),
        _ => text,
    };
    let rest = columns.saturating_sub(console::measure_text_width(&text) + 6);
    let width = (columns * 2 / 5).min(rest.max(MIN_NAME));
    let name = fitted(&shortened(&readable(&told(&transfer.name)), width), width);
    let room = columns.saturating_sub(width + console::measure_text_width(&text) + 6);
    let bar = match transfer.share() {
        Some(share) if room >= 8 => {
            let full = usize::from(share) * room / 100;
            let (full, empty) = ("━".repeat(full), "─".repeat(room - full));
            format!(
                "{}{}",
                style(full).cyan().for_stderr(),
                style(empty).dim().for_stderr()
            )
        }
        _ => " ".repeat(room),
    };
    truncate_str(
        &format!("  {name} {bar} {text}"),
        columns.saturating_sub(1),
        "…",
    )
    .into_owned()
}

/// A name without its middle where it is too long: transfers differ at their ends.
fn shortened(name: &str, columns: usize) -> String {
    let end = NAME_END.min(columns / 2);
    let count = name.chars().count();
    if count <= columns || columns < 2 {
        return name.to_owned();
    }
    let head: String = name.chars().take(columns - end - 1).collect();
    let tail: String = name.chars().skip(count - end).collect();
    format!("{head}…{tail}")
}

/// A text of exactly so many columns.
fn fitted(text: &str, columns: usize) -> String {
    pad_str(text, columns, Alignment::Left, Some("…")).into_owned()
}

impl Named {
    /// The name's first line.
    fn line(&self) -> String {
        let line = self.name.lines().next().unwrap_or_default();
        readable(&told(line))
    }
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
    let name = fitted(name, columns.saturating_sub(11));
    let (mark, end) = (mark.for_stderr(), end.for_stderr());
    format!("{mark} {name} {end:>7}")
}

impl EventSink for Tty {
    fn event(&self, event: Event) {
        let mut state = lock(&self.0);
        let was_idle = state.is_idle();
        state.take(event);
        if state.screen.has_news() || was_idle != state.is_idle() {
            state.draw_soon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_engine::{PlannedStep, Stream};

    #[test]
    fn transfers_differ_on_narrow_terminals_and_show_their_time() {
        let name = |digest: &str| format!("pull registry.example/team/app:1 {digest}");
        for columns in [40, 80] {
            let line = |digest: &str| {
                let transfer = Transfer::new(&name(digest), 3 << 20, Some(9 << 20));
                console::strip_ansi_codes(&transfer_line(&transfer, columns)).into_owned()
            };
            let (one, two) = (line("0123456789ab"), line("ba9876543210"));
            assert!(
                one.contains("56789ab") && two.contains("6543210"),
                "{one}\n{two}"
            );
            assert!(one.contains("3.00 MiB of 9.00 MiB"), "{one}");
            assert!(
                !one.contains('…') || one.find('…') < one.find("MiB"),
                "{one}"
            );
            assert!(console::measure_text_width(&one) < columns, "{one}");
        }
    }

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
        for name in ["日本語", "日本語の長い行がここにある", "e\u{301}"] {
            let line = shown(name, Outcome::Ran);
            assert_eq!(console::measure_text_width(&line), 29, "{line}");
        }
    }

    /// A build in the middle of things: what is drawn at a size.
    fn drawn(rows: u16, columns: u16) -> String {
        let mut state = State::new();
        let step = |n: usize| PlannedStep {
            step: StepRef(n),
            name: format!("stage-{n}[2] RUN make 日本語 --with-a-long-list-of-flags number {n}"),
            location: None,
            inputs: Vec::new(),
            instruction: true,
        };
        state.take(Event::Planned {
            steps: (0..3).map(step).collect(),
        });
        for n in 0..3 {
            state.take(Event::Started { step: StepRef(n) });
        }
        state.take(Event::Output {
            step: StepRef(1),
            stream: Stream::Stdout,
            bytes: "compiling 日本語\n".repeat(9).into(),
        });
        state.take(Event::Transfer {
            name: "pull r.example/base:1 0123456789ab".to_owned(),
            done: 1 << 20,
            total: Some(4 << 20),
            finished: false,
        });
        let line = ended(
            "stage-9[1] 日本語",
            Outcome::Cached,
            Duration::ZERO,
            columns.into(),
        );
        state.screen.print(&line);
        let mut terminal = vt100::Parser::new(rows, columns, 0);
        // Frames before must leave nothing behind.
        for _ in 0..3 {
            let lines = state.lines(rows.into(), columns.into());
            let frame = state.screen.frame(&lines, columns.into());
            terminal.process(frame.replace('\n', "\r\n").as_bytes());
        }
        terminal.screen().contents()
    }

    #[test]
    fn screens_of_several_sizes_show_every_line_once() {
        for (rows, columns) in [(24, 80), (40, 120), (50, 200), (10, 40)] {
            let shown = drawn(rows, columns);
            for n in 0..3 {
                let name = format!("stage-{n}[2] RUN make");
                assert_eq!(shown.matches(&name).count(), 1, "{rows}x{columns}\n{shown}");
            }
            assert_eq!(shown.matches("= stage-9[1]").count(), 1, "{shown}");
            assert_eq!(shown.matches("0 of 3 steps done").count(), 1, "{shown}");
            assert_eq!(shown.matches("pull").count(), 1, "{shown}");
            let most = usize::from(columns);
            for line in shown.lines() {
                assert!(console::measure_text_width(line) <= most, "{line}");
            }
        }
    }
}
