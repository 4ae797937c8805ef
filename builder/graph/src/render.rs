//! Prints a graph: text for people, JSON for programs, DOT and Mermaid for drawings.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{DefinitionDigest, Graph, Step, StepId};

/// How a graph is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line a step.
    Text,
    /// `{"version":1,"steps":[…]}`.
    Json,
    /// Graphviz.
    Dot,
    /// A Mermaid flow chart.
    Mermaid,
}

/// Version of the JSON form.
const JSON_VERSION: u32 = 1;

#[derive(Serialize)]
struct JsonGraph<'a> {
    version: u32,
    steps: Vec<JsonStep<'a>>,
}

#[derive(Serialize)]
struct JsonStep<'a> {
    id: usize,
    definition: DefinitionDigest,
    inputs: Vec<usize>,
    #[serde(flatten)]
    step: &'a Step,
}

impl Graph {
    /// Prints the given steps, which are in an order they can run in (see
    /// [`Graph::needed_for`]).
    #[must_use]
    pub fn render(&self, steps: &[StepId], format: Format) -> String {
        match format {
            Format::Text => self.render_text(steps),
            Format::Json => self.render_json(steps),
            Format::Dot => self.render_dot(steps),
            Format::Mermaid => self.render_mermaid(steps),
        }
    }

    fn render_text(&self, steps: &[StepId]) -> String {
        let mut text = String::new();
        for id in steps {
            let inputs: Vec<String> = self
                .inputs(*id)
                .iter()
                .map(|i| i.index().to_string())
                .collect();
            let from = if inputs.is_empty() {
                String::new()
            } else {
                format!(" <- {}", inputs.join(" "))
            };
            let step = self.step(*id);
            let place = step
                .location
                .as_ref()
                .map(|at| format!("  ({}:{})", at.file, at.line));
            let place = place.unwrap_or_default();
            let short = self.definition(*id).0.short();
            _ = writeln!(
                text,
                "{:>3} {short} {}{from}{place}",
                id.index(),
                first_line(step)
            );
        }
        text
    }

    fn render_json(&self, steps: &[StepId]) -> String {
        let one = |id: &StepId| JsonStep {
            id: id.index(),
            definition: self.definition(*id),
            inputs: self.inputs(*id).iter().map(|input| input.index()).collect(),
            step: self.step(*id),
        };
        let graph = JsonGraph {
            version: JSON_VERSION,
            steps: steps.iter().map(one).collect(),
        };
        let text = serde_json::to_string_pretty(&graph);
        #[expect(
            clippy::expect_used,
            reason = "every map in a step has keys that are strings"
        )]
        let text = text.expect("a graph is always valid JSON");
        text + "\n"
    }

    fn render_dot(&self, steps: &[StepId]) -> String {
        let mut text = String::from("digraph build {\n  rankdir=LR;\n  node [shape=box];\n");
        for id in steps {
            let label = first_line(self.step(*id))
                .replace('\\', "\\\\")
                .replace('"', "\\\"");
            _ = writeln!(text, "  s{} [label=\"{label}\"];", id.index());
        }
        for (from, to) in self.edges(steps) {
            _ = writeln!(text, "  s{from} -> s{to};");
        }
        text + "}\n"
    }

    fn render_mermaid(&self, steps: &[StepId]) -> String {
        let mut text = String::from("flowchart LR\n");
        for id in steps {
            let label = first_line(self.step(*id))
                .replace('#', "#35;")
                .replace('"', "#quot;");
            _ = writeln!(text, "  s{}[\"{label}\"]", id.index());
        }
        for (from, to) in self.edges(steps) {
            _ = writeln!(text, "  s{from} --> s{to}");
        }
        text
    }

    fn edges(&self, steps: &[StepId]) -> Vec<(usize, usize)> {
        let mut edges = Vec::new();
        for id in steps {
            edges.extend(
                self.inputs(*id)
                    .iter()
                    .map(|input| (input.index(), id.index())),
            );
        }
        edges.dedup();
        edges
    }
}

fn first_line(step: &Step) -> String {
    let name = step.name.to_string();
    let mut lines = name.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    if lines.next().is_some() {
        first + " …"
    } else {
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Files, Input, Op, Platform, StepName};

    fn sample() -> Graph {
        let step = |number, text: &str, op| Step {
            name: StepName {
                stage: "app".into(),
                number,
                of: 2,
                text: text.into(),
            },
            ..Step::plain(text, op, Platform::new("linux", "amd64", ""))
        };
        let mut graph = Graph::new();
        let base = graph
            .add(step(1, "FROM scratch", Op::Scratch), vec![])
            .unwrap();
        let files = Op::Files(Files {
            base: Some(Input(0)),
            actions: vec![],
        });
        graph
            .add(step(2, "COPY <<\"E\" /x\nhi", files), vec![base])
            .unwrap();
        graph
    }

    #[test]
    fn all_formats() {
        let graph = sample();
        let steps: Vec<StepId> = graph.ids().collect();
        insta::assert_snapshot!(graph.render(&steps, Format::Text));
        insta::assert_snapshot!(graph.render(&steps, Format::Json));
        insta::assert_snapshot!(graph.render(&steps, Format::Dot));
        insta::assert_snapshot!(graph.render(&steps, Format::Mermaid));
    }
}
