//! Room for steps that run at once: here, and elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiln_solve::Cancel;

use super::placing::{AtOnce, Place, Room};

/// So many steps may wait for a worker before others run here: enough to keep workers busy, few enough
/// for this machine to have something to do when there are too few workers.
const MAX_QUEUED: usize = 8;
/// How soon a step that waits notices that it was cancelled.
const INTERVAL: Duration = Duration::from_millis(100);

/// All places for steps.
#[derive(Debug)]
pub(crate) struct Places {
    all: AtOnce,
    taken: Mutex<Taken>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    here: usize,
    there: usize,
    /// Of those elsewhere, how many no worker has taken yet.
    queued: usize,
}

/// One of them, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Taker {
    places: Arc<Places>,
    place: Place,
    queued: AtomicBool,
}

impl Places {
    /// Places for so many steps.
    pub(crate) fn new(all: AtOnce) -> Arc<Self> {
        let all = AtOnce {
            here: all.here.max(1),
            there: all.there.max(1),
        };
        Arc::new(Self {
            all,
            taken: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.here + self.all.there
    }

    /// Waits until `wanted` chooses a place that there is; nothing when the step is cancelled.
    pub(crate) fn take(
        self: &Arc<Self>,
        wanted: impl Fn(Room) -> Option<Place>,
        cancel: &Cancel,
    ) -> Option<Taker> {
        let mut taken = self.lock();
        while !cancel.is_cancelled() {
            let room = self.room(&taken);
            if let Some(place) = wanted(room).filter(|place| room.at(*place)) {
                return Some(self.give(&mut taken, place));
            }
            let waited = self.changed.wait_timeout(taken, INTERVAL);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// A place, where there is one now.
    pub(crate) fn take_now(self: &Arc<Self>, place: Place) -> Option<Taker> {
        let mut taken = self.lock();
        let is_free = self.room(&taken).at(place);
        is_free.then(|| self.give(&mut taken, place))
    }

    fn give(self: &Arc<Self>, taken: &mut Taken, place: Place) -> Taker {
        match place {
            Place::Here => taken.here += 1,
            Place::There => {
                taken.there += 1;
                taken.queued += 1;
            }
        }
        Taker {
            places: self.clone(),
            place,
            queued: AtomicBool::new(place == Place::There),
        }
    }

    fn room(&self, taken: &Taken) -> Room {
        Room {
            here: taken.here < self.all.here,
            there: taken.there < self.all.there && taken.queued < MAX_QUEUED,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taker {
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// A worker has taken the step.
    pub(crate) fn runs(&self) {
        if self.queued.swap(false, Ordering::SeqCst) {
            self.places.lock().queued -= 1;
            self.places.changed.notify_all();
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.runs();
        let mut taken = self.places.lock();
        match self.place {
            Place::Here => taken.here -= 1,
            Place::There => taken.there -= 1,
        }
        drop(taken);
        self.places.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(here: usize, there: usize) -> Arc<Places> {
        Places::new(AtOnce { here, there })
    }

    #[test]
    fn places_are_given_as_long_as_there_are_any() {
        let places = places(1, 2);
        let now = |place| places.take_now(place);
        let here = now(Place::Here).unwrap();
        assert!(now(Place::Here).is_none());
        let there = [now(Place::There).unwrap(), now(Place::There).unwrap()];
        assert!(now(Place::There).is_none());
        drop((here, there));
        let wanted = |room: Room| room.there.then_some(Place::There);
        let taken = places.take(wanted, &Cancel::new()).unwrap();
        assert_eq!(taken.place(), Place::There);
        assert!(now(Place::Here).is_some());
    }

    #[test]
    fn a_cluster_that_has_no_worker_for_many_is_full() {
        let places = places(1, 100);
        let now = || places.take_now(Place::There);
        let queued: Vec<_> = std::iter::from_fn(now).collect();
        assert_eq!(queued.len(), MAX_QUEUED);
        queued[0].runs();
        queued[0].runs();
        let next = now().unwrap();
        assert!(now().is_none());
        drop(queued);
        drop(next);
        let queued: Vec<_> = std::iter::from_fn(now).collect();
        assert_eq!(queued.len(), MAX_QUEUED);
    }

    #[test]
    fn who_waits_is_woken_by_a_place_or_cancelled() {
        let places = places(1, 1);
        let held = places.take_now(Place::Here).unwrap();
        let wanted = |room: Room| room.here.then_some(Place::Here);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| places.take(wanted, &Cancel::new()).is_some());
            std::thread::sleep(Duration::from_millis(20));
            drop(held);
            assert!(waiting.join().unwrap());
        });
        let _held = places.take_now(Place::Here).unwrap();
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(places.take(wanted, &cancel).is_none());
    }
}
