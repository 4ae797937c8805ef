//! Events as they may be kept and sent: without what addresses in them carry to let somebody in.
//! What a step writes stays as it is; secrets in it are masked before.

use kiln_engine::Event;
use kiln_graph::address::redact;

/// An event whose names and messages have no credentials in addresses.
#[must_use]
pub fn redacted(mut event: Event) -> Event {
    match &mut event {
        Event::Planned { steps } => {
            for step in steps {
                clean(&mut step.name);
            }
        }
        Event::Transfer { name, .. } => clean(name),
        Event::Warning { message } => clean(message),
        _ => {}
    }
    event
}

/// Redacts a text in place.
fn clean(text: &mut String) {
    if let std::borrow::Cow::Owned(redacted) = redact(text) {
        *text = redacted;
    }
}
