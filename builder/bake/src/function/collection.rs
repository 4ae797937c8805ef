//! Functions of lists, sets and objects.

use hcl::Value;
use hcl::eval::FuncArgs;

use super::value::{MAX_ITEMS, Outcome, float, list, number, shown};

pub(super) fn extreme(args: &FuncArgs, choose: fn(f64, f64) -> f64) -> Outcome {
    let numbers: Result<Vec<f64>, String> = (0..args.len()).map(|at| float(args, at)).collect();
    let best = numbers?.into_iter().reduce(choose);
    number(best.ok_or("an argument is missing")?)
}

pub(super) fn flatten(items: &[Value]) -> Vec<Value> {
    let flat = items.iter().flat_map(|item| match item {
        Value::Array(inner) => flatten(inner),
        other => vec![other.clone()],
    });
    flat.collect()
}

pub(super) fn lookup(container: &Value, key: &Value) -> Option<Value> {
    match container {
        Value::Array(items) => items.get(usize::try_from(key.as_u64()?).ok()?).cloned(),
        Value::Object(fields) => fields.get(key.as_str()?).cloned(),
        _ => None,
    }
}

pub(super) fn range(args: &FuncArgs) -> Outcome {
    let (from, to) = match args.len() {
        1 => (0.0, float(args, 0)?),
        _ => (float(args, 0)?, float(args, 1)?),
    };
    let step = match args.get(2) {
        Some(_) => float(args, 2)?,
        None if from > to => -1.0,
        None => 1.0,
    };
    if step == 0.0 || ((to - from) / step) > 1024.0 {
        return Err("range: more than 1024 numbers".to_owned());
    }
    let mut all = Vec::new();
    let mut at = from;
    while (step > 0.0 && at < to) || (step < 0.0 && at > to) {
        all.push(number(at)?);
        at += step;
    }
    Ok(Value::Array(all))
}

/// Applies an operation of sets to the first and each further argument; sets are sorted.
pub(super) fn sets(args: &FuncArgs, combine: fn(&[Value], &[Value]) -> Vec<Value>) -> Outcome {
    let mut all = list(args, 0)?;
    for at in 1..args.len() {
        all = combine(&all, &list(args, at)?);
    }
    all.sort_by_key(shown);
    all.dedup();
    Ok(Value::Array(all))
}

pub(super) fn setproduct(args: &FuncArgs) -> Outcome {
    let mut all: Vec<Vec<Value>> = vec![Vec::new()];
    for at in 0..args.len() {
        let items = list(args, at)?;
        if all.len().saturating_mul(items.len()) > MAX_ITEMS {
            return Err(format!("setproduct: more than {MAX_ITEMS} items"));
        }
        let longer = all.iter().flat_map(|one| {
            let with = |item: &Value| [one.as_slice(), std::slice::from_ref(item)].concat();
            items.iter().map(with)
        });
        all = longer.collect();
    }
    Ok(Value::Array(all.into_iter().map(Value::Array).collect()))
}
