//! When images and their layers were made. A step's time is kept with its result, here and on
//! remotes, so a build with nothing to do gives the same image again.

use std::collections::BTreeMap;

use kiln_graph::{Graph, HistoryLine, LayerOrigin, Op, StepId, Target};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A target whose image and lines of history have their times: those that they have already, else
/// `epoch` (seconds since 1970), else those of the steps' results, which `created` knows.
pub(crate) fn dated(
    graph: &Graph,
    created: &BTreeMap<StepId, u64>,
    mut target: Target,
    epoch: Option<i64>,
) -> Target {
    let known = |step: StepId| created.get(&step).copied();
    let step = |step: StepId| match epoch {
        Some(_) => None,
        None => created_in(graph, step, &known)
            .and_then(|time| i64::try_from(time).ok())
            .and_then(rfc3339),
    };
    if target.config.created.is_none() {
        target.config.created = epoch.and_then(rfc3339);
    }
    date(&mut target, &step);
    target
}

/// When a step's result was made, in seconds since 1970; of a step that only joins others' results,
/// the latest that it adds to the first of them.
fn created_in(graph: &Graph, step: StepId, known: &dyn Fn(StepId) -> Option<u64>) -> Option<u64> {
    if let Some(created) = known(step) {
        return Some(created);
    }
    match &graph.step(step).op {
        Op::Merge { layers } => {
            let base = usize::from(layers.len() > 1);
            let added = layers[base..].iter();
            let times = added.filter_map(|one| created_in(graph, graph.input(step, *one), known));
            times.max()
        }
        _ => None,
    }
}

/// Gives each line without a time its step's, else that of the line before it, else the first one
/// known; and the image, unless it has one, the latest of the lines that had none (its own), else
/// the last of its base's.
fn date(target: &mut Target, step: &dyn Fn(StepId) -> Option<String>) {
    let fixed = target.config.created.clone();
    let own = |line: &HistoryLine| match line.layer {
        LayerOrigin::Step(id) => step(id),
        LayerOrigin::Base | LayerOrigin::None => None,
    };
    let mut made: Vec<String> = Vec::new();
    for line in &mut target.history {
        if line.created.is_none() {
            line.created = fixed.clone().or_else(|| own(line));
            made.extend(line.created.clone());
        }
    }
    let known = |line: &HistoryLine| line.created.clone();
    let mut last = target.history.iter().find_map(known);
    for line in &mut target.history {
        match &line.created {
            Some(created) => last = Some(created.clone()),
            None => line.created.clone_from(&last),
        }
    }
    let latest = made
        .into_iter()
        .max_by_key(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
    target.config.created = fixed.or(latest).or(last);
}

fn rfc3339(seconds: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    time.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_graph::{ImageConfig, Platform, Step};

    const BASE: Option<&str> = Some("2024-01-01T00:00:00Z");

    /// What the lines and the image are given: times of lines, of their steps, and of the image.
    fn dated(lines: &[(Option<&str>, Option<i64>)], fixed: Option<&str>) -> Vec<Option<String>> {
        let platform = Platform::host();
        let mut graph = Graph::new();
        let mut steps = Vec::new();
        let mut history = Vec::new();
        for (at, (created, step)) in lines.iter().enumerate() {
            let node = Step::plain(&at.to_string(), Op::Scratch, platform.clone());
            let id = graph.add(node, Vec::new()).unwrap();
            steps.push((id, *step));
            history.push(HistoryLine {
                created_by: String::new(),
                comment: String::new(),
                author: String::new(),
                layer: match step {
                    Some(_) => LayerOrigin::Step(id),
                    None => LayerOrigin::None,
                },
                created: created.map(str::to_owned),
                layer_name: None,
            });
        }
        let mut config = ImageConfig::scratch(&platform);
        config.created = fixed.map(str::to_owned);
        let mut target = Target {
            platform,
            root: steps[0].0,
            config,
            history,
        };
        date(&mut target, &|id| {
            let found = steps.iter().find(|(step, _)| *step == id);
            found.and_then(|(_, time)| *time).and_then(rfc3339)
        });
        let lines = target.history.into_iter().map(|line| line.created);
        lines.chain([target.config.created]).collect()
    }

    #[test]
    fn times_are_those_of_steps() {
        let text = |seconds: i64| rfc3339(seconds);
        let base = || BASE.map(str::to_owned);
        let cases: [(&[_], _, Vec<Option<String>>); 6] = [
            // A line without a step has the time of the line before it.
            (
                &[(BASE, None), (None, Some(2_000_000_000)), (None, None)],
                None,
                vec![
                    base(),
                    text(2_000_000_000),
                    text(2_000_000_000),
                    text(2_000_000_000),
                ],
            ),
            // Nothing but metadata on a base: no newer than the base.
            (
                &[(BASE, None), (None, None)],
                None,
                vec![base(), base(), base()],
            ),
            // An earlier step that ran later makes the image as new as itself.
            (
                &[(None, Some(20)), (None, Some(10))],
                None,
                vec![text(20), text(10), text(20)],
            ),
            // The first line may speak of no step.
            (&[(None, None), (None, Some(10))], None, vec![text(10); 3]),
            (&[(None, None)], None, vec![None, None]),
            (
                &[(BASE, None), (None, Some(10)), (None, None)],
                Some("2020-01-01T00:00:00Z"),
                [base()]
                    .into_iter()
                    .chain(vec![Some("2020-01-01T00:00:00Z".to_owned()); 3])
                    .collect(),
            ),
        ];
        for (lines, fixed, want) in cases {
            assert_eq!(dated(lines, fixed), want, "{lines:?}");
        }
    }
}
