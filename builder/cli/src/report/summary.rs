//! What a build comes to: how long, how much of it was there already, and what it waited for.

use kiln_cache::{BuildRecord, BuiltStep, BuiltTransfer, StepOutcome};

use crate::human::format_size;

use crate::report::seconds;

/// How many parts of the critical path are named.
const NAMED: usize = 4;
/// How much of a step's name is shown, in characters.
const NAME_WIDTH: usize = 36;
/// A path shorter than this is not worth a line, in milliseconds.
const SHORT: u64 = 100;

/// The steps that no more processors would have made shorter: the longest chain, by time, of steps
/// that are made from each other, in their order.
pub(crate) fn critical_path(build: &BuildRecord) -> Vec<usize> {
    let mut longest: Vec<u64> = Vec::with_capacity(build.steps.len());
    let mut from: Vec<Option<usize>> = Vec::with_capacity(build.steps.len());
    for (place, step) in build.steps.iter().enumerate() {
        let before = step.inputs.iter().copied().filter(|input| *input < place);
        let before = before.max_by_key(|input| longest[*input]);
        longest.push(cost(step) + before.map_or(0, |input| longest[input]));
        from.push(before);
    }
    let mut at = (0..longest.len()).max_by_key(|place| longest[*place]);
    let mut path = Vec::new();
    while let Some(place) = at {
        if cost(&build.steps[place]) > 0 {
            path.push(place);
        }
        at = from[place];
    }
    path.reverse();
    path
}

/// What a step cost in this build, in milliseconds.
fn cost(step: &BuiltStep) -> u64 {
    match step.outcome {
        StepOutcome::Ran | StepOutcome::Failed => step.took,
        StepOutcome::Cached | StepOutcome::Cancelled | StepOutcome::Waiting => 0,
    }
}

/// The end of a build, for people.
pub(crate) fn text(build: &BuildRecord) -> String {
    let (cached, all) = build.cached();
    let end = if build.ok { "built in" } else { "failed after" };
    let took = seconds(build.took);
    let mut text = format!("{end} {took}: {cached} of {all} steps were cached");
    let legs = legs(build);
    let total: u64 = legs.iter().map(|leg| leg.took).sum();
    if total >= SHORT && legs.len() > 1 {
        text += &format!("\ncritical path {}: {}", seconds(total), named(&legs));
    }
    if let Some(moved) = moved(&build.transfers) {
        text += &format!("\ntransfers: {moved}");
    }
    text
}

/// What was pulled, unpacked, compressed, written and pushed, by the first word of the transfers'
/// names: how much, and how long at least one of them went on. Short ones are left out.
fn moved(transfers: &[BuiltTransfer]) -> Option<String> {
    let told = by_kind(transfers.iter())
        .into_iter()
        .filter_map(|(kind, own)| {
            let took = busy(&own);
            let bytes = own.iter().map(|transfer| transfer.bytes).sum();
            (took >= SHORT).then(|| format!("{kind} {} in {}", format_size(bytes), seconds(took)))
        });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// Transfers by the first word of their names, in the order in which these words come first.
fn by_kind<'a>(
    transfers: impl Iterator<Item = &'a BuiltTransfer>,
) -> Vec<(&'a str, Vec<&'a BuiltTransfer>)> {
    let mut kinds: Vec<(&str, Vec<&BuiltTransfer>)> = Vec::new();
    for transfer in transfers {
        let verb = transfer.name.split(' ').next().unwrap_or_default();
        match kinds.iter_mut().find(|(kind, _)| *kind == verb) {
            Some((_, own)) => own.push(transfer),
            None => kinds.push((verb, vec![transfer])),
        }
    }
    kinds
}

/// How long at least one of some transfers went on, in milliseconds.
fn busy(transfers: &[&BuiltTransfer]) -> u64 {
    covered(transfers.iter().map(|one| (one.began, one.took)))
}

/// A part of what a build took: a step, or transfers of one kind while no step of the path ran.
struct Leg<'a> {
    name: &'a str,
    /// In milliseconds.
    took: u64,
}

/// The critical path with the transfers before, between and after its steps.
fn legs(build: &BuildRecord) -> Vec<Leg<'_>> {
    let mut legs = Vec::new();
    let mut until = 0;
    for place in critical_path(build) {
        let step = &build.steps[place];
        legs.extend(moved_between(build, until, step.began));
        let (name, took) = (step.name.as_str(), cost(step));
        legs.push(Leg { name, took });
        until = step.began + took;
    }
    legs.extend(moved_between(build, until, u64::MAX));
    legs
}

/// The transfers between two moments, by kind in the order in which they began. What several do at once counts for
/// the first.
fn moved_between(build: &BuildRecord, from: u64, to: u64) -> Vec<Leg<'_>> {
    let clipped = |one: &BuiltTransfer| {
        let began = one.began.max(from);
        let ended = (one.began + one.took).min(to);
        (began, ended.saturating_sub(began))
    };
    let mut transfers: Vec<&BuiltTransfer> = build.transfers.iter().collect();
    transfers.sort_by_key(|one| one.began);
    let mut legs = Vec::new();
    let (mut spans, mut before) = (Vec::new(), 0);
    for (name, own) in by_kind(transfers.into_iter()) {
        spans.extend(own.into_iter().map(clipped));
        let all = covered(spans.iter().copied());
        legs.push(Leg {
            name,
            took: all - before,
        });
        before = all;
    }
    legs.retain(|leg| leg.took >= SHORT);
    legs
}

/// How long at least one of some spans went on; each begins somewhere and takes some time.
fn covered(spans: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut spans: Vec<(u64, u64)> = spans.map(|(began, took)| (began, began + took)).collect();
    spans.sort_unstable();
    let (mut total, mut until) = (0, 0);
    for (began, ended) in spans {
        total += ended.saturating_sub(began.max(until));
        until = until.max(ended);
    }
    total
}

/// The longest parts of a path, in its order.
fn named(legs: &[Leg<'_>]) -> String {
    let longest = legs.iter().map(|leg| leg.took).max().unwrap_or(0);
    let mut shown: Vec<usize> = (0..legs.len()).collect();
    shown.sort_by_key(|place| std::cmp::Reverse(legs[*place].took));
    shown.truncate(NAMED);
    shown.retain(|place| legs[*place].took * 20 >= longest);
    shown.sort_unstable();
    let one = |place: &usize| {
        let leg = &legs[*place];
        format!("{} {}", short(leg.name), seconds(leg.took))
    };
    shown.iter().map(one).collect::<Vec<_>>().join(" → ")
}

fn short(name: &str) -> String {
    let line = name.lines().next().unwrap_or_default();
    match line.char_indices().nth(NAME_WIDTH) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, took: u64, outcome: StepOutcome, inputs: &[usize]) -> BuiltStep {
        BuiltStep {
            name: name.to_owned(),
            location: None,
            instruction: true,
            inputs: inputs.to_vec(),
            outcome,
            key: None,
            trees: Vec::new(),
            layers: Vec::new(),
            began: 0,
            took,
            place: None,
            kept_here: None,
            queued: None,
            log: 0,
            cpu: 0,
            memory: 0,
        }
    }

    fn build(steps: Vec<BuiltStep>) -> BuildRecord {
        BuildRecord {
            id: "1".to_owned(),
            began: 0,
            took: 75_250,
            ok: true,
            error: None,
            subject: String::new(),
            title: String::new(),
            steps,
            transfers: Vec::new(),
            plan: serde_json::Value::Null,
        }
    }

    #[test]
    fn the_critical_path_is_the_longest_chain_of_what_ran() {
        let build = build(vec![
            step("a[1] FROM x", 9000, StepOutcome::Cached, &[]),
            step("a[2] RUN make", 5000, StepOutcome::Ran, &[0]),
            step("b[2] RUN fetch", 6000, StepOutcome::Ran, &[0]),
            step(
                "a[3] RUN check everything there is to be checked",
                2000,
                StepOutcome::Ran,
                &[1],
            ),
            step("a[4] COPY tiny", 1, StepOutcome::Ran, &[3, 2]),
        ]);
        assert_eq!(critical_path(&build), [1, 3, 4]);
        insta::assert_snapshot!(text(&build), @r"
        built in 1m 15s: 1 of 5 steps were cached
        critical path 7.0 s: a[2] RUN make 5.0 s → a[3] RUN check everything there is t… 2.0 s
        ");
    }

    #[test]
    fn transfers_side_by_side_count_once() {
        let transfer = |name: &str, began, took, bytes| BuiltTransfer {
            name: name.to_owned(),
            began,
            took,
            bytes,
        };
        let mut build = build(Vec::new());
        build.transfers = vec![
            transfer("pull a 1", 0, 1000, 3 << 20),
            transfer("pull a 2", 500, 1000, 1 << 20),
            transfer("unpack a 1", 2000, 300, 4 << 20),
            transfer("push b 1", 2400, 20, 100),
        ];
        insta::assert_snapshot!(text(&build), @r"
        built in 1m 15s: 0 of 0 steps were cached
        critical path 1.8 s: pull 1.5 s → unpack 300 ms
        transfers: pull 4.00 MiB in 1.5 s, unpack 4.00 MiB in 300 ms
        ");
        // What goes on beside a step of the path isn't waited for.
        let step = BuiltStep {
            began: 1000,
            ..step("a[1] RUN make", 1100, StepOutcome::Ran, &[])
        };
        build.steps = vec![step];
        let path = "critical path 2.3 s: pull 1.0 s → a[1] RUN make 1.1 s → unpack 200 ms";
        assert_eq!(text(&build).lines().nth(1), Some(path));
    }

    #[test]
    fn a_build_that_did_nothing_has_no_path() {
        let build = build(vec![step("a[1] RUN make", 3, StepOutcome::Cached, &[])]);
        assert_eq!(text(&build), "built in 1m 15s: 1 of 1 steps were cached");
    }
}
