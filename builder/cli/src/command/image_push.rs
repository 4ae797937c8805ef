//! `kiln image push`.

use kiln::{Engine, Error};

use super::image_id::{full_name, no_such_image};
use super::{print, say};
use crate::display::{Style, display};

/// Sends an image of the store to its registry.
///
/// # Errors
/// When there is no such image, or the registry doesn't take it.
pub(super) fn push(engine: &Engine, name: &str) -> Result<(), Error> {
    let reference = full_name(name)?;
    let store = engine.store();
    let image = store
        .images()
        .get(&reference.to_string())?
        .ok_or_else(|| no_such_image(name))?;
    let _session = store.session()?;
    let events = display(Style::Auto);
    engine.images().push(&image, &reference, &*events)?;
    let platforms = image.platforms.join(" ");
    say(&format!("pushed   {reference} ({platforms})"));
    print(&format!("{}\n", image.digest));
    Ok(())
}
