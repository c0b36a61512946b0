//! Unique: no event comes twice.

use std::collections::HashSet;

use super::Session;

pub(super) fn wrong(session: &Session<'_>) -> Option<String> {
    let mut seen = HashSet::new();
    let again = session
        .events()
        .find(|event| !seen.insert((event.revision(), event.key())))?;
    Some(format!(
        "the event of {} at revision {} came twice",
        again.key(),
        again.revision()
    ))
}
