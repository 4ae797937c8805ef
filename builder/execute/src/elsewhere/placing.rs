//! Where a step runs that can run in both places: where its inputs are cheapest, as long as there is
//! room for it. Pure.

/// The user wants steps to run elsewhere: for so many bytes, one isn't kept here.
const MARGIN: u64 = 32 << 20;
/// So many bytes more are moved rather than to wait for room in the cheaper place.
const DETOUR: u64 = 256 << 20;

/// Where a step can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// This machine.
    Here,
    /// Other machines.
    There,
}

/// How many bytes have to be moved before a step can run in either place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// For it to run on this machine.
    pub here: u64,
    /// For it to run elsewhere.
    pub there: u64,
}

/// How many steps run at once in either place; at least one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce {
    /// On this machine.
    pub here: usize,
    /// Elsewhere.
    pub there: usize,
}

/// Which places have room for one more step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) here: bool,
    pub(crate) there: bool,
}

impl Place {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Here => Self::There,
            Self::There => Self::Here,
        }
    }
}

impl Room {
    pub(crate) fn at(self, place: Place) -> bool {
        match place {
            Place::Here => self.here,
            Place::There => self.there,
        }
    }
}

impl Moves {
    /// Where the step's inputs are cheapest.
    pub(crate) fn cheapest(self) -> Place {
        match self.there > self.here.saturating_add(MARGIN) {
            true => Place::Here,
            false => Place::There,
        }
    }

    fn to(self, place: Place) -> u64 {
        match place {
            Place::Here => self.here,
            Place::There => self.there,
        }
    }

    /// Where the step is to be run now; nothing when it is better to wait.
    pub(crate) fn decide(self, room: Room) -> Option<Place> {
        let cheapest = self.cheapest();
        if room.at(cheapest) {
            return Some(cheapest);
        }
        let other = cheapest.other();
        let more = self.to(other).saturating_sub(self.to(cheapest));
        (room.at(other) && more <= DETOUR).then_some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::Place::{Here, There};
    use super::*;

    #[test]
    fn steps_run_where_their_inputs_are_as_long_as_there_is_room() {
        const MIB: u64 = 1 << 20;
        let (both, only_here, only_there, none) =
            ((true, true), (true, false), (false, true), (false, false));
        for (here, there, room, want) in [
            // As cheap in both places: elsewhere, as the user wants.
            (0, 0, both, Some(There)),
            (0, 0, only_here, Some(Here)),
            (0, 0, only_there, Some(There)),
            (0, 0, none, None),
            // What is here only is sent when it is small.
            (0, MIB, both, Some(There)),
            (0, 32 * MIB, both, Some(There)),
            (0, 33 * MIB, both, Some(Here)),
            (0, 33 * MIB, only_there, Some(There)),
            // Large inputs are waited for.
            (0, 256 * MIB, only_there, Some(There)),
            (0, 257 * MIB, only_there, None),
            (0, 257 * MIB, only_here, Some(Here)),
            // What is there only keeps its consumers there.
            (MIB, 0, both, Some(There)),
            (MIB, 0, only_here, Some(Here)),
            (300 * MIB, 0, only_here, None),
            (300 * MIB, 0, both, Some(There)),
            // Of what neither has, the same is moved to both.
            (300 * MIB, 300 * MIB, both, Some(There)),
            (300 * MIB, 300 * MIB, only_here, Some(Here)),
            (0, u64::MAX, both, Some(Here)),
            (u64::MAX, u64::MAX, only_here, Some(Here)),
        ] {
            let (moves, (free_here, free_there)) = (Moves { here, there }, room);
            let room = Room {
                here: free_here,
                there: free_there,
            };
            assert_eq!(moves.decide(room), want, "{moves:?}, {room:?}");
        }
    }
}
