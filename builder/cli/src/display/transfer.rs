//! Transfers as displays show them: bytes, rate, and time left.

use std::time::{Duration, Instant};

use crate::human::format_size;

/// A transfer that goes on.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) name: String,
    done: u64,
    total: Option<u64>,
    began: Instant,
}

/// The rate of a shorter transfer means nothing.
const NOTICEABLE: Duration = Duration::from_millis(100);
/// A shorter transfer than this is worth no line of its own, unless it crosses a network.
const SHORT: Duration = Duration::from_millis(500);

impl Transfer {
    pub(super) fn new(name: &str, done: u64, total: Option<u64>) -> Self {
        Self {
            name: name.to_owned(),
            done,
            total,
            began: Instant::now(),
        }
    }

    pub(super) fn set(&mut self, done: u64) {
        self.done = done;
    }

    /// Whether its end is worth a line.
    pub(super) fn is_told(&self) -> bool {
        let network = ["pull", "push", "load"];
        self.began.elapsed() >= SHORT || network.iter().any(|verb| self.name.starts_with(verb))
    }

    /// How far it is: `12 MiB of 30 MiB, 5 MiB/s, 4 s left`.
    pub(super) fn progress(&self) -> String {
        progress(self.done, self.total, self.began.elapsed())
    }

    /// How much of it is done, in percent.
    pub(super) fn share(&self) -> Option<u8> {
        let share = (self.done.min(self.total?) * 100).checked_div(self.total?)?;
        u8::try_from(share).ok()
    }

    /// What it came to: `30 MiB in 6.0 s, 5 MiB/s`.
    pub(super) fn outcome(&self) -> String {
        let took = self.began.elapsed();
        if took < NOTICEABLE {
            return format_size(self.done);
        }
        let seconds = took.as_secs_f64();
        format!(
            "{} in {seconds:.1} s{}",
            format_size(self.done),
            rate(self.done, took)
        )
    }
}

fn rate(bytes: u64, took: Duration) -> String {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match bytes.saturating_mul(1000).checked_div(millis) {
        Some(rate) if took >= NOTICEABLE => format!(", {}/s", format_size(rate)),
        _ => String::new(),
    }
}

fn progress(done: u64, total: Option<u64>, took: Duration) -> String {
    let of = total.map_or_else(String::new, |total| format!(" of {}", format_size(total)));
    let left = total.and_then(|total| {
        let rest = total.checked_sub(done)?;
        let seconds = u64::try_from(took.as_millis()).ok()?.checked_mul(rest)?;
        let seconds = seconds.checked_div(done)? / 1000;
        Some(format!(", {seconds} s left"))
    });
    format!(
        "{}{of}{}{}",
        format_size(done),
        rate(done, took),
        left.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_rate_and_time_left() {
        let second = Duration::from_secs(1);
        let mib = 1 << 20;
        let cases = [
            (
                progress(10 * mib, Some(30 * mib), second * 2),
                "10.00 MiB of 30.00 MiB, 5.00 MiB/s, 4 s left",
            ),
            (
                progress(0, Some(30 * mib), second),
                "0 B of 30.00 MiB, 0 B/s",
            ),
            (progress(mib, None, second), "1.00 MiB, 1.00 MiB/s"),
            (
                progress(mib, Some(mib), Duration::ZERO),
                "1.00 MiB of 1.00 MiB, 0 s left",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(text, want);
        }
    }
}
