//! Multiplies steps: one for each combination of a matrix's values.

use std::collections::BTreeMap;

use crate::model::Scalar;
use crate::text::{Name, Placed};

/// One combination: names and values.
pub(crate) type Combination = Vec<(String, String)>;

/// All combinations, in the order of the names and of each one's values.
pub(crate) fn combinations(matrix: &BTreeMap<Name, Vec<Placed<Scalar>>>) -> Vec<Combination> {
    let mut all: Vec<Combination> = vec![Vec::new()];
    for (name, values) in matrix {
        let grown = all.iter().flat_map(|chosen| {
            values.iter().map(|value| {
                let mut chosen = chosen.clone();
                chosen.push((name.to_string(), value.value.to_string()));
                chosen
            })
        });
        all = grown.collect();
    }
    all
}

/// What the steps of a matrix are called; a step without one is called by its name.
pub(crate) fn names(step: &str, matrix: &BTreeMap<Name, Vec<Placed<Scalar>>>) -> Vec<String> {
    let all = combinations(matrix);
    all.iter().map(|chosen| name(step, chosen)).collect()
}

/// What a step of a matrix is called: `NAME@VALUE,VALUE`.
pub(crate) fn name(step: &str, chosen: &Combination) -> String {
    if chosen.is_empty() {
        return step.to_owned();
    }
    let values: Vec<&str> = chosen.iter().map(|(_, value)| value.as_str()).collect();
    format!("{step}@{}", values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_once() {
        let cases: [(&str, &[&str]); 3] = [
            ("", &["s"]),
            ("a = [1]", &["s@1"]),
            (
                "b = ['x', 'y']\na = [1, true]",
                &["s@1,x", "s@1,y", "s@true,x", "s@true,y"],
            ),
        ];
        for (text, want) in cases {
            assert_eq!(names("s", &toml::from_str(text).unwrap()), want, "{text}");
        }
    }
}
