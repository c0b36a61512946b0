//! Atomic: all events of one revision come in one response. (That none is missing is for `reliable`.)

use std::collections::HashMap;

use super::Session;

pub(super) fn wrong(session: &Session<'_>) -> Option<String> {
    let mut told = HashMap::new();
    for (index, response) in session.responses.iter().enumerate() {
        for event in &response.events {
            if *told.entry(event.revision()).or_insert(index) != index {
                return Some(format!(
                    "the events of revision {} came in two responses",
                    event.revision()
                ));
            }
        }
    }
    None
}
