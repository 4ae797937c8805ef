//! Tells of a transfer as it goes on, no more often than a display can show.

use std::io::{Error, Read, Result, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, EventSink};

/// Events of one transfer are this far apart.
const INTERVAL: Duration = Duration::from_millis(100);

/// One transfer: bytes fetched, unpacked, compressed, written or sent.
pub struct Meter<'a> {
    events: &'a dyn EventSink,
    name: String,
    total: Option<u64>,
    done: AtomicU64,
    told: Mutex<Instant>,
    stop: Box<dyn Fn() -> bool + Send + Sync + 'a>,
}

impl std::fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<'a> Meter<'a> {
    /// Begins a transfer; its name begins with what is done (`pull`, `unpack`, `compress`,
    /// `write`, `load`, `push`). `total` is in bytes.
    pub fn new(events: &'a dyn EventSink, name: impl Into<String>, total: Option<u64>) -> Self {
        let meter = Self {
            events,
            name: name.into(),
            total,
            done: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
            stop: Box::new(|| false),
        };
        meter.tell(0, false);
        meter
    }

    /// Ends the transfer with an error once `stop` says so.
    #[must_use]
    pub fn until(mut self, stop: impl Fn() -> bool + Send + Sync + 'a) -> Self {
        self.stop = Box::new(stop);
        self
    }

    /// Adds to the bytes that are done, unless the transfer is to end.
    ///
    /// # Errors
    /// When it is.
    pub fn advance(&self, bytes: u64) -> Result<()> {
        if (self.stop)() {
            return Err(Error::other("cancelled"));
        }
        self.add(bytes);
        Ok(())
    }

    /// Adds to the bytes that are done.
    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.tell_sometimes(done);
    }

    /// Sets the bytes that are done.
    pub fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.tell_sometimes(done);
    }

    /// A reader whose bytes count.
    pub fn reader<R>(&self, inner: R) -> Metered<'_, R> {
        Metered { meter: self, inner }
    }

    /// A writer whose bytes count.
    pub fn writer<W>(&self, inner: W) -> Metered<'_, W> {
        Metered { meter: self, inner }
    }

    fn tell_sometimes(&self, done: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= INTERVAL {
            *told = Instant::now();
            drop(told);
            self.tell(done, false);
        }
    }

    fn tell(&self, done: u64, finished: bool) {
        self.events.event(Event::Transfer {
            name: self.name.clone(),
            done,
            total: self.total,
            finished,
        });
    }
}

impl Drop for Meter<'_> {
    /// A transfer that fails ends, too.
    fn drop(&mut self) {
        self.tell(self.done.load(Ordering::Relaxed), true);
    }
}

/// A reader or writer whose bytes count.
#[derive(Debug)]
pub struct Metered<'a, T> {
    meter: &'a Meter<'a>,
    inner: T,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.advance(count as u64)?;
        Ok(count)
    }
}

impl<W: Write> Write for Metered<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.meter.advance(0)?;
        let count = self.inner.write(bytes)?;
        self.meter.add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_begins_and_ends_once_and_says_little_between() {
        let seen = Mutex::new(Vec::new());
        let sink = |event: Event| {
            if let Event::Transfer { done, finished, .. } = event {
                seen.lock().unwrap().push((done, finished));
            }
        };
        let meter = Meter::new(&sink, "write x", Some(3000));
        let mut out = meter.writer(std::io::sink());
        for _ in 0..1000 {
            out.write_all(b"abc").unwrap();
        }
        drop(meter);
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.first(), Some(&(0, false)));
        assert_eq!(seen.last(), Some(&(3000, true)));
        assert!(seen.len() < 20, "{seen:?}");
    }
}
