//! Bookmarkable: what tells of progress says that all up to its revision has come, so that a client may go on from there.

use super::Session;

pub(super) fn wrong(session: &Session<'_>) -> Option<String> {
    let mut progress = 0;
    for response in session.responses {
        if response.events.is_empty() {
            progress = response.revision.max(progress);
        }
        if let Some(event) = response.events.iter().find(|event| event.revision() <= progress) {
            return Some(format!(
                "an event of revision {} ({}) came after progress up to revision {progress} was told",
                event.revision(),
                event.key()
            ));
        }
    }
    None
}
