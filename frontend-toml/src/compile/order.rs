//! Steps after those they need. Generated files have chains of thousands of steps, which must not
//! become as many calls inside of each other.

use kiln_graph::Platform;

use super::compiler::{Compiler, Found, Key, Made, View};
use super::step::is_wanted;
use crate::error::Wrong;
use crate::model::Step;
use crate::text::{Name, Text};

/// A step that waits for those it needs.
struct Open<'a> {
    key: Key,
    own: &'a Name,
    step: &'a Step,
    view: View<'a>,
    /// What it names and hasn't been looked at, last first.
    asks: Vec<Text>,
}

impl<'a> Compiler<'a> {
    /// Compiles a step, and first all that it needs.
    pub(super) fn with_its_own(
        &mut self,
        name: String,
        found: Found<'a>,
        platform: &Platform,
    ) -> Result<Made, Wrong> {
        let first = (name, platform.clone(), platform.clone());
        if let Some(made) = self.done.get(&first) {
            return Ok(made.clone());
        }
        let mut open = vec![self.open(first, found)?];
        loop {
            if let Some(next) = self.next(&mut open)? {
                open.push(next);
                continue;
            }
            // All it needs is done, so what it names is found at once.
            let Some(ready) = open.pop() else {
                return Err(Wrong::whole("no step is left; this is a bug in kiln"));
            };
            let made = self.step(&ready.key.0, ready.own, ready.step, &ready.view)?;
            if open.is_empty() {
                self.done.insert(ready.key, made.clone());
                return Ok(made);
            }
            self.done.insert(ready.key, made);
        }
    }

    /// The next step that the innermost one waits for.
    fn next(&self, open: &mut [Open<'a>]) -> Result<Option<Open<'a>>, Wrong> {
        while let Some((asks, view)) = innermost(open) {
            let Some(asked) = asks.pop() else {
                return Ok(None);
            };
            let wanted = match view.fill(&asked) {
                // The step itself will wait.
                Err(wrong) if wrong.waits => continue,
                wanted => wanted?,
            };
            let Some(found) = self.step_of(&asked, &wanted)? else {
                continue;
            };
            let platform = view.platform.clone();
            let key = (wanted, platform.clone(), platform);
            if self.done.contains_key(&key) {
                continue;
            }
            if let Some(first) = open.iter().position(|open| open.key == key) {
                return Err(cycle(&open[first..], &asked, &key.0));
            }
            return self.open(key, found).map(Some);
        }
        Ok(None)
    }

    fn open(&self, key: Key, (own, step, chosen): Found<'a>) -> Result<Open<'a>, Wrong> {
        let mut view = self.view(&key.1);
        view.scope = view.scope.with_matrix(&chosen);
        let mut asks = match self.asks(step, &view) {
            Err(wrong) if wrong.waits => Vec::new(),
            asks => asks?,
        };
        asks.reverse();
        Ok(Open {
            key,
            own,
            step,
            view,
            asks,
        })
    }
}

impl Compiler<'_> {
    /// What a step names.
    fn asks(&self, step: &Step, view: &View<'_>) -> Result<Vec<Text>, Wrong> {
        let mut asks: Vec<Text> = step.from.iter().cloned().collect();
        if is_wanted(step, view)? {
            for other in &step.needs {
                asks.extend(self.variants(other, view)?);
            }
            asks.extend(step.copy.iter().filter_map(|copy| copy.from.clone()));
            asks.extend(step.binds.iter().map(|bind| bind.from.clone()));
        }
        Ok(asks)
    }
}

fn innermost<'o>(open: &'o mut [Open<'_>]) -> Option<(&'o mut Vec<Text>, &'o View<'o>)> {
    let last = open.last_mut()?;
    Some((&mut last.asks, &last.view))
}

/// How many steps of a cycle are shown.
const SHOWN: usize = 8;

fn cycle(open: &[Open<'_>], asked: &Text, name: &str) -> Wrong {
    let mut way: Vec<&str> = open.iter().map(|open| open.key.0.as_str()).collect();
    if way.len() > SHOWN {
        way.truncate(SHOWN);
        way.push("…");
    }
    way.push(name);
    let way = way.join(" needs ");
    let message = format!("a step cannot need itself: {way}; leave one of these out");
    Wrong::at(&asked.span, message)
}
