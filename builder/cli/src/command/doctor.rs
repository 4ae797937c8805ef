//! `kiln doctor`.

use kiln_sandbox::Abilities;

use super::{Failed, print};

/// Runs `kiln doctor`: looks at the machine, and really runs a sandbox.
pub(crate) fn run() -> Result<(), Failed> {
    let engine = super::open()?;
    // Also finds out which way steps are run.
    let overlay = engine.try_overlay();
    let abilities = Abilities::detect(engine.selection(), overlay);
    let mut text = format!("store: {}\n", engine.store().root().display());
    for ability in &abilities.all {
        let mark = if ability.available { "yes" } else { "no " };
        text += &format!("{mark}  {}: {}\n", ability.name, ability.detail);
    }
    print(&text);
    Ok(())
}
