//! The history that fits a plan: one line for each instruction, a layer where a group ends.

use std::ops::Range;

use kiln_graph::{History, HistoryLine, LayerOrigin, Target};

use super::PlannedLayer;

/// One line for each instruction, and one more for each layer that no line speaks of. A group
/// of layers belongs to the line that its last one does. `count_of` says how many layers a line speaks
/// of.
pub(super) fn of(
    target: &Target,
    layers: usize,
    groups: &[Range<usize>],
    count_of: &dyn Fn(LayerOrigin) -> usize,
) -> Vec<History> {
    let spoken: usize = target.history.iter().map(|line| count_of(line.layer)).sum();
    let ends_in = |from: usize, to: usize| {
        let ends = groups
            .iter()
            .filter(|group| (from..to).contains(&(group.end - 1)));
        ends.count()
    };
    let unspoken = layers.saturating_sub(spoken);
    let mut history: Vec<History> = (0..ends_in(0, unspoken)).map(|_| unnamed()).collect();
    let mut told = unspoken;
    for line in &target.history {
        let next = told + count_of(line.layer);
        let count = ends_in(told, next);
        told = next;
        history.push(entry(line, count == 0));
        history.extend((1..count).map(|_| entry(line, false)));
    }
    history
}

/// Replaces the last layer's line with one for each part.
pub(super) fn add_parts(history: &mut Vec<History>, parts: &[PlannedLayer]) {
    if let Some(last) = history.iter_mut().rev().find(|line| !line.empty_layer) {
        last.empty_layer = true;
    }
    for part in parts {
        let name = match part {
            PlannedLayer::Part { name, .. } => name.as_str(),
            PlannedLayer::Stack { .. } => "joined",
        };
        history.push(History {
            created_by: format!("kiln: layer {name}"),
            ..History::default()
        });
    }
}

fn unnamed() -> History {
    History {
        created_by: "base".to_owned(),
        ..History::default()
    }
}

fn entry(line: &HistoryLine, empty_layer: bool) -> History {
    History {
        created: line.created.clone(),
        created_by: line.created_by.clone(),
        author: line.author.clone(),
        comment: line.comment.clone(),
        empty_layer,
    }
}
