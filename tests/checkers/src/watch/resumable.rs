//! Resumable: a watch that begins at an old revision gets all since then, nothing from before, or hears that it is
//! compacted. (That none is missing is for `reliable`.)

use super::Session;
use crate::history::WatchEnd;

pub(super) fn wrong(session: &Session<'_>) -> Option<String> {
    let start = session.start;
    if let Some(event) = session.events().find(|event| event.revision() < start) {
        return Some(format!(
            "it was to begin at revision {start} and got an event of revision {} ({})",
            event.revision(),
            event.key()
        ));
    }
    match session.end {
        WatchEnd::Compacted { compact_revision } if *compact_revision <= session.told() => Some(format!(
            "it was told that what it wants is compacted, but it wants what comes after revision {}, and the oldest \
             revision is {compact_revision}",
            session.told()
        )),
        _ => None,
    }
}

/// What a client left out between two parts of a watch.
pub(super) fn gap(before: &Session<'_>, after: &Session<'_>) -> Option<String> {
    let compacted = matches!(before.end, WatchEnd::Compacted { .. });
    (after.start > before.told() + 1 && !compacted).then(|| {
        format!(
            "it went on at revision {} after it had been told all up to revision {}",
            after.start,
            before.told()
        )
    })
}
