//! Multiplies steps: one for each combination of a matrix's values.

use std::collections::BTreeMap;

use crate::model::Scalar;

/// One combination: names and values.
pub(crate) type Combination = Vec<(String, String)>;

/// All combinations, in the order of the names and of each one's values.
pub(crate) fn combinations(matrix: &BTreeMap<String, Vec<Scalar>>) -> Vec<Combination> {
    let mut all: Vec<Combination> = vec![Vec::new()];
    for (name, values) in matrix {
        let grown = all.iter().flat_map(|chosen| {
            values.iter().map(|value| {
                let mut chosen = chosen.clone();
                chosen.push((name.clone(), value.to_string()));
                chosen
            })
        });
        all = grown.collect();
    }
    all
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
        let text = |value: &str| Scalar::Text(value.to_owned());
        let matrix = [
            ("b".to_owned(), vec![text("x"), text("y")]),
            ("a".to_owned(), vec![Scalar::Number(1), Scalar::Truth(true)]),
        ];
        let names: Vec<String> = combinations(&matrix.into())
            .iter()
            .map(|chosen| name("s", chosen))
            .collect();
        assert_eq!(names, ["s@1,x", "s@1,y", "s@true,x", "s@true,y"]);
        assert_eq!(name("s", &combinations(&BTreeMap::new())[0]), "s");
    }
}
