//! Ordered: events come in the order of their revisions.

use super::Session;

pub(super) fn wrong(session: &Session<'_>) -> Option<String> {
    let mut events = session.events().peekable();
    while let Some(event) = events.next() {
        if let Some(next) = events.peek()
            && next.revision() < event.revision()
        {
            return Some(format!(
                "an event of revision {} ({}) came after one of revision {} ({})",
                next.revision(),
                next.key(),
                event.revision(),
                event.key()
            ));
        }
    }
    None
}
