//! What a build is held to: a policy for its images, the same files when it runs again.

use std::sync::Arc;

use kiln_engine::{Engine, EventSink, ImageOptions, Request, Solved};

use super::say;
use kiln::{Error, Policy};

/// How many files of a step are named.
const NAMED: usize = 10;

/// Fails, or warns, when an image breaks its policy.
pub(crate) fn policy(
    policy: &Policy,
    solved: &Solved,
    options: &ImageOptions,
    events: &dyn EventSink,
) -> Result<(), Error> {
    let mut found = Vec::new();
    for target in &solved.build().targets {
        let image = solved.image(target, options, events)?;
        found.extend(policy.violations(solved, target, &image, events)?);
    }
    if found.is_empty() {
        return Ok(());
    }
    if policy.warn {
        for violation in &found {
            say(&format!("WARNING: policy: {violation}"));
        }
        return Ok(());
    }
    Err(Error::Policy(found))
}

/// Runs all steps again and compares what they changed.
pub(crate) fn reproducible(
    engine: &Engine,
    first: &Solved,
    mut request: Request,
) -> Result<(), Error> {
    request.no_cache = true;
    request.events = Arc::new(|_| {});
    let second = engine.solve(request)?;
    let differ = first.compare(&second, &|_| {})?;
    if differ.is_empty() {
        say("every step gave the same files again");
        return Ok(());
    }
    let mut text = String::new();
    for step in &differ {
        text.push_str(&format!(
            "\n{}",
            step.step.lines().next().unwrap_or_default()
        ));
        for file in step.files.iter().take(NAMED) {
            text.push_str(&format!("\n    {:<10}  {}", file.what, file.path));
        }
        if step.files.len() > NAMED {
            text.push_str(&format!("\n    and {} more", step.files.len() - NAMED));
        }
    }
    Err(Error::NotReproducible(text))
}
