//! What the solver decides, with a machine that runs nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    reason = "these are tests"
)]

mod fake;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake::{Behaviour, Fake, FakeError, command, copy, step, tree};
use kiln_graph::{ContextSource, Graph, ImagePath, Input, Network, Op, Reuse, StepId};
use kiln_solve::{Edits, Fate, Filed, LayerRef, Outcome, SolveOptions, StepResult};
use proptest::prelude::*;

fn options() -> SolveOptions {
    SolveOptions {
        jobs: 4,
        ..SolveOptions::default()
    }
}

/// `base`, `left` and `right` built on it, and `top` built on `left` with `right` mounted.
struct Diamond {
    graph: Graph,
    base: StepId,
    left: StepId,
    right: StepId,
    top: StepId,
}

fn diamond() -> Diamond {
    let mut graph = Graph::new();
    let empty = graph.add(step("empty", Op::Scratch), Vec::new()).unwrap();
    let base = graph.add(command("base", 1), vec![empty]).unwrap();
    let left = graph.add(command("left", 1), vec![base]).unwrap();
    let right = graph.add(command("right", 1), vec![base]).unwrap();
    let top = graph.add(command("top", 2), vec![left, right]).unwrap();
    Diamond {
        graph,
        base,
        left,
        right,
        top,
    }
}

#[test]
fn what_is_needed_runs_once_after_its_inputs() {
    let it = diamond();
    let fake = Fake::default();
    let solution = fake.solve(&it.graph, &[it.top], &options()).unwrap();
    let order = fake.ran.lock().unwrap().clone();
    assert_eq!(
        (order.first().unwrap(), order.last().unwrap()),
        (&"base".to_owned(), &"top".to_owned())
    );
    assert_eq!(fake.took(), ["base", "left", "right", "top"]);
    let StepResult::Snapshot(snapshot) = &solution.results[&it.top] else {
        panic!("a command gives a root");
    };
    let stack = ["base", "left", "top"].map(|name| LayerRef::Tree(tree(name)));
    assert_eq!(snapshot.layers(), stack);
    // What nobody needs isn't run.
    let fake = Fake::default();
    fake.solve(&it.graph, &[it.left], &options()).unwrap();
    assert_eq!(fake.took(), ["base", "left"]);
}

#[test]
fn what_was_run_before_is_a_cache_hit() {
    let it = diamond();
    let fake = Fake::default();
    fake.solve(&it.graph, &[it.top], &options()).unwrap();
    assert_eq!(fake.outcome(it.top), Some(Outcome::Ran));
    fake.took();
    let again = fake.solve(&it.graph, &[it.top], &options()).unwrap();
    assert!(fake.took().is_empty());
    assert_eq!(fake.outcome(it.top), Some(Outcome::Cached));
    assert_eq!(again.keys.len(), 4);
    assert!(again.created[&it.top] > 0);
}

#[test]
fn a_step_that_gives_the_same_again_runs_nothing_after_it() {
    let it = diamond();
    let mut fake = Fake::default();
    fake.solve(&it.graph, &[it.top], &options()).unwrap();
    fake.took();
    let fresh = SolveOptions {
        fresh: BTreeSet::from([it.base]),
        ..options()
    };
    fake.solve(&it.graph, &[it.top], &fresh).unwrap();
    assert_eq!(fake.took(), ["base"]);
    // One that gives something else does.
    let other = Behaviour::Gives("something else");
    fake.behaviours.insert("left".to_owned(), other);
    let fresh = SolveOptions {
        fresh: BTreeSet::from([it.left]),
        ..options()
    };
    fake.solve(&it.graph, &[it.top], &fresh).unwrap();
    assert_eq!(fake.took(), ["left", "top"]);
}

#[test]
fn equal_steps_are_run_once() {
    let mut graph = Graph::new();
    let empty = graph.add(step("empty", Op::Scratch), Vec::new()).unwrap();
    let twins = [(); 5].map(|()| graph.add(command("same", 1), vec![empty]).unwrap());
    let fake = Fake::default();
    let solution = fake.solve(&graph, &twins, &options()).unwrap();
    assert_eq!(fake.took(), ["same"]);
    assert_eq!(solution.results.len(), 6);
    let ran = twins
        .iter()
        .filter(|twin| fake.outcome(**twin) == Some(Outcome::Ran));
    assert_eq!(ran.count(), 1);
}

#[test]
fn the_first_failure_stops_the_others() {
    let it = diamond();
    let fake = Fake::behaving(&[
        ("left", Behaviour::FailsBesideAnother),
        ("right", Behaviour::Hangs),
    ]);
    let failed = fake.solve(&it.graph, &[it.top], &options()).unwrap_err();
    assert_eq!(failed, FakeError::Failed("left".to_owned()));
    assert_eq!(fake.took(), ["base", "left", "right"]);
    assert_eq!(fake.outcome(it.left), Some(Outcome::Failed));
    assert_eq!(fake.outcome(it.right), Some(Outcome::Cancelled));
    assert_eq!(fake.outcome(it.top), None);
    // What was done is kept.
    let mended = Fake {
        stored: std::mem::take(&mut *fake.stored.lock().unwrap()).into(),
        ..Fake::default()
    };
    mended.solve(&it.graph, &[it.top], &options()).unwrap();
    assert_eq!(mended.took(), ["left", "right", "top"]);
}

#[test]
fn a_build_that_goes_on_names_all_failures() {
    let it = diamond();
    let fake = Fake::behaving(&[("left", Behaviour::Fails), ("right", Behaviour::Fails)]);
    let going_on = SolveOptions {
        keep_going: true,
        ..options()
    };
    let failed = fake.solve(&it.graph, &[it.top], &going_on).unwrap_err();
    let FakeError::Several(mut all) = failed else {
        panic!("both fail: {failed:?}");
    };
    all.sort_by_key(ToString::to_string);
    let each = ["left", "right"].map(|name| FakeError::Failed(name.to_owned()));
    assert_eq!(all, each);
    assert_eq!(fake.outcome(it.top), None);
}

#[test]
fn a_cancelled_build_begins_nothing() {
    let it = diamond();
    let fake = Fake::behaving(&[("base", Behaviour::Cancels)]);
    let failed = fake.solve(&it.graph, &[it.top], &options()).unwrap_err();
    assert_eq!(failed, FakeError::Cancelled);
    assert_eq!(fake.took(), ["base"]);
    assert_eq!(fake.outcome(it.base), Some(Outcome::Cancelled));
    // One that was cancelled before it began runs nothing at all.
    assert_eq!(
        fake.solve(&it.graph, &[it.top], &options()).unwrap_err(),
        FakeError::Cancelled
    );
    assert!(fake.took().is_empty());
}

#[test]
fn no_more_steps_run_at_once_than_the_user_wants() {
    for jobs in [1, 2, 3] {
        let mut graph = Graph::new();
        let empty = graph.add(step("empty", Op::Scratch), Vec::new()).unwrap();
        let add = |n: usize| graph.add(command(&n.to_string(), 1), vec![empty]).unwrap();
        let all: Vec<StepId> = (0..40).map(add).collect();
        let fake = Fake::default();
        let limited = SolveOptions { jobs, ..options() };
        fake.solve(&graph, &all, &limited).unwrap();
        assert_eq!(fake.took().len(), 40);
        assert!(fake.most.load(Ordering::SeqCst) <= jobs);
    }
}

/// A graph of one command that allows this use of stored results.
fn single(reuse: Reuse) -> (Graph, StepId) {
    let mut graph = Graph::new();
    let empty = graph.add(step("empty", Op::Scratch), Vec::new()).unwrap();
    let mut only = command("only", 1);
    only.reuse = reuse;
    let id = graph.add(only, vec![empty]).unwrap();
    (graph, id)
}

#[test]
fn the_author_and_the_user_say_which_results_may_be_used() {
    let hour = Duration::from_secs(3600);
    let cases = [
        (Reuse::Always, options(), true),
        (Reuse::Never, options(), false),
        (Reuse::Within(hour), options(), true),
        (
            Reuse::Always,
            SolveOptions {
                no_cache: true,
                ..options()
            },
            false,
        ),
        (
            Reuse::Never,
            SolveOptions {
                any_age: true,
                ..options()
            },
            true,
        ),
        (
            Reuse::Always,
            SolveOptions {
                any_age: true,
                no_cache: true,
                ..options()
            },
            true,
        ),
    ];
    for (reuse, wanted, is_hit) in cases {
        let (graph, id) = single(reuse);
        let fake = Fake::default();
        fake.solve(&graph, &[id], &options()).unwrap();
        fake.took();
        fake.solve(&graph, &[id], &wanted).unwrap();
        assert_eq!(fake.took().is_empty(), is_hit, "{reuse:?} {wanted:?}");
    }
    // A result that is older than the author allows.
    let (graph, id) = single(Reuse::Within(hour));
    let fake = Fake::default();
    fake.solve(&graph, &[id], &options()).unwrap();
    for filed in fake.stored.lock().unwrap().values_mut() {
        filed.created -= 2 * hour.as_secs();
    }
    fake.took();
    fake.solve(&graph, &[id], &options()).unwrap();
    assert_eq!(fake.took(), ["only"]);
}

#[test]
fn output_that_somebody_wants_must_be_known() {
    let (graph, id) = single(Reuse::Always);
    let fake = Fake::default();
    let silent = fake.solve(&graph, &[id], &options()).unwrap();
    assert!(silent.outputs.is_empty());
    let curious = SolveOptions {
        outputs: BTreeSet::from([id]),
        ..options()
    };
    for _ in 0..2 {
        let solution = fake.solve(&graph, &[id], &curious).unwrap();
        assert_eq!(solution.outputs[&id], "only says");
    }
    assert_eq!(
        fake.took(),
        ["only", "only"],
        "once without, once with its output"
    );
}

#[test]
fn results_of_others_are_taken_and_own_ones_offered() {
    let it = diamond();
    let theirs = Fake::default();
    let first = theirs.solve(&it.graph, &[it.top], &options()).unwrap();
    let mut offered = theirs.offered.lock().unwrap().clone();
    offered.sort();
    assert_eq!(offered, ["base", "left", "right", "top"]);
    let key = first.keys[&it.base];
    let base = theirs.stored.lock().unwrap()[&key].clone();
    let mut ours = Fake::default();
    ours.shared.insert(key, base);
    ours.solve(&it.graph, &[it.top], &options()).unwrap();
    assert_eq!(ours.took(), ["left", "right", "top"]);
    assert_eq!(ours.outcome(it.base), Some(Outcome::Cached));
    // Whoever wants no stored results wants none of others, either.
    let fresh = SolveOptions {
        no_cache: true,
        ..options()
    };
    ours.solve(&it.graph, &[it.top], &fresh).unwrap();
    assert_eq!(ours.took().len(), 4);
}

#[test]
fn a_step_with_another_network_is_another_step() {
    let of = |network: Network| {
        let mut graph = Graph::new();
        let empty = graph.add(step("empty", Op::Scratch), Vec::new()).unwrap();
        let mut only = command("only", 1);
        if let Op::Exec(exec) = &mut only.op {
            exec.network = network;
        }
        let only = graph.add(only, vec![empty]).unwrap();
        let after = graph.add(command("after", 1), vec![only]).unwrap();
        (graph, only, after)
    };
    let fake = Fake::default();
    let solve = |asked: Network, given: Network| {
        let (graph, only, after) = of(asked);
        let options = SolveOptions {
            network: given,
            ..options()
        };
        let solution = fake.solve(&graph, &[after], &options).unwrap();
        (solution.keys[&only], fake.took())
    };
    let (usual, none) = (Network::Default, Network::None);
    let (first, ran) = solve(usual, usual);
    assert_eq!(ran, ["after", "only"]);
    let (second, ran) = solve(usual, none);
    assert_ne!(first, second);
    assert_eq!(ran, ["after", "only"], "what follows has that network, too");
    assert_eq!(solve(none, none), (second, Vec::new()));
    assert_eq!(solve(Network::Sandbox, none), (second, Vec::new()));
    assert_eq!(
        solve(none, usual),
        (second, Vec::new()),
        "what follows is known with the usual network from the first time"
    );
}

#[test]
fn an_empty_change_leaves_what_follows_as_it_was() {
    let mut graph = Graph::new();
    let empty = graph.add(step("empty", Op::Scratch), Vec::new()).unwrap();
    let base = graph.add(command("base", 1), vec![empty]).unwrap();
    let nothing = graph.add(command("nothing", 1), vec![base]).unwrap();
    let after = graph.add(command("after", 1), vec![nothing]).unwrap();
    let straight = graph.add(command("after", 1), vec![base]).unwrap();
    let fake = Fake::default();
    fake.stored.lock().unwrap().clear();
    let first = fake.solve(&graph, &[nothing], &options()).unwrap();
    let key = first.keys[&nothing];
    let filed = Filed {
        added: vec![kiln_solve::empty_tree()],
        ..fake.stored.lock().unwrap()[&key].clone()
    };
    fake.stored.lock().unwrap().insert(key, filed);
    let both = fake.solve(&graph, &[after, straight], &options()).unwrap();
    assert_eq!(both.keys[&after], both.keys[&straight]);
}

/// A context, copies of two paths of it, and a command on the first with the second mounted.
fn of_context() -> (Graph, StepId, [StepId; 3]) {
    let mut graph = Graph::new();
    let context = ContextSource {
        name: "context".to_owned(),
        ignore: Vec::new(),
    };
    let context = graph
        .add(step("context", Op::Context(context)), Vec::new())
        .unwrap();
    let a = graph.add(copy("/a"), vec![context]).unwrap();
    let b = graph.add(copy("/b"), vec![context]).unwrap();
    let run = graph.add(command("run", 2), vec![a, b]).unwrap();
    (graph, run, [a, b, run])
}

#[test]
fn a_copy_depends_on_what_it_copies_only() {
    let (graph, run, _) = of_context();
    let mut fake = Fake {
        files: vec!["/a", "/b", "/c"],
        ..Fake::default()
    };
    fake.solve(&graph, &[run], &options()).unwrap();
    assert_eq!(fake.took(), ["copy /a", "copy /b", "run"]);
    fake.files = vec!["/a", "/b"];
    fake.solve(&graph, &[run], &options()).unwrap();
    assert!(fake.took().is_empty());
}

#[test]
fn forecasts_say_what_an_edit_would_run() {
    let (graph, run, steps) = of_context();
    let fake = Fake {
        files: vec!["/a", "/b", "/c"],
        ..Fake::default()
    };
    let fates = |edited: &[&str]| -> Vec<Fate> {
        let paths = edited.iter().map(ImagePath::new).collect();
        let edits = Edits::from([("context".to_owned(), paths)]);
        let forecast =
            fake.with_solver(&graph, &options(), |solver| solver.forecast(&[run], &edits));
        let forecast = forecast.unwrap();
        let fate = |id: &StepId| forecast.iter().find(|one| one.step == *id).unwrap().fate;
        steps.iter().map(fate).collect()
    };
    assert_eq!(fates(&["/a"]), [Fate::New, Fate::New, Fate::New]);
    fake.solve(&graph, &[run], &options()).unwrap();
    fake.took();
    assert_eq!(fates(&["/a"]), [Fate::Edited, Fate::Kept, Fate::After]);
    assert_eq!(fates(&["/b"]), [Fate::Kept, Fate::Edited, Fate::After]);
    assert_eq!(fates(&["/c"]), [Fate::Kept; 3]);
    assert!(fake.took().is_empty(), "a forecast runs nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the graph: each needed step runs once, after what it is made from; and not again.
    #[test]
    fn any_graph_is_solved_once(
        shape in prop::collection::vec(prop::collection::vec(0usize..100, 1..4), 1..40),
        target in 0usize..40,
    ) {
        let mut graph = Graph::new();
        let empty = graph.add(step("empty", Op::Scratch), Vec::new()).unwrap();
        let mut ids = vec![empty];
        for (number, inputs) in shape.iter().enumerate() {
            let inputs: Vec<StepId> = inputs.iter().map(|at| ids[at % ids.len()]).collect();
            let one = command(&number.to_string(), inputs.len());
            ids.push(graph.add(one, inputs).unwrap());
        }
        let target = ids[1 + target % shape.len()];
        let needed: BTreeSet<StepId> = graph.needed_for(&[target]).into_iter().collect();
        let fake = Fake::default();
        let solution = fake.solve(&graph, &[target], &options()).unwrap();
        prop_assert_eq!(solution.results.keys().copied().collect::<BTreeSet<_>>(), needed.clone());
        let order = fake.ran.lock().unwrap().clone();
        let at = |id: StepId| order.iter().position(|name| *name == graph.step(id).name.text);
        for id in needed.iter().filter(|id| **id != empty) {
            for input in graph.inputs(*id).iter().filter(|input| **input != empty) {
                prop_assert!(at(*input) < at(*id));
            }
        }
        prop_assert_eq!(order.len() + 1, needed.len());
        fake.took();
        fake.solve(&graph, &[target], &options()).unwrap();
        prop_assert!(fake.took().is_empty());
    }
}

#[test]
fn stacks_are_joined_without_running_anything() {
    let mut graph = Graph::new();
    let empty = graph.add(step("empty", Op::Scratch), Vec::new()).unwrap();
    let a = graph.add(command("a", 1), vec![empty]).unwrap();
    let b = graph.add(command("b", 1), vec![empty]).unwrap();
    let layers = vec![Input(0), Input(1)];
    let both = graph
        .add(step("both", Op::Merge { layers }), vec![a, b])
        .unwrap();
    let fake = Fake::default();
    let solution = fake.solve(&graph, &[both], &options()).unwrap();
    assert_eq!(fake.took(), ["a", "b"]);
    let StepResult::Snapshot(snapshot) = &solution.results[&both] else {
        panic!("a merge gives a root");
    };
    assert_eq!(
        snapshot.layers(),
        ["a", "b"].map(|name| LayerRef::Tree(tree(name)))
    );
}
